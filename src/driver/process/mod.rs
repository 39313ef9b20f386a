//! Instances as child processes on free loopback ports. They end with the balancer.

mod child;
mod output;
mod spawner;

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    process::Stdio,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::{BoxFuture, join_all};
use ringmaster_core::fleet::{
    ids::{Handle, ReplicaName, SpecDigest},
    message::{
        EngineError, Found, FoundIdentity, FoundState, LastWords, Listing, Revision, StartError,
        StartRequest, Started, StopManner,
    },
};
use tokio::{
    net::TcpSocket,
    process::Command,
    sync::{broadcast, mpsc},
    time,
};

use self::{child::Running, output::Output, spawner::Spawner};
use super::{Driver, Signal, settle::settle};

/// Signals that may wait for a slow receiver; it gets `StreamChanged` when some were lost.
const WAITING_SIGNALS: usize = 256;
/// After the grace, a killed child must have ended within this time.
const KILL_DEADLINE: Duration = Duration::from_secs(5);

/// What child processes are started from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessConfig {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Additional environment variables. Those of the contract win over them.
    pub env: Vec<(String, String)>,
    /// Time between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// How long a start waits for the child to listen or to end.
    pub settle: Duration,
}

impl ProcessConfig {
    /// The contract's defaults for a program.
    pub fn new(command: Vec<String>) -> Self {
        Self {
            command,
            env: Vec::new(),
            grace: Duration::from_secs(10),
            settle: Duration::from_millis(100),
        }
    }
}

/// One child, from its start until it is stopped.
#[derive(Debug)]
struct ChildProcess {
    identity: FoundIdentity,
    address: SocketAddr,
    running: Running,
    output: Output,
}

/// The driver for child processes.
#[derive(Debug)]
pub struct ProcessDriver {
    config: ProcessConfig,
    spec: SpecDigest,
    spawner: Spawner,
    children: Mutex<BTreeMap<u64, Arc<ChildProcess>>>,
    next: AtomicU64,
    signals: broadcast::Sender<Signal>,
    /// Subscribed at the start, so that no end before the first `watch` is lost.
    first_receiver: Mutex<Option<broadcast::Receiver<Signal>>>,
}

impl ProcessDriver {
    /// The children end when the driver is dropped, or when the balancer ends in any way.
    ///
    /// # Errors
    /// When the thread that starts children cannot be started.
    pub fn new(config: ProcessConfig) -> io::Result<Self> {
        let (signals, receiver) = broadcast::channel(WAITING_SIGNALS);
        let mut parts = vec!["process"];
        parts.extend(config.command.iter().map(String::as_str));
        Ok(Self {
            spec: super::spec_digest(&parts, &config.env),
            spawner: Spawner::new()?,
            children: Mutex::default(),
            next: AtomicU64::new(1),
            signals,
            first_receiver: Mutex::new(Some(receiver)),
            config,
        })
    }

    fn children(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<ChildProcess>>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn revision(&self) -> Revision {
        Revision { spec: self.spec.clone(), image: None }
    }

    async fn start_child(&self, request: StartRequest) -> Result<Started, StartError> {
        self.clear_name(&request.name).await?;
        let mut ended = LastWords::default();
        for reserves in [true, false] {
            let (reservation, port) = self.free_port().map_err(|error| {
                StartError::Refused(format!("there is no free port: {error}").into())
            })?;
            // A bound socket keeps the port from other processes, and a program that sets
            // SO_REUSEADDR, as nearly all servers do, can still listen on it. For the others the
            // second attempt is made without a reservation.
            let _reservation = reserves.then_some(reservation);
            match self.attempt(&request, port).await? {
                Ok(started) => return Ok(started),
                Err(last_words) => ended = last_words,
            }
        }
        let why = super::describe_end("", &ended).into();
        Err(StartError::Ended { why, last_words: ended.into() })
    }

    /// One attempt. The inner error is an end right after the start, as with a port in use.
    async fn attempt(
        &self,
        request: &StartRequest,
        port: u16,
    ) -> Result<Result<Started, LastWords>, StartError> {
        let mut child =
            self.spawner.spawn(self.command(request, port)?).await.map_err(|error| {
                let program = self.config.command.first().map_or("", String::as_str);
                StartError::Refused(format!("'{program}' cannot be started: {error}").into())
            })?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let output = Output::default();
        output::pass_on(&mut child, request.instance, &output);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (signals, grace) = (self.signals.clone(), self.config.grace);
        let running = Running::keep(child, request.instance, handle(number), signals, grace);
        let identity = self.identity(request);
        let entry = Arc::new(ChildProcess { identity, address, running, output });
        self.children().insert(number, entry.clone());
        if let Some(code) = settle(address, entry.running.ended(), self.config.settle).await {
            self.children().remove(&number);
            return Ok(Err(entry.output.last_words(code).await));
        }
        entry.running.announce_end();
        Ok(Ok(Started { handle: handle(number), address, revision: self.revision() }))
    }

    fn identity(&self, request: &StartRequest) -> FoundIdentity {
        FoundIdentity {
            instance: request.instance,
            name: request.name.clone(),
            ordinal: request.ordinal,
            weight: request.weight,
            positions: request.positions.clone(),
            spec: self.spec.clone(),
            image: None,
        }
    }

    fn command(&self, request: &StartRequest, port: u16) -> Result<Command, StartError> {
        let Some((program, arguments)) = self.config.command.split_first() else {
            let text = "there is no program to start: set --command";
            return Err(StartError::Refused(text.into()));
        };
        let mut command = Command::new(program);
        // The settings of the balancer must not reach the replica.
        for (key, _) in std::env::vars_os() {
            if key.as_encoded_bytes().starts_with(b"RINGMASTER_") {
                command.env_remove(key);
            }
        }
        command
            .args(arguments)
            .envs(self.config.env.iter().map(|(key, value)| (key, value)))
            .env("HOST", "127.0.0.1")
            .envs(super::contract_env(request, port))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        Ok(command)
    }

    /// A port without a listener that no child has been given.
    fn free_port(&self) -> io::Result<(TcpSocket, u16)> {
        loop {
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
            let port = socket.local_addr()?.port();
            let given = self.children().values().any(|c| c.address.port() == port);
            if !given {
                return Ok((socket, port));
            }
        }
    }

    async fn clear_name(&self, name: &ReplicaName) -> Result<(), StartError> {
        let in_the_way: Vec<u64> = self
            .children()
            .iter()
            .filter(|(_, child)| child.identity.name == *name)
            .map(|(number, _)| *number)
            .collect();
        let stops = in_the_way.into_iter().map(|number| self.end(number, StopManner::Kill));
        let stopped: Result<Vec<()>, EngineError> = join_all(stops).await.into_iter().collect();
        match stopped {
            Ok(_) => Ok(()),
            Err(error) => Err(StartError::Unclear(error.to_string().into())),
        }
    }

    fn child(&self, handle: &Handle) -> Option<Arc<ChildProcess>> {
        self.children().get(&number_of(handle)?).cloned()
    }

    async fn end(&self, number: u64, manner: StopManner) -> Result<(), EngineError> {
        let entry = self.children().get(&number).cloned();
        let Some(entry) = entry else {
            return Ok(());
        };
        entry.running.stop(manner);
        let limit = match manner {
            StopManner::Graceful => self.config.grace.saturating_add(KILL_DEADLINE),
            StopManner::Kill | StopManner::Collect => KILL_DEADLINE,
        };
        if time::timeout(limit, entry.running.ended()).await.is_err() {
            let text = format!("process {number} has not ended within {limit:?}");
            return Err(EngineError::Refused(text.into()));
        }
        self.children().remove(&number);
        Ok(())
    }
}

fn handle(number: u64) -> Handle {
    Handle(format!("process-{number}").into())
}

fn number_of(handle: &Handle) -> Option<u64> {
    handle.0.strip_prefix("process-")?.parse().ok()
}

impl Driver for ProcessDriver {
    fn start(&self, request: StartRequest) -> BoxFuture<'_, Result<Started, StartError>> {
        Box::pin(self.start_child(request))
    }

    fn stop(&self, handle: Handle, manner: StopManner) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(async move {
            match number_of(&handle) {
                Some(number) => self.end(number, manner).await,
                None => Ok(()),
            }
        })
    }

    fn last_words(&self, handle: Handle) -> BoxFuture<'_, Option<LastWords>> {
        Box::pin(async move {
            let entry = self.child(&handle)?;
            entry.output.last_words(entry.running.exit_code()?).await.into()
        })
    }

    fn logs(
        &self,
        handle: Handle,
        lines: usize,
    ) -> BoxFuture<'_, Result<Vec<String>, EngineError>> {
        Box::pin(async move {
            let gone = || EngineError::Refused(format!("there is no {handle} any more").into());
            Ok(self.child(&handle).ok_or_else(gone)?.output.lines(lines))
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Listing, EngineError>> {
        let found = self
            .children()
            .iter()
            .map(|(number, child)| Found {
                handle: handle(*number),
                identity: Some(child.identity.clone()),
                state: match child.running.exit_code() {
                    None => FoundState::Running(Some(child.address)),
                    Some(code) => FoundState::Exited { exit_code: Some(code) },
                },
            })
            .collect();
        Box::pin(async move {
            let wanted = Some(self.revision());
            Ok(Listing { wanted, found, ..Listing::default() })
        })
    }

    fn watch(&self, signals: mpsc::Sender<Signal>) -> BoxFuture<'_, ()> {
        let first = self.first_receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut receiver = first.unwrap_or_else(|| self.signals.subscribe());
        Box::pin(async move {
            loop {
                let signal = tokio::select! {
                    () = signals.closed() => return,
                    received = receiver.recv() => match received {
                        Ok(signal) => signal,
                        Err(broadcast::error::RecvError::Lagged(_)) => Signal::StreamChanged,
                        Err(broadcast::error::RecvError::Closed) => return,
                    },
                };
                if signals.send(signal).await.is_err() {
                    return;
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_are_read_back_and_others_are_refused() {
        assert_eq!(number_of(&handle(17)), Some(17));
        assert_eq!(number_of(&Handle("17".into())), None);
        assert_eq!(number_of(&Handle("process-x".into())), None);
    }

    #[test]
    fn the_digest_depends_on_program_and_environment() {
        let spec = |command: &[&str], env: &[(&str, &str)]| {
            let mut config = ProcessConfig::new(command.iter().map(|s| (*s).into()).collect());
            config.env = env.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
            ProcessDriver::new(config).unwrap().spec
        };
        let base = spec(&["server", "-v"], &[("A", "1")]);
        assert_eq!(base, spec(&["server", "-v"], &[("A", "1")]));
        assert_ne!(base, spec(&["server -v"], &[("A", "1")]));
        assert_ne!(base, spec(&["server", "-v"], &[("A", "2")]));
    }

    #[tokio::test]
    async fn a_reserved_port_can_be_used_with_so_reuseaddr() {
        let driver = ProcessDriver::new(ProcessConfig::new(vec!["x".into()])).unwrap();
        let (_reservation, port) = driver.free_port().unwrap();
        // The standard library sets it, as servers do.
        std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    }
}
