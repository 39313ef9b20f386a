//! How a step of the plan changes the state, and which action it becomes. No decisions here.

use std::sync::Arc;

use crate::fleet::supervisor::Supervisor;
use crate::fleet::{
    ids::{Handle, Incarnation, InstanceId, Moment, ReplicaId, ReplicaName},
    message::{Action, StartRequest, StopManner},
    notes::{Note, StartCause},
    observed::{
        EjectReason, Health, Instance, Lookup, Passes, Phase, Probing, StopProgress, Suspicion,
    },
    plan::Step,
    state::{Engine, Reaping},
    values::Keeper,
};
use crate::ring::Member;

impl Supervisor {
    pub(in crate::fleet::supervisor) fn carry_out(&mut self, step: Step, now: Moment) {
        match step {
            Step::Probe(id) => self.probe(id, now),
            Step::List => {
                self.state.listing.asked = Some(now);
                self.state.listing.last = Some(now);
                self.state.listing.next = now + self.state.limits.list_interval;
                self.act(Action::List { asked: now });
            }
            Step::Persist => {
                let desired = self.state.desired.clone();
                self.state.writing.stale = false;
                self.write(desired, now);
            }
            Step::ForgetWrite => self.forget_write(now),
            Step::Admit { instance, instead_of } => {
                if let Some(old) = instead_of {
                    self.drain(old, now);
                }
                self.admit(instance, now);
            }
            Step::Eject(id) => self.eject_failing(id, now),
            Step::ReadmitAsLast(id) => self.readmit_as_last(id, now),
            Step::Drain(id) => self.drain(id, now),
            Step::SetAside(id) => self.set_aside(id, now),
            Step::TakeBack(id) => self.take_back(id, now),
            Step::Resolve(id) => self.resolve(id, now),
            Step::Stop(id, manner) => self.let_go(id, manner, now),
            Step::AskToStop(id, manner) => self.ask_to_stop(id, manner, now),
            Step::GiveUp(id) => self.give_up(id, now),
            Step::ForgetStart(id) => self.forget_start(id, now),
            Step::Start(replica, cause) => self.start_next(replica, cause, now),
            Step::AskToReap(handle) => self.ask_to_reap(handle, now),
            Step::ForgetReap(handle) => drop(self.state.reaping.remove(&handle)),
            Step::BeginPanic { failing, living } => {
                self.state.panic_since = Some(now);
                let hold = self.state.limits.panic_hold;
                self.note(Note::PanicBegan { failing, living, hold });
            }
            Step::CalmPanic(calm_since) => self.state.calm_since = calm_since,
            Step::EndPanic => {
                (self.state.panic_since, self.state.calm_since) = (None, None);
                self.note(Note::PanicEnded);
            }
            Step::CompleteRoll => self.complete_roll(),
            Step::BeginCommand => self.begin_command(now),
            Step::CommitCommand => self.commit_command(now),
            Step::FailCommand => self.fail_overdue(now),
            Step::FinishCommand => self.finish_command(),
        }
    }

    fn probe(&mut self, id: InstanceId, now: Moment) {
        let deadline = now + self.state.limits.probe_timeout;
        let Some(instance) = self.state.instances.get_mut(&id) else {
            return;
        };
        let Some(address) = instance.address() else {
            return;
        };
        let suspect = matches!(instance.probing, Probing::Idle { suspect: true, .. });
        instance.probing = Probing::Waiting { sent: now, suspect };
        self.act(Action::Probe { instance: id, address, deadline });
    }

    pub(in crate::fleet::supervisor) fn admit(&mut self, id: InstanceId, now: Moment) {
        let Some(instance) = self.state.instances.get_mut(&id) else {
            return;
        };
        let Phase::Warming { address, .. } = instance.phase else {
            return;
        };
        instance.phase =
            Phase::Admitted { address, since: now, health: Health::Passing { failures: 0 } };
        instance.last_probe = None;
        let name = instance.name.clone();
        self.bake(id, now);
        let known = self.state.desired.replica(id.replica);
        if known.is_some_and(|replica| replica.instance() != id || replica.name != name) {
            self.state.desired.set_instance(id, name.clone());
            self.state.writing.stale = true;
        }
        self.note(Note::Admitted { instance: id, name, address });
    }

    fn eject_failing(&mut self, id: InstanceId, now: Moment) {
        let Some(instance) = self.state.instances.get_mut(&id) else {
            return;
        };
        let Phase::Admitted { address, since, health: Health::Failing { since: failing, reason } } =
            instance.phase
        else {
            return;
        };
        instance.phase = Phase::Ejected {
            address: Some(address),
            since: failing,
            reason,
            admitted_for: now.since(since),
            passes: Passes::InARow(0),
        };
        let name = instance.name.clone();
        self.note(Note::Ejected { instance: id, name, reason });
    }

    fn readmit_as_last(&mut self, id: InstanceId, now: Moment) {
        let Some(instance) = self.state.instances.get_mut(&id) else {
            return;
        };
        let Phase::Ejected { address: Some(address), since, reason, .. } = instance.phase else {
            return;
        };
        let health = Health::Failing { since, reason };
        instance.phase = Phase::Admitted { address, since: now, health };
        let name = instance.name.clone();
        self.note(Note::ReadmittedAsLast { instance: id, name });
    }

    pub(in crate::fleet::supervisor) fn drain(&mut self, id: InstanceId, now: Moment) {
        let until = now + self.state.limits.drain;
        let Some(instance) = self.state.instances.get_mut(&id) else {
            return;
        };
        instance.phase = Phase::Draining { until };
        let name = instance.name.clone();
        self.note(Note::Draining { instance: id, name });
        self.act(Action::AwaitDrain { instance: id });
    }

    fn let_go(&mut self, id: InstanceId, manner: StopManner, now: Moment) {
        let Some(instance) = self.state.instances.get_mut(&id) else {
            return;
        };
        if instance.keeper == Keeper::Others {
            drop(self.state.remove(id, now));
            return;
        }
        let in_peace = match instance.phase {
            Phase::Draining { .. } => true,
            Phase::Ejected { reason, .. } => EjectReason::can_finish(reason),
            _ => false,
        };
        let progress = StopProgress::Due { manner, not_before: now };
        instance.phase = Phase::Stopping { in_peace, progress };
        let name = instance.name.clone();
        self.note(Note::Stopping { instance: id, name });
    }

    fn ask_to_stop(&mut self, id: InstanceId, manner: StopManner, now: Moment) {
        let lost_at = now + self.state.limits.stop_deadline();
        let Some(instance) = self.state.instances.get_mut(&id) else {
            return;
        };
        let Some(handle) = instance.handle.clone() else {
            // Only a start without a result has no handle, and such an instance is never stopped.
            self.state.remove(id, now);
            return self.state.list_soon(now);
        };
        if let Phase::Stopping { progress, .. } = &mut instance.phase {
            *progress = StopProgress::Asked { lost_at };
        }
        self.act(Action::Stop { instance: id, handle, manner });
    }

    fn ask_to_reap(&mut self, handle: Handle, now: Moment) {
        let lost_at = now + self.state.limits.stop_deadline();
        self.state.reaping.insert(handle.clone(), Reaping::Asked { lost_at });
        self.act(Action::Reap { handle });
    }

    fn give_up(&mut self, id: InstanceId, now: Moment) {
        let Some(instance) = self.state.instances.get(&id).cloned() else {
            return;
        };
        self.let_go(id, StopManner::Graceful, now);
        self.back_off(id, &instance, now);
        let not_before = self.state.backoffs.get(&id.replica).map_or(now, |b| b.not_before());
        let error: Arc<str> = format!("it {}", self.not_passed(&instance)).into();
        self.state.keep_error(id.replica, &error, now);
        let name = instance.name.clone();
        let retry_in = not_before.since(now);
        self.note(Note::StartFailed { instance: id, name, error: Arc::clone(&error), retry_in });
        self.count_against_roll(&instance, &error, now);
    }

    fn forget_start(&mut self, id: InstanceId, now: Moment) {
        let Some(instance) = self.state.remove(id, now) else {
            return;
        };
        self.state.list_soon(now);
        self.back_off(id, &instance, now);
        let why = "the engine did not say whether it started";
        self.state.keep_error(id.replica, why, now);
        self.fail_newcomer(id, None, why, now);
    }

    fn start_next(&mut self, replica: ReplicaId, cause: StartCause, now: Moment) {
        if cause == StartCause::Addition {
            return self.start_newcomer(replica, now);
        }
        let Some(known) = self.state.desired.replica(replica) else { return };
        if known.server.is_some() {
            return self.begin_to_serve(replica, now);
        }
        let member = known.member.clone();
        let failing = crate::fleet::observed::of_replica(&self.state.instances, replica)
            .rfind(|(_, instance)| !instance.is_leaving() && !instance.is_passing())
            .map(|(id, instance)| (id, instance.clone()));
        let latest = self.state.incarnations.get(&replica).copied();
        if let (StartCause::Failing, Some((id, instance))) = (cause, failing)
            // Its failure counts once, however many starts of a successor fail.
            && latest.is_none_or(|latest| latest == id.incarnation)
        {
            self.back_off(id, &instance, now);
            let why = instance.last_probe.as_deref().unwrap_or("it failed for too long");
            self.state.keep_error(replica, why, now);
            self.count_against_roll(&instance, &why.into(), now);
        }
        // A replica of which nothing was ever seen in this run bears the name that it was given.
        let given = self.state.desired.replica(replica).filter(|_| latest.is_none());
        let name = match given.map(|known| known.name.clone()) {
            Some(name) if !self.state.foreign_names.contains(&name) => name,
            _ => self.draw_name(),
        };
        let id = InstanceId { replica, incarnation: self.next_incarnation(replica) };
        self.start(id, name, &member, cause, now);
    }

    /// Never an incarnation that was seen before, whoever started it.
    pub(in crate::fleet::supervisor) fn next_incarnation(&self, replica: ReplicaId) -> Incarnation {
        let seen = self.state.incarnations.get(&replica).copied();
        let committed = self.state.desired.replica(replica).map(|known| known.incarnation);
        seen.max(committed).map_or(Incarnation::FIRST, Incarnation::next)
    }

    pub(in crate::fleet::supervisor) fn start(
        &mut self,
        id: InstanceId,
        name: ReplicaName,
        member: &Member,
        cause: StartCause,
        now: Moment,
    ) {
        debug_assert_eq!(self.state.engine, Engine::Up, "nothing is started while it is away");
        self.state.incarnations.insert(id.replica, id.incarnation);
        let instance = Instance {
            name: name.clone(),
            keeper: Keeper::Ringmaster,
            phase: Phase::Starting { since: now, ended: None },
            lookup: Lookup::Idle { next: now },
            handle: None,
            known_at: now,
            spec: (cause == StartCause::Outdated)
                .then(|| self.state.wanted.as_ref().map(|wanted| wanted.spec.clone()))
                .flatten(),
            image: self.image_for(cause),
            probing: Probing::Idle { next: now, suspect: false },
            suspicion: Suspicion::default(),
            last_probe: None,
        };
        self.state.instances.insert(id, instance);
        self.note(Note::Starting { instance: id, name: name.clone(), cause });
        self.act(Action::Start(StartRequest {
            instance: id,
            name,
            ordinal: member.ordinal,
            weight: member.weight,
            positions: member.positions.clone(),
            image: self.image_for(cause),
        }));
    }
}
