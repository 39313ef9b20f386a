//! A simulated process that wants to supervise: its lease, and in each term a core of its own. It does
//! what the shell does: asks `may_act` before everything, and drops the core when the lease is lost.

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

use super::clock::Clock;

/// From one look of a process at what has no wake-up of its own to the next.
pub(super) const LOOK_MS: u64 = 250;

pub(super) struct Party {
    pub(super) is_alive: bool,
    /// Counts its runs.
    pub(super) epoch: u32,
    pub(super) is_cut: bool,
    /// Nothing happens in it before this moment, and then all of it.
    pub(super) frozen_until: Moment,
    pub(super) clock: Clock,
    pub(super) lease: Lease,
    pub(super) term: Option<Term>,
    /// The committed state, as it last read or wrote it; survives a restart, as its file does.
    pub(super) copy: Option<(Version, Desired)>,
    pub(super) wishes: u64,
}

/// One time of acting.
pub(super) struct Term {
    pub(super) fence: Fence,
    /// Tells it from the others of all processes.
    pub(super) serial: u64,
    /// `None` until the state is loaded.
    pub(super) core: Option<Supervisor>,
    pub(super) heard: Acknowledgements,
    pub(super) published: Option<Publication>,
    /// Instances that have left the table, and the version since which they are out of it.
    pub(super) draining: BTreeMap<InstanceId, Version>,
    pub(super) writes: u64,
    pub(super) wishes: u64,
}

impl Party {
    pub(super) fn new(index: usize, epoch: u32, clock: Clock, now: Moment) -> Self {
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

    /// Keeps a state that is newer than the one that it has.
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
