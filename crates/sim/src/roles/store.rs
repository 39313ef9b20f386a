//! The simulated store. The arbiter decides; whether and when messages arrive is random.

use ringmaster_core::{
    fleet::{desired::Desired, ids::Moment},
    roles::{arbiter::Arbiter, ids::Version, publication::Publication},
};

use super::clock::MachineClock;

pub(super) struct Store {
    pub(super) arbiter: Arbiter,
    pub(super) clock: MachineClock,
    pub(super) state: Option<(Version, Desired)>,
    pub(super) table: Option<Publication>,
    /// While the store is frozen, messages are delayed until this moment.
    pub(super) frozen_until: Moment,
    /// It refuses connections until this moment.
    pub(super) away_until: Moment,
    pub(super) emptied_at: Option<Moment>,
}

impl Store {
    pub(super) fn new(arbiter: Arbiter, clock: MachineClock) -> Self {
        Self {
            arbiter,
            clock,
            state: None,
            table: None,
            frozen_until: Moment(0),
            away_until: Moment(0),
            emptied_at: None,
        }
    }

    pub(super) fn empty(&mut self, now: Moment) {
        self.arbiter.empty();
        self.state = None;
        self.table = None;
        self.emptied_at = Some(now);
    }
}
