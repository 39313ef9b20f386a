//! The committed state in the store, and its copy on this machine.

use std::{io, time::Duration};

use redis::cmd;
use ringmaster_core::{
    fleet::{desired::Desired, ids::Generation},
    roles::ids::Version,
};

use super::{
    RedisStore, SIZE_MAX,
    answer::{counted, texts, version_of},
    scripts,
};
use crate::store::{
    Loaded, StoreError,
    codec::{self, Unreadable},
};

/// How long a disk may take.
const COPY_MAX: Duration = Duration::from_secs(1);

impl RedisStore {
    pub(super) async fn read_state(&self) -> Result<Option<(Version, Desired)>, StoreError> {
        let mut command = cmd("HMGET");
        command.arg(&self.0.keys.state).arg(&["fence", "number", "text"]);
        let fields = texts(self.call("state", &command).await?);
        let [fence, number, text] = &fields[..] else { return Ok(None) };
        let version = version_of(fence.as_deref(), number.as_deref());
        let refused = |why: &str| StoreError::Refused(format!("its state cannot be read: {why}"));
        let text = match text {
            Some(text) => text,
            None if fence.is_none() && number.is_none() => return Ok(None),
            None => return Err(refused("it has no text")),
        };
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
    /// where it is ahead, the store has lost something. A state that is there and cannot be read is
    /// not taken for none: without a copy that is an error.
    pub(super) async fn load_newer(&self) -> Result<Loaded, StoreError> {
        let (stored, unreadable) = match self.read_state().await {
            Ok(stored) => (stored, None),
            Err(StoreError::Refused(why)) => {
                self.complain("state", Some(why.clone()));
                (None, Some(why))
            }
            Err(error) => return Err(error),
        };
        let copied = self.load_copy().await?;
        if let (Some(why), false) = (unreadable, matches!(copied, Loaded::State(_))) {
            let why = format!("{why}; there is no copy here to go on from, so repair or delete it");
            return Err(StoreError::Refused(why));
        }
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
        let answer = self.call("state", &command).await;
        counted(answer).map_err(io::Error::other)?;
        self.complain("state", None);
        {
            let mut memory = self.memory();
            // A call that ends late takes nothing back.
            if memory.state.as_ref().is_none_or(|(kept, _)| *kept <= version) {
                memory.state = Some((version, desired.clone()));
            }
        }
        self.write_copy(version, desired).await;
        Ok(())
    }

    /// Reads this machine's copy, on a thread that may hang with the disk.
    async fn load_copy(&self) -> Result<Loaded, StoreError> {
        let Some(copy) = self.0.copy.clone() else { return Ok(Loaded::Nothing) };
        let read = tokio::task::spawn_blocking(move || copy.load());
        let late = |why: String| StoreError::Away(format!("the state directory: {why}"));
        let loaded = match tokio::time::timeout(COPY_MAX, read).await {
            Ok(Ok(loaded)) => loaded?,
            Ok(Err(panic)) => return Err(late(panic.to_string())),
            Err(_) => return Err(late(format!("no answer within {COPY_MAX:?}"))),
        };
        let has = match &loaded {
            Loaded::State(desired) => desired.generation(),
            Loaded::Nothing | Loaded::SetAside { .. } => Generation(0),
        };
        let mut memory = self.memory();
        memory.copy_has = memory.copy_has.max(Some(has));
        drop(memory);
        Ok(loaded)
    }

    /// A copy that cannot be written, or not in time, is no reason to refuse a command: the store has
    /// it. A newer one is never replaced by an older state.
    async fn write_copy(&self, version: Version, desired: Desired) {
        let Some(copy) = &self.0.copy else { return };
        let generation = desired.generation();
        let saved = async {
            let known = self.memory().copy_has;
            let has = match known {
                Some(has) => has,
                None => {
                    self.load_copy().await.map_err(|error| error.to_string())?;
                    self.memory().copy_has.unwrap_or_default()
                }
            };
            if generation < has {
                let (has, generation) = (has.0, generation.0);
                let mut memory = self.memory();
                memory.copied = memory.copied.max(Some(version));
                drop(memory);
                return Err(format!("it has generation {has}, and the store {generation} only"));
            }
            // What hangs goes on behind the deadline, and later ones wait for it in order.
            match tokio::time::timeout(COPY_MAX, copy.save(desired)).await {
                // The newer one that takes its place says how that went.
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
                Ok(saved) => saved.map(|()| true).map_err(|error| error.to_string()),
                Err(_) => Err(format!("no answer of the disk within {COPY_MAX:?}")),
            }
        };
        let saved = saved.await;
        if saved == Ok(true) {
            let mut memory = self.memory();
            memory.copied = memory.copied.max(Some(version));
            memory.copy_has = memory.copy_has.max(Some(generation));
        }
        if saved != Ok(false) {
            self.complain("copy in the state directory", saved.err());
        }
    }

    /// Writes the state to this machine's copy, if it is another one than is there.
    pub(super) async fn follow_state(&self) -> Result<(), StoreError> {
        if self.0.copy.is_none() {
            return Ok(());
        }
        let mut command = cmd("HMGET");
        command.arg(&self.0.keys.state).arg(&["fence", "number"]);
        let fields = texts(self.call("state", &command).await?);
        let [fence, number] = &fields[..] else { return Ok(()) };
        let version = version_of(fence.as_deref(), number.as_deref());
        if version.is_none() || version <= self.memory().copied {
            return Ok(());
        }
        if let Some((version, desired)) = self.read_state().await? {
            self.write_copy(version, desired).await;
        }
        Ok(())
    }
}
