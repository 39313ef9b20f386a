//! The committed state in the store, and its copy on this machine.

use std::io;

use redis::cmd;

use super::{
    RedisStore, SIZE_MAX,
    answer::{counted, texts, version_of},
    scripts,
};
use crate::{
    fleet::desired::Desired,
    roles::ids::Version,
    store::{
        Loaded, StoreError,
        codec::{self, Unreadable},
    },
};

impl RedisStore {
    pub(super) async fn read_state(&self) -> Result<Option<(Version, Desired)>, StoreError> {
        let mut command = cmd("HMGET");
        command.arg(&self.0.keys.state).arg(&["fence", "number", "text"]);
        let fields = texts(self.call(&command).await?);
        let [fence, number, Some(text)] = &fields[..] else { return Ok(None) };
        let version = version_of(fence.as_deref(), number.as_deref());
        let refused = |why: &str| StoreError::Refused(format!("its state cannot be read: {why}"));
        if text.len() > SIZE_MAX {
            return Err(refused("it is too large"));
        }
        let place = "the store's state";
        let file = match codec::read_envelope(text) {
            Ok(file) => file,
            Err(Unreadable::Newer(version)) => {
                return Err(StoreError::Newer { place: place.to_owned(), version });
            }
            Err(Unreadable::Corrupt(why)) => return Err(refused(&why)),
        };
        if file.fleet != self.0.fleet {
            return Err(StoreError::OtherFleet { place: place.to_owned(), fleet: file.fleet });
        }
        let desired = codec::desired_of(file).map_err(|why| refused(&why))?;
        Ok(Some((version.unwrap_or_default(), desired)))
    }

    /// The newer of the store's state and this machine's copy: a copy is written after the store, so
    /// where it is ahead, the store has lost something.
    pub(super) async fn load_newer(&self) -> Result<Loaded, StoreError> {
        let stored = match self.read_state().await {
            Ok(stored) => stored,
            Err(StoreError::Refused(why)) => {
                self.complain("state", Some(why));
                None
            }
            Err(error) => return Err(error),
        };
        let copied = match &self.0.copy {
            Some(copy) => copy.load()?,
            None => Loaded::Nothing,
        };
        Ok(match (stored, copied) {
            (Some((_, stored)), Loaded::State(copied))
                if copied.generation() > stored.generation() =>
            {
                tracing::warn!(
                    "the store has generation {}, and the state file {}: the file is newer",
                    stored.generation().0,
                    copied.generation().0
                );
                Loaded::State(copied)
            }
            (Some((_, stored)), _) => Loaded::State(Box::new(stored)),
            (None, copied) => copied,
        })
    }

    pub(super) async fn write(&self, version: Version, desired: Desired) -> io::Result<()> {
        let text = codec::text_of(&self.0.fleet, &desired)?;
        let mut command = cmd("EVAL");
        command.arg(scripts::WRITE).arg(2).arg(&self.0.keys.lease).arg(&self.0.keys.state);
        command.arg(version.fence.0).arg(version.number).arg(desired.generation().0);
        command.arg(codec::VERSION).arg(text);
        let answer = self.call(&command).await;
        counted(answer).map_err(io::Error::other)?;
        self.complain("state", None);
        {
            let mut memory = self.memory();
            memory.state = Some((version, desired.clone()));
            memory.copied = Some(version);
        }
        self.write_copy(desired).await;
        Ok(())
    }

    /// A copy that cannot be written is no reason to refuse a command: the store has it.
    async fn write_copy(&self, desired: Desired) {
        let Some(copy) = &self.0.copy else { return };
        let saved = copy.save(desired).await;
        self.complain("copy in the state directory", saved.err().map(|error| error.to_string()));
    }

    /// Writes the state to this machine's copy, if it is another one than is there.
    pub(super) async fn follow_state(&self) -> Result<(), StoreError> {
        if self.0.copy.is_none() {
            return Ok(());
        }
        let mut command = cmd("HMGET");
        command.arg(&self.0.keys.state).arg(&["fence", "number"]);
        let fields = texts(self.call(&command).await?);
        let [fence, number] = &fields[..] else { return Ok(()) };
        let version = version_of(fence.as_deref(), number.as_deref());
        if version.is_none() || version <= self.memory().copied {
            return Ok(());
        }
        if let Some((version, desired)) = self.read_state().await? {
            self.memory().copied = Some(version);
            self.write_copy(desired).await;
        }
        Ok(())
    }
}
