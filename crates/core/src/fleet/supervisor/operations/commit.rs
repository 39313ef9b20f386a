//! Writes of the state: one under way at a time, each with a deadline.
//!
//! A write that is overdue is taken as lost, as if it had failed: whether the file will hold its
//! state is not known, so the committed state is written again. The store takes care that a write
//! that still hangs cannot end after a newer one.

use std::sync::Arc;

use crate::fleet::supervisor::Supervisor;
use crate::fleet::{
    command::ScaleError,
    desired::Desired,
    ids::Moment,
    message::{Action, WriteId},
    notes::Note,
    operation::{ChangeStage, Operation, RemoveStage},
    state::WriteUnderWay,
};

impl Supervisor {
    pub(in crate::fleet::supervisor) fn write(&mut self, desired: Desired, now: Moment) -> WriteId {
        let write = self.state.writing.next;
        self.state.writing.next = WriteId(write.0 + 1);
        self.state.writing.under_way = Some(WriteUnderWay { write, asked: now });
        self.act(Action::Persist { write, desired });
        write
    }

    pub(in crate::fleet::supervisor) fn persisted(
        &mut self,
        write: WriteId,
        result: Result<(), Arc<str>>,
        now: Moment,
    ) {
        // The late result of a write that was taken as lost says nothing of the one under way.
        if self.state.writing.under_way.is_some_and(|under_way| under_way.write == write) {
            self.state.writing.hangs = false;
            self.write_ended(write, result, now);
        }
    }

    /// The write under way is overdue.
    pub(in crate::fleet::supervisor) fn forget_write(&mut self, now: Moment) {
        let Some(WriteUnderWay { write, .. }) = self.state.writing.under_way else {
            return;
        };
        self.state.writing.hangs = true;
        let why = self.disk_hangs();
        self.write_ended(write, Err(Arc::clone(&why)), now);
        // At once: should the disk answer again, what was given up must not be what it finds.
        self.state.writing.not_before = now;
        // It has waited for a disk that does not answer; the next write would only wait longer.
        if let Some(
            Operation::Removing { stage: RemoveStage::Accepted, .. }
            | Operation::Changing { stage: ChangeStage::Accepted, .. },
        ) = self.state.operation
        {
            self.not_persisted(&why, now);
        }
    }

    /// Why commands are refused while writes hang.
    pub(in crate::fleet::supervisor) fn disk_hangs(&self) -> Arc<str> {
        let waited = self.state.limits.persist_deadline;
        format!("the disk does not answer within {waited:?}").into()
    }

    fn write_ended(&mut self, write: WriteId, result: Result<(), Arc<str>>, now: Moment) {
        self.state.writing.under_way = None;
        self.state.writing.is_first = false;
        if let Err(error) = &result {
            // Whether the file holds the old state or the new one is not known: write it again.
            self.state.writing.stale = true;
            self.state.writing.not_before = now + self.state.limits.persist_retry;
            self.note(Note::PersistFailed { error: Arc::clone(error) });
        }
        if self.state.operation.as_ref().and_then(Operation::write) != Some(write) {
            return;
        }
        match result {
            Ok(()) => self.take_effect(now),
            Err(error) => self.not_persisted(&error, now),
        }
    }

    fn not_persisted(&mut self, why: &str, now: Moment) {
        let error = ScaleError::NotPersisted(why.to_owned());
        match &self.state.operation {
            Some(Operation::Adding { .. }) => self.roll_back(error, now),
            Some(Operation::Removing { command, .. } | Operation::Changing { command, .. }) => {
                let command = *command;
                self.state.operation = None;
                self.note(Note::RolledBack { error: error.to_string() });
                self.answer(command, Err(error));
            }
            None => {}
        }
    }
}
