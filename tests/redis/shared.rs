//! Processes of one fleet, and replicas that others keep.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    harness::{Balancer, Home, companion, eventually, get, try_ask},
    server::RedisServer,
};

/// A companion server of a test's own, which outlives any balancer.
pub(crate) struct Replica {
    child: Child,
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
}

impl Replica {
    pub(crate) fn start(name: &str) -> Self {
        let mut child = Command::new(companion::program())
            .env("SERVER_ID", name)
            .env("HOST", "127.0.0.1")
            .env("PORT", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let address = companion::listens(&mut child);
        Self { child, name: name.to_owned(), address }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn upstream(&self) -> String {
        format!("{}={}", self.name, self.address)
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One fleet: its Redis, its replicas, its name.
pub(crate) struct Fleet {
    pub(crate) redis: RedisServer,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) home: Home,
}

impl Fleet {
    /// `None`: there is no Redis here.
    pub(crate) fn new(replicas: usize) -> Option<Self> {
        Some(Self::with(RedisServer::start()?, replicas))
    }

    pub(crate) fn with(redis: RedisServer, replicas: usize) -> Self {
        let replicas = (1..=replicas).map(|number| Replica::start(&format!("s{number}")));
        Self { redis, replicas: replicas.collect(), home: Home::new() }
    }

    pub(crate) fn name(&self) -> &str {
        self.home.fleet()
    }

    /// Where a process keeps what it needs for a start without the store.
    pub(crate) fn state_dir(&self, process: &str) -> PathBuf {
        self.home.path(process)
    }

    /// A key of this fleet in the store.
    pub(crate) fn key(&self, name: &str) -> String {
        format!("ringmaster:{{{}}}:{name}", self.name())
    }

    /// The command of a process with a state directory of its own.
    pub(crate) fn command(&self, process: &str, role: &str, store: &str) -> Command {
        self.command_at(process, role, store, "127.0.0.1:0")
    }

    /// The same with an address for traffic.
    pub(crate) fn command_at(
        &self,
        process: &str,
        role: &str,
        store: &str,
        listen: &str,
    ) -> Command {
        let mut command = self.home.program();
        command.args(["serve", "--listen", listen, "--admin", "127.0.0.1:0"]);
        command.args(["--fleet", self.name(), "--workers", "1", "--driver", "static"]);
        command.args(["--role", role, "--store", store]);
        command.arg("--state-dir").arg(self.home.path(process));
        if role != "balancer" {
            for replica in &self.replicas {
                command.args(["--upstream", &replica.upstream()]);
            }
        }
        command
    }

    /// The command of a process that takes its replicas from the list of backends.
    pub(crate) fn command_with_backends(&self, process: &str) -> Command {
        self.command_with_backends_at(process, "127.0.0.1:0")
    }

    /// The same with an address for traffic.
    pub(crate) fn command_with_backends_at(&self, process: &str, listen: &str) -> Command {
        let mut command = self.home.program();
        command.args(["serve", "--listen", listen, "--admin", "127.0.0.1:0"]);
        command.args(["--fleet", self.name(), "--workers", "1", "--driver", "static"]);
        command.args(["--store", &self.redis.url(), "--backends", "--policy", "round_robin"]);
        command.args(["--heartbeat-path", "/health", "--heartbeat-misses", "1"]);
        command.arg("--state-dir").arg(self.home.path(process));
        command
    }

    /// What a command of a person says.
    pub(crate) fn ringmaster(arguments: &[&str]) -> String {
        let run = Home::new().ringmaster(arguments);
        assert_eq!(run.code, 0, "{run:?}");
        run.out
    }

    pub(crate) fn start(&self, process: &str, role: &str) -> Balancer {
        Balancer::spawn(self.command(process, role, &self.redis.url()))
    }
}

/// Whether a process supervises.
pub(crate) fn leads(process: &Balancer) -> bool {
    metric(process, "ringmaster_leading") == Some(1.0)
}

/// One number of the metrics without labels.
pub(crate) fn metric(process: &Balancer, name: &str) -> Option<f64> {
    let text = get(process.admin, "/metrics").text().to_owned();
    let line = text.lines().find(|line| line.split(' ').next() == Some(name))?;
    line.split(' ').nth(1)?.parse().ok()
}

/// Waits until a process routes to so many replicas.
pub(crate) fn serves(process: &Balancer, n: usize) {
    eventually("the replicas are in service", || {
        let answer = get(process.admin, "/rep");
        answer.status == 200 && answer.json()["message"]["N"] == n
    });
}

/// Who answers a key.
pub(crate) fn owner(process: &Balancer, key: usize) -> String {
    let answer = get(process.traffic, &format!("/home?id={key}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let text = answer.json()["message"].as_str().unwrap().to_owned();
    text.rsplit(' ').next().unwrap().to_owned()
}

/// Who answers each of some keys.
pub(crate) fn owners(process: &Balancer) -> Vec<String> {
    (0..100).map(|key| owner(process, key)).collect()
}

/// What the process that leads says of the fleet, asked through any.
pub(crate) fn status(process: &Balancer) -> Option<Value> {
    let answer = try_ask(process.admin, "GET", "/api/status", &[], "").ok()?;
    (answer.status == 200).then(|| answer.json())
}
