//! The instances, and how far each has come.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use crate::fleet::{
    ids::{Handle, ImageId, InstanceId, Moment, ReplicaId, ReplicaName, SpecDigest},
    values::{FailureKind, Keeper, StopManner},
};

/// One concrete run of a replica, as far as it is known.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// Its bare name.
    pub name: ReplicaName,
    /// Whether we or others start and stop it.
    pub keeper: Keeper,
    /// How far it has come.
    pub phase: Phase,
    /// When its host is looked up; only of a registered server.
    pub lookup: Lookup,
    /// What the driver knows it by; `None` until its start has ended.
    pub handle: Option<Handle>,
    /// A list asked for after this moment must contain it.
    pub known_at: Moment,
    /// What it was started from; `None` while its start is under way and it follows the fleet.
    pub spec: Option<SpecDigest>,
    /// The build that it runs, or that its start was to use.
    pub image: Option<ImageId>,
    /// Its heartbeat.
    pub probing: Probing,
    /// What its last heartbeat met if that was bad, in words, or what keeps it from being asked.
    pub last_probe: Option<Arc<str>>,
    /// What failed requests have led to.
    pub suspicion: Suspicion,
}

/// What failed requests of an instance have led to: heartbeats and notes have a minimum interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Suspicion {
    /// The next heartbeat for a failed request is sent from this moment on.
    pub probe_from: Moment,
    /// The same kind of failure is noted again from this moment on.
    pub note_from: Moment,
    /// The kind that was noted last.
    pub kind: Option<FailureKind>,
    /// Failures since then that were not noted.
    pub unnoted: u32,
}

/// When the host of a registered server is looked up: again and again, since a name may come to
/// stand for another address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// None is under way.
    Idle {
        /// When the next is due.
        next: Moment,
    },
    /// One is under way.
    Waiting {
        /// When it was asked for.
        requested_at: Moment,
    },
}

/// How far an instance has come.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    /// The driver was asked to start it, or the host of a registered server is looked up.
    Starting {
        /// When.
        since: Moment,
        /// What has ended already: the engine's word may overtake the start's own result, which
        /// says whether this was it.
        ended: Option<(Handle, Exit)>,
    },
    /// It runs, and has not passed yet (or waits for the commit of its addition).
    Warming {
        /// Where it listens.
        address: SocketAddr,
        /// When it ran.
        since: Moment,
        /// What its heartbeats said.
        passes: Passes,
    },
    /// In the table.
    Admitted {
        /// Where it listens.
        address: SocketAddr,
        /// When it was admitted.
        since: Moment,
        /// What its heartbeats say.
        health: Health,
    },
    /// Alive, as far as is known, and out of the table.
    Ejected {
        /// Where it listens; `None` when it has no network.
        address: Option<SocketAddr>,
        /// Since when it has been failing.
        since: Moment,
        /// Why.
        reason: EjectReason,
        /// How long it had been in service.
        admitted_for: Duration,
        /// What its heartbeats have said since.
        passes: Passes,
    },
    /// Out of the table while its open requests end.
    Draining {
        /// When they are no longer waited for.
        until: Moment,
    },
    /// The driver was asked to stop it, or will be as soon as the engine is back.
    Stopping {
        /// Whether its open requests may still end.
        may_finish: bool,
        /// How far the stop is.
        progress: StopProgress,
    },
}

/// The end of a process, with its exit status where the engine says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit(pub Option<i64>);

/// How far a stop is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopProgress {
    /// The request to the driver is due, as soon as the engine answers.
    Due {
        /// How.
        manner: StopManner,
        /// Not before this moment, after a failure.
        not_before: Moment,
    },
    /// The driver is stopping it.
    Requested {
        /// When that is taken as lost, and tried again as a kill.
        lost_at: Moment,
    },
}

/// Passed heartbeats of an instance that is not in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passes {
    /// No heartbeat has come back yet.
    Untested,
    /// So many passed in a row.
    InARow(u32),
}

impl Passes {
    /// One more passed.
    pub fn plus_one(self) -> Self {
        match self {
            Self::Untested => Self::InARow(1),
            Self::InARow(count) => Self::InARow(count.saturating_add(1)),
        }
    }

    /// Whether that is enough.
    pub fn reach(self, needed: u32) -> bool {
        matches!(self, Self::InARow(count) if count >= needed)
    }
}

/// What the heartbeats of an admitted instance say. The streak lives in the variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It passes, but for so many failures in a row.
    Passing {
        /// Below the threshold.
        failures: u32,
    },
    /// It fails, and is still in the table because no other lives.
    Failing {
        /// Since when.
        since: Moment,
        /// How.
        reason: EjectReason,
    },
}

/// Why an instance left the table, or would if it were not the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EjectReason {
    /// It answers heartbeats, but not well.
    Failing,
    /// It accepts connections and does not answer heartbeats.
    Silent,
    /// It cannot be connected to.
    Unreachable,
    /// It is frozen.
    Paused,
    /// It lost the fleet's network.
    Disconnected,
    /// Its address is another instance's now.
    AddressReused,
    /// Its address is that of a replica before it, which gets all its requests. Only of replicas
    /// that others keep.
    AddressTaken,
    /// Its host has no address, as far as is known. Only of replicas that others keep.
    Unresolved,
    /// Its replica is drained.
    Drained,
}

impl EjectReason {
    /// Whether it can answer requests that it already has.
    pub fn can_finish(self) -> bool {
        matches!(self, Self::Failing | Self::AddressTaken | Self::Drained)
    }

    /// Whether only heartbeats speak against it, so that heartbeats can speak for it again.
    pub fn is_by_heartbeat(self) -> bool {
        matches!(self, Self::Failing | Self::Silent | Self::Unreachable)
    }

    /// Whether it accepts connections: traffic to it is better than none.
    pub fn accepts(self) -> bool {
        matches!(self, Self::Failing | Self::Silent)
    }

    /// One word for logs and labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failing => "failing",
            Self::Silent => "silent",
            Self::Unreachable => "unreachable",
            Self::Paused => "paused",
            Self::Disconnected => "disconnected",
            Self::AddressReused => "address_reused",
            Self::AddressTaken => "address_taken",
            Self::Unresolved => "unresolved",
            Self::Drained => "drained",
        }
    }
}

/// The heartbeat of one instance: at most one under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probing {
    /// None is under way.
    Idle {
        /// When the next is due.
        next: Moment,
        /// Whether a request has failed: then a single failure counts.
        suspect: bool,
    },
    /// One is under way.
    Waiting {
        /// When it was sent.
        sent: Moment,
        /// As in `Idle`.
        suspect: bool,
    },
}

impl Instance {
    /// Where it listens.
    pub fn address(&self) -> Option<SocketAddr> {
        match self.phase {
            Phase::Warming { address, .. } | Phase::Admitted { address, .. } => Some(address),
            Phase::Ejected { address, .. } => address,
            Phase::Starting { .. } | Phase::Draining { .. } | Phase::Stopping { .. } => None,
        }
    }

    /// Whether it was checked at least once, and how that went does not matter.
    pub fn is_tested(&self) -> bool {
        match self.phase {
            Phase::Warming { passes, .. } => passes != Passes::Untested,
            Phase::Starting { .. } => false,
            _ => true,
        }
    }

    /// Whether it is in the table.
    pub fn is_admitted(&self) -> bool {
        matches!(self.phase, Phase::Admitted { .. })
    }

    /// Whether it is in the table and passes.
    pub fn is_passing(&self) -> bool {
        matches!(self.phase, Phase::Admitted { health: Health::Passing { .. }, .. })
    }

    /// Whether it has passed and only waits to be admitted.
    pub fn is_ready(&self, passes_needed: u32) -> bool {
        matches!(self.phase, Phase::Warming { passes, .. } if passes.reach(passes_needed))
    }

    /// Whether it may still come to serve: starting or warming.
    pub fn is_coming(&self) -> bool {
        matches!(self.phase, Phase::Starting { .. } | Phase::Warming { .. })
    }

    /// Whether it is on its way out.
    pub fn is_leaving(&self) -> bool {
        matches!(self.phase, Phase::Draining { .. } | Phase::Stopping { .. })
    }

    /// How long it has been, or had been, in service.
    pub fn admitted_for(&self, now: Moment) -> Option<Duration> {
        match self.phase {
            Phase::Admitted { since, .. } => Some(now.since(since)),
            Phase::Ejected { admitted_for, .. } => Some(admitted_for),
            _ => None,
        }
    }
}

/// All known instances, ordered so that nothing depends on chance.
pub type Instances = BTreeMap<InstanceId, Instance>;

/// The instances of one replica, lowest incarnation first.
pub fn of_replica(
    instances: &Instances,
    replica: ReplicaId,
) -> impl DoubleEndedIterator<Item = (InstanceId, &Instance)> {
    use crate::fleet::ids::Incarnation;
    let first = InstanceId { replica, incarnation: Incarnation(0) };
    let last = InstanceId { replica, incarnation: Incarnation(u32::MAX) };
    instances.range(first..=last).map(|(id, instance)| (*id, instance))
}
