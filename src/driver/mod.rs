//! Effects on instances, behind one small trait. A driver decides nothing: it is told what to
//! start and stop by the core's actions, and reports what it finds.

pub mod docker;
pub mod fixed;
pub mod process;
mod settle;

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
    /// The event stream was lost, or found (also for the first time); what happened meanwhile is
    /// unknown.
    StreamChanged,
}

/// One way to run instances: containers, processes, or addresses that somebody else keeps.
///
/// Each call has a deadline of its own inside the driver, and may be dropped at any time by the
/// caller. Calls run concurrently.
pub trait Driver: Send + Sync + 'static {
    /// Starts an instance and says where it will listen. A container of ours that bears the name
    /// is removed first.
    fn start(&self, request: StartRequest) -> BoxFuture<'_, Result<Started, StartError>>;

    /// Stops an instance and removes what is left of it; `Ok` also when there is nothing.
    fn stop(&self, handle: Handle, manner: StopManner) -> BoxFuture<'_, Result<(), EngineError>>;

    /// Everything of this fleet.
    fn list(&self) -> BoxFuture<'_, Result<Listing, EngineError>>;

    /// Removes what the driver made for the fleet beside its instances and that serves nobody now
    /// that none is left.
    fn tidy_up(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(async { Ok(()) })
    }

    /// Sends what the engine reports until the receiver is gone. Subscribes again by itself.
    fn watch(&self, signals: mpsc::Sender<Signal>) -> BoxFuture<'_, ()>;
}

/// Digest of what a driver starts instances from. Each part is written with its length, so that
/// no two lists of parts give the same text; the environment is sorted, for its order means nothing.
fn spec_digest(parts: &[&str], env: &[(String, String)]) -> SpecDigest {
    let mut env: Vec<&(String, String)> = env.iter().collect();
    env.sort();
    let pairs = env.iter().flat_map(|(key, value)| [key, value]);
    let mut text = format!("{};", parts.len());
    for part in parts.iter().copied().chain(pairs.map(String::as_str)) {
        text.push_str(&format!("{}:{part};", part.len()));
    }
    let hash = xxhash_rust::xxh3::xxh3_64(text.as_bytes());
    SpecDigest(format!("{hash:016x}").into())
}

/// The environment that every instance gets, whatever runs it.
fn contract_env(request: &StartRequest, port: u16) -> [(&'static str, String); 4] {
    let InstanceId { replica, incarnation } = request.instance;
    [
        ("SERVER_ID", request.name.to_string()),
        ("PORT", port.to_string()),
        ("RINGMASTER_REPLICA", replica.0.to_string()),
        ("RINGMASTER_INCARNATION", incarnation.0.to_string()),
    ]
}
