//! The simulated store: what it decides is the arbiter's; what reaches it, and when, is chance.

use ringmaster_core::{
    fleet::{desired::Desired, ids::Moment},
    roles::{arbiter::Arbiter, ids::Version, publication::Publication},
};

use super::clock::Clock;

pub(super) struct Store {
    pub(super) arbiter: Arbiter,
    pub(super) clock: Clock,
    pub(super) state: Option<(Version, Desired)>,
    pub(super) table: Option<Publication>,
    /// It answers nothing before this moment, and then all of it.
    pub(super) frozen_until: Moment,
    /// It refuses connections until this moment.
    pub(super) away_until: Moment,
    pub(super) emptied_at: Option<Moment>,
}

impl Store {
    pub(super) fn new(arbiter: Arbiter, clock: Clock) -> Self {
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
