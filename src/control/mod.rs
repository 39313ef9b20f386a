//! The shell of the supervisor: one task that owns it, an executor without decisions, and a handle
//! for the rest of the program.
//!
//! An event comes in, `handle` says what follows, the routing table and the view are published if
//! they changed, the actions are carried out concurrently, and their results come back as events.
//! Nothing here knows of HTTP servers or of the data plane.

pub mod checks;
mod executor;
pub mod leash;
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
use prober::Prober;
use record::Record;

/// Who reads the routing table.
pub trait Publisher: Send + Sync + 'static {
    /// Replaces the table, with one swap.
    fn publish(&self, table: RoutingTable);

    /// Open requests of an instance.
    fn in_flight(&self, instance: InstanceId) -> u64;

    /// Ends when nobody reads a table with this instance any more, and its last request has ended.
    fn drained(&self, instance: InstanceId) -> BoxFuture<'static, ()>;
}

/// What the shell is wired to.
pub struct Parts {
    /// The core.
    pub supervisor: Supervisor,
    /// The clock's zero, the same for all.
    pub clock: Clock,
    /// How instances are run.
    pub driver: Arc<dyn Driver>,
    /// Where the state is kept.
    pub store: Arc<dyn Store>,
    /// Whether effects may be begun.
    pub leash: Leash,
    /// Sends heartbeats.
    pub prober: Prober,
    /// Who reads the table.
    pub publisher: Arc<dyn Publisher>,
    /// Where transitions go.
    pub record: Arc<Record>,
    /// What the data plane reports.
    pub failures: mpsc::Receiver<(InstanceId, FailureKind)>,
}

/// Counts from the moment it was made.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    zero: Instant,
}

impl Clock {
    /// Starts at zero.
    pub fn start() -> Self {
        Self { zero: Instant::now() }
    }

    /// The time as the core counts it.
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
        // Half a millisecond past it: `now` rounds down, and must not be short of `moment`.
        (self.zero + Duration::from_millis(moment.0) + Duration::from_micros(500)).into()
    }
}

/// What came of a command.
pub struct Answered {
    /// The core's answer.
    pub answer: CommandResult,
    /// The fleet at that moment: the next command may change it before the answer is written.
    pub view: Arc<FleetView>,
}

/// A command, and who waits for what comes of it.
type Command = (Request, oneshot::Sender<Answered>);

/// Whether the replicas are to be stopped, and who waits until the core has taken it in.
type Ending = (bool, oneshot::Sender<()>);

/// Reaches the control core from anywhere in the program.
#[derive(Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    endings: mpsc::Sender<Ending>,
    view: watch::Receiver<Arc<FleetView>>,
    record: Arc<Record>,
    checks: Arc<Checks>,
    clock: Clock,
    driver: Arc<dyn Driver>,
    /// What is answered once the core has ended.
    over: ScaleError,
}

impl Handle {
    /// Has a command carried out. It goes on even if the future is dropped.
    pub async fn scale(&self, request: Request) -> Answered {
        let (sender, answered) = oneshot::channel();
        // When the core has ended, the sender is dropped with the command.
        let _ = self.commands.send((request, sender)).await;
        let over = || Answered { answer: Err(self.over.clone()), view: self.view() };
        answered.await.unwrap_or_else(|_| over())
    }

    /// The fleet as it is now.
    pub fn view(&self) -> Arc<FleetView> {
        Arc::clone(&self.view.borrow())
    }

    /// Follows the fleet.
    pub fn views(&self) -> watch::Receiver<Arc<FleetView>> {
        self.view.clone()
    }

    /// The first fleet that is as wanted, now or later. Has no deadline of its own; when the core
    /// has ended, the last one.
    pub async fn until(&self, wanted: impl Fn(&FleetView) -> bool) -> Arc<FleetView> {
        let mut view = self.view.clone();
        let found = view.wait_for(|view| wanted(view)).await.map(|view| Arc::clone(&view));
        found.unwrap_or_else(|_| self.view())
    }

    /// Tells the core that the balancer ends, and returns when it has taken that in. When it is
    /// done, the view says so.
    pub async fn shut_down(&self, stop_replicas: bool) {
        let (sender, taken) = oneshot::channel();
        // A core that has ended begins nothing more, either.
        let _ = self.endings.send((stop_replicas, sender)).await;
        let _ = taken.await;
    }

    /// The clock of the core.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// The last lines that an instance of the view has written.
    ///
    /// # Errors
    /// A sentence: it has not started yet, or the engine's words.
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

    /// What the heartbeats of an instance met; `None` before its first, and when it is gone.
    pub fn checks(&self, instance: InstanceId) -> Option<CheckView> {
        self.checks.of(instance)
    }

    /// The decision record.
    pub fn record(&self) -> &Record {
        &self.record
    }
}

/// Events that may wait for the core; results are awaited by their senders beyond that.
const EVENTS_MAX: usize = 1_024;
/// Commands that may wait to be read; the core has its own, smaller queue.
const COMMANDS_MAX: usize = 64;
/// Times that the core may be told to end before it has heard the first.
const ENDINGS_MAX: usize = 2;

/// Makes the shell. Nothing happens until its future runs, so that all that can fail may come
/// first; it runs until it is dropped, and the fleet goes on without it.
pub fn prepare(parts: Parts) -> (Handle, impl Future<Output = ()> + Send + use<>) {
    let (commands, command_receiver) = mpsc::channel(COMMANDS_MAX);
    let (endings, ending_receiver) = mpsc::channel(ENDINGS_MAX);
    let view = FleetView::of(parts.supervisor.state());
    let checks = Arc::new(Checks::default());
    checks.follow(&view);
    let view = watch::Sender::new(Arc::new(view));
    let handle = Handle {
        commands,
        endings,
        view: view.subscribe(),
        record: Arc::clone(&parts.record),
        checks: Arc::clone(&checks),
        clock: parts.clock,
        driver: Arc::clone(&parts.driver),
        over: match parts.leash.is_unlimited() {
            true => ScaleError::ShuttingDown,
            false => ScaleError::Unfinished(
                "this process does not supervise the fleet any more; whether the command was \
                 carried out is not known, so look before you try again"
                    .to_owned(),
            ),
        },
    };
    (handle, run(parts, checks, command_receiver, ending_receiver, view))
}

/// All that the loop owns.
struct Shell {
    supervisor: Supervisor,
    clock: Clock,
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
    parts: Parts,
    checks: Arc<Checks>,
    mut commands: mpsc::Receiver<Command>,
    mut endings: mpsc::Receiver<Ending>,
    view: watch::Sender<Arc<FleetView>>,
) {
    let (event_sender, mut events) = mpsc::channel(EVENTS_MAX);
    let (signal_sender, mut signals) = mpsc::channel(EVENTS_MAX);
    let Parts { supervisor, clock, driver, store, leash, prober, publisher, record, mut failures } =
        parts;
    let table = supervisor.table();
    publisher.publish(table.clone());
    let watched = Arc::clone(&driver);
    let watcher = tokio::spawn(async move { watched.watch(signal_sender).await });
    let executor = Executor {
        driver,
        store,
        leash,
        prober,
        checks: Arc::clone(&checks),
        publisher: Arc::clone(&publisher),
        clock,
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
    // The watcher lives as long as the loop, whichever way that ends.
    let _watcher = AbortOnDrop(watcher);
    shell.take(Event::Tick);
    loop {
        let wake_at = shell.wake_at.map(|at| clock.instant(at));
        let event = tokio::select! {
            biased;
            Some((stop_replicas, taken)) = endings.recv() => {
                shell.take(Event::ShutDown { stop_replicas });
                // The one that said it may have stopped waiting.
                let _ = taken.send(());
                continue;
            }
            Some(signal) = signals.recv() => event_of(signal),
            Some(event) = events.recv() => event,
            Some((request, sender)) = commands.recv() => shell.number(request, sender),
            // Last of what is told: there may be thousands in a second.
            Some((instance, kind)) = failures.recv() => Event::RequestFailed { instance, kind },
            () = sleep_until(wake_at) => Event::Tick,
        };
        shell.take(event);
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
    fn number(&mut self, request: Request, sender: oneshot::Sender<Answered>) -> Event {
        if let ScaleCommand::Remove { .. } = request.command {
            let targets = self.table.targets.iter().flatten().map(|target| target.instance);
            let load = |id: InstanceId| (id.replica, self.publisher.in_flight(id));
            let loads = targets.map(load).collect();
            self.take(Event::Loaded(loads));
        }
        self.commands_seen += 1;
        let id = CommandId(self.commands_seen);
        self.waiting.insert(id, sender);
        Event::Scale(id, request)
    }

    fn take(&mut self, event: Event) {
        let turn = self.supervisor.handle(event, self.clock.now());
        let Turn { actions, notes, wake_at, is_quiet } = turn;
        self.wake_at = wake_at;
        if !is_quiet {
            // First the table, so that a change is in force before it is told.
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
            // Whoever asked may have gone; the command was carried out nevertheless.
            drop(waiting.send(Answered { answer, view: Arc::clone(&self.view.borrow()) }));
        }
    }
}
