//! The parts of a fleet as processes of this machine: a Redis, companion servers and balancers. All of
//! them end with this program, or when their values are dropped.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::process::{Child, Ready, free_port};

/// Timeout of every wait, long enough for a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);
/// Pause between two checks.
const POLL_INTERVAL: Duration = Duration::from_millis(2);
/// Timeout of a request: longer than the slowest command.
const ANSWER: Duration = Duration::from_secs(60);

/// The programs under test, and the image of replicas in containers.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The balancer's program.
    pub ringmaster: PathBuf,
    /// The companion server's program.
    pub server: PathBuf,
    /// The companion server's image; without it, measurements with containers are left out.
    pub image: Option<String>,
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Waits until a condition holds, and returns how long that took.
pub(super) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) -> Result<Duration> {
    let begun = Instant::now();
    while !holds().await {
        if begun.elapsed() > DEADLINE {
            bail!("not within {DEADLINE:?}: {what}");
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Ok(begun.elapsed())
}

/// A Redis that keeps what it has on the disk, in a folder of its own.
pub(super) struct Redis {
    child: Child,
    folder: TempDir,
    port: u16,
}

impl Redis {
    pub(super) async fn start() -> Result<Redis> {
        let folder = tempfile::tempdir().context("no temporary folder")?;
        let port = free_port()?;
        let child = redis(folder.path(), port).await?;
        Ok(Redis { child, folder, port })
    }

    pub(super) fn url(&self) -> String {
        format!("redis://{}", local(self.port))
    }

    /// `kill -9`, and started again after a pause, with all that it had or empty.
    pub(super) async fn kill_and_start(self, pause: Duration, is_emptied: bool) -> Result<Redis> {
        let Redis { child, folder, port } = self;
        child.kill().await?;
        let folder = match is_emptied {
            true => tempfile::tempdir().context("no temporary folder")?,
            false => folder,
        };
        tokio::time::sleep(pause).await;
        let child = redis(folder.path(), port).await?;
        Ok(Redis { child, folder, port })
    }

    /// SIGSTOP and, after a pause, SIGCONT.
    pub(super) async fn pause(&self, pause: Duration) -> Result<()> {
        self.child.signal(Signal::STOP)?;
        tokio::time::sleep(pause).await;
        self.child.signal(Signal::CONT)
    }
}

async fn redis(folder: &Path, port: u16) -> Result<Child> {
    let program = Path::new("redis-server");
    let mut command = Child::bound_command(program);
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""]);
    command.args(["--appendonly", "yes", "--appendfsync", "always", "--dir"]).arg(folder);
    let mut child = Child::spawn(program, command)?;
    child.wait_until_ready(local(port), Ready::Accepts).await?;
    Ok(child)
}

/// A companion server.
pub(super) struct Companion {
    _child: Child,
    pub(super) name: String,
    pub(super) address: SocketAddr,
}

impl Companion {
    pub(super) async fn start(programs: &Programs, name: &str) -> Result<Companion> {
        let address = local(free_port()?);
        let mut command = Child::bound_command(&programs.server);
        command.env("SERVER_ID", name).env("PORT", address.port().to_string());
        let mut child = Child::spawn(&programs.server, command)?;
        child.wait_until_ready(address, Ready::Answers).await?;
        Ok(Companion { _child: child, name: name.to_owned(), address })
    }

    /// So many, whose names begin alike.
    pub(super) async fn several(
        programs: &Programs,
        start: &str,
        count: usize,
    ) -> Result<Vec<Companion>> {
        let mut all = Vec::new();
        for number in 1..=count {
            all.push(Companion::start(programs, &format!("{start}{number}")).await?);
        }
        Ok(all)
    }
}

/// The flags of a fleet whose replicas are these.
pub(super) fn upstreams(companions: &[Companion]) -> Vec<String> {
    let upstream = |one: &Companion| format!("--upstream={}={}", one.name, one.address);
    let driver = std::iter::once("--driver=static".to_owned());
    driver.chain(companions.iter().map(upstream)).collect()
}

/// A balancer; it keeps its ports and its state when it is started again.
pub(super) struct Process {
    child: Child,
    settings: Killed,
}

impl Process {
    pub(super) async fn start(programs: &Programs, arguments: Vec<String>) -> Result<Process> {
        Process::begin(programs, None, arguments).await
    }

    /// The same on one core alone.
    pub(super) async fn on_core(
        programs: &Programs,
        core: &'static str,
        arguments: Vec<String>,
    ) -> Result<Process> {
        Process::begin(programs, Some(core), arguments).await
    }

    async fn begin(
        programs: &Programs,
        core: Option<&'static str>,
        arguments: Vec<String>,
    ) -> Result<Process> {
        let killed = Killed {
            program: programs.ringmaster.clone(),
            core,
            arguments,
            addresses: [local(free_port()?), local(free_port()?)],
            client: reqwest::Client::builder().no_proxy().timeout(ANSWER).build()?,
            state: tempfile::tempdir().context("no temporary folder")?,
        };
        killed.start().await
    }

    pub(super) fn traffic(&self) -> SocketAddr {
        self.settings.addresses[0]
    }

    fn admin(&self) -> SocketAddr {
        self.settings.addresses[1]
    }

    /// `kill -9`; what is left can be started again.
    pub(super) async fn kill(self) -> Result<Killed> {
        self.child.kill().await?;
        Ok(self.settings)
    }

    /// Status and body of a response of the admin port; `None` without a response.
    pub(super) async fn ask(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<Value>,
    ) -> Option<(u16, String)> {
        let url = format!("http://{}{path}", self.admin());
        let mut request = self.settings.client.request(method, url);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    }

    /// The body of a successful response of the admin port.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Option<T> {
        let (status, text) = self.ask(reqwest::Method::GET, path, None).await?;
        (status == 200).then(|| serde_json::from_str(&text).ok())?
    }

    /// One number of the metrics without labels.
    pub(super) async fn metric(&self, name: &str) -> Option<f64> {
        let (_, text) = self.ask(reqwest::Method::GET, "/metrics", None).await?;
        let line = text.lines().find(|line| line.split(' ').next() == Some(name))?;
        line.split(' ').nth(1)?.parse().ok()
    }

    /// Whether it supervises.
    pub(super) async fn leads(&self) -> bool {
        self.metric("ringmaster_leading").await == Some(1.0)
    }

    /// The replicas in service, in their order.
    pub(super) async fn replicas(&self) -> Vec<String> {
        let answer: Option<Value> = self.get("/rep").await;
        let names = answer.as_ref().and_then(|answer| answer["message"]["replicas"].as_array());
        let names = names.into_iter().flatten();
        names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
    }

    /// Waits until this many replicas are in service.
    pub(super) async fn serves(&self, count: usize) -> Result<()> {
        let what = format!("{count} replicas are in service at {}", self.admin());
        until(&what, async || self.replicas().await.len() == count).await?;
        Ok(())
    }

    /// How long its threads have run so far.
    pub(super) fn cpu_time(&self) -> Result<Duration> {
        self.child.cpu_time()
    }
}

/// A balancer that does not run.
pub(super) struct Killed {
    program: PathBuf,
    /// The core that it is bound to.
    core: Option<&'static str>,
    arguments: Vec<String>,
    /// For traffic, and for administration.
    addresses: [SocketAddr; 2],
    client: reqwest::Client,
    state: TempDir,
}

impl Killed {
    pub(super) async fn start(self) -> Result<Process> {
        let mut child = Child::spawn(&self.program, self.command())?;
        child.wait_until_ready(self.addresses[1], Ready::Accepts).await?;
        Ok(Process { child, settings: self })
    }

    fn command(&self) -> Command {
        let mut command = match self.core {
            None => Child::bound_command(&self.program),
            Some(core) => {
                let mut command = Child::bound_command(Path::new("taskset"));
                command.args(["-c", core]).arg(&self.program);
                command
            }
        };
        let [traffic, admin] = self.addresses;
        command.arg("serve").args(&self.arguments);
        command.arg(format!("--listen={traffic}")).arg(format!("--admin={admin}"));
        command.arg("--workers=1").arg("--state-dir").arg(self.state.path());
        // Settings in the environment must not change the measurement.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("RINGMASTER_") {
                command.env_remove(name);
            }
        }
        command.env("RINGMASTER_LOG", "warn");
        command
    }
}
