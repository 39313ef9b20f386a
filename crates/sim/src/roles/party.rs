//! A simulated process that supervises or stands by: its lease, and a core in each term. As the real
//! shell does, it checks `may_act` before every effect, and drops the core when the lease is lost.

use std::collections::BTreeMap;

use ringmaster_core::{
    fleet::{
        desired::Desired,
        ids::{InstanceId, Moment},
        supervisor::Supervisor,
    },
    roles::{
        acknowledgements::Acknowledgements,
        ids::{Fence, Holder, ProcessId, Version},
        lease::{Lease, Timing},
        publication::Publication,
    },
};

use super::clock::MachineClock;

/// Interval of the checks that have no wake-up of their own.
pub(super) const POLL_MS: u64 = 250;

pub(super) struct Party {
    pub(super) is_alive: bool,
    /// The number of the run.
    pub(super) epoch: u32,
    pub(super) is_cut: bool,
    /// While the process is frozen, its occurrences are delayed until this moment.
    pub(super) frozen_until: Moment,
    pub(super) clock: MachineClock,
    pub(super) lease: Lease,
    pub(super) term: Option<Term>,
    /// The last committed state that it read or wrote. It survives a restart, as the file does.
    pub(super) copy: Option<(Version, Desired)>,
    pub(super) wishes: u64,
}

/// One term as the supervisor.
pub(super) struct Term {
    pub(super) fence: Fence,
    /// Unique among the terms of all processes.
    pub(super) serial: u64,
    /// `None` until the state is loaded.
    pub(super) core: Option<Supervisor>,
    pub(super) acknowledgements: Acknowledgements,
    pub(super) published: Option<Publication>,
    /// Instances that have left the table, with the first version without them.
    pub(super) draining: BTreeMap<InstanceId, Version>,
    pub(super) writes: u64,
    pub(super) wishes: u64,
}

impl Party {
    pub(super) fn new(index: usize, epoch: u32, clock: MachineClock, now: Moment) -> Self {
        let lease =
            Lease::new(holder(index, epoch), Fence::default(), Timing::default(), clock.at(now));
        Self {
            is_alive: true,
            epoch,
            is_cut: false,
            frozen_until: Moment(0),
            clock,
            lease,
            term: None,
            copy: None,
            wishes: 0,
        }
    }

    /// Keeps a state if it is newer than the present one.
    pub(super) fn keep(&mut self, version: Version, desired: Desired) {
        if self.copy.as_ref().is_none_or(|(held, _)| *held < version) {
            self.copy = Some((version, desired));
        }
    }

    pub(super) fn may_act(&self, now: Moment) -> Option<Fence> {
        self.lease.may_act(self.clock.at(now)).filter(|_| self.is_alive)
    }
}

pub(super) fn holder(index: usize, epoch: u32) -> Holder {
    let name = format!("supervisor-{index}-{epoch}");
    let admin = format!("{name}:9000").into();
    Holder { id: ProcessId(name.as_str().into()), admin, authenticator: None }
}
