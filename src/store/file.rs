//! The state file: the committed desired state, written by temporary file, fsync and rename, so
//! that a crash at any moment leaves either the old state or the new one.

mod inspect;
mod shared;
mod writer;

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use ringmaster_core::fleet::desired::Desired;
use writer::Writer;

use super::{
    Loaded, StoreError,
    codec::{Unreadable, desired_of, read_envelope, text_of},
};

/// More than any fleet can need; a larger file is not ours.
const SIZE_MAX: u64 = 64 << 20;

/// The state file of one fleet, and the lock on its directory.
#[derive(Clone, Debug)]
pub struct FileStore {
    directory: PathBuf,
    fleet: String,
    writer: Writer,
    /// Held as long as any clone lives; the kernel releases it when the process ends.
    _lock: std::sync::Arc<File>,
}

impl FileStore {
    /// Makes the directory if it is missing, and locks it.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another balancer holds it, or the system's words.
    pub fn open(directory: &Path, fleet: &str) -> Result<Self, StoreError> {
        let failed = |path: &Path, source| StoreError::Io { path: path.to_path_buf(), source };
        fs::create_dir_all(directory).map_err(|error| failed(directory, error))?;
        let path = directory.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(|error| failed(&path, error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(StoreError::InUse(directory.to_path_buf()));
            }
            Err(fs::TryLockError::Error(error)) => return Err(failed(&path, error)),
        }
        let directory = directory.to_path_buf();
        let writer = Writer::default();
        Ok(Self { directory, fleet: fleet.to_owned(), writer, _lock: lock.into() })
    }

    fn path(&self) -> PathBuf {
        self.directory.join("state.json")
    }

    /// Reads the state. A file that cannot be understood is set aside, never overwritten.
    ///
    /// # Errors
    /// A file of another fleet or of a newer version, or the system's words.
    pub fn load(&self) -> Result<Loaded, StoreError> {
        let path = self.path();
        let failed = |source| StoreError::Io { path: path.clone(), source };
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Loaded::Nothing),
            Err(error) => return Err(failed(error)),
            Ok(metadata) if metadata.len() > SIZE_MAX => {
                return self.set_aside("it is too large".to_owned());
            }
            Ok(_) => {}
        }
        let text = fs::read(&path).map_err(failed)?;
        let file = match read_envelope(&text) {
            Ok(file) => file,
            Err(Unreadable::Newer(version)) => {
                let place = format!("'{}'", path.display());
                return Err(StoreError::Newer { place, version });
            }
            Err(Unreadable::Corrupt(why)) => return self.set_aside(why),
        };
        if file.fleet != self.fleet {
            let place = format!("state directory '{}'", self.directory.display());
            return Err(StoreError::OtherFleet { place, fleet: file.fleet });
        }
        match desired_of(file) {
            Ok(desired) => Ok(Loaded::State(Box::new(desired))),
            Err(why) => self.set_aside(why),
        }
    }

    fn set_aside(&self, why: String) -> Result<Loaded, StoreError> {
        let path = self.path();
        let failed = |source| StoreError::Io { path: path.clone(), source };
        // The first free number: an earlier file may still be needed.
        let aside = (1..)
            .map(|number| self.directory.join(format!("state.json.corrupt-{number}")))
            .find(|aside| !aside.exists());
        let Some(aside) = aside else { return Err(failed(io::ErrorKind::AlreadyExists.into())) };
        fs::rename(&path, &aside).map_err(failed)?;
        Ok(Loaded::SetAside { place: format!("'{}'", aside.display()), why })
    }

    /// Writes the state, after what is being written. When it returns `Ok`, the state is on the disk.
    /// The order is that of the calls, whenever the futures are polled.
    ///
    /// # Errors
    /// The system's words, and the old file is then still there; or a later call has overtaken this
    /// one while an earlier write hung.
    pub fn save(&self, desired: Desired) -> impl Future<Output = io::Result<()>> + Send + use<> {
        let store = self.clone();
        self.writer.queue(Box::new(move |is_overtaken: &dyn Fn() -> bool| {
            store.write(&desired, is_overtaken)
        }))
    }

    fn write(&self, desired: &Desired, is_overtaken: &dyn Fn() -> bool) -> io::Result<()> {
        let text = text_of(&self.fleet, desired)?;
        let temporary = self.directory.join("state.json.tmp");
        // It may hold the secret of a keyed hash.
        let mut options = File::options();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&text)?;
        file.sync_all()?;
        // It may have hung for so long that a newer state waits: this one is no longer meant.
        if is_overtaken() {
            return Err(writer::overtaken());
        }
        fs::rename(&temporary, self.path())?;
        // The rename itself is on disk only once the directory is.
        File::open(&self.directory)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use ringmaster_core::{
        fleet::{
            desired::Newcomer,
            ids::{Generation, ImageId, Incarnation, ReplicaId, ReplicaName, SpecDigest},
            message::Revision,
            server::Server,
        },
        ring::{RingSettings, hash},
    };

    use super::*;
    use crate::store::codec::{VERSION, checksum};

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let unique = format!("ringmaster-store-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(unique);
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn some_state() -> Desired {
        let newcomers: Vec<Newcomer> = (1..=3)
            .map(|id| Newcomer {
                server: None,
                id: ReplicaId(id),
                weight: id,
                name: ReplicaName::numbered(id),
                incarnation: Incarnation(id),
            })
            .collect();
        let revision =
            Revision { spec: SpecDigest("9a".into()), image: Some(ImageId("sha256:1".into())) };
        let desired = Desired::empty(RingSettings::default()).unwrap().with(&newcomers).unwrap();
        desired.made_from(Some(revision), Some(SpecDigest("ff".into())))
    }

    #[test]
    fn what_was_written_is_read() {
        let directory = Directory::new("roundtrip");
        let store = FileStore::open(&directory.0, "default").unwrap();
        assert!(matches!(store.load().unwrap(), Loaded::Nothing));
        store.write(&some_state(), &|| false).unwrap();
        let Loaded::State(read) = store.load().unwrap() else { panic!("not a state") };
        assert_eq!(*read, some_state());
    }

    #[test]
    fn a_state_that_was_overtaken_never_replaces_the_file() {
        let directory = Directory::new("overtaken");
        let store = FileStore::open(&directory.0, "default").unwrap();
        store.write(&some_state(), &|| false).unwrap();
        let newer = some_state().without(&[ReplicaId(1)]);
        let error = store.write(&newer, &|| true).unwrap_err();
        assert!(error.to_string().contains("a newer state"), "{error}");
        let Loaded::State(read) = store.load().unwrap() else { panic!("not a state") };
        assert_eq!(*read, some_state());
    }

    /// Files as earlier versions wrote them; each is read, and written as the current version.
    #[test]
    fn kept_files_of_earlier_versions_are_migrated() {
        let kept = [
            (1, include_str!("kept/version-1.json")),
            (2, include_str!("kept/version-2.json")),
            (3, include_str!("kept/version-3.json")),
            (4, include_str!("kept/version-4.json")),
        ];
        assert_eq!(kept.last().unwrap().0, VERSION, "keep a file of each version");
        for (version, text) in kept {
            let directory = Directory::new(&format!("kept-{version}"));
            let store = FileStore::open(&directory.0, "default").unwrap();
            fs::write(store.path(), text).unwrap();
            let Loaded::State(read) = store.load().unwrap() else { panic!("version {version}") };
            assert_eq!(read.replicas().len(), 3, "version {version}");
            assert_eq!((read.generation(), read.next_id()), (Generation(4), ReplicaId(6)));
            let names: Vec<_> = read.replicas().iter().map(|r| r.name.to_string()).collect();
            assert_eq!(names, ["server_1", "server_382796", "S5"]);
            assert_eq!(read.replicas()[1].incarnation, Incarnation(2));
            assert_eq!(read.revision().is_some(), version >= 3);
            let s5 = &read.replicas()[2];
            assert_eq!(s5.server.as_ref().map(Server::place).is_some(), version >= 4);
            assert_eq!((s5.is_drained, read.registered().len() == 1), (version >= 4, version >= 4));
            store.write(&read, &|| false).unwrap();
            let written = fs::read_to_string(store.path()).unwrap();
            assert!(written.starts_with(&format!("{{\"version\":{VERSION},")), "{written}");
            let Loaded::State(again) = store.load().unwrap() else { panic!("version {version}") };
            assert_eq!(again, read);
        }
    }

    #[test]
    fn a_file_of_version_1_is_read() {
        let directory = Directory::new("version-1");
        let store = FileStore::open(&directory.0, "default").unwrap();
        let state = r#"{"fleet":"default","generation":5,"next_id":7,
            "ring":{"slots":27,"virtual_servers":2,"placement":"polynomial"},"replicas":[
            {"id":4,"name":"S4","weight":1,"ordinal":1,"positions":[1,9],"incarnation":3}]}"#;
        let checksum = checksum(state);
        let file = format!(r#"{{"version":1,"checksum":"{checksum}","state":{state}}}"#);
        fs::write(store.path(), file).unwrap();
        let Loaded::State(read) = store.load().unwrap() else { panic!("not a state") };
        assert_eq!((read.generation(), read.next_id()), (Generation(5), ReplicaId(7)));
        assert_eq!(read.replicas()[0].member.positions, [1, 9]);
        // It said nothing of a hash, which was the placement's, nor of a configuration.
        assert_eq!(read.ring().settings().hash, hash::HashFunction::Polynomial);
        assert_eq!(read.configured(), read.ring().settings());
        store.write(&read, &|| false).unwrap();
        let written = fs::read_to_string(store.path()).unwrap();
        assert!(written.starts_with(&format!("{{\"version\":{VERSION},")), "{written}");
        let Loaded::State(again) = store.load().unwrap() else { panic!("not a state") };
        assert_eq!(again, read);
    }

    #[test]
    fn any_damage_is_noticed_and_set_aside() {
        let directory = Directory::new("corrupt");
        let store = FileStore::open(&directory.0, "default").unwrap();
        store.write(&some_state(), &|| false).unwrap();
        let good = fs::read(store.path()).unwrap();
        for (index, _) in good.iter().enumerate().step_by(7) {
            let mut bad = good.clone();
            bad[index] ^= 1;
            fs::write(store.path(), &bad).unwrap();
            let read_as = match store.load() {
                // A flipped bit in the version number may read as a newer one.
                Ok(Loaded::SetAside { .. }) | Err(StoreError::Newer { .. }) => continue,
                other => other,
            };
            panic!("byte {index} flipped: {read_as:?}");
        }
        fs::write(store.path(), &good[..good.len() / 2]).unwrap();
        let Loaded::SetAside { place, why } = store.load().unwrap() else { panic!("accepted") };
        assert!(Path::new(place.trim_matches('\'')).exists() && !store.path().exists(), "{why}");
    }

    #[test]
    fn a_directory_serves_one_balancer_and_one_fleet() {
        let directory = Directory::new("lock");
        let store = FileStore::open(&directory.0, "blue").unwrap();
        store.write(&some_state(), &|| false).unwrap();
        let second = FileStore::open(&directory.0, "blue");
        assert!(matches!(second, Err(StoreError::InUse(_))), "{second:?}");
        drop(store);
        let other = FileStore::open(&directory.0, "green").unwrap().load();
        assert!(matches!(other, Err(StoreError::OtherFleet { .. })), "{other:?}");
    }
}
