//! Where the committed state of a fleet is kept; and, where several processes share one, who of them
//! supervises, what balancers route by, and what they report.

pub mod authenticator;
mod codec;
mod file;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod redis;

use std::{io, path::PathBuf};

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

pub use file::FileStore;
use ringmaster_core::{
    fleet::{desired::Desired, ids::InstanceId, message::FailureKind},
    roles::{
        acknowledgements::Report,
        ids::{Holder, ProcessId, Version},
        lease::{Reply, Request, Stored},
        publication::{Delta, Publication},
    },
};

/// Why the state cannot be kept here.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another balancer holds the directory.
    #[error("another balancer already supervises from state directory '{0}'")]
    InUse(PathBuf),
    /// The state is another fleet's.
    #[error("{place} belongs to the fleet '{fleet}'; choose another `state_dir`")]
    OtherFleet {
        /// Where it is.
        place: String,
        /// Whose it is.
        fleet: String,
    },
    /// The state is from a newer version.
    #[error("{place} has version {version}, and this program knows {known} at most", known = codec::VERSION)]
    Newer {
        /// Where it is.
        place: String,
        /// Its version.
        version: u32,
    },
    /// The system refused.
    #[error("state directory '{path}': {source}")]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// A store on another machine cannot be reached.
    #[error("the store does not answer: {0}")]
    Away(String),
    /// A store on another machine refused, or holds what is not ours.
    #[error("the store refuses: {0}")]
    Refused(String),
}

/// What was found at the start.
#[derive(Debug)]
pub enum Loaded {
    /// No state.
    Nothing,
    /// The state of an earlier run.
    State(Box<Desired>),
    /// A state that cannot be read; it was set aside.
    SetAside {
        /// Where it is now.
        place: String,
        /// What is wrong with it.
        why: String,
    },
}

/// What others have let be known.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// It is listened from now on, or again: what was told before is unknown.
    Listening,
    /// It is not listened any more: what is told from now on is unknown, until [`Heard::Listening`].
    Lost,
    /// What has changed of the routing table.
    Changed(Box<Delta>),
    /// There is another table; it is to be read.
    Newer,
    /// The lease is free.
    LeaseFree,
    /// What a balancer says of itself, and the requests that failed there.
    Reported(Box<Report>, Vec<(InstanceId, FailureKind)>),
    /// A balancer ends.
    Gone(ProcessId),
}

/// Keeps the state of one fleet. Each call has a deadline of its own, and may be dropped.
pub trait Store: Send + Sync + 'static {
    /// Reads the committed state.
    fn load(&self) -> BoxFuture<'_, Result<Loaded, StoreError>>;

    /// Writes the state, if none of a later term or of a higher generation is there. The order is that
    /// of the calls, whenever the futures are polled. When it is `Ok`, the state is kept.
    fn save(&self, version: Version, desired: Desired) -> BoxFuture<'static, io::Result<()>>;

    /// Asks for the lease, renews it or gives it back.
    fn ask(&self, who: &Holder, request: &Request) -> BoxFuture<'static, Reply>;

    /// Publishes a routing table, and what has changed since the one before.
    fn publish(
        &self,
        publication: &Publication,
        delta: Option<&Delta>,
    ) -> BoxFuture<'static, Result<(), StoreError>>;

    /// The published table, if it is newer than this version.
    fn table(&self, than: Version) -> BoxFuture<'_, Result<Option<Publication>, StoreError>>;

    /// Tells the supervisor how this balancer is, and which requests failed.
    fn report(
        &self,
        report: &Report,
        failed: &[(InstanceId, FailureKind)],
    ) -> BoxFuture<'static, Result<(), StoreError>>;

    /// Tells the supervisor that this balancer ends.
    fn leave(&self, balancer: &ProcessId) -> BoxFuture<'static, Result<(), StoreError>>;

    /// What others let be known, until the receiver is dropped. `with_reports`: also what balancers
    /// report.
    fn watch(&self, with_reports: bool) -> mpsc::Receiver<Heard>;

    /// Writes again what was lost, given what there is; nothing, if nothing was.
    fn refill(&self, stored: Stored) -> BoxFuture<'static, ()>;

    /// Brings this machine's copy of the state up to date.
    fn copy(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Who has the lease.
    fn holder(&self) -> BoxFuture<'_, Result<Option<Holder>, StoreError>>;

    /// Keeps a table on this machine, for a start while the store is away.
    fn keep_table(&self, publication: &Publication) -> BoxFuture<'static, ()>;

    /// The table that was kept, if one was.
    fn kept_table(&self) -> BoxFuture<'_, Option<Publication>>;

    /// Why it does not work now, in words; `None`: as far as is known, it does.
    fn trouble(&self) -> Option<String>;
}
