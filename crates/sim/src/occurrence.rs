//! The occurrences of a simulated world.

use ringmaster_core::fleet::{
    desired::Desired,
    ids::{Handle, InstanceId, Moment},
    message::{Event, StartRequest, WriteId},
};

/// Something that will happen.
#[derive(Clone, Debug)]
pub(super) enum Occurrence {
    /// An event reaches the supervisor, unless it has been restarted since.
    Deliver { epoch: u32, event: Event },
    /// A wake-up of the core; only the one requested last counts.
    Wake { wish: u64 },
    /// A heartbeat reaches the container that has the address.
    ProbeArrives { epoch: u32, instance: InstanceId, address: std::net::SocketAddr },
    /// The engine creates a container, also after the supervisor has given up the start.
    Create { epoch: u32, request: StartRequest, report: StartReport },
    /// A container of a bad image ends by itself.
    Exit { handle: Handle },
    /// The engine removes a container.
    Remove { handle: Handle },
    /// The engine takes the list; it is delivered later.
    TakeList { epoch: u32, requested_at: Moment, deliver_in: u64 },
    /// A write of the state ends, and may have reached the disk.
    WriteEnds { epoch: u32, write: WriteId, desired: Box<Desired> },
    /// A fault, or a user's command.
    Fault(Fault),
}

/// How the engine reports the creation of a container.
#[derive(Clone, Copy, Debug)]
pub(super) enum StartReport {
    /// As a success, this many milliseconds later.
    Honest(u64),
    /// As an error, this many milliseconds later, although the container runs.
    Denies(u64),
}

/// A fault, or a command of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Dies,
    Hangs,
    Fails,
    Recovers,
    Pauses,
    Unpauses,
    LosesNetwork,
    Moves,
    SeemsUnhealthy,
    IsRemoved,
    RunsOutOfMemory,
    RequestFails,
    EngineRestarts,
    EngineReturns,
    StreamBreaks,
    BalancerRestarts,
    BalancerLosesState,
    KilledBetweenActions,
    ToldToEnd,
    ToldToEndWithReplicas,
    DiskFills,
    DiskHangs,
    DiskEmpties,
    ImageChanges,
    BadBuild,
    Retries,
    AllFail,
    AllRecover,
    ImageBreaks,
    ImageMends,
    TroubleRises,
    TroubleFalls,
    Adds,
    Removes,
    DryRuns,
    Reweighs,
    SetsRing,
    Registers,
    ChangesServer,
    Drains,
    Marks,
}
