//! A running balancer.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{LONG, Replica, Response, ask, eventually, get, replicas_of};

/// A balancer that listens; it and its children end when this is dropped.
pub(crate) struct Balancer {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
    pub(crate) traffic: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Balancer {
    pub(crate) fn spawn(command: Command) -> Self {
        let mut balancer = Self::begin(command);
        balancer.listens();
        balancer
    }

    /// A started balancer that may not listen yet: see [`Balancer::listens`].
    pub(crate) fn begin(mut command: Command) -> Self {
        let mut child = command
            .env("RINGMASTER_LOG", "info")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let (lines, pipe) = (Arc::clone(&log), child.stderr.take().unwrap());
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        let nowhere: SocketAddr = ([0, 0, 0, 0], 0).into();
        Self { child, log, reader: Some(reader), traffic: nowhere, admin: nowhere }
    }

    /// Waits until it listens. A supervisor alone does so for administration only.
    pub(crate) fn listens(&mut self) {
        let begin = Instant::now();
        let line = loop {
            let listens = |line: &String| {
                line.contains("listening traffic=") || line.contains("listening admin=")
            };
            if let Some(line) = self.log.lock().unwrap().iter().find(|line| listens(line)) {
                break line.clone();
            }
            let ended = self.child.try_wait().unwrap();
            let gave_up = ended.is_some() || begin.elapsed() > LONG;
            assert!(!gave_up, "it does not listen ({ended:?}): {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        };
        let port = |key: &str| line.split(key).nth(1)?.split(' ').next()?.parse().ok();
        self.traffic = port("traffic=").unwrap_or(self.traffic);
        self.admin = port("admin=").unwrap_or_else(|| panic!("{line}"));
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The whole log.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// The first line that contains a text.
    pub(crate) fn logged(&self, text: &str) -> Option<String> {
        self.log.lock().unwrap().iter().find(|line| line.contains(text)).cloned()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.admin)
    }

    /// The replicas in service.
    pub(crate) fn rep(&self) -> Vec<String> {
        let message = get(self.traffic, "/rep").message();
        let names = texts(&message["replicas"]);
        assert_eq!(message["N"], names.len(), "{message}");
        names
    }

    /// Waits until exactly N replicas are in service and alive.
    pub(crate) fn wait_for(&self, n: usize) -> Vec<String> {
        let mut names = Vec::new();
        let begin = Instant::now();
        loop {
            let now = get(self.admin, "/rep").message();
            if now["N"] == n && replicas_of(self.pid()).len() == n {
                names.extend(texts(&now["replicas"]));
                return names;
            }
            assert!(begin.elapsed() < LONG, "not {n} but {now}: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A command on the traffic port.
    pub(crate) fn command(&self, path: &str, body: &str) -> Response {
        ask(self.traffic, "POST", path, body)
    }

    pub(crate) fn add(&self, body: &str) -> Value {
        self.command("/add", body).message()
    }

    pub(crate) fn rm(&self, body: &str) -> Value {
        self.command("/rm", body).message()
    }

    pub(crate) fn ring(&self) -> Value {
        get(self.admin, "/api/ring").json()
    }

    pub(crate) fn status(&self) -> Value {
        get(self.admin, "/api/status").json()
    }

    pub(crate) fn children(&self) -> Vec<Replica> {
        replicas_of(self.pid())
    }

    /// The living child with this name.
    pub(crate) fn child(&self, name: &str) -> Replica {
        let children = self.children();
        let found = children.iter().find(|child| child.name == name).cloned();
        found.unwrap_or_else(|| panic!("no '{name}' among {children:?}"))
    }

    /// Where a replica listens.
    pub(crate) fn child_address(&self, name: &str) -> SocketAddr {
        let status = self.status();
        let replicas = status["replicas"].as_array().unwrap();
        let mut instances = replicas.iter().flat_map(|one| one["instances"].as_array().unwrap());
        let found = instances.find(|one| one["name"] == name);
        let address = found.and_then(|one| one["address"].as_str()?.parse().ok());
        address.unwrap_or_else(|| panic!("no '{name}' in {status}"))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.id() as i32).unwrap(), signal).unwrap();
    }

    /// SIGTERM, and the end, after which no child may live.
    pub(crate) fn terminate(self) -> (ExitStatus, String) {
        self.end_by(Signal::TERM)
    }

    /// A signal, and the end, after which no child may live.
    pub(crate) fn end_by(mut self, signal: Signal) -> (ExitStatus, String) {
        let children = self.children();
        self.signal(signal);
        let status = self.ended();
        assert!(!children.iter().any(Replica::lives), "children outlive their balancer");
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        (status, self.log())
    }

    /// SIGKILL, after which the kernel ends the children.
    pub(crate) fn kill(mut self) {
        let children = self.children();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        eventually("the children end with the balancer", || !children.iter().any(Replica::lives));
    }

    fn ended(&mut self) -> ExitStatus {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begin.elapsed() < LONG, "it does not end: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of the balancer ---\n{}\n---", self.log());
        }
        // The kernel ends the children with it, also stopped ones.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}
