//! The file as a [`Store`]: the lock on its directory is the lease, nothing else shares it.

use std::io;

use futures_util::future::BoxFuture;
use ringmaster_core::{
    fleet::{desired::Desired, ids::InstanceId, message::FailureKind},
    roles::{
        acknowledgements::Report,
        ids::{Fence, Holder, ProcessId, Version},
        lease::{Ask, Reply, Request, Stored},
        publication::{Delta, Publication},
    },
};
use tokio::sync::mpsc;

use super::FileStore;
use crate::store::{Heard, Loaded, Store, StoreError};

impl Store for FileStore {
    fn load(&self) -> BoxFuture<'_, Result<Loaded, StoreError>> {
        Box::pin(async { FileStore::load(self) })
    }

    fn save(&self, _: Version, desired: Desired) -> BoxFuture<'static, io::Result<()>> {
        Box::pin(FileStore::save(self, desired))
    }

    fn ask(&self, _: &Holder, request: &Request) -> BoxFuture<'static, Reply> {
        let reply = match request.ask {
            Ask::Acquire { at_least } => {
                Reply::Granted { fence: Fence(at_least.0.saturating_add(1)) }
            }
            Ask::Renew { .. } => Reply::Renewed { stored: Stored::default() },
            Ask::Release { fence } => Reply::Refused { by: None, fence },
        };
        Box::pin(async { reply })
    }

    fn publish(
        &self,
        _: &Publication,
        _: Option<&Delta>,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    fn table(&self, _: Version) -> BoxFuture<'_, Result<Option<Publication>, StoreError>> {
        Box::pin(async { Ok(None) })
    }

    fn report(
        &self,
        _: &Report,
        _: &[(InstanceId, FailureKind)],
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    fn leave(&self, _: &ProcessId) -> BoxFuture<'static, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    fn watch(&self, _: bool) -> mpsc::Receiver<Heard> {
        let (sender, receiver) = mpsc::channel(1);
        // Nothing ever comes, and the channel stays open.
        tokio::spawn(async move { sender.closed().await });
        receiver
    }

    fn refill(&self, _: Stored) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }

    fn copy(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    fn holder(&self) -> BoxFuture<'_, Result<Option<Holder>, StoreError>> {
        Box::pin(async { Ok(None) })
    }

    fn keep_table(&self, _: &Publication) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }

    fn kept_table(&self) -> BoxFuture<'_, Option<Publication>> {
        Box::pin(async { None })
    }

    fn trouble(&self) -> Option<String> {
        None
    }
}
