//! A Redis that several processes of a fleet share: the committed state, the lease, the routing table
//! and what balancers report. Each decision is one script (`scripts`), each call has a deadline, and
//! what cannot be understood is said once and left alone.

mod address;
mod answer;
mod backends;
mod connection;
mod heard;
mod kept;
mod keys;
mod lease;
mod scripts;
mod state;
#[cfg(test)]
mod tests;
mod wire;

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use redis::{Cmd, Value, cmd};
use ringmaster_core::{
    fleet::{
        desired::Desired,
        ids::{Generation, InstanceId},
        message::FailureKind,
    },
    roles::{
        acknowledgements::Report,
        ids::{Holder, ProcessId, Version},
        lease::{Reply, Request, Stored},
        publication::{Delta, Publication},
    },
};
use tokio::sync::mpsc;

pub use self::{
    address::{Address, AddressError},
    backends::{Backend, BackendNews, Backends},
};
use self::{
    answer::{counted, texts, version_of},
    connection::{CallError, RedisConnection},
    keys::Keys,
};
use super::{FileStore, Heard, Loaded, Store, StoreError};

/// Messages that may wait to be read.
const HEARD_MAX: usize = 1_024;
/// More than any state or table can need.
const SIZE_MAX: usize = 64 << 20;

/// Places that are complained of.
const SAID_MAX: usize = 4_096;

/// One fleet's part of a Redis. Clones share the connection.
#[derive(Clone)]
pub struct RedisStore(Arc<Shared>);

struct Shared {
    address: Arc<Address>,
    timeout: Duration,
    ttl: Duration,
    fleet: String,
    keys: Keys,
    connection: RedisConnection,
    /// The copy of the state on this machine; a balancer keeps none.
    copy: Option<FileStore>,
    /// Where the newest table is kept, for a start while the store is away.
    kept: Option<PathBuf>,
    memory: Mutex<Memory>,
}

/// What is known of the store, and what was written there.
#[derive(Default)]
struct Memory {
    /// Why it does not work, since it last did.
    trouble: Option<String>,
    /// What it does not do, by what was asked for.
    denied: BTreeMap<&'static str, String>,
    /// What was complained of, by where it is.
    said: BTreeMap<String, String>,
    /// Written last, to be written again if it is lost.
    state: Option<(Version, Desired)>,
    table: Option<Publication>,
    /// The version of the state that was written to the copy last.
    copied: Option<Version>,
    /// The generation that the copy has, once that was looked up.
    copy_has: Option<Generation>,
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// A call.
    pub timeout: Duration,
    /// A lease that is not renewed.
    pub ttl: Duration,
}

impl RedisStore {
    /// A fleet's part of the Redis at an address. Nothing is connected yet. `copy`: this machine's copy
    /// of the state; `kept`: where the newest table is kept.
    pub fn new(
        address: Arc<Address>,
        Times { timeout, ttl }: Times,
        fleet: &str,
        copy: Option<FileStore>,
        kept: Option<PathBuf>,
    ) -> Self {
        Self(Arc::new(Shared {
            connection: RedisConnection::new(Arc::clone(&address), timeout),
            address,
            timeout,
            ttl,
            fleet: fleet.to_owned(),
            keys: Keys::of(fleet),
            copy,
            kept,
            memory: Mutex::default(),
        }))
    }

    /// `what`: the part of the store that is meant, for a complaint.
    async fn call(&self, what: &'static str, command: &Cmd) -> Result<Value, StoreError> {
        let answer = self.0.connection.call(command).await;
        let (away, denied) = match &answer {
            Err(CallError::Away(why)) => (Some(why.clone()), None),
            Err(CallError::Denied(why)) => (None, Some(why.clone())),
            Ok(_) | Err(CallError::Refused(_)) => (None, None),
        };
        let is_away = away.is_some();
        self.note(away);
        if !is_away {
            self.note_denied(what, denied);
        }
        answer.map_err(|error| match error {
            CallError::Refused(why) => StoreError::Refused(why),
            // As little is known of what it holds as if it were not there.
            other => StoreError::Away(other.to_string()),
        })
    }

    /// Says once that the server does not do what is asked of a part of the store.
    fn note_denied(&self, what: &'static str, why: Option<String>) {
        let mut memory = self.memory();
        match why {
            None => drop(memory.denied.remove(what)),
            Some(why) if memory.denied.get(what) == Some(&why) => {}
            Some(why) => {
                tracing::warn!("the store does not do what is asked of its {what}: {why}");
                memory.denied.insert(what, why);
            }
        }
    }

    /// Says once that the store is away, and once that it is back.
    fn note(&self, away: Option<String>) {
        let mut memory = self.memory();
        match (&memory.trouble, &away) {
            (None, Some(why)) => tracing::warn!(
                "the store does not answer ({}): {why}; going on with what is known",
                self.0.address.describe()
            ),
            (Some(_), None) => tracing::info!("the store answers again"),
            _ => {}
        }
        memory.trouble = away;
    }

    /// Complains of a place in the store, unless that was said already. `None`: it is well.
    fn complain(&self, place: &str, why: Option<String>) {
        let mut memory = self.memory();
        match why {
            None => drop(memory.said.remove(place)),
            Some(why) if memory.said.get(place) == Some(&why) => {}
            // It would be said again and again.
            Some(_) if memory.said.len() >= SAID_MAX && !memory.said.contains_key(place) => {}
            Some(why) => {
                tracing::warn!("the store's {place} cannot be used: {why}");
                memory.said.insert(place.to_owned(), why);
            }
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // Each field is replaced as a whole; a panic between them cannot be.
        self.0.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn put_table(
        &self,
        publication: &Publication,
        delta: Option<&Delta>,
    ) -> Result<(), StoreError> {
        let unwritable = |error: serde_json::Error| StoreError::Refused(error.to_string());
        let version = publication.version();
        let text = wire::table_text(publication).map_err(unwritable)?;
        let news = wire::news_text(version, delta).map_err(unwritable)?;
        let keys = &self.0.keys;
        let mut command = cmd("EVAL");
        command.arg(scripts::PUBLISH).arg(2).arg(&keys.lease).arg(&keys.table);
        command.arg(version.fence.0).arg(version.number).arg(text).arg(&keys.tables).arg(news);
        counted(self.call("table", &command).await)?;
        let mut memory = self.memory();
        if memory.table.as_ref().is_none_or(|kept| kept.version() < version) {
            memory.table = Some(publication.clone());
        }
        Ok(())
    }

    async fn get_table(&self, than: Version) -> Result<Option<Publication>, StoreError> {
        let key = &self.0.keys.table;
        let mut command = cmd("HMGET");
        let fields = texts(self.call("table", command.arg(key).arg(&["fence", "number"])).await?);
        let version = match &fields[..] {
            [fence, number] => version_of(fence.as_deref(), number.as_deref()),
            _ => None,
        };
        if version.is_none_or(|version| version <= than) {
            return Ok(None);
        }
        let text = texts(self.call("table", cmd("HMGET").arg(key).arg("text")).await?);
        let Some(Some(text)) = text.first() else { return Ok(None) };
        if text.len() > SIZE_MAX {
            return Err(StoreError::Refused("its table is too large".to_owned()));
        }
        wire::read_table(text).map(Some).map_err(StoreError::Refused)
    }

    async fn tell(&self, channel: &str, text: String) -> Result<(), StoreError> {
        self.call("reports", cmd("PUBLISH").arg(channel).arg(text)).await.map(|_| ())
    }
}

impl Store for RedisStore {
    fn load(&self) -> BoxFuture<'_, Result<Loaded, StoreError>> {
        Box::pin(self.load_newer())
    }

    fn save(&self, version: Version, desired: Desired) -> BoxFuture<'static, io::Result<()>> {
        // The scripts refuse what comes too late, so that the order in the store is right in any case.
        let store = self.clone();
        Box::pin(async move { store.write(version, desired).await })
    }

    fn ask(&self, who: &Holder, request: &Request) -> BoxFuture<'static, Reply> {
        let (store, who, ask) = (self.clone(), who.clone(), request.clone());
        Box::pin(async move { store.ask_for_lease(&who, &ask).await })
    }

    fn publish(
        &self,
        publication: &Publication,
        delta: Option<&Delta>,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        let (store, publication, delta) = (self.clone(), publication.clone(), delta.cloned());
        Box::pin(async move { store.put_table(&publication, delta.as_ref()).await })
    }

    fn table(&self, than: Version) -> BoxFuture<'_, Result<Option<Publication>, StoreError>> {
        Box::pin(async move {
            let table = self.get_table(than).await;
            match &table {
                Ok(_) => self.complain("table", None),
                Err(StoreError::Refused(why)) => self.complain("table", Some(why.clone())),
                Err(_) => {}
            }
            table
        })
    }

    fn report(
        &self,
        report: &Report,
        failed: &[(InstanceId, FailureKind)],
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        let (store, text) = (self.clone(), wire::report_text(report, failed));
        Box::pin(async move {
            let text = text.map_err(|error| StoreError::Refused(error.to_string()))?;
            store.tell(&store.0.keys.reports, text).await
        })
    }

    fn leave(&self, balancer: &ProcessId) -> BoxFuture<'static, Result<(), StoreError>> {
        let (store, text) = (self.clone(), wire::gone_text(balancer));
        Box::pin(async move {
            let text = text.map_err(|error| StoreError::Refused(error.to_string()))?;
            store.tell(&store.0.keys.reports, text).await
        })
    }

    fn watch(&self, with_reports: bool) -> mpsc::Receiver<Heard> {
        let (sender, receiver) = mpsc::channel(HEARD_MAX);
        let mut channels = vec![self.0.keys.tables.clone()];
        channels.extend(with_reports.then(|| self.0.keys.reports.clone()));
        let (raw_sender, raw) = mpsc::channel(HEARD_MAX);
        let (address, timeout) = (Arc::clone(&self.0.address), self.0.timeout);
        let place = format!("channels {}", channels.join(" and "));
        tokio::spawn(connection::listen(address, timeout, channels, raw_sender));
        tokio::spawn(self.clone().pass_on(place, raw, sender));
        receiver
    }

    fn refill(&self, stored: Stored) -> BoxFuture<'static, ()> {
        let store = self.clone();
        Box::pin(async move {
            let (state, table) = {
                let memory = store.memory();
                let state =
                    memory.state.as_ref().filter(|(version, _)| stored.state < Some(*version));
                let is_lost = |table: &&Publication| stored.table < Some(table.version());
                (state.cloned(), memory.table.as_ref().filter(is_lost).cloned())
            };
            if let Some((version, desired)) = state {
                tracing::warn!("the store has lost the state: it is written again");
                // If it fails, the next renewal says so again.
                drop(store.write(version, desired).await);
            }
            if let Some(table) = table {
                drop(store.put_table(&table, None).await);
            }
        })
    }

    fn copy(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.follow_state())
    }

    fn holder(&self) -> BoxFuture<'_, Result<Option<Holder>, StoreError>> {
        Box::pin(self.read_holder())
    }

    fn keep_table(&self, publication: &Publication) -> BoxFuture<'static, ()> {
        let (store, text) = (self.clone(), wire::table_text(publication));
        Box::pin(async move {
            let kept = match (text, store.0.kept.clone()) {
                (_, None) => return,
                (Ok(text), Some(path)) => kept::write(path, text).await,
                (Err(error), _) => Err(error.into()),
            };
            let why = kept.err().map(|error| error.to_string());
            store.complain("table in the state directory", why);
        })
    }

    fn kept_table(&self) -> BoxFuture<'_, Option<Publication>> {
        Box::pin(async {
            let text = kept::read(self.0.kept.clone()?).await;
            match text.map(|text| text.map(|text| wire::read_table(&text))) {
                Ok(Some(Ok(publication))) => Some(publication),
                Ok(None) => None,
                Ok(Some(Err(why))) => {
                    self.complain("table in the state directory", Some(why));
                    None
                }
                Err(error) => {
                    self.complain("table in the state directory", Some(error.to_string()));
                    None
                }
            }
        })
    }

    fn trouble(&self) -> Option<String> {
        let memory = self.memory();
        let denied = || memory.denied.values().next().cloned();
        memory.trouble.clone().or_else(denied)
    }
}
