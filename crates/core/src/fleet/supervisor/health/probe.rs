//! What is kept of failures, so that a person can find out why: last heartbeats, last words.

use std::sync::Arc;

use crate::fleet::supervisor::Supervisor;
use crate::fleet::{
    ids::{Handle, InstanceId, Moment},
    message::{Keeper, LastWords, ProbeOutcome, Sighting},
    notes::Note,
    observed::{Exit, Instance, Phase},
};

impl Supervisor {
    /// Keeps what a heartbeat met, if that was bad.
    pub(in crate::fleet::supervisor) fn keep_probe(
        &mut self,
        id: InstanceId,
        outcome: &ProbeOutcome,
    ) {
        let Some(instance) = self.state.instances.get_mut(&id) else {
            return;
        };
        let is_warming = matches!(instance.phase, Phase::Warming { .. });
        match outcome {
            // While it warms, the answer that it did not pass with says more.
            ProbeOutcome::Passed if is_warming => {}
            ProbeOutcome::Passed => instance.last_probe = None,
            ProbeOutcome::BadAnswer(why)
            | ProbeOutcome::Silent(why)
            | ProbeOutcome::NoAnswer(why) => {
                let before = instance.last_probe.replace(Arc::clone(why));
                // Our own are just starting; what others keep should be there already.
                if before.is_none() && is_warming && instance.keeper == Keeper::Others {
                    let name = instance.name.clone();
                    self.note(Note::NotReady { instance: id, name, why: Arc::clone(why) });
                }
            }
        }
    }

    /// Keeps what prevents an instance from being reached. Said when it begins, however often it is
    /// found again.
    pub(in crate::fleet::supervisor) fn keep_problem(&mut self, id: InstanceId, why: Arc<str>) {
        let Some(instance) = self.state.instances.get_mut(&id) else { return };
        if instance.last_probe.replace(Arc::clone(&why)).is_none() {
            let name = instance.name.clone();
            self.note(Note::NotReady { instance: id, name, why });
        }
    }

    /// What is said of an instance that has not passed in time.
    pub(in crate::fleet::supervisor) fn not_passed(&self, instance: &Instance) -> String {
        let waited = self.state.limits.start_deadline;
        match &instance.last_probe {
            Some(why) => format!("did not pass its heartbeat within {waited:?}: {why}"),
            None => format!("did not pass its heartbeat within {waited:?}"),
        }
    }

    /// Completes the ending that was kept when the death was seen. The engine may have told of the
    /// removal already, so the instance itself is not asked for.
    pub(in crate::fleet::supervisor) fn keep_last_words(
        &mut self,
        id: InstanceId,
        words: LastWords,
        now: Moment,
    ) {
        let name = self.state.endings.of_instance(id).map(|ending| ending.name.clone());
        if let Some(name) = name {
            let ending = self.state.keep_ending(id, &name, words, now);
            self.note(Note::Ended { ending });
        }
    }

    /// Keeps the end of an instance whose start has not ended yet: the start's own result says
    /// whether this container was it, or what an earlier attempt had left.
    pub(in crate::fleet::supervisor) fn seen_while_starting(
        &mut self,
        id: InstanceId,
        handle: &Handle,
        sighting: &Sighting,
        now: Moment,
    ) {
        let exit = match sighting {
            Sighting::Died { exit_code } => Exit(*exit_code),
            Sighting::Removed => Exit(None),
            _ => return,
        };
        if let Some(Phase::Starting { ended, .. }) =
            self.state.instances.get_mut(&id).map(|instance| &mut instance.phase)
            // The removal says less than the death that came before it.
            && ended.as_ref().is_none_or(|(earlier, _)| earlier != handle)
        {
            *ended = Some((handle.clone(), exit));
            self.state.list_soon(now);
        }
    }
}
