//! Effects on instances, behind one small trait. A driver decides nothing: it is told what to
//! start and stop by the core's actions, and reports what it finds.

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use crate::fleet::{
    ids::{Handle, InstanceId, SpecDigest},
    message::{EngineError, Listing, Sighting, StartError, StartRequest, Started, StopManner},
};

/// What an engine reports by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Something happened to an instance of this fleet.
    Saw(InstanceId, Sighting),
    /// The event stream was lost or found again; what happened meanwhile is unknown.
    StreamChanged,
}

/// One way to run instances: containers, processes, or addresses that somebody else keeps.
///
/// Each call has a deadline of its own inside the driver, and may be dropped at any time by the
/// caller. Calls run concurrently.
pub trait Driver: Send + Sync + 'static {
    /// Digest of what this driver starts instances from. Found instances with another are outdated.
    fn spec(&self) -> SpecDigest;

    /// Starts an instance and says where it will listen. A container of ours that bears the name
    /// is removed first.
    fn start(&self, request: StartRequest) -> BoxFuture<'_, Result<Started, StartError>>;

    /// Stops an instance and removes what is left of it; `Ok` also when there is nothing.
    fn stop(&self, handle: Handle, manner: StopManner) -> BoxFuture<'_, Result<(), EngineError>>;

    /// Everything of this fleet.
    fn list(&self) -> BoxFuture<'_, Result<Listing, EngineError>>;

    /// Sends what the engine reports until the receiver is gone. Subscribes again by itself.
    fn watch(&self, signals: mpsc::Sender<Signal>) -> BoxFuture<'_, ()>;
}
