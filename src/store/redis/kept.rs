//! A table on this machine's disk. It is a cache: what is lost comes again.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
};

use rand::RngExt;

use super::SIZE_MAX;

pub(super) async fn write(path: PathBuf, text: String) -> io::Result<()> {
    blocking(move || {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        // Other balancers of the fleet may keep the same table in the same directory, and in
        // containers all of them may have the same process id.
        let temporary = path.with_extension(format!("{:016x}.tmp", rand::rng().random::<u64>()));
        // It may hold the secret of a keyed hash.
        let mut options = File::options();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        let written = options.open(&temporary).and_then(|mut file| file.write_all(text.as_bytes()));
        let kept = written.and_then(|()| fs::rename(&temporary, &path));
        if kept.is_err() {
            // It would be there for ever: the next one has another name. There may be none.
            let _ = fs::remove_file(&temporary);
        }
        kept
    })
    .await
}

/// `None`: there is none.
pub(super) async fn read(path: PathBuf) -> io::Result<Option<Vec<u8>>> {
    blocking(move || {
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut text = Vec::new();
        file.take(SIZE_MAX as u64).read_to_end(&mut text)?;
        Ok(Some(text))
    })
    .await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|panic| Err(io::Error::other(panic)))
}
