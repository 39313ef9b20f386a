//! The world of one run: virtual time, the queue of occurrences, and the results of actions.

mod disk;
mod effects;
mod ending;
mod faults;
mod upstreams;

use std::{collections::VecDeque, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};
use ringmaster_core::{
    fleet::{
        command::{CommandId, CommandResult, Done},
        desired::Desired,
        ids::{Moment, ReplicaName},
        limits::{Limits, ReplaceMax},
        message::{Action, EngineError, Event, FoundState, Turn},
        state::Keeper,
        supervisor::{Settings, Supervisor},
        victim::VictimRule,
    },
    ring::{Algorithm, Placement, RingSettings, hash},
};

use crate::{
    Scenario,
    check::Checker,
    disk::Disk,
    engine::{Behaviour, Engine},
    occurrence::{Fault, Occurrence},
    queue::Queue,
    trace::Brief,
    upstreams::{Upstreams, configured},
};

/// The result of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Digest of the trace: equal for equal seeds.
    pub trace: u64,
    /// Turns of the supervisor.
    pub turns: u64,
    /// Commands that succeeded.
    pub commands_done: u64,
    /// Commands that failed.
    pub commands_refused: u64,
    /// Runs of the balancer.
    pub epochs: u32,
    /// Containers that were started.
    pub starts: u64,
    /// Runs of the balancer that ended with all replicas.
    pub ends: u64,
}

/// One simulated world.
pub struct World {
    pub(super) scenario: Scenario,
    pub(super) now: Moment,
    pub(super) rng: StdRng,
    pub(super) engine: Engine,
    pub(super) upstreams: Upstreams,
    pub(super) disk: Disk,
    /// Whether new containers end by themselves.
    pub(super) image_is_bad: bool,
    pub(super) supervisor: Supervisor,
    pub(super) epoch: u32,
    pub(super) checker: Checker,
    /// Probability that an engine event is lost, and that a start or stop fails.
    pub(super) trouble: f64,
    /// Crash after this many actions of the next turn.
    pub(super) crash_after: Option<usize>,
    queue: Queue<Occurrence>,
    commands: u64,
    wishes: u64,
    pub(super) report: Report,
    recent: VecDeque<(Moment, String)>,
}

const RECENT_MAX: usize = 60;

/// A small ring of any algorithm: placement on a large one would take most of the test's time.
fn any_ring(rng: &mut StdRng) -> RingSettings {
    let default = RingSettings { slots: 128, virtual_servers: 3, ..RingSettings::default() };
    match rng.random_range(0..4) {
        0 => default,
        1 => RingSettings { algorithm: Algorithm::Slots, ..default },
        _ => RingSettings { placement: Placement::Hash, ..default },
    }
}

impl World {
    /// A world at its start.
    pub fn new(scenario: &Scenario) -> Self {
        let mut rng = StdRng::seed_from_u64(scenario.seed);
        let limits = Limits {
            // Slower heartbeats than by default, so that an hour is simulated in less time.
            probe_interval: Duration::from_millis(
                [400, 2_000, 5_000, 10_000][rng.random_range(0..4)],
            ),
            list_interval: Duration::from_millis([5_000, 20_000][rng.random_range(0..2)]),
            warm_interval: Duration::from_millis(200),
            probe_misses: rng.random_range(1..4),
            probe_passes: rng.random_range(1..3),
            bake: Duration::from_millis([0, 1_000, 10_000][rng.random_range(0..3)]),
            replace_max: [ReplaceMax::Percent(25), ReplaceMax::Count(2), ReplaceMax::Percent(100)]
                [rng.random_range(0..3)],
            starts_max: [2, 8][rng.random_range(0..2)],
            stops_max: [2, 16][rng.random_range(0..2)],
            ..Limits::default()
        };
        let settings = Settings {
            limits,
            keeper: scenario.keeper,
            servers: match scenario.keeper {
                Keeper::Others => configured(scenario.replicas),
                Keeper::Ringmaster => Vec::new(),
            },
            ring: any_ring(&mut rng),
            victim: VictimRule::ALL[rng.random_range(0..VictimRule::ALL.len())],
            replicas: scenario.replicas,
            seed: scenario.seed,
        };
        let mut engine = Engine::new();
        if rng.random_bool(0.5) {
            engine.foreign = [2, 7].map(ReplicaName::numbered).to_vec();
        }
        let supervisor = start(&settings, None, Moment(0));
        let mut world = Self {
            scenario: scenario.clone(),
            now: Moment(0),
            checker: Checker::new(settings),
            rng,
            engine,
            upstreams: Upstreams::new(),
            disk: Disk::default(),
            image_is_bad: false,
            supervisor,
            epoch: 0,
            trouble: 0.1,
            crash_after: None,
            queue: Queue::default(),
            commands: 0,
            wishes: 0,
            report: Report {
                trace: 0,
                turns: 0,
                commands_done: 0,
                commands_refused: 0,
                epochs: 1,
                starts: 0,
                ends: 0,
            },
            recent: VecDeque::new(),
        };
        world.schedule_faults();
        world.after(0, Occurrence::Wake { wish: 0 });
        world
    }

    pub(super) fn after(&mut self, delay_ms: u64, occurrence: Occurrence) {
        self.at(Moment(self.now.0 + delay_ms), occurrence);
    }

    pub(super) fn at(&mut self, moment: Moment, occurrence: Occurrence) {
        self.queue.push(moment, occurrence);
    }

    pub(super) fn deliver(&mut self, delay_ms: u64, event: Event) {
        let epoch = self.epoch;
        self.after(delay_ms, Occurrence::Deliver { epoch, event });
    }

    pub(super) fn next_command(&mut self) -> CommandId {
        self.commands += 1;
        CommandId(self.commands)
    }

    /// Simulates until a moment.
    ///
    /// # Errors
    /// The first broken property.
    pub fn play(&mut self, until: Moment) -> Result<(), String> {
        while let Some((moment, occurrence)) = self.queue.pop_until(until) {
            self.now = moment;
            self.happen(occurrence).map_err(|broken| self.explain(&broken))?;
        }
        self.now = until;
        Ok(())
    }

    fn explain(&self, broken: &str) -> String {
        let recent = self.recent.iter().map(|(at, line)| format!("{:>8} {line}", at.0));
        let recent: Vec<_> = recent.collect();
        format!(
            "seed {} at {} ms: {broken}\n{}\n{:#?}",
            self.scenario.seed,
            self.now.0,
            recent.join("\n"),
            self.supervisor.state().instances
        )
    }

    pub(super) fn remember(&mut self, line: String) {
        let so_far = self.report.trace ^ self.now.0.rotate_left(32);
        self.report.trace = so_far.rotate_left(5) ^ hash::xxh3(line.as_bytes());
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back((self.now, line));
    }

    fn happen(&mut self, occurrence: Occurrence) -> Result<(), String> {
        match occurrence {
            Occurrence::Deliver { epoch, event } if epoch == self.epoch => self.turn(event),
            Occurrence::Wake { wish } if wish == self.wishes => self.turn(Event::Tick),
            Occurrence::Deliver { .. } | Occurrence::Wake { .. } => Ok(()),
            Occurrence::ProbeArrives { epoch, instance, address } => {
                self.probe_arrives(epoch, instance, address);
                Ok(())
            }
            Occurrence::Create { epoch, request, report } => {
                self.create(epoch, &request, report);
                Ok(())
            }
            Occurrence::Exit { handle } => {
                if self.engine.is_bad(&handle) || self.image_is_bad {
                    self.exit(&handle);
                }
                Ok(())
            }
            Occurrence::Remove { handle } => {
                self.remove(&handle);
                Ok(())
            }
            Occurrence::TakeList { epoch, requested_at, deliver_in } => {
                let result = match self.engine.is_up {
                    true => Ok(self.engine.listing()),
                    false => Err(EngineError::Away("no answer".into())),
                };
                let event = Event::Listed { requested_at, result };
                self.after(deliver_in, Occurrence::Deliver { epoch, event });
                Ok(())
            }
            Occurrence::WriteEnds { epoch, write, desired } => {
                self.write_ends(epoch, write, *desired);
                Ok(())
            }
            Occurrence::Fault(fault) => self.inflict(fault),
        }
    }

    fn turn(&mut self, event: Event) -> Result<(), String> {
        self.checker.before_turn(&self.supervisor, &event, self.now)?;
        let is_tick = matches!(event, Event::Tick);
        let is_probe = matches!(event, Event::Probed { .. });
        if !is_tick && !is_probe {
            self.remember(format!("<- {}", Brief(&event)));
        }
        let turn = self.supervisor.handle(event, self.now);
        self.report.turns += 1;
        for note in &turn.notes {
            self.remember(format!("-- {}", Brief(note)));
        }
        let outside = (&self.engine, &self.upstreams);
        self.checker.after_turn(&self.supervisor, &turn, self.now, outside)?;
        self.starts_nothing(&turn)?;
        self.act(turn)?;
        self.follow_end()
    }

    fn act(&mut self, mut turn: Turn) -> Result<(), String> {
        // Actions are carried out concurrently, so any order is possible.
        turn.actions.shuffle(&mut self.rng);
        let crash_after = self.crash_after.take();
        for (done, action) in turn.actions.into_iter().enumerate() {
            if crash_after == Some(done) {
                return self.restart_balancer(false);
            }
            if !matches!(action, Action::Probe { .. }) {
                self.remember(format!("-> {}", Brief(&action)));
            }
            self.carry_out(action)?;
        }
        if crash_after.is_some() {
            return self.restart_balancer(false);
        }
        if let Some(wake_at) = turn.wake_at {
            self.wish_to_wake(wake_at);
        }
        Ok(())
    }

    fn carry_out(&mut self, action: Action) -> Result<(), String> {
        let epoch = self.epoch;
        match action {
            Action::Start(request) => self.begin_start(request),
            Action::Probe { instance, address, .. } => {
                self.after(1, Occurrence::ProbeArrives { epoch, instance, address });
            }
            Action::AwaitDrain { instance } => {
                let delay = self.rng.random_range(0..8_000);
                self.deliver(delay, Event::Drained { instance });
            }
            Action::Stop { instance, handle, manner } => self.begin_stop(instance, handle, manner),
            Action::List { requested_at } => {
                let taken_in = self.rng.random_range(0..50);
                let deliver_in = match self.is_trouble() {
                    true if self.rng.random_bool(0.05) => self.rng.random_range(3_000..40_000),
                    true => self.rng.random_range(50..3_000),
                    false => self.rng.random_range(0..50),
                };
                self.after(taken_in, Occurrence::TakeList { epoch, requested_at, deliver_in });
            }
            Action::Reap { handle } => {
                self.begin_reap(handle);
            }
            Action::Persist { write, desired } => self.begin_write(write, desired),
            Action::Resolve { instance, host, .. } => self.begin_resolve(instance, &host),
            Action::Respond(command, answer) => self.answered(command, &answer)?,
        }
        Ok(())
    }

    fn answered(&mut self, command: CommandId, answer: &CommandResult) -> Result<(), String> {
        match answer {
            Ok(Done::Preview(_)) => {}
            Ok(_) => self.report.commands_done += 1,
            Err(_) => self.report.commands_refused += 1,
        }
        let state = self.supervisor.state();
        self.checker.answered(command, answer, self.disk.file.as_ref(), state, self.now)
    }

    pub(super) fn is_trouble(&mut self) -> bool {
        self.rng.random_bool(self.trouble)
    }

    /// Drops the supervisor, and starts a new one from the state file and the engine.
    pub(super) fn restart_balancer(&mut self, loses_state: bool) -> Result<(), String> {
        self.epoch += 1;
        self.report.epochs += 1;
        self.disk.writer_is_gone(self.now);
        if loses_state {
            self.disk.file = None;
        }
        let generation = self.disk.file.as_ref().map(|desired| desired.generation());
        self.remember(format!("== restart, state {generation:?}"));
        let mut settings = self.checker.settings().clone();
        // Each run has a seed of its own for random names.
        settings.seed = self.rng.random();
        let stored = self.disk.file.clone();
        self.checker.restarted(stored.as_ref());
        self.supervisor = start(&settings, stored, self.now);
        self.wish_to_wake(self.now);
        Ok(())
    }

    fn wish_to_wake(&mut self, at: Moment) {
        self.wishes += 1;
        self.at(at, Occurrence::Wake { wish: self.wishes });
    }

    /// Ends all faults: containers and the engine respond, and events arrive.
    pub fn end_faults(&mut self) {
        self.remember("== peace".into());
        self.trouble = 0.0;
        self.disk.is_full = false;
        self.image_is_bad = false;
        self.engine.bad.clear();
        self.engine.is_up = true;
        self.crash_after = None;
        let now = self.now;
        for container in self.engine.containers.values_mut() {
            container.is_stubborn = false;
            container.behaviour = Behaviour::Good { from: now };
            if let FoundState::Paused(address) = container.state {
                container.state = FoundState::Running(address);
            }
        }
        self.upstreams.restore(now);
        // A retry of what was given up, after the late events of the faults have arrived.
        self.after(20_000, Occurrence::Fault(Fault::Retries));
    }

    /// From now on the core may request only heartbeats and lists.
    pub fn expect_silence(&mut self) {
        self.checker.expect_silence();
    }

    /// Observed must equal desired.
    ///
    /// # Errors
    /// The first property that does not hold.
    pub fn check_converged(&self) -> Result<(), String> {
        self.checker
            .check_converged(&self.supervisor, &self.engine, self.disk.file.as_ref())
            .map_err(|broken| self.explain(&format!("not converged: {broken}")))
    }

    /// The result of the run.
    pub fn report(&self) -> Report {
        self.report.clone()
    }
}

fn start(settings: &Settings, disk: Option<Desired>, now: Moment) -> Supervisor {
    match Supervisor::new(settings.clone(), disk, now) {
        Ok(supervisor) => supervisor,
        Err(error) => unreachable!("the simulated settings are valid: {error}"),
    }
}
