//! The disk and the store before it: writes end one after the other, some long after
//! their deadline, and the results of some are never delivered.

use ringmaster_core::fleet::{desired::Desired, ids::Moment, message::WriteId};

/// The state file and who writes it.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// The state file.
    pub(super) file: Option<Desired>,
    pub(super) is_full: bool,
    /// No write ends before this moment.
    pub(super) hangs_until: Moment,
    /// When the last write that was asked for has ended.
    pub(super) free_at: Moment,
    /// The last that was asked for.
    pub(super) newest: Option<WriteId>,
}

impl Disk {
    /// A killed process writes no more, unlike an engine that goes on with what it was told.
    pub(super) fn writer_is_gone(&mut self, now: Moment) {
        self.free_at = now;
        self.newest = None;
    }
}
