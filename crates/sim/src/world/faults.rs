//! The faults and the commands of users.

use rand::{RngExt, seq::IndexedRandom};
use ringmaster_core::{
    fleet::{
        command::{Request, ScaleCommand},
        ids::{Handle, ImageId, Moment, ReplicaName},
        message::{Event, FailureKind, FoundState, Sighting},
        state::Keeper,
    },
    ring::{Algorithm, RingOptions},
};

use super::World;
use crate::{
    engine::Behaviour,
    occurrence::{Fault, Occurrence},
};

/// The faults and commands with their weights.
const FAULTS: &[(Fault, u32)] = &[
    (Fault::Dies, 24),
    (Fault::Hangs, 10),
    (Fault::Fails, 10),
    (Fault::Recovers, 16),
    (Fault::Pauses, 6),
    (Fault::Unpauses, 6),
    (Fault::LosesNetwork, 3),
    (Fault::Moves, 3),
    (Fault::SeemsUnhealthy, 3),
    (Fault::IsRemoved, 6),
    (Fault::RunsOutOfMemory, 3),
    (Fault::RequestFails, 20),
    (Fault::EngineRestarts, 4),
    (Fault::StreamBreaks, 4),
    (Fault::BalancerRestarts, 6),
    (Fault::BalancerLosesState, 2),
    (Fault::KilledBetweenActions, 8),
    (Fault::ToldToEnd, 2),
    (Fault::ToldToEndWithReplicas, 2),
    (Fault::DiskFills, 2),
    (Fault::DiskHangs, 2),
    (Fault::ImageChanges, 2),
    (Fault::BadBuild, 2),
    (Fault::Retries, 1),
    (Fault::AllFail, 2),
    (Fault::ImageBreaks, 1),
    (Fault::TroubleRises, 3),
    (Fault::TroubleFalls, 6),
    (Fault::Adds, 18),
    (Fault::Removes, 18),
    (Fault::DryRuns, 6),
    (Fault::Reweighs, 6),
    (Fault::SetsRing, 4),
    (Fault::Registers, 6),
    (Fault::ChangesServer, 4),
    (Fault::Drains, 6),
    (Fault::Marks, 5),
];

impl World {
    pub(super) fn schedule_faults(&mut self) {
        for _ in 0..self.scenario.faults {
            let moment = Moment(self.rng.random_range(2_000..self.scenario.length_ms));
            let fault = self.draw_fault();
            self.at(moment, Occurrence::Fault(fault));
            // Faults often come in groups.
            if self.rng.random_bool(0.3) {
                let soon = moment.0 + self.rng.random_range(0..1_500);
                let soon = Moment(soon.min(self.scenario.length_ms));
                let fault = self.draw_fault();
                self.at(soon, Occurrence::Fault(fault));
            }
        }
    }

    fn draw_fault(&mut self) -> Fault {
        let drawn = FAULTS.choose_weighted(&mut self.rng, |(_, weight)| *weight);
        drawn.map_or(Fault::Dies, |(fault, _)| *fault)
    }

    pub(super) fn inflict(&mut self, fault: Fault) -> Result<(), String> {
        self.remember(format!("!! {fault:?}"));
        let is_upstreams = self.scenario.keeper == Keeper::Others;
        if is_upstreams && !Self::applies_to_upstreams(fault) {
            return Ok(());
        }
        match fault {
            Fault::BalancerRestarts => return self.restart_balancer(false),
            Fault::BalancerLosesState => return self.restart_balancer(true),
            Fault::KilledBetweenActions => self.crash_after = Some(self.rng.random_range(0..4)),
            Fault::ToldToEnd => self.begin_shutdown(false),
            Fault::ToldToEndWithReplicas => self.begin_shutdown(true),
            Fault::EngineRestarts => self.engine_restarts(),
            Fault::EngineReturns => {
                self.engine.is_up = true;
                self.deliver(100, Event::StreamChanged);
            }
            Fault::StreamBreaks => self.deliver(0, Event::StreamChanged),
            Fault::DiskFills => {
                self.disk.is_full = true;
                let later = self.rng.random_range(100..30_000);
                self.after(later, Occurrence::Fault(Fault::DiskEmpties));
            }
            Fault::DiskHangs => {
                let later = self.now.0 + self.rng.random_range(2_000..60_000);
                self.disk.hangs_until = Moment(later);
            }
            Fault::DiskEmpties => self.disk.is_full = false,
            Fault::ImageChanges => {
                let build = self.rng.random_range(1..1_000u32).to_string();
                self.engine.image = ImageId(build.into());
            }
            Fault::BadBuild => {
                let build = self.rng.random_range(1_000..2_000u32).to_string();
                self.engine.image = ImageId(build.into());
                self.engine.bad.insert(self.engine.image.clone());
            }
            Fault::Retries => {
                let command = ScaleCommand::Retry;
                self.command(Request { command, dry_run: false });
            }
            Fault::AllFail => self.all_fail(),
            Fault::AllRecover => {
                let now = self.now;
                for container in self.engine.containers.values_mut() {
                    container.behaviour = Behaviour::Good { from: now };
                }
                self.upstreams.all_recover(now);
            }
            Fault::ImageBreaks => {
                self.image_is_bad = true;
                let later = self.rng.random_range(5_000..120_000);
                self.after(later, Occurrence::Fault(Fault::ImageMends));
            }
            Fault::ImageMends => self.image_is_bad = false,
            Fault::TroubleRises => self.trouble = 0.4,
            Fault::TroubleFalls => self.trouble = 0.05,
            Fault::Adds | Fault::Removes | Fault::DryRuns => self.user_commands(fault),
            Fault::Reweighs | Fault::SetsRing => self.user_changes(fault),
            Fault::Registers | Fault::ChangesServer | Fault::Drains | Fault::Marks => {
                self.server_commands(fault);
            }
            _ if self.hits_upstream(fault) => self.hit_upstream(fault),
            _ => self.hit_container(fault),
        }
        Ok(())
    }

    /// All instances fail for a while, as with a shared dependency.
    fn all_fail(&mut self) {
        let conducts = [Behaviour::Fails, Behaviour::Hangs];
        let back = Moment(self.now.0 + self.rng.random_range(1_000..200_000));
        for container in self.engine.containers.values_mut() {
            container.is_undisturbed = false;
            container.behaviour = conducts[self.rng.random_range(0..2)];
        }
        let behaviour = conducts[self.rng.random_range(0..2)];
        self.upstreams.all_fail(|| behaviour);
        self.at(back, Occurrence::Fault(Fault::AllRecover));
    }

    /// The engine goes away, and all its containers end.
    fn engine_restarts(&mut self) {
        self.engine.is_up = false;
        for container in self.engine.containers.values_mut() {
            container.is_undisturbed = false;
            if !matches!(container.state, FoundState::Exited { .. }) {
                container.state = FoundState::Exited { exit_code: Some(255) };
            }
        }
        self.deliver(1, Event::StreamChanged);
        let back = self.rng.random_range(500..20_000);
        self.after(back, Occurrence::Fault(Fault::EngineReturns));
    }

    fn hit_container(&mut self, fault: Fault) {
        let candidates: Vec<Handle> = match fault {
            Fault::Unpauses => {
                let paused = self.engine.containers.iter();
                let paused = paused.filter(|(_, c)| matches!(c.state, FoundState::Paused(_)));
                paused.map(|(handle, _)| handle.clone()).collect()
            }
            Fault::Recovers => self.engine.containers.keys().cloned().collect(),
            _ => self.engine.running(),
        };
        let Some(handle) = candidates.choose(&mut self.rng).cloned() else { return };
        self.remember(format!("!! {fault:?} {handle}"));
        let now = self.now;
        let elsewhere = self.engine.free_address();
        let Some(container) = self.engine.containers.get_mut(&handle) else { return };
        let (instance, address) = (container.identity.instance, container.address);
        // A failed request or a health check of the image must not end an instance that passes.
        container.is_undisturbed &=
            matches!(fault, Fault::RequestFails | Fault::SeemsUnhealthy | Fault::RunsOutOfMemory);
        let sighting = match fault {
            Fault::Dies => {
                container.state = FoundState::Exited { exit_code: Some(137) };
                Sighting::Died { exit_code: Some(137) }
            }
            Fault::IsRemoved => {
                self.engine.containers.remove(&handle);
                Sighting::Removed
            }
            Fault::Pauses => {
                container.state = FoundState::Paused(Some(address));
                Sighting::Paused
            }
            Fault::Unpauses => {
                container.state = FoundState::Running(Some(address));
                Sighting::Unpaused
            }
            Fault::LosesNetwork => {
                container.state = FoundState::Running(None);
                Sighting::Disconnected
            }
            Fault::Moves => {
                container.address = elsewhere;
                container.state = FoundState::Running(Some(elsewhere));
                return;
            }
            Fault::RunsOutOfMemory => Sighting::OutOfMemory,
            Fault::SeemsUnhealthy => Sighting::Unhealthy,
            Fault::Hangs => return container.behaviour = Behaviour::Hangs,
            Fault::Fails => return container.behaviour = Behaviour::Fails,
            Fault::Recovers => return container.behaviour = Behaviour::Good { from: now },
            Fault::RequestFails => {
                let event = Event::RequestFailed { instance, kind: FailureKind::Reset };
                return self.deliver(0, event);
            }
            _ => return,
        };
        self.engine_says(instance, handle, sighting);
    }

    pub(super) fn user_commands(&mut self, fault: Fault) {
        let in_service = self.supervisor.state().in_service();
        let known: Vec<ReplicaName> =
            self.supervisor.state().desired.replicas().iter().map(|r| r.name.clone()).collect();
        let n = self.rng.random_range(1..4);
        let mut names = Vec::new();
        let removes = fault == Fault::Removes || self.rng.random_bool(0.3) && fault != Fault::Adds;
        if self.rng.random_bool(0.5) {
            let pool = if self.rng.random_bool(0.5) { &in_service } else { &known };
            match pool.choose(&mut self.rng) {
                Some(name) if removes => names.push(name.clone()),
                _ => names.push(ReplicaName::numbered(self.rng.random_range(1..20))),
            }
        }
        // The fleet stays small, so that an hour is simulated quickly; sometimes it becomes empty.
        let size = known.len();
        let command = match removes || size > 8 {
            true if size <= 2 && self.rng.random_bool(0.8) => return,
            true => ScaleCommand::remove(n, names),
            false => ScaleCommand::add(n, names, self.rng.random_range(1..3)),
        };
        let Ok(command) = command else { return };
        self.command(Request { command, dry_run: fault == Fault::DryRuns });
    }

    fn user_changes(&mut self, fault: Fault) {
        let replicas = self.supervisor.state().desired.replicas();
        let known: Vec<ReplicaName> = replicas.iter().map(|replica| replica.name.clone()).collect();
        let command = if fault == Fault::Reweighs {
            let Some(name) = known.choose(&mut self.rng) else { return };
            ScaleCommand::Reweigh { name: name.clone(), weight: self.rng.random_range(1..4) }
        } else {
            // One derived table stands for all: to the supervisor they are alike, and this one is fast.
            let algorithms = [Algorithm::Ring, Algorithm::Slots, Algorithm::Ketama];
            let algorithm = algorithms.choose(&mut self.rng).map(|one| one.name().to_owned());
            let placement = ["even", "hash"].choose(&mut self.rng).map(ToString::to_string);
            ScaleCommand::SetRing(RingOptions { algorithm, placement, ..RingOptions::default() })
        };
        let dry_run = self.rng.random_bool(0.2);
        self.command(Request { command, dry_run });
    }

    pub(super) fn command(&mut self, request: Request) {
        let id = self.next_command();
        self.checker.commanded(id, &request, self.now);
        let replicas = self.supervisor.state().desired.replicas().iter();
        let loads = replicas.map(|r| (r.id(), u64::from(r.id().0 % 3))).collect();
        self.deliver(0, Event::Loaded(loads));
        self.deliver(0, Event::Scale(id, request));
    }
}
