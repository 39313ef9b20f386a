//! A state directory as `check` sees it: whether it could be used, without a change to it.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::Path,
};

use rustix::fs::{Access, access};

use super::{FileStore, SIZE_MAX, StoreError, Unreadable, desired_of, read_envelope};

impl FileStore {
    /// Looks at a state directory, and says what may surprise, each in a sentence.
    ///
    /// # Errors
    /// What [`FileStore::open`] or [`FileStore::load`] would refuse. That another balancer is at work there
    /// is no error: the configuration of a running one may be checked.
    pub fn inspect(directory: &Path, fleet: &str) -> Result<Vec<String>, StoreError> {
        let failed = |path: &Path, source| StoreError::Io { path: path.to_path_buf(), source };
        match fs::metadata(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return can_be_made(directory).map(|()| Vec::new());
            }
            Err(error) => return Err(failed(directory, error)),
            Ok(metadata) if !metadata.is_dir() => {
                return Err(failed(directory, io::ErrorKind::NotADirectory.into()));
            }
            Ok(_) => {}
        }
        let may_write = access(directory, Access::WRITE_OK | Access::EXEC_OK);
        may_write.map_err(|error| failed(directory, error.into()))?;
        let mut warnings = Vec::new();
        if is_locked(&directory.join("lock"))? {
            let path = directory.display();
            warnings.push(format!("a balancer supervises from state directory '{path}' now"));
        }
        warnings.extend(look_at_state(directory, fleet)?);
        Ok(warnings)
    }
}

/// Whether a missing directory could be made: the nearest one above it can be written to.
fn can_be_made(directory: &Path) -> Result<(), StoreError> {
    let failed = |path: &Path, source| StoreError::Io { path: path.to_path_buf(), source };
    let absolute = std::path::absolute(directory).map_err(|error| failed(directory, error))?;
    let above = absolute.ancestors().skip(1).find(|path| path.exists());
    let above = above.unwrap_or(Path::new("/"));
    if !above.is_dir() {
        return Err(failed(above, io::ErrorKind::NotADirectory.into()));
    }
    access(above, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| failed(above, error.into()))
}

fn is_locked(path: &Path) -> Result<bool, StoreError> {
    let failed = |source| StoreError::Io { path: path.to_path_buf(), source };
    let lock = match File::options().write(true).open(path) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed(error)),
    };
    // Shared, and let go at once: it must not keep a balancer from starting.
    match lock.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

fn look_at_state(directory: &Path, fleet: &str) -> Result<Option<String>, StoreError> {
    let path = directory.join("state.json");
    let failed = |source| StoreError::Io { path: path.clone(), source };
    let aside = |why: &str| Some(format!("'{}' would be set aside: {why}", path.display()));
    match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
        Ok(metadata) if metadata.len() > SIZE_MAX => return Ok(aside("it is too large")),
        Ok(_) => {}
    }
    let file = match read_envelope(&fs::read(&path).map_err(failed)?) {
        Ok(file) => file,
        Err(Unreadable::Newer(version)) => {
            let place = format!("'{}'", path.display());
            return Err(StoreError::Newer { place, version });
        }
        Err(Unreadable::Corrupt(why)) => return Ok(aside(&why)),
    };
    if file.fleet != fleet {
        let place = format!("state directory '{}'", directory.display());
        return Err(StoreError::OtherFleet { place, fleet: file.fleet });
    }
    Ok(desired_of(file).err().and_then(|why| aside(&why)))
}
