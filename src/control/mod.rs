//! The shell of the supervisor: one task that owns it, an executor without decisions, and a handle
//! for the rest of the program.
//!
//! An event comes in, `handle` returns the actions, the routing table and the view are published if
//! they changed, the actions are carried out concurrently, and their results come back as events.
//! Nothing here depends on the HTTP servers or the data plane.

pub mod checks;
mod executor;
pub mod leash;
pub mod own;
pub mod prober;
pub mod record;
pub mod resolver;
pub mod roles;
pub mod statuses;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures_util::future::BoxFuture;
use ringmaster_core::fleet::{
    command::{CommandId, CommandResult, Request, ScaleCommand, ScaleError},
    ids::{InstanceId, Moment},
    message::{Action, Event, FailureKind, Turn},
    supervisor::Supervisor,
    table::RoutingTable,
    view::{FleetView, InstanceView},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};

use crate::{
    driver::{Driver, Signal},
    store::Store,
};
use checks::{CheckView, Checks};
use executor::Executor;
use leash::Leash;
use own::OwnPorts;
use prober::Prober;
use record::Record;

/// The data plane, which routes by the published table.
pub trait Publisher: Send + Sync + 'static {
    /// Replaces the routing table, with one swap.
    fn publish(&self, table: RoutingTable);

    /// Number of open requests of an instance.
    fn in_flight(&self, instance: InstanceId) -> u64;

    /// Completes when no worker uses a table with this instance any more and its last request has
    /// ended.
    fn drained(&self, instance: InstanceId) -> BoxFuture<'static, ()>;
}

/// What the shell works with.
pub struct ControlParts {
    /// The core, which the shell runs.
    pub supervisor: Supervisor,
    /// The clock of all events and deadlines.
    pub clock: CoreClock,
    /// Runs the instances.
    pub driver: Arc<dyn Driver>,
    /// Keeps the state.
    pub store: Arc<dyn Store>,
    /// Whether effects may begin.
    pub leash: Leash,
    /// Sends the heartbeats.
    pub prober: Prober,
    /// Receives the routing table.
    pub publisher: Arc<dyn Publisher>,
    /// Records the transitions.
    pub record: Arc<Record>,
    /// Failed requests, reported by the data plane.
    pub failures: mpsc::Receiver<(InstanceId, FailureKind)>,
    /// Where no server may be.
    pub own: OwnPorts,
}

/// A monotonic clock in the core's unit, which counts from its start.
#[derive(Clone, Copy, Debug)]
pub struct CoreClock {
    zero: Instant,
}

impl CoreClock {
    /// A clock that is at zero now.
    pub fn start() -> Self {
        Self { zero: Instant::now() }
    }

    /// The time since the start.
    pub fn now(&self) -> Moment {
        Moment(u64::try_from(self.zero.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Microseconds since the Unix epoch, by the wall clock as it is now.
    pub fn wall_us(&self, moment: Moment) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let zero = now.saturating_sub(self.zero.elapsed());
        let at = zero.saturating_add(Duration::from_millis(moment.0));
        u64::try_from(at.as_micros()).unwrap_or(u64::MAX)
    }

    fn instant(&self, moment: Moment) -> tokio::time::Instant {
        // Half a millisecond later, because `now` rounds down and must have reached `moment`.
        (self.zero + Duration::from_millis(moment.0) + Duration::from_micros(500)).into()
    }
}

/// The result of a command.
pub struct Answered {
    /// The core's result.
    pub answer: CommandResult,
    /// The fleet at that moment: the next command may change it before the response is written.
    pub view: Arc<FleetView>,
}

/// A command with the channel for its result.
type CommandRequest = (Request, oneshot::Sender<Answered>);

/// Whether the replicas are to be stopped, with the channel that confirms that the core has begun
/// to shut down.
type ShutdownRequest = (bool, oneshot::Sender<()>);

/// The interface of the control core for the rest of the program.
#[derive(Clone)]
pub struct Handle {
    commands: mpsc::Sender<CommandRequest>,
    shutdowns: mpsc::Sender<ShutdownRequest>,
    view: watch::Receiver<Arc<FleetView>>,
    record: Arc<Record>,
    checks: Arc<Checks>,
    clock: CoreClock,
    driver: Arc<dyn Driver>,
    own: OwnPorts,
    /// The result of every command after the core has ended.
    ended: ScaleError,
}

impl Handle {
    /// Carries out a command, to its end even if the future is dropped.
    pub async fn scale(&self, request: Request) -> Answered {
        if let Some(refused) = self.own.refuse(&request.command, &self.view()) {
            return Answered { answer: Err(refused), view: self.view() };
        }
        let (sender, answered) = oneshot::channel();
        // When the core has ended, the sender is dropped with the command.
        let _ = self.commands.send((request, sender)).await;
        let ended = || Answered { answer: Err(self.ended.clone()), view: self.view() };
        answered.await.unwrap_or_else(|_| ended())
    }

    /// The fleet as it is now.
    pub fn view(&self) -> Arc<FleetView> {
        Arc::clone(&self.view.borrow())
    }

    /// The fleet and its changes.
    pub fn views(&self) -> watch::Receiver<Arc<FleetView>> {
        self.view.clone()
    }

    /// Waits until the fleet is as `wanted`, and returns it; if the core ends before, the last view.
    /// Has no deadline of its own.
    pub async fn until(&self, wanted: impl Fn(&FleetView) -> bool) -> Arc<FleetView> {
        let mut view = self.view.clone();
        let found = view.wait_for(|view| wanted(view)).await.map(|view| Arc::clone(&view));
        found.unwrap_or_else(|_| self.view())
    }

    /// Makes the core shut down, and returns when it has begun. [`FleetView::finish`] shows when it is
    /// done.
    pub async fn shut_down(&self, stop_replicas: bool) {
        let (sender, begun) = oneshot::channel();
        // Errors mean that the core has already ended.
        let _ = self.shutdowns.send((stop_replicas, sender)).await;
        let _ = begun.await;
    }

    /// The clock of the core.
    pub fn clock(&self) -> CoreClock {
        self.clock
    }

    /// The last lines that an instance of the view has written.
    ///
    /// # Errors
    /// A sentence: the instance has not started yet, or the engine's message.
    pub async fn live_log(
        &self,
        instance: &InstanceView,
        lines: usize,
    ) -> Result<Vec<String>, String> {
        let Some(handle) = instance.handle.clone() else {
            return Err(format!("'{}' has not started yet", instance.name));
        };
        self.driver.logs(handle, lines).await.map_err(|error| error.to_string())
    }

    /// The results of an instance's heartbeats; `None` before the first, and when it is gone.
    pub fn checks(&self, instance: InstanceId) -> Option<CheckView> {
        self.checks.of(instance)
    }

    /// The decision record.
    pub fn record(&self) -> &Record {
        &self.record
    }
}

/// Events that may wait for the core; beyond that their senders wait.
const EVENTS_MAX: usize = 1_024;
/// Commands that may wait for the core, which has a smaller queue of its own.
const COMMANDS_MAX: usize = 64;
/// Shutdown requests that may wait for the core: without, and then with, stopping the replicas.
const SHUTDOWNS_MAX: usize = 2;

/// Makes the shell. It acts only when its future is polled, so that the caller can do first what may
/// fail. The future runs until it is dropped, which leaves the fleet as it is.
pub fn prepare(parts: ControlParts) -> (Handle, impl Future<Output = ()> + Send + use<>) {
    let (commands, command_receiver) = mpsc::channel(COMMANDS_MAX);
    let (shutdowns, shutdown_receiver) = mpsc::channel(SHUTDOWNS_MAX);
    let view = FleetView::of(parts.supervisor.state());
    let checks = Arc::new(Checks::default());
    checks.follow(&view);
    let view = watch::Sender::new(Arc::new(view));
    let handle = Handle {
        commands,
        shutdowns,
        view: view.subscribe(),
        record: Arc::clone(&parts.record),
        checks: Arc::clone(&checks),
        clock: parts.clock,
        driver: Arc::clone(&parts.driver),
        own: parts.own.clone(),
        ended: match parts.leash.is_unlimited() {
            true => ScaleError::ShuttingDown,
            false => ScaleError::Unfinished(
                "this process does not supervise the fleet any more; whether the command was \
                 carried out is not known, so look before you try again"
                    .to_owned(),
            ),
        },
    };
    (handle, run(parts, checks, command_receiver, shutdown_receiver, view))
}

/// The state of the event loop.
struct Shell {
    supervisor: Supervisor,
    clock: CoreClock,
    executor: Executor,
    publisher: Arc<dyn Publisher>,
    record: Arc<Record>,
    checks: Arc<Checks>,
    table: RoutingTable,
    view: watch::Sender<Arc<FleetView>>,
    waiting: HashMap<CommandId, oneshot::Sender<Answered>>,
    commands_seen: u64,
    wake_at: Option<Moment>,
}

async fn run(
    parts: ControlParts,
    checks: Arc<Checks>,
    mut commands: mpsc::Receiver<CommandRequest>,
    mut shutdowns: mpsc::Receiver<ShutdownRequest>,
    view: watch::Sender<Arc<FleetView>>,
) {
    let (event_sender, mut events) = mpsc::channel(EVENTS_MAX);
    let (signal_sender, mut signals) = mpsc::channel(EVENTS_MAX);
    let ControlParts { supervisor, clock, driver, store, leash, prober, publisher, record, .. } =
        parts;
    let (mut failures, own) = (parts.failures, parts.own);
    let table = supervisor.table();
    publisher.publish(table.clone());
    let watched = Arc::clone(&driver);
    // The watcher ends with this future, also when it is dropped.
    let _watcher = AbortOnDrop(tokio::spawn(async move { watched.watch(signal_sender).await }));
    let executor = Executor {
        driver,
        store,
        leash,
        prober,
        checks: Arc::clone(&checks),
        publisher: Arc::clone(&publisher),
        clock,
        own,
        events: event_sender,
        tasks: JoinSet::new(),
    };
    let mut shell = Shell {
        supervisor,
        clock,
        executor,
        publisher,
        record,
        checks,
        table,
        view,
        waiting: HashMap::new(),
        commands_seen: 0,
        wake_at: None,
    };
    shell.handle(Event::Tick);
    loop {
        let wake_at = shell.wake_at.map(|at| clock.instant(at));
        let event = tokio::select! {
            biased;
            Some((stop_replicas, begun)) = shutdowns.recv() => {
                shell.handle(Event::ShutDown { stop_replicas });
                // The caller may have stopped waiting.
                let _ = begun.send(());
                continue;
            }
            Some(signal) = signals.recv() => event_of(signal),
            Some(event) = events.recv() => event,
            Some((request, sender)) = commands.recv() => shell.accept_command(request, sender),
            // After all other inputs, because there may be thousands in a second.
            Some((instance, kind)) = failures.recv() => Event::RequestFailed { instance, kind },
            () = sleep_until(wake_at) => Event::Tick,
        };
        shell.handle(event);
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn event_of(signal: Signal) -> Event {
    match signal {
        Signal::Saw(instance, handle, sighting) => Event::EngineSaw { instance, handle, sighting },
        Signal::StreamChanged => Event::StreamChanged,
    }
}

impl Shell {
    fn accept_command(&mut self, request: Request, sender: oneshot::Sender<Answered>) -> Event {
        if let ScaleCommand::Remove { .. } = request.command {
            let targets = self.table.targets.iter().flatten().map(|target| target.instance);
            let load = |id: InstanceId| (id.replica, self.publisher.in_flight(id));
            let loads = targets.map(load).collect();
            self.handle(Event::Loaded(loads));
        }
        self.commands_seen += 1;
        let id = CommandId(self.commands_seen);
        self.waiting.insert(id, sender);
        Event::Scale(id, request)
    }

    fn handle(&mut self, event: Event) {
        let turn = self.supervisor.handle(event, self.clock.now());
        let Turn { actions, notes, wake_at, is_quiet } = turn;
        self.wake_at = wake_at;
        if !is_quiet {
            // The table first, so that a change is in force before a view or a response shows it.
            self.publish();
            let view = FleetView::of(self.supervisor.state());
            self.checks.follow(&view);
            self.view.send_replace(Arc::new(view));
        }
        for note in &notes {
            self.record.take(note);
        }
        for action in actions {
            match action {
                Action::Respond(command, answer) => self.answer(command, answer),
                other => self.executor.carry_out(other),
            }
        }
    }

    fn publish(&mut self) {
        let table = self.supervisor.table();
        if table != self.table {
            self.publisher.publish(table.clone());
            self.table = table;
        }
    }

    fn answer(&mut self, command: CommandId, answer: CommandResult) {
        if let Some(waiting) = self.waiting.remove(&command) {
            // The caller may have stopped waiting; the command was carried out nevertheless.
            drop(waiting.send(Answered { answer, view: Arc::clone(&self.view.borrow()) }));
        }
    }
}
