//! The clock of one machine, with an offset and a rate that differ from the other machines.

use ringmaster_core::fleet::ids::Moment;

/// Converts the time of the world to that of one machine, and back.
#[derive(Clone, Copy, Debug)]
pub(super) struct MachineClock {
    /// Its time at the start of the world.
    offset: u64,
    /// Its milliseconds per thousand of the world.
    rate: u64,
}

impl MachineClock {
    pub(super) fn new(offset: u64, rate: u64) -> Self {
        Self { offset, rate }
    }

    pub(super) fn at(self, now: Moment) -> Moment {
        Moment(self.offset + now.0 * self.rate / 1_000)
    }

    /// The first moment of the world at which it has reached `local`.
    pub(super) fn when(self, local: Moment) -> Moment {
        Moment((local.0.saturating_sub(self.offset) * 1_000).div_ceil(self.rate))
    }
}
