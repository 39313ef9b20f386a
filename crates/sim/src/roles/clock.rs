//! The clock of one machine: it began at some other moment than the others, and goes a little too fast
//! or too slow.

use ringmaster_core::fleet::ids::Moment;

/// Turns the time of the world into that of one machine, and back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// What it shows when the world begins.
    offset: u64,
    /// What it shows after a thousand milliseconds of the world.
    rate: u64,
}

impl Clock {
    pub(super) fn new(offset: u64, rate: u64) -> Self {
        Self { offset, rate }
    }

    pub(super) fn at(self, now: Moment) -> Moment {
        Moment(self.offset + now.0 * self.rate / 1_000)
    }

    /// The first moment of the world at which it shows no less.
    pub(super) fn when(self, local: Moment) -> Moment {
        Moment((local.0.saturating_sub(self.offset) * 1_000).div_ceil(self.rate))
    }
}
