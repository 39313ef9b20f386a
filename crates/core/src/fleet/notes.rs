//! Typed transitions that the core reports. The shell turns each into one log line, one counter
//! and one line of the decision record.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use super::{
    command::RingChange,
    endings::Ending,
    ids::{Handle, ImageId, InstanceId, ReplicaId, ReplicaName},
    observed::EjectReason,
    values::FailureKind,
};

/// One transition.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the variants say what happened and the fields to whom")]
pub enum Note {
    /// The first list has come: from now on the fleet is supervised.
    Booted { source: BootSource, replicas: usize, adopted: usize, strays: usize },
    /// The ring settings differ from the stored ones; the configured ones win.
    RingChanged { change: Box<RingChange> },
    /// The servers of the configuration differ from those that it had before; what is different takes
    /// effect. `refused`: what could not, each in a sentence.
    ServersChanged {
        added: Vec<ReplicaName>,
        changed: Vec<ReplicaName>,
        removed: Vec<ReplicaName>,
        refused: Vec<Arc<str>>,
    },
    /// A verdict on its health came from outside.
    Marked { instance: InstanceId, name: ReplicaName, is_healthy: bool },
    /// The host of a registered server has an address now.
    Resolved { instance: InstanceId, name: ReplicaName, address: SocketAddr },
    /// `--replicas` differs from the stored size, which wins.
    ReplicasDiffer { configured: usize, stored: usize },
    /// A start was asked for.
    Starting { instance: InstanceId, name: ReplicaName, cause: StartCause },
    /// A start failed, or the instance did not pass in time.
    StartFailed { instance: InstanceId, name: ReplicaName, error: Arc<str>, retry_in: Duration },
    /// In the table from now on.
    Admitted { instance: InstanceId, name: ReplicaName, address: SocketAddr },
    /// In the table again.
    Readmitted { instance: InstanceId, name: ReplicaName },
    /// In the table again though failing, because no other lives.
    ReadmittedAsLast { instance: InstanceId, name: ReplicaName },
    /// Failing, and kept in the table because no other lives.
    KeptAsLast { instance: InstanceId, name: ReplicaName, reason: EjectReason },
    /// Out of the table, alive.
    Ejected { instance: InstanceId, name: ReplicaName, reason: EjectReason },
    /// Of two replicas that others keep at one address, the later one gets no requests.
    AddressTaken { instance: InstanceId, name: ReplicaName, address: SocketAddr, by: ReplicaName },
    /// It ended by itself, or was ended by others.
    Died { instance: InstanceId, name: ReplicaName, exit_code: Option<i64>, admitted: bool },
    /// The end of an instance that died, with what its engine knows of it.
    Ended { ending: Arc<Ending> },
    /// An instance that others keep cannot be reached, or does not answer well.
    NotReady { instance: InstanceId, name: ReplicaName, why: Arc<str> },
    /// The kernel killed one of its processes for memory.
    OutOfMemory { instance: InstanceId, name: ReplicaName },
    /// A request to it failed; a heartbeat is sent at once. `unnoted`: failures of the same kind since
    /// the last such note.
    Suspected { instance: InstanceId, name: ReplicaName, kind: FailureKind, unnoted: u32 },
    /// Out of the table; its open requests may end.
    Draining { instance: InstanceId, name: ReplicaName },
    /// The driver was asked to stop it.
    Stopping { instance: InstanceId, name: ReplicaName },
    /// It is gone, as asked.
    Stopped { instance: InstanceId, name: ReplicaName },
    /// A stop failed and will be tried again.
    StopFailed { instance: InstanceId, name: ReplicaName, error: Arc<str> },
    /// A stray of ours is removed.
    Reaped { handle: Handle },
    /// A stray could not be removed; the next list finds it again.
    ReapFailed { handle: Handle, error: Arc<str> },
    /// More than half of the living replicas fail: that is no accident of one of them.
    PanicBegan { failing: usize, living: usize, hold: Duration },
    /// No more than half of them fail.
    PanicEnded,
    /// All replicas run from what is wanted.
    RollCompleted,
    /// A newcomer of a roll ended, or did not pass.
    RollFailed { name: ReplicaName, failures: u32, error: Arc<str> },
    /// A roll is given up; what runs goes on from the revision before.
    RollStopped { error: Arc<str> },
    /// A roll that was given up is tried again.
    RollRetried,
    /// The engine has lost the image of the fleet's revision; what the tag names takes its place.
    RevisionLost { image: ImageId },
    /// A scale command took effect.
    Committed { cause: Cause, names: Vec<ReplicaName>, change: Box<RingChange> },
    /// A scale command was given up; nothing has changed.
    RolledBack { error: String },
    /// Replicas run from something else than what is wanted; they are replaced one by one.
    Outdated { names: Vec<ReplicaName> },
    /// A replica waits before it is started again.
    BackedOff { replica: ReplicaId, failures: u32, delay: Duration },
    /// The engine does not answer.
    EngineAway { error: Arc<str> },
    /// It answers again.
    EngineBack,
    /// The state could not be written; it is tried again.
    PersistFailed { error: Arc<str> },
}

/// Where the desired state came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootSource {
    /// The state file.
    StateFile,
    /// The labels of what was found.
    Labels,
    /// The same, on another ring than the configured one, which does not hold them.
    LabelsBeyondRing,
    /// Nothing: a fleet of the configured size.
    Configuration,
}

/// Why an instance is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartCause {
    /// Its replica has no instance.
    Missing,
    /// Its replica's instance has been failing for too long.
    Failing,
    /// Its replica's instance is outdated.
    Outdated,
    /// An addition.
    Addition,
}

/// What moved keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// `/add`.
    Add,
    /// `/rm`.
    Remove,
    /// Another weight.
    Weight,
    /// Other settings of the ring.
    Ring,
    /// Servers were registered.
    Register,
    /// A registered server is somewhere else, or has another weight.
    Server,
    /// A replica gets no requests any more.
    Drain,
    /// A replica gets requests again.
    Enable,
}

impl Cause {
    /// All of them.
    pub const ALL: [Cause; 8] = [
        Self::Add,
        Self::Remove,
        Self::Weight,
        Self::Ring,
        Self::Register,
        Self::Server,
        Self::Drain,
        Self::Enable,
    ];

    /// The value of the metric label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Remove => "rm",
            Self::Weight => "weight",
            Self::Ring => "ring",
            Self::Register => "register",
            Self::Server => "server",
            Self::Drain => "drain",
            Self::Enable => "enable",
        }
    }
}
