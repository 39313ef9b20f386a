//! Backends that others list in the same Redis: the set `backends` of their ids, a hash
//! `backend:<id>` of each with `url`, `status` and `last_checked`, and the channel `backend_changes`.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use redis::cmd;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{
    RedisStore,
    answer::texts,
    connection::{self, Published},
};
use crate::{
    fleet::{
        ids::ReplicaName,
        server::{Server, Source},
    },
    store::StoreError,
};

const SET: &str = "backends";
const CHANNEL: &str = "backend_changes";
/// Backends that are read; more are said once and skipped.
const BACKENDS_MAX: usize = crate::ring::MEMBERS_MAX;
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
    format!("backend:{name}")
}

impl RedisStore {
    /// Reads the list and what it says of each.
    ///
    /// # Errors
    /// The store is away, or the list is none: nothing is known then.
    pub async fn backends(&self) -> Result<Backends, StoreError> {
        let mark = texts(self.call(cmd("EXISTS").arg(&self.0.keys.backends)).await?);
        let ids = match self.call(cmd("SMEMBERS").arg(SET)).await {
            Ok(ids) => ids,
            Err(error) => {
                self.complain("list of backends", Some(error.to_string()));
                return Err(error);
            }
        };
        let mut ids: Vec<String> = texts(ids)
            .into_iter()
            .flatten()
            .map(|id| String::from_utf8_lossy(&id).into_owned())
            .collect();
        ids.sort_unstable();
        let too_many = ids.len().checked_sub(BACKENDS_MAX).filter(|more| *more > 0);
        self.complain("list of backends", too_many.map(|more| format!("{more} are too many")));
        ids.truncate(BACKENDS_MAX);
        let mut found = Backends {
            is_emptied: mark.first().is_none_or(|mark| mark.as_deref() != Some(b"1")),
            ..Backends::default()
        };
        for id in ids {
            let name = match ReplicaName::new(&id) {
                Ok(name) => name,
                Err(error) => {
                    self.complain("list of backends", Some(error.to_string()));
                    continue;
                }
            };
            match self.backend(&name).await {
                Ok(backend) => drop(found.listed.insert(name, backend)),
                Err(StoreError::Away(why)) => return Err(StoreError::Away(why)),
                Err(_) => found.unusable.push(name),
            }
        }
        Ok(found)
    }

    async fn backend(&self, name: &ReplicaName) -> Result<Backend, StoreError> {
        let place = key_of(name);
        let read = self.call(cmd("HMGET").arg(&place).arg(&["url", "status"])).await;
        let fields = match read.map(texts) {
            Ok(fields) => fields,
            Err(error) => {
                self.complain(&place, Some(error.to_string()));
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

    /// Writes what our checks say of a backend, and publishes it.
    ///
    /// # Errors
    /// The store is away, or holds something else under the name.
    pub async fn mark_backend(
        &self,
        name: &ReplicaName,
        is_healthy: bool,
        at: SystemTime,
    ) -> Result<(), StoreError> {
        let status = status_of(is_healthy);
        let at = humantime::format_rfc3339_seconds(at).to_string();
        let mut write = cmd("HSET");
        write.arg(key_of(name)).arg("status").arg(status).arg("last_checked").arg(at);
        self.call(&write).await?;
        let change = ChangeWire { backend_id: name.to_string(), status: status.to_owned() };
        let text = serde_json::to_string(&change);
        let text = text.map_err(|error| StoreError::Refused(error.to_string()))?;
        self.call(cmd("PUBLISH").arg(CHANNEL).arg(text)).await.map(|_| ())
    }

    /// Lists backends again that an emptied store has lost, and notes that this was done.
    ///
    /// # Errors
    /// The store is away, or holds something else under a name.
    pub async fn restore_backends(
        &self,
        held: &BTreeMap<ReplicaName, Server>,
    ) -> Result<(), StoreError> {
        for (name, server) in held {
            let url = format!("http://{}", server.place());
            self.call(cmd("HSETNX").arg(key_of(name)).arg("url").arg(url)).await?;
            self.call(cmd("SADD").arg(SET).arg(name.as_str())).await?;
        }
        self.call(cmd("SET").arg(&self.0.keys.backends).arg("1")).await.map(|_| ())
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
                    Some(Published::Subscribed) => BackendNews::Listening,
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
