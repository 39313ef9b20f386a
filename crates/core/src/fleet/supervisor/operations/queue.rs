//! Scale commands: checked against the desired replicas, carried out one at a time, all or nothing.

use rand::{SeedableRng, rngs::StdRng};

use crate::fleet::supervisor::Supervisor;
use crate::fleet::{
    command::{Answer, CommandId, Done, Request, ScaleCommand, ScaleError},
    desired::Desired,
    ids::{InstanceId, Moment, ReplicaId, ReplicaName},
    message::Action,
    notes::{Cause, Note},
    observed::of_replica,
    operation::{AddStage, Change, ChangeStage, Operation, RemoveStage},
    state::{Boot, Engine},
    values::Keeper,
    victim,
};
use crate::ring::RingOptions;

/// What the running command leads to.
struct Outcome {
    cause: Cause,
    names: Vec<ReplicaName>,
    after: Desired,
}

impl Supervisor {
    pub(in crate::fleet::supervisor) fn take_command(
        &mut self,
        id: CommandId,
        request: Request,
        now: Moment,
    ) {
        if self.state.shutdown.is_some() {
            return self.answer(id, Err(ScaleError::ShuttingDown));
        }
        // Before the first list nothing is known that a dry run could be exact about.
        if request.dry_run && self.state.boot == Boot::Done {
            let answer = self.preview(&request.command, now);
            return self.answer(id, answer);
        }
        // A verdict is no change of the fleet: it must not wait for one that is under way.
        if let (ScaleCommand::SetHealth { name, is_healthy }, Boot::Done) =
            (&request.command, self.state.boot)
        {
            let marked = self.mark(name, *is_healthy, now);
            return self.answer(id, marked);
        }
        let waiting = self.state.queue.len();
        if waiting >= self.state.limits.commands_waiting {
            return self.answer(id, Err(ScaleError::QueueFull(waiting)));
        }
        self.state.queue.push_back((id, request));
    }

    pub(in crate::fleet::supervisor) fn answer(&mut self, id: CommandId, answer: Answer) {
        self.act(Action::Answer(id, answer));
    }

    fn preview(&mut self, command: &ScaleCommand, now: Moment) -> Answer {
        let after = match command {
            ScaleCommand::Add { n, names, weight } => {
                let newcomers = self.newcomers(*n, names, *weight)?;
                // The names that are shown are those that the command would draw.
                for newcomer in newcomers[names.len()..].iter().rev() {
                    self.chance.undrawn.push_front(newcomer.name.clone());
                }
                self.state.desired.with(&newcomers).map_err(no_room)?
            }
            ScaleCommand::Remove { n, names } => {
                self.state.desired.without(&self.victims(*n, names)?)
            }
            ScaleCommand::Reweigh { name, weight } => {
                self.weight_change(name, *weight)?.apply(&self.state.desired).map_err(no_room)?
            }
            ScaleCommand::SetRing(options) => {
                self.ring_change(options)?.apply(&self.state.desired).map_err(no_room)?
            }
            ScaleCommand::Register(servers) => {
                self.state.desired.with(&self.registered(servers)?).map_err(no_room)?
            }
            ScaleCommand::ChangeServer { name, change } => {
                self.server_change(name, change)?.apply(&self.state.desired).map_err(no_room)?
            }
            ScaleCommand::SetDrained { name, is_drained } => {
                let change = self.drained_change(name, *is_drained)?;
                change.apply(&self.state.desired).map_err(no_room)?
            }
            ScaleCommand::SetHealth { name, .. } => {
                let known = self.replica_named(name);
                return known
                    .map(|_| Done::Marked)
                    .ok_or_else(|| ScaleError::Unknown(name.clone()));
            }
            ScaleCommand::Retry => return Ok(self.what_waits(now)),
        };
        Ok(Done::Preview(Box::new(self.state.desired.change_to(&after))))
    }

    pub(in crate::fleet::supervisor) fn begin_command(&mut self, now: Moment) {
        let Some((id, Request { command, dry_run })) = self.state.queue.pop_front() else {
            return;
        };
        let is_blind = self.state.boot == Boot::AwaitingList;
        if let (true, Err(away)) = (is_blind, self.check_engine()) {
            return self.answer(id, Err(away));
        }
        if dry_run {
            let answer = self.preview(&command, now);
            return self.answer(id, answer);
        }
        // A retry takes effect at once; that it is also written may come later. A verdict is not kept.
        let is_lasting = !matches!(command, ScaleCommand::Retry | ScaleCommand::SetHealth { .. });
        if self.state.writing.hangs && is_lasting {
            let why = self.disk_hangs().to_string();
            return self.answer(id, Err(ScaleError::NotPersisted(why)));
        }
        let begun = match command {
            ScaleCommand::Add { n, names, weight } => self.begin_add(id, n, &names, weight, now),
            ScaleCommand::Remove { n, names } => self.begin_remove(id, n, &names),
            ScaleCommand::Reweigh { name, weight } => {
                self.weight_change(&name, weight).and_then(|change| self.begin_change(id, change))
            }
            ScaleCommand::SetRing(options) => {
                self.ring_change(&options).and_then(|change| self.begin_change(id, change))
            }
            ScaleCommand::Register(servers) => self.begin_register(id, &servers, now),
            ScaleCommand::ChangeServer { name, change } => {
                self.server_change(&name, &change).and_then(|change| self.begin_change(id, change))
            }
            ScaleCommand::SetDrained { name, is_drained } => self
                .drained_change(&name, is_drained)
                .and_then(|change| self.begin_change(id, change)),
            ScaleCommand::SetHealth { name, is_healthy } => {
                let marked = self.mark(&name, is_healthy, now);
                self.answer(id, marked);
                Ok(())
            }
            ScaleCommand::Retry => {
                let retried = self.retry(now);
                self.answer(id, retried);
                Ok(())
            }
        };
        if let Err(error) = begun {
            self.answer(id, Err(error));
        }
    }

    fn begin_remove(
        &mut self,
        command: CommandId,
        n: usize,
        names: &[ReplicaName],
    ) -> Result<(), ScaleError> {
        let ids = self.victims(n, names)?;
        let is_ours = |id: &ReplicaId| self.state.server_of(*id).is_none();
        if ids.iter().any(is_ours) {
            self.check_engine()?;
        }
        if ids.is_empty() {
            // An empty fleet is what it is already; no generation for that.
            self.answer(command, Ok(Done::Removed(Vec::new())));
            return Ok(());
        }
        // Those that were named are answered by the name that was given.
        let others = ids[names.len()..].iter().filter_map(|&id| self.state.desired.replica(id));
        let names = names.iter().chain(others.map(|replica| &replica.name)).cloned().collect();
        let stage = RemoveStage::Accepted;
        self.state.operation = Some(Operation::Removing { command, ids, names, stage });
        Ok(())
    }

    fn weight_change(&self, name: &ReplicaName, weight: u32) -> Result<Change, ScaleError> {
        let id = self.replica_named(name).ok_or_else(|| ScaleError::Unknown(name.clone()))?;
        Ok(Change::Weight { id, weight })
    }

    fn ring_change(&self, options: &RingOptions) -> Result<Change, ScaleError> {
        let settings = options.on(self.state.desired.ring().settings());
        settings.map(Change::Ring).map_err(|error| ScaleError::BadRing(error.to_string()))
    }

    fn drained_change(&self, name: &ReplicaName, is_drained: bool) -> Result<Change, ScaleError> {
        let id = self.replica_named(name).ok_or_else(|| ScaleError::Unknown(name.clone()))?;
        Ok(Change::Drained { id, is_drained })
    }

    fn begin_change(&mut self, command: CommandId, change: Change) -> Result<(), ScaleError> {
        let before = &self.state.desired;
        let after = change.apply(before).map_err(no_room)?;
        if after.ring() == before.ring() && after.replicas() == before.replicas() {
            // It is what it is already; no generation for that.
            let nothing = before.change_to(before);
            self.answer(command, Ok(Done::Changed(Box::new(nothing))));
            return Ok(());
        }
        let stage = ChangeStage::Accepted;
        self.state.operation = Some(Operation::Changing { command, change, stage });
        Ok(())
    }

    pub(in crate::fleet::supervisor) fn check_engine(&self) -> Result<(), ScaleError> {
        match &self.state.engine {
            Engine::Up => Ok(()),
            Engine::Away(error) => Err(ScaleError::EngineAway(error.to_string())),
        }
    }

    /// Who would leave: the named ones, then those not in service, then by the rule. Refused as a
    /// whole if fewer than `replicas_min` would stay.
    fn victims(&self, n: usize, names: &[ReplicaName]) -> Result<Vec<ReplicaId>, ScaleError> {
        if self.state.keeper == Keeper::Others && names.len() < n {
            return Err(ScaleError::Static);
        }
        let mut victims: Vec<ReplicaId> = Vec::new();
        for name in names {
            let id = self.replica_named(name).ok_or(ScaleError::Unknown(name.clone()))?;
            if victims.contains(&id) {
                return Err(ScaleError::Duplicate(name.clone()));
            }
            victims.push(id);
        }
        let state = &self.state;
        // Drawn anew for each generation, so that a dry run draws the same.
        let seed = self.settings.seed.rotate_left(16) ^ state.desired.generation().0;
        let chosen = victim::choose(
            self.settings.victim,
            &state.desired,
            n,
            victims,
            |id| state.admitted(id).is_some(),
            &state.in_flight,
            &mut StdRng::seed_from_u64(seed),
        );
        let (leave, have) = (chosen.len(), state.desired.replicas().len());
        let least = state.limits.replicas_min;
        if leave > 0 && have.saturating_sub(leave) < least {
            return Err(ScaleError::TooFew { leave, have, least });
        }
        Ok(chosen)
    }

    /// A replica by its committed name, or by the name of an instance that is to follow.
    pub(in crate::fleet::supervisor) fn replica_named(
        &self,
        name: &ReplicaName,
    ) -> Option<ReplicaId> {
        let desired = self.state.desired.replicas().iter();
        let by_name = desired.clone().find(|replica| &replica.name == name).map(|r| r.id());
        by_name.or_else(|| {
            let bears = |id: ReplicaId| {
                of_replica(&self.state.instances, id)
                    .any(|(_, instance)| &instance.name == name && !instance.is_leaving())
            };
            desired.map(|replica| replica.id()).find(|&id| bears(id))
        })
    }

    /// What the running command leads to, applied to the state as it is now.
    fn outcome(&self) -> Option<Result<Outcome, ScaleError>> {
        Some(match self.state.operation.as_ref()? {
            Operation::Adding { newcomers, .. } => {
                let names = newcomers.iter().map(|newcomer| newcomer.name.clone()).collect();
                let after = self.state.desired.with(newcomers).map_err(no_room);
                let are_servers = newcomers.iter().any(|newcomer| newcomer.server.is_some());
                let cause = if are_servers { Cause::Register } else { Cause::Add };
                after.map(|after| Outcome { cause, names, after })
            }
            Operation::Removing { ids, names, .. } => {
                let after = self.state.desired.without(ids);
                Ok(Outcome { cause: Cause::Remove, names: names.clone(), after })
            }
            Operation::Changing { change, .. } => {
                let (cause, id) = change.subject();
                let replica = id.and_then(|id| self.state.desired.replica(id));
                let names = replica.map(|replica| replica.name.clone()).into_iter().collect();
                let after = change.apply(&self.state.desired).map_err(no_room);
                after.map(|after| Outcome { cause, names, after })
            }
        })
    }

    pub(in crate::fleet::supervisor) fn commit_command(&mut self, now: Moment) {
        let Some(Ok(Outcome { after, .. })) = self.outcome() else {
            return;
        };
        let write = self.write(after, now);
        match &mut self.state.operation {
            Some(Operation::Adding { stage, .. }) => *stage = AddStage::Writing(write),
            Some(Operation::Removing { stage, .. }) => *stage = RemoveStage::Writing(write),
            Some(Operation::Changing { stage, .. }) => *stage = ChangeStage::Writing(write),
            None => {}
        }
    }

    /// The one step that moves keys.
    pub(in crate::fleet::supervisor) fn take_effect(&mut self, now: Moment) {
        let Some(Ok(Outcome { cause, names, after })) = self.outcome() else {
            return;
        };
        let change = Box::new(self.state.desired.change_to(&after));
        let was_empty = self.state.desired.replicas().is_empty();
        let before = std::mem::replace(&mut self.state.desired, after);
        self.note(Note::Committed { cause, names: names.clone(), change: change.clone() });
        let limits = &self.state.limits;
        match &mut self.state.operation {
            Some(Operation::Removing { ids, stage, .. }) => {
                let deadline = now + limits.removal_deadline(ids.len());
                *stage = RemoveStage::Leaving { deadline };
            }
            Some(Operation::Adding { command, newcomers, .. }) => {
                let (command, newcomers) = (*command, std::mem::take(newcomers));
                self.state.operation = None;
                let needed = self.state.limits.probe_passes;
                for newcomer in newcomers {
                    let id = InstanceId { replica: newcomer.id, incarnation: newcomer.incarnation };
                    if was_empty {
                        self.make_like(id);
                    }
                    // One that fails since the write began is supervised like any other.
                    if self.state.instances.get(&id).is_some_and(|i| i.is_ready(needed)) {
                        self.admit(id, now);
                    }
                }
                self.answer(command, Ok(Done::Added(names)));
            }
            Some(Operation::Changing { command, change: kind, .. }) => {
                let (command, id) = (*command, kind.subject().1);
                self.state.operation = None;
                if let Some(id) = id {
                    self.leave_old_place(&before, id, now);
                }
                self.answer(command, Ok(Done::Changed(change)));
            }
            None => {}
        }
    }

    pub(in crate::fleet::supervisor) fn finish_command(&mut self) {
        let answer = match self.state.operation.take() {
            Some(Operation::Adding {
                command, stage: AddStage::RollingBack { error, .. }, ..
            }) => (command, Err(error)),
            Some(Operation::Removing { command, ids, names, .. }) => {
                let left = ids.iter().find_map(|&id| of_replica(&self.state.instances, id).next());
                let answer = match left {
                    None => Ok(Done::Removed(names)),
                    Some((_, instance)) => Err(ScaleError::Unfinished(format!(
                        "out of the ring for good, but '{}' could not be removed yet; it is tried again",
                        instance.name
                    ))),
                };
                (command, answer)
            }
            other => {
                debug_assert!(other.is_none(), "only these stages are finished: {other:?}");
                return;
            }
        };
        self.answer(answer.0, answer.1);
    }
}

pub(in crate::fleet::supervisor) fn no_room(error: crate::ring::RingError) -> ScaleError {
    ScaleError::NoRoom(error.to_string())
}
