//! What goes into the core and what comes out of it: events, actions, and their parts.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

pub use super::endings::{BYTES_MAX, LINES_MAX, LastWords};
pub use super::values::{FailureKind, Keeper, Revision, StopManner};
use super::{
    command::{CommandId, CommandResult, Request},
    desired::Desired,
    ids::{Handle, ImageId, InstanceId, Moment, ReplicaId, ReplicaName, SpecDigest},
    notes::Note,
};
use crate::ring::Slot;

/// All that can wake the core.
#[derive(Clone, Debug)]
pub enum Event {
    /// A scale command, or the dry run of one.
    Scale(CommandId, Request),
    /// The open requests of the replicas, as the data plane counts them; sent before a command that
    /// may choose by it.
    Loaded(BTreeMap<ReplicaId, u64>),
    /// A heartbeat's result.
    Probed {
        /// The instance that was probed.
        instance: InstanceId,
        /// What came back.
        outcome: ProbeOutcome,
    },
    /// A start has ended. An error does not mean that nothing runs; see [`Event::Listed`].
    Started {
        /// The instance that was started.
        instance: InstanceId,
        /// Where it is, or why it is not.
        result: Result<Started, StartError>,
    },
    /// A stop has ended; `Ok` also when there was nothing to stop.
    Stopped {
        /// The instance that was stopped.
        instance: InstanceId,
        /// What [`StopManner::Collect`] has found; whatever came of the stop.
        last_words: Option<Box<LastWords>>,
        /// The engine's words on failure.
        result: Result<(), EngineError>,
    },
    /// The removal of a stray has ended; `Ok` also when there was nothing to remove.
    Reaped {
        /// What the driver knew it by.
        handle: Handle,
        /// The engine's words on failure.
        result: Result<(), EngineError>,
    },
    /// Every worker reads a table without this instance, and its last request has ended.
    Drained {
        /// The instance that was drained.
        instance: InstanceId,
    },
    /// The engine reported something by itself. A hint: it may be late or missing.
    EngineSaw {
        /// Which instance; taken from labels, so it may be an unknown one.
        instance: InstanceId,
        /// Which container or process it was: several can bear the same labels.
        handle: Handle,
        /// What happened.
        sighting: Sighting,
    },
    /// The truth at the time the list was asked for.
    Listed {
        /// As in [`Action::List`].
        requested_at: Moment,
        /// What there is, or why that is not known.
        result: Result<Listing, EngineError>,
    },
    /// The host of a registered server was looked up.
    Resolved {
        /// The instance of the server.
        instance: InstanceId,
        /// Its address, or why there is none, in words.
        result: Result<SocketAddr, Arc<str>>,
    },
    /// The data plane could not get an answer from an instance.
    RequestFailed {
        /// The instance that failed.
        instance: InstanceId,
        /// How the request failed.
        kind: FailureKind,
    },
    /// A write of the desired state has ended.
    Persisted {
        /// Which write.
        write: WriteId,
        /// The system's words on failure.
        result: Result<(), Arc<str>>,
    },
    /// The engine's event stream was lost or found again: what happened meanwhile is unknown.
    StreamChanged,
    /// The balancer is to end: no command begins any more, and nothing is started. May come again,
    /// to stop the replicas too.
    ShutDown {
        /// Whether all instances are stopped; never those that others keep.
        stop_replicas: bool,
    },
    /// Time has passed.
    Tick,
}

/// All that the shell is asked to do. Nothing here leaves a choice to it.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Create and start a container (or process).
    Start(StartRequest),
    /// One heartbeat.
    Probe {
        /// The instance.
        instance: InstanceId,
        /// Where.
        address: SocketAddr,
        /// When to give up.
        deadline: Moment,
    },
    /// Look up the host of a registered server.
    Resolve {
        /// The instance of the server.
        instance: InstanceId,
        /// A hostname or an address.
        host: Arc<str>,
        /// Where it listens.
        port: u16,
    },
    /// Report when an instance that has left the table has no request left.
    AwaitDrain {
        /// The instance.
        instance: InstanceId,
    },
    /// Stop an instance and remove what is left of it.
    Stop {
        /// The instance.
        instance: InstanceId,
        /// What the driver knows it by.
        handle: Handle,
        /// How.
        manner: StopManner,
    },
    /// Ask for all instances with this fleet's label.
    List {
        /// Comes back in [`Event::Listed`], so that a late answer is not taken for a fresh one.
        requested_at: Moment,
    },
    /// Kill and remove a stray of ours; answered by [`Event::Reaped`].
    Reap {
        /// What the driver knows it by.
        handle: Handle,
    },
    /// Write the desired state.
    Persist {
        /// Comes back in [`Event::Persisted`].
        write: WriteId,
        /// What to write.
        desired: Desired,
    },
    /// Respond to a command.
    Respond(CommandId, CommandResult),
}

/// What one event led to.
#[derive(Clone, Debug, Default)]
pub struct Turn {
    /// To be carried out concurrently, in any order.
    pub actions: Vec<Action>,
    /// Transitions, for logs, counters and the decision record.
    pub notes: Vec<Note>,
    /// When the core wants a [`Event::Tick`] at the latest.
    pub wake_at: Option<Moment>,
    /// Nothing has happened but heartbeats as they should be: table and view are what they were.
    pub is_quiet: bool,
}

/// Numbers the writes of the desired state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WriteId(pub u64);

/// What a driver needs to start an instance of the fleet's image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartRequest {
    /// The instance that is to run.
    pub instance: InstanceId,
    /// Its bare name.
    pub name: ReplicaName,
    /// The smallest free number when the replica joined; kept in a label.
    pub ordinal: u32,
    /// Weight of the replica; kept in a label.
    pub weight: u32,
    /// Positions of its virtual servers; kept in a label.
    pub positions: Vec<Slot>,
    /// The build of the image to start, whatever the tag names by now; `None`: what the tag names.
    pub image: Option<ImageId>,
}

/// A started instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// What the driver knows it by.
    pub handle: Handle,
    /// Where it will listen.
    pub address: SocketAddr,
    /// What it was started from.
    pub revision: Revision,
}

/// Why an instance could not be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// A container of others bears the name.
    #[error("'{0}' is the name of another container")]
    NameTaken(ReplicaName),
    /// The engine does not have the image.
    #[error("{0}")]
    NoImage(Arc<str>),
    /// The engine refused; trying again without a change will not help soon.
    #[error("{0}")]
    Refused(Arc<str>),
    /// It started, and ended at once; nothing is left of it.
    #[error("{why}")]
    Ended {
        /// A sentence.
        why: Arc<str>,
        /// How it ended.
        last_words: Arc<LastWords>,
    },
    /// The engine could not be asked, or did not answer in time; the instance may run.
    #[error("{0}")]
    Unclear(Arc<str>),
}

/// Why the engine did not do something, in its own words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// It could not be reached, or did not answer in time.
    #[error("the engine is away: {0}")]
    Away(Arc<str>),
    /// It answered with an error.
    #[error("{0}")]
    Refused(Arc<str>),
}

/// What came back from a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// A 2xx or 3xx answer in time (or a TCP connection, where no path is set).
    Passed,
    /// It answered, but not well: alive.
    BadAnswer(Arc<str>),
    /// It accepted the connection, and did not answer in time: frozen, or only too busy.
    Silent(Arc<str>),
    /// No connection, or it was reset.
    NoAnswer(Arc<str>),
}

/// What an engine reports by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// The process ended.
    Died {
        /// Its exit status, where the engine says it.
        exit_code: Option<i64>,
    },
    /// The kernel killed a process for memory; the death comes as its own event.
    OutOfMemory,
    /// It was frozen.
    Paused,
    /// It was thawed.
    Unpaused,
    /// The image's own health check failed.
    Unhealthy,
    /// It lost the fleet's network.
    Disconnected,
    /// It was removed.
    Removed,
}

/// All that an engine has of a fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// What the configuration asks for, with the build that its tag names at the moment; `None`
    /// while that is not known, for instance because the image is missing.
    pub wanted: Option<Revision>,
    /// Everything with the fleet's label, whatever its state.
    pub found: Vec<Found>,
    /// Names that containers of others bear, as bare names of this fleet.
    pub foreign_names: Vec<ReplicaName>,
}

/// One container (or process) of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What the driver knows it by.
    pub handle: Handle,
    /// Which instance it is, by its labels; `None` when they cannot be read, which makes it a stray.
    pub identity: Option<FoundIdentity>,
    /// What it does.
    pub state: FoundState,
}

/// What labels and name say of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundIdentity {
    /// Replica and incarnation.
    pub instance: InstanceId,
    /// Bare name.
    pub name: ReplicaName,
    /// See [`StartRequest::ordinal`].
    pub ordinal: u32,
    /// See [`StartRequest::weight`].
    pub weight: u32,
    /// Positions when it was created.
    pub positions: Vec<Slot>,
    /// What it was started from.
    pub spec: SpecDigest,
    /// The build of the image that it runs.
    pub image: Option<ImageId>,
}

/// What a found instance does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundState {
    /// Created, and not started yet.
    Created,
    /// Runs, at an address of the fleet's network (`None`: disconnected from it).
    Running(Option<SocketAddr>),
    /// Frozen.
    Paused(Option<SocketAddr>),
    /// Ended.
    Exited {
        /// Its exit status.
        exit_code: Option<i64>,
    },
}
