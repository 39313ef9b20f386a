//! A Docker engine for one test, which can be stopped, killed and started again.
//!
//! It lives in namespaces of its own: its bridges, firewall rules, mounts and processes are not
//! the host's, and all of them end with one process. (An engine that shares the host's network
//! and is configured without a bridge removes the *other* engine's `docker0`.)

#![allow(dead_code, clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::docker::{docker, eventually, random_name, skip};

/// Runs an engine as long as the file `run` exists, again whenever it appears.
const KEEPER: &str = r#"
cd "$1" || exit 1
ip link set lo up
# Not executable any more, for this engine only: it has mounts of its own.
[ -e "$1/no-init" ] && mount --bind /dev/null "$(command -v docker-init)"
while [ -d "$1/exec" ]; do
    if [ -e "$1/run" ]; then
        rm -f "$1/engine.pid"
        dockerd --config-file "$1/daemon.json" --storage-driver vfs \
            --data-root "$1/data" --exec-root "$1/exec" --pidfile "$1/engine.pid" \
            --host "unix://$1/docker.sock" --cgroup-parent "$2" >>"$1/log" 2>&1
    fi
    sleep 0.05
done
"#;

/// A private engine. Dropping it ends it with all its containers and removes its files.
pub(crate) struct PrivateEngine {
    name: String,
    dir: PathBuf,
    keeper: Child,
}

impl PrivateEngine {
    /// Starts one; `None` (with a line on stderr) where that is impossible.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// Starts one that cannot find `docker-init`.
    pub(crate) fn start_without_init() -> Option<Self> {
        Self::start_with(&["no-init"])
    }

    fn start_with(files: &[&str]) -> Option<Self> {
        let is_root = rustix::process::geteuid().is_root();
        let have = |tool: &str| {
            let mut which = Command::new("sh");
            which.args(["-c", &format!("command -v {tool}")]);
            which.stdout(Stdio::null()).status().is_ok_and(|s| s.success())
        };
        if !is_root || !["dockerd", "unshare", "setpriv", "ip"].into_iter().all(have) {
            skip("a private engine needs root, dockerd, unshare, setpriv and ip");
            return None;
        }
        let name = random_name();
        let dir = std::env::temp_dir().join(&name);
        for part in ["data", "exec"] {
            fs::create_dir_all(dir.join(part)).unwrap();
        }
        fs::write(dir.join("daemon.json"), "{}").unwrap();
        for file in files.iter().chain(&["run"]) {
            fs::write(dir.join(file), "").unwrap();
        }
        let keeper = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid"])
            .args(["--fork", "--kill-child=KILL", "--mount-proc", "sh", "-c", KEEPER, "sh"])
            .arg(&dir)
            .arg(format!("/{name}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let engine = Self { name, dir, keeper };
        engine.wait_until_it_answers();
        Some(engine)
    }

    /// The value for `DOCKER_HOST`.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}/docker.sock", self.dir.display())
    }

    /// Moves the calling thread, and what it starts from now on, into the engine's network: from
    /// elsewhere its containers cannot be reached.
    pub(crate) fn enter_network(&self) {
        use rustix::{fd::AsFd, thread};
        let process = self.process().unwrap().as_raw_nonzero();
        let network = fs::File::open(format!("/proc/{process}/ns/net")).unwrap();
        let kind = Some(thread::LinkNameSpaceType::Network);
        thread::move_into_link_name_space(network.as_fd(), kind).unwrap();
    }

    /// Sends the engine's process a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(self.process().unwrap(), signal).unwrap();
    }

    /// Ends the engine by this signal, until [`PrivateEngine::again`].
    pub(crate) fn end(&self, signal: rustix::process::Signal) {
        fs::remove_file(self.dir.join("run")).unwrap();
        self.signal(signal);
        eventually("the engine has ended", Duration::from_secs(30), || self.process().is_none());
    }

    /// Starts the engine again.
    pub(crate) fn again(&self) {
        fs::write(self.dir.join("run"), "").unwrap();
        self.wait_until_it_answers();
    }

    fn wait_until_it_answers(&self) {
        let log = || fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        for _ in 0..600 {
            if docker(&self.host(), &["version"]).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the private engine does not answer: {}", log());
    }

    /// The engine's process, found by the socket that only it was given.
    fn process(&self) -> Option<rustix::process::Pid> {
        let host = self.host();
        fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
            let number: i32 = entry.file_name().to_str()?.parse().ok()?;
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            let mut words = line.split(|byte| *byte == 0);
            let is_engine = words.next()?.ends_with(b"dockerd");
            let is_ours = is_engine && words.any(|word| word == host.as_bytes());
            is_ours.then(|| rustix::process::Pid::from_raw(number))?
        })
    }
}

impl Drop for PrivateEngine {
    fn drop(&mut self) {
        // The end of the first process ends the namespaces with their processes, mounts and bridges.
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
        for _ in 0..100 {
            if fs::remove_dir_all(&self.dir).is_ok() || !self.dir.exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let controllers = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
        for controller in controllers {
            remove_cgroup(&controller.path().join(&self.name));
        }
        remove_cgroup(&Path::new("/sys/fs/cgroup").join(&self.name));
    }
}

/// Control groups are directories whose files go with them.
fn remove_cgroup(path: &Path) {
    let Ok(entries) = fs::read_dir(path) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    let _ = fs::remove_dir(path);
}
