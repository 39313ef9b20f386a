//! The disk, with the store in front of it: writes end one after the other, some long after their
//! deadline, and the results of some are lost.

use ringmaster_core::fleet::{desired::Desired, ids::Moment, message::WriteId};

/// The state file and its writes.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// The content of the state file.
    pub(super) file: Option<Desired>,
    pub(super) is_full: bool,
    /// While the disk hangs, no write ends before this moment.
    pub(super) hangs_until: Moment,
    /// When the last requested write ends.
    pub(super) free_at: Moment,
    /// The last requested write.
    pub(super) newest: Option<WriteId>,
}

impl Disk {
    /// Drops the pending writes: they end with the process, unlike requests that reached the engine.
    pub(super) fn writer_is_gone(&mut self, now: Moment) {
        self.free_at = now;
        self.newest = None;
    }
}
