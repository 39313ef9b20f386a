//! Writes to the simulated disk.

use super::World;
use crate::occurrence::Occurrence;
use rand::RngExt;
use ringmaster_core::fleet::{
    desired::Desired,
    ids::Moment,
    message::{Event, WriteId},
};

impl World {
    /// The store begins a write when the one before it has ended.
    pub(super) fn begin_write(&mut self, write: WriteId, desired: Desired) {
        let slow = match self.is_trouble() {
            true if self.rng.random_bool(0.03) => 60_000,
            true => 3_000,
            false => 5,
        };
        let takes = self.rng.random_range(0..slow);
        let begins = self.now.max(self.disk.free_at);
        let ends = Moment(begins.0 + takes).max(self.disk.hangs_until);
        self.disk.free_at = ends;
        self.disk.newest = Some(write);
        let (epoch, desired) = (self.epoch, Box::new(desired));
        self.at(ends, Occurrence::WriteEnds { epoch, write, desired });
    }

    pub(super) fn write_ends(&mut self, epoch: u32, write: WriteId, desired: Desired) {
        if epoch != self.epoch {
            return;
        }
        // An overtaken write is dropped, or reaches the disk if it was already under way.
        let is_overtaken = self.disk.newest != Some(write);
        let result = if is_overtaken && self.rng.random_bool(0.5) {
            Err("a newer state is written instead".into())
        } else if self.disk.is_full {
            // A failed write may have reached the disk nevertheless.
            if self.rng.random_bool(0.3) {
                self.disk.file = Some(desired);
            }
            Err("no space left on device".into())
        } else {
            self.disk.file = Some(desired);
            Ok(())
        };
        // The write has ended, but its result is lost.
        if self.is_trouble() && self.rng.random_bool(0.03) {
            return;
        }
        let slow = if self.is_trouble() { 3_000 } else { 5 };
        let delay = self.rng.random_range(0..slow);
        self.deliver(delay, Event::Persisted { write, result });
    }
}
