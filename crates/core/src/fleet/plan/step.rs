//! What a plan is made of, and the deadlines that it is made with.

use std::collections::BTreeSet;

use crate::fleet::{
    ids::{Handle, InstanceId, Moment, ReplicaId},
    message::StopManner,
    notes::StartCause,
};

/// One step. Most also change the state; the supervisor says how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send a heartbeat.
    Probe(InstanceId),
    /// Ask for the list of all instances.
    List,
    /// Write the committed state again: names or incarnations have changed.
    Persist,
    /// The result of a write is lost: go on as if it had failed.
    ForgetWrite,
    /// Put a passing instance into the table; `instead_of` drains.
    Admit {
        /// The instance that enters.
        instance: InstanceId,
        /// The instance that leaves in the same step.
        instead_of: Option<InstanceId>,
    },
    /// Take a failing instance out of the table.
    Eject(InstanceId),
    /// Put a failing instance back into the table, since no other passes.
    ReadmitAsLast(InstanceId),
    /// Take an instance out of the table for good and let its requests end.
    Drain(InstanceId),
    /// Take an instance of a drained replica out of the table; its requests may end.
    EjectDrained(InstanceId),
    /// Let an instance into the table again whose replica is no longer drained.
    Undrain(InstanceId),
    /// Look up the host of a registered server.
    Resolve(InstanceId),
    /// Let an instance go that is not, or no longer, in the table.
    Stop(InstanceId, StopManner),
    /// Ask the driver to stop it.
    RequestStop(InstanceId, StopManner),
    /// An instance does not get ready: stop it and count that against its replica.
    GiveUp(InstanceId),
    /// The result of a start is lost: look for it by list.
    ForgetStart(InstanceId),
    /// Start the next incarnation of a replica, or a newcomer.
    Start(ReplicaId, StartCause),
    /// Ask the driver to remove a stray.
    RequestReap(Handle),
    /// The removal of a stray is lost: the next list finds it again.
    ForgetReap(Handle),
    /// Too many fail at once: replace no living one for a while.
    BeginPanic {
        /// Living replicas that fail.
        failing: usize,
        /// Replicas with a living instance.
        living: usize,
    },
    /// Since when no more than half of them fail; `None`: too many do again.
    CalmPanic(Option<Moment>),
    /// Most have passed for a while.
    EndPanic,
    /// All run from what is wanted: that is the fleet's revision from now on.
    CompleteRoll,
    /// Take the next command from the queue.
    BeginCommand,
    /// Write the state that the running command leads to.
    CommitCommand,
    /// The running command has missed its deadline.
    FailCommand,
    /// Respond to the running command.
    FinishCommand,
}

/// Steps, and when to plan again if nothing happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// In this order.
    pub steps: Vec<Step>,
    /// The earliest deadline that is not due yet, but for heartbeats.
    pub settled_until: Option<Moment>,
    /// When the next heartbeat is due.
    pub probe_at: Option<Moment>,
}

impl Plan {
    /// When to plan again if nothing happens.
    pub fn wake_at(&self) -> Option<Moment> {
        earlier(self.settled_until, self.probe_at)
    }
}

/// The earlier of two moments that may never come.
pub fn earlier(one: Option<Moment>, other: Option<Moment>) -> Option<Moment> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// The instances that a plan lets go. A set, since every instance of a fleet may have to be looked up
/// in it: where all of them fail at once, scanning the steps each time costs their number squared.
pub(super) fn stopped_by(steps: &[Step]) -> BTreeSet<InstanceId> {
    let stopped = steps.iter().filter_map(|step| match step {
        Step::Stop(id, _) => Some(*id),
        _ => None,
    });
    stopped.collect()
}

/// Knows the time, and remembers the earliest deadline that it was asked about.
pub(super) struct Deadlines {
    now: Moment,
    pub(super) wake_at: Option<Moment>,
}

impl Deadlines {
    pub(super) fn at(now: Moment) -> Self {
        Self { now, wake_at: None }
    }

    pub(super) fn now(&self) -> Moment {
        self.now
    }

    pub(super) fn is_due(&mut self, at: Moment) -> bool {
        if at <= self.now {
            return true;
        }
        self.wake_at = Some(self.wake_at.map_or(at, |earliest| earliest.min(at)));
        false
    }
}
