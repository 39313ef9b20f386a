//! The end of the balancer's run. Nothing is begun any more; where the replicas end with it, they
//! drain and stop, those included whose start is still under way, until a list finds nothing.

use std::time::Duration;

use super::Supervisor;
use crate::fleet::{
    command::ScaleError,
    ids::Moment,
    message::{EngineError, Listing},
    notes::Note,
    observed::Instance,
    operation::{AddStage, ChangeStage, Operation, RemoveStage},
    state::{Engine, Finish, Shutdown},
    values::Keeper,
};

/// How long an engine that does not answer is waited for.
const ENGINE_PATIENCE: Duration = Duration::from_secs(5);

impl Supervisor {
    /// How the shutdown ended; `None` while it goes on, and when none was asked for.
    pub fn finish(&self) -> Option<Finish> {
        self.state.finish()
    }

    pub(super) fn shut_down(&mut self, stop_replicas: bool, now: Moment) {
        let stop_replicas = stop_replicas && self.state.keeper == Keeper::Ringmaster;
        let begun = self.state.shutdown.get_or_insert(Shutdown {
            stop_replicas,
            since: now,
            empty_since: None,
            is_swept: false,
            is_given_up: false,
        });
        if stop_replicas && !begun.stop_replicas {
            begun.stop_replicas = true;
            begun.since = now;
        }
        for (id, _) in std::mem::take(&mut self.state.queue) {
            self.answer(id, Err(ScaleError::ShuttingDown));
        }
        // What is being written may be on the disk already: it ends as it would have.
        match &self.state.operation {
            Some(Operation::Adding { stage: AddStage::Warming { .. }, .. }) => {
                self.roll_back(ScaleError::ShuttingDown, now);
            }
            Some(
                Operation::Removing { command, stage: RemoveStage::Accepted, .. }
                | Operation::Changing { command, stage: ChangeStage::Accepted, .. },
            ) => {
                let command = *command;
                self.state.operation = None;
                self.note(Note::RolledBack { error: ScaleError::ShuttingDown.to_string() });
                self.answer(command, Err(ScaleError::ShuttingDown));
            }
            _ => {}
        }
    }

    /// After each event: how far it is.
    pub(super) fn follow_shutdown(&mut self, now: Moment) {
        let is_away = self.state.engine != Engine::Up;
        let kept = |instance: &Instance| instance.keeper == Keeper::Others;
        let is_empty = self.state.instances.values().all(kept);
        let Some(shutdown) = &mut self.state.shutdown else { return };
        if !shutdown.stop_replicas {
            return;
        }
        shutdown.is_given_up = is_away && now >= shutdown.since + ENGINE_PATIENCE;
        if !is_empty {
            (shutdown.empty_since, shutdown.is_swept) = (None, false);
            return;
        }
        shutdown.empty_since.get_or_insert(now);
        if !shutdown.is_swept {
            // Strays, and what came of starts that were reported as failed, are seen by list only.
            self.state.list_soon(now);
        }
    }

    /// A list of nothing says that nothing is left, if it was asked for when nothing was known and
    /// so no start was under way.
    pub(super) fn note_sweep(&mut self, asked: Moment, result: &Result<Listing, EngineError>) {
        let Some(shutdown) = &mut self.state.shutdown else { return };
        let is_fresh = shutdown.empty_since.is_some_and(|since| asked >= since);
        if is_fresh && result.as_ref().is_ok_and(|listing| listing.found.is_empty()) {
            shutdown.is_swept = true;
        }
    }
}
