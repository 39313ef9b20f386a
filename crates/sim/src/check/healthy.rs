//! Healthy instances are left alone.

use ringmaster_core::fleet::{
    ids::{Handle, InstanceId},
    message::{Action, Turn},
    notes::{Cause, Note},
    observed::EjectReason,
    state::State,
};

use super::{About, Broken, Checker, ensure};
use crate::{engine::Engine, upstreams::Upstreams};

impl Checker {
    /// An admitted, healthy, desired instance is never ejected, stopped or reaped on an event about
    /// another one, nor as long as no fault has affected its container.
    pub(super) fn healthy_are_left_alone(
        &self,
        state: &State,
        turn: &Turn,
        (engine, upstreams): (&Engine, &Upstreams),
    ) -> Broken {
        if state.stops_replicas() {
            return Ok(());
        }
        let enters = |id: InstanceId| {
            let entry =
                |note: &Note| matches!(note, Note::Admitted { instance, .. } if *instance == id);
            turn.notes.iter().any(entry)
        };
        let was_healthy = |id: InstanceId| {
            state.is_desired(id.replica) && (self.before.healthy.contains_key(&id) || enters(id))
        };
        let is_undisturbed = |id: InstanceId| {
            let handle = self.before.healthy.get(&id).and_then(Option::as_ref);
            match state.server_of(id.replica) {
                Some(server) => upstreams.is_undisturbed(server),
                None => handle.is_some_and(|handle| engine.is_undisturbed(handle)),
            }
        };
        for note in &turn.notes {
            let (Note::Stopping { instance, .. }
            | Note::Draining { instance, .. }
            | Note::Ejected { instance, .. }
            | Note::Died { instance, .. }) = note
            else {
                continue;
            };
            let excused = match self.before.about {
                About::NoInstance => false,
                About::Only(other) => other == *instance,
                About::AnyInstance => true,
            };
            if is_asked_for(state, turn, note, *instance) {
                continue;
            }
            ensure(!was_healthy(*instance) || (excused && !is_undisturbed(*instance)), || {
                format!("{instance} was healthy: {note:?}")
            })?;
        }
        let ended = turn.actions.iter().filter_map(|action| match action {
            Action::Stop { handle, .. } | Action::Reap { handle } => Some(handle),
            _ => None,
        });
        let serves = |handle: &Handle| {
            state.instances.iter().any(|(id, instance)| {
                instance.handle.as_ref() == Some(handle)
                    && state.is_desired(id.replica)
                    && instance.is_passing()
            })
        };
        for handle in ended {
            ensure(!serves(handle), || format!("{handle} serves, and is ended"))?;
        }
        Ok(())
    }
}

/// Whether a command has ended the service of an instance: its replica is drained, was marked, or is a
/// server that has moved.
fn is_asked_for(state: &State, turn: &Turn, note: &Note, id: InstanceId) -> bool {
    let is_moved = |note: &Note| matches!(note, Note::Committed { cause: Cause::Server, .. });
    let is_marked = |note: &Note| matches!(note, Note::Marked { instance, is_healthy: false, .. } if *instance == id);
    match note {
        Note::Ejected { reason: EjectReason::Drained, .. } => !state.is_eligible(id.replica),
        // A command has moved an earlier server to its address.
        Note::Ejected { reason: EjectReason::AddressTaken, .. } => turn.notes.iter().any(is_moved),
        Note::Ejected { .. } => turn.notes.iter().any(is_marked),
        Note::Draining { .. } => turn.notes.iter().any(is_moved),
        _ => false,
    }
}
