//! The real program with a real engine: a balancer as a process of this machine, its fleet, and
//! helpers for tests.

#![allow(dead_code, clippy::unwrap_used)]

pub(crate) mod compose;
pub(crate) mod http;
pub(crate) mod image;
pub(crate) mod load;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

use crate::docker::{World, docker, eventually};
use http::{Response, call};

/// Timeout for things that happen at once, long enough for a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

static MACHINE: RwLock<()> = RwLock::new(());

/// Excludes all other tests, for a test that measures times.
pub(crate) fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().unwrap_or_else(PoisonError::into_inner)
}

/// Shares the machine with other tests of the same kind.
pub(crate) fn beside_others() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().unwrap_or_else(PoisonError::into_inner)
}

/// Prints a figure for the person who runs the tests.
pub(crate) fn print(figure: &str) {
    use std::io::Write;
    // Not `eprintln!`, which the test harness would hide.
    let _ = writeln!(std::io::stderr(), "  measured: {figure}");
}

pub(crate) fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64
}

/// Smallest, middle and largest, in milliseconds.
pub(crate) fn spread(times: &mut [f64]) -> (f64, f64, f64) {
    times.sort_by(f64::total_cmp);
    (times[0], times[times.len() / 2], times[times.len() - 1])
}

/// A running balancer.
pub(crate) struct Balancer {
    child: Child,
    pub(crate) traffic: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) began: Instant,
}

/// A fleet and its balancer, if that runs. Dropping it removes all of both.
pub(crate) struct Fleet {
    pub(crate) balancer: Option<Balancer>,
    log: Arc<Mutex<Vec<String>>>,
    dir: PathBuf,
    pub(crate) world: World,
}

impl Fleet {
    /// A fleet of its own name, with the companion server as its image; no balancer yet.
    pub(crate) fn new(host: &str) -> Self {
        let world = World::without_image(host);
        for made in image::provide(host, &world.image) {
            world.owns_image(made);
        }
        Self::in_world(world)
    }

    /// The same with the image of the drivers' tests: it answers everything with 200, and does what
    /// its argument says.
    pub(crate) fn of_test_replicas(host: &str) -> Self {
        Self::in_world(World::new(host))
    }

    fn in_world(world: World) -> Self {
        let dir = std::env::temp_dir().join(&world.fleet);
        Self { balancer: None, log: Arc::default(), dir, world }
    }

    /// The same with a balancer, and as many replicas in service.
    pub(crate) fn of(host: &str, replicas: usize, more: &[&str]) -> Self {
        let mut fleet = Self::new(host);
        let count = replicas.to_string();
        let mut args = vec!["--replicas", &count];
        args.extend(more);
        fleet.start(&args);
        fleet.until_in_service(replicas);
        fleet
    }

    /// The command that starts a balancer of this fleet.
    pub(crate) fn command(&self, more: &[&str]) -> Command {
        // The balancer ends with this process, also when this process is killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", env!("CARGO_BIN_EXE_ringmaster"), "serve"]);
        for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("RINGMASTER_")) {
            command.env_remove(key);
        }
        command.env("DOCKER_HOST", &self.world.host).stdin(Stdio::null());
        command.args(["--driver", "docker", "--fleet", &self.world.fleet]);
        command.args(["--image", &self.world.image, "--state-dir"]).arg(self.state_dir());
        if !more.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command.args(["--admin", "127.0.0.1:0", "--workers", "2"]);
        command.args(more);
        command
    }

    /// Starts the balancer, and waits until it listens.
    pub(crate) fn start(&mut self, more: &[&str]) {
        assert!(self.balancer.is_none(), "one at a time");
        let mut command = self.command(more);
        let began = Instant::now();
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, listening) = std::sync::mpsc::channel();
        let log = Arc::clone(&self.log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some(addresses) = addresses(&line) {
                    // The receiver takes only the first address.
                    let _ = sender.send(addresses);
                }
                log.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        match listening.recv_timeout(SOON) {
            Ok((traffic, admin)) => {
                self.balancer = Some(Balancer { child, traffic, admin, began });
            }
            Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                panic!("it does not listen: {:#?}", self.log());
            }
        }
    }

    fn balancer(&self) -> &Balancer {
        self.balancer.as_ref().expect("a balancer runs")
    }

    pub(crate) fn traffic(&self) -> SocketAddr {
        self.balancer().traffic
    }

    pub(crate) fn admin(&self) -> SocketAddr {
        self.balancer().admin
    }

    /// The log of all balancers of this fleet.
    pub(crate) fn log(&self) -> MutexGuard<'_, Vec<String>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn has_said(&self, words: &str) -> bool {
        self.log().iter().any(|line| line.contains(words))
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut balancer) = self.balancer.take() {
            balancer.child.kill().unwrap();
            balancer.child.wait().unwrap();
        }
    }

    /// SIGTERM, and the exit code.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        let mut balancer = self.balancer.take().expect("a balancer runs");
        let pid = rustix::process::Pid::from_child(&balancer.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        balancer.child.wait().unwrap()
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    pub(crate) fn state_file(&self) -> PathBuf {
        self.state_dir().join("state.json")
    }

    pub(crate) fn get(&self, path: &str) -> Response {
        call(self.traffic(), "GET", path, "").unwrap()
    }

    pub(crate) fn add(&self, body: &str) -> Response {
        call(self.traffic(), "POST", "/add", body).unwrap()
    }

    pub(crate) fn rm(&self, body: &str) -> Response {
        call(self.traffic(), "DELETE", "/rm", body).unwrap()
    }

    /// The replicas in service.
    pub(crate) fn replicas(&self) -> Vec<String> {
        let rep = self.get("/rep").expect(200);
        let names = rep.names("replicas");
        assert_eq!(rep.json()["message"]["N"], names.len());
        names
    }

    pub(crate) fn until_in_service(&self, count: usize) {
        eventually(&format!("{count} in service"), SOON, || self.replicas().len() == count);
    }

    fn admin_json(&self, path: &str) -> Value {
        call(self.admin(), "GET", path, "").unwrap().expect(200).json()
    }

    pub(crate) fn ring(&self) -> Value {
        self.admin_json("/api/ring")
    }

    pub(crate) fn digest(&self) -> String {
        self.ring()["digest"].as_str().unwrap().to_owned()
    }

    pub(crate) fn status(&self) -> Value {
        self.admin_json("/api/status")
    }

    /// The decision record after a sequence number.
    pub(crate) fn decisions(&self, after: u64) -> Vec<Decision> {
        let entries = self.admin_json(&format!("/api/decisions?after={after}"));
        entries.as_array().unwrap().iter().map(Decision::read).collect()
    }

    pub(crate) fn last_decision(&self) -> u64 {
        self.decisions(0).last().map_or(0, |last| last.sequence)
    }

    /// The full name of a replica's container.
    pub(crate) fn container(&self, replica: &str) -> String {
        format!("{}-{replica}", self.world.fleet)
    }

    /// All containers with this fleet's label: bare name to id.
    pub(crate) fn containers(&self) -> BTreeMap<String, String> {
        let label = format!("label=ringmaster.fleet={}", self.world.fleet);
        let format = "{{.Names}} {{.ID}}";
        let list = ["ps", "--all", "--no-trunc", "--filter", &label, "--format", format];
        let prefix = format!("{}-", self.world.fleet);
        let list = self.world.docker(&list);
        list.lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(name, id)| (name.strip_prefix(&prefix).unwrap_or(name).into(), id.into()))
            .collect()
    }

    /// The replica that responds to a key.
    pub(crate) fn owner(&self, key: &str) -> String {
        let header = format!("x-request-id: {key}\r\n");
        let answer = http::call_with(self.traffic(), "GET", "/home", &header, "").unwrap();
        greeted(&answer.expect(200).message())
    }

    /// The replicas that respond to some keys.
    pub(crate) fn owners(&self) -> Vec<String> {
        (0..40).map(|key| self.owner(&format!("key-{key}"))).collect()
    }

    /// The containers are those of the replicas in service, and no others.
    #[track_caller]
    pub(crate) fn assert_no_strays(&self) {
        eventually("as many containers as replicas", SOON, || {
            let mut replicas = self.replicas();
            replicas.sort();
            replicas == self.containers().into_keys().collect::<Vec<_>>()
        });
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let tail = log.len().saturating_sub(60);
            eprintln!("the balancer said last:\n{}", log[tail..].join("\n"));
        }
        if let Some(mut balancer) = self.balancer.take() {
            let _ = balancer.child.kill();
            let _ = balancer.child.wait();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// The name in a greeting of the companion server.
pub(crate) fn greeted(message: &str) -> String {
    message.strip_prefix("Hello from Server: ").expect(message).to_owned()
}

/// `listening traffic=… admin=…`
fn addresses(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let (_, rest) = line.split_once("listening traffic=")?;
    let (traffic, admin) = rest.split_once(" admin=")?;
    Some((traffic.trim().parse().ok()?, admin.trim().parse().ok()?))
}

/// An entry of the decision record.
#[derive(Clone, Debug)]
pub(crate) struct Decision {
    pub(crate) sequence: u64,
    pub(crate) time_us: u64,
    pub(crate) event: String,
    pub(crate) replica: String,
    pub(crate) detail: String,
}

impl Decision {
    fn read(entry: &Value) -> Self {
        let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        Self {
            sequence: entry["sequence"].as_u64().unwrap(),
            time_us: entry["time_us"].as_u64().unwrap(),
            event: text("event"),
            replica: text("replica"),
            detail: text("detail"),
        }
    }
}

/// The process of a container's program, as the host numbers it.
pub(crate) fn main_process(host: &str, container: &str) -> rustix::process::Pid {
    let number = docker(host, &["inspect", "--format", "{{.State.Pid}}", container]).unwrap();
    // Behind an init it is the init's child.
    let children = fs::read_to_string(format!("/proc/{number}/task/{number}/children"));
    let children = children.unwrap_or_default();
    let program = children.split_whitespace().next().unwrap_or(&number);
    rustix::process::Pid::from_raw(program.parse().unwrap()).unwrap()
}

/// When a process ends, by the wall clock in microseconds; seen within a fraction of a millisecond.
pub(crate) fn end_of(process: rustix::process::Pid) -> std::thread::JoinHandle<u64> {
    let stat = format!("/proc/{}/stat", process.as_raw_nonzero());
    std::thread::spawn(move || {
        let begin = Instant::now();
        loop {
            let text = fs::read_to_string(&stat).unwrap_or_default();
            let state = text.rsplit_once(") ").map_or("X", |(_, rest)| &rest[..1]);
            if matches!(state, "X" | "Z") {
                return now_us();
            }
            assert!(begin.elapsed() < SOON, "{stat} does not end");
            std::thread::sleep(Duration::from_micros(300));
        }
    })
}
