//! Backends that others list in the same Redis: the set `backends` of their ids, a hash
//! `backend:<id>` of each with `url`, `status` and `last_checked`, and the channel `backend_changes`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::{StreamExt, stream};
use redis::cmd;
use ringmaster_core::{
    fleet::{
        ids::ReplicaName,
        server::{Server, Source},
    },
    roles::ids::Fence,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{
    RedisStore,
    answer::{counted, number_of, texts},
    connection::{self, Published},
    scripts,
};
use crate::store::StoreError;

const SET: &str = "backends";
/// How the keys of backends begin.
const KEY: &str = "backend:";
const CHANNEL: &str = "backend_changes";
/// As it is complained of.
const CHANNELS: &str = "channel backend_changes";
/// Backends that are read; more are said once and skipped.
const BACKENDS_MAX: usize = ringmaster_core::ring::MEMBERS_MAX;
/// More than this, and it is another list than is meant: it is not even fetched.
const LISTED_MAX: u64 = 100_000;
/// Backends that are asked for at once.
const READS_MAX: usize = 64;
/// Changes that may wait to be read.
const NEWS_MAX: usize = 1_024;

/// What the store says of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Where it is.
    pub server: Server,
    /// What was said of its health last; `None`: nothing that is understood.
    pub is_healthy: Option<bool>,
}

/// All backends, as far as they can be understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backends {
    /// By their ids, which are their names.
    pub listed: BTreeMap<ReplicaName, Backend>,
    /// Those that are listed, and cannot be used: they stay what they are.
    pub unusable: Vec<ReplicaName>,
    /// The store has lost what this fleet had put beside the list, and the list perhaps with it.
    pub is_emptied: bool,
}

/// What is told of backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendNews {
    /// It is listened from now on, or again.
    Listening,
    /// A party says that a backend is well, or not.
    Marked(ReplicaName, bool),
    /// Something that names no known backend: the list may be another one.
    Other,
}

#[derive(Serialize, Deserialize)]
struct ChangeWire {
    backend_id: String,
    status: String,
}

const HEALTHY: &str = "healthy";
const UNHEALTHY: &str = "unhealthy";

fn is_healthy(status: &str) -> Option<bool> {
    match status {
        HEALTHY => Some(true),
        UNHEALTHY => Some(false),
        _ => None,
    }
}

fn status_of(is_healthy: bool) -> &'static str {
    if is_healthy { HEALTHY } else { UNHEALTHY }
}

fn key_of(name: &ReplicaName) -> String {
    format!("{KEY}{name}")
}

/// A few of many problems, in one text.
fn summary(problems: &[String]) -> String {
    const SHOWN: usize = 10;
    let more = problems.len().saturating_sub(SHOWN);
    let shown = problems.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
    if more == 0 { shown } else { format!("{shown}; and {more} more") }
}

impl RedisStore {
    /// Reads the list and what it says of each.
    ///
    /// # Errors
    /// The store is away, or the list is none: nothing is known then.
    pub async fn backends(&self) -> Result<Backends, StoreError> {
        let place = "list of backends";
        let ids = match self.backend_ids().await {
            Ok(ids) => ids,
            Err(error) => {
                if let StoreError::Refused(why) = &error {
                    self.complain(place, Some(why.clone()));
                }
                return Err(error);
            }
        };
        // Asked last: if all is lost in between, the list was whole, and else this is missing too.
        let mark = texts(self.call("backends", cmd("EXISTS").arg(&self.0.keys.backends)).await?);
        let mut found = Backends {
            is_emptied: mark.first().is_none_or(|mark| mark.as_deref() != Some(b"1")),
            ..Backends::default()
        };
        let mut problems = Vec::new();
        if let Some(more) = ids.len().checked_sub(BACKENDS_MAX).filter(|more| *more > 0) {
            problems.push(format!("{more} are too many"));
        }
        let mut names = Vec::new();
        for id in ids.iter().take(BACKENDS_MAX) {
            match ReplicaName::new(id) {
                Ok(name) => names.push(name),
                Err(error) => problems.push(error.to_string()),
            }
        }
        self.complain(place, (!problems.is_empty()).then(|| summary(&problems)));
        self.said_of(&names);
        let read = names.into_iter().map(|name| async move {
            let backend = self.backend(&name).await;
            (name, backend)
        });
        let mut read = stream::iter(read).buffered(READS_MAX);
        while let Some((name, backend)) = read.next().await {
            match backend {
                Ok(backend) => drop(found.listed.insert(name, backend)),
                Err(StoreError::Away(why)) => return Err(StoreError::Away(why)),
                Err(_) => found.unusable.push(name),
            }
        }
        Ok(found)
    }

    /// All that is listed, in alphabetical order.
    async fn backend_ids(&self) -> Result<Vec<String>, StoreError> {
        let count = texts(self.call("backends", cmd("SCARD").arg(SET)).await?);
        let count = count.first().and_then(|count| number_of(count.as_deref()));
        if let Some(count) = count.filter(|count| *count > LISTED_MAX) {
            return Err(StoreError::Refused(format!("it has {count}, and is not read at all")));
        }
        let ids = texts(self.call("backends", cmd("SMEMBERS").arg(SET)).await?);
        let text = |id: Vec<u8>| String::from_utf8_lossy(&id).into_owned();
        let mut ids: Vec<String> = ids.into_iter().flatten().map(text).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// Forgets what was said of backends that are not listed any more.
    fn said_of(&self, names: &[ReplicaName]) {
        let listed: BTreeSet<String> = names.iter().map(key_of).collect();
        let is_meant = |place: &String| !place.starts_with(KEY) || listed.contains(place);
        self.memory().said.retain(|place, _| is_meant(place));
    }

    async fn backend(&self, name: &ReplicaName) -> Result<Backend, StoreError> {
        let place = key_of(name);
        let read = self.call("backends", cmd("HMGET").arg(&place).arg(&["url", "status"])).await;
        let fields = match read.map(texts) {
            Ok(fields) => fields,
            Err(error) => {
                if let StoreError::Refused(why) = &error {
                    self.complain(&place, Some(why.clone()));
                }
                return Err(error);
            }
        };
        let text = |at: usize| {
            let field: &[u8] = fields.get(at)?.as_deref()?;
            Some(String::from_utf8_lossy(field).into_owned())
        };
        let server = server_of(text(0).as_deref().unwrap_or_default());
        let status = text(1);
        let is_healthy = status.as_deref().and_then(is_healthy);
        let unknown = status.filter(|_| is_healthy.is_none()).map(|status| {
            let status: String = status.chars().take(80).collect();
            format!("'{status}' is no status: healthy or unhealthy")
        });
        match server {
            Ok(server) => {
                self.complain(&place, unknown);
                Ok(Backend { server, is_healthy })
            }
            Err(why) => {
                self.complain(&place, Some(why.clone()));
                Err(StoreError::Refused(why))
            }
        }
    }

    /// Writes what our checks say of a backend, and publishes it, if the lease has this fence.
    ///
    /// # Errors
    /// The store is away, holds something else under the name, or another process has the lease.
    pub async fn mark_backend(
        &self,
        fence: Fence,
        name: &ReplicaName,
        is_healthy: bool,
        at: SystemTime,
    ) -> Result<(), StoreError> {
        let status = status_of(is_healthy);
        let at = humantime::format_rfc3339_seconds(at).to_string();
        let change = ChangeWire { backend_id: name.to_string(), status: status.to_owned() };
        let text = serde_json::to_string(&change);
        let text = text.map_err(|error| StoreError::Refused(error.to_string()))?;
        let place = key_of(name);
        let mut command = cmd("EVAL");
        command.arg(scripts::MARK).arg(2).arg(&self.0.keys.lease).arg(&place);
        command.arg(fence.0).arg(status).arg(at).arg(CHANNEL).arg(text);
        counted(self.call("verdicts", &command).await)
    }

    /// Lists backends again that an emptied store has lost, and notes that this was done, if the lease
    /// has this fence.
    ///
    /// # Errors
    /// The store is away, the list is none, or another process has the lease.
    pub async fn restore_backends(
        &self,
        fence: Fence,
        held: &BTreeMap<ReplicaName, Server>,
    ) -> Result<(), StoreError> {
        let keys = &self.0.keys;
        let mut command = cmd("EVAL");
        command.arg(scripts::RESTORE).arg(3 + held.len());
        command.arg(&keys.lease).arg(SET).arg(&keys.backends);
        for name in held.keys() {
            command.arg(key_of(name));
        }
        command.arg(fence.0);
        for (name, server) in held {
            command.arg(name.as_str()).arg(format!("http://{}", server.place()));
        }
        counted(self.call("backends", &command).await)
    }

    /// What is told of backends, until the receiver is dropped.
    pub fn watch_backends(&self) -> mpsc::Receiver<BackendNews> {
        let (sender, receiver) = mpsc::channel(NEWS_MAX);
        let (raw_sender, mut raw) = mpsc::channel(NEWS_MAX);
        let (address, timeout): (_, Duration) = (Arc::clone(&self.0.address), self.0.timeout);
        let channels = vec![CHANNEL.to_owned()];
        tokio::spawn(connection::listen(address, timeout, channels, raw_sender));
        let store = self.clone();
        tokio::spawn(async move {
            loop {
                let published = tokio::select! {
                    published = raw.recv() => published,
                    () = sender.closed() => return,
                };
                let news = match published {
                    None => return,
                    Some(Published::Subscribed) => {
                        store.complain(CHANNELS, None);
                        BackendNews::Listening
                    }
                    Some(Published::Denied(why)) => {
                        store.complain(CHANNELS, Some(why));
                        continue;
                    }
                    Some(Published::Lost) => continue,
                    Some(Published::Message { payload, .. }) => store.news_of(&payload),
                };
                if sender.send(news).await.is_err() {
                    return;
                }
            }
        });
        receiver
    }

    fn news_of(&self, payload: &[u8]) -> BackendNews {
        let read = serde_json::from_slice::<ChangeWire>(payload)
            .map_err(|error| error.to_string())
            .and_then(|change| {
                let name = ReplicaName::new(&change.backend_id);
                let name = name.map_err(|error| error.to_string())?;
                let status: String = change.status.chars().take(80).collect();
                let is_healthy = is_healthy(&status);
                let is_healthy = is_healthy.ok_or_else(|| format!("'{status}' is no status"))?;
                Ok(BackendNews::Marked(name, is_healthy))
            });
        read.unwrap_or_else(|why| {
            self.complain(CHANNEL, Some(why));
            BackendNews::Other
        })
    }
}

/// The place that a URL names.
fn server_of(url: &str) -> Result<Server, String> {
    let shown: String = url.chars().take(120).collect();
    let wrong = |why: &str| format!("'{shown}' is no URL like http://host:port: {why}");
    let uri: http::Uri = url.parse().map_err(|_| wrong("it cannot be read"))?;
    if uri.scheme_str() != Some("http") {
        return Err(wrong("it does not begin with http://"));
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(wrong("it has a path"));
    }
    let host = uri.host().unwrap_or_default();
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(wrong("it has a user"));
    }
    let port = uri.port_u16().unwrap_or(80);
    Server::new(host, port, Source::Store).map_err(|error| wrong(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_from_urls() {
        for (url, place) in [
            ("http://backend1:8080", "backend1:8080"),
            ("http://10.0.0.1", "10.0.0.1:80"),
            ("http://[::1]:9/", "[::1]:9"),
        ] {
            assert_eq!(server_of(url).unwrap().place(), place);
        }
        for url in [
            "",
            "backend1:8080",
            "https://a",
            "http://a/b",
            "http://a?b",
            "http://u:p@a",
            "http://a:0",
            "http://",
        ] {
            let why = server_of(url).unwrap_err();
            assert!(why.contains("is no URL like http://host:port"), "{url}: {why}");
        }
    }
}
