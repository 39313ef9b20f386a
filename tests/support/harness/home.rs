//! The directory and the fleet name of one test.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Instant,
};

use super::{Balancer, LONG, companion};

/// Directory and fleet name; the directory is removed at the end.
pub(crate) struct Home {
    dir: PathBuf,
    fleet: String,
}

/// The exit code and the output of a program.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Home {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos();
        let fleet = format!("t{:x}{:x}{count:x}", std::process::id(), since % 0x1000_0000);
        let dir = std::env::temp_dir().join(format!("ringmaster-{fleet}"));
        fs::create_dir(&dir).unwrap();
        Self { dir, fleet }
    }

    pub(crate) fn fleet(&self) -> &str {
        &self.fleet
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.path("state")
    }

    pub(crate) fn state_file(&self) -> PathBuf {
        self.state_dir().join("state.json")
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// A replica's command: these lines of shell first, with the companion's environment, then the
    /// companion itself.
    pub(crate) fn command(&self, lines: &str) -> String {
        let program = companion::program().display();
        let path = self.write("replica.sh", &format!("#!/bin/sh\n{lines}\nexec {program}\n"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        format!("/bin/sh {}", path.display())
    }

    /// The program without settings from the environment.
    pub(crate) fn program(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringmaster"));
        for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("RINGMASTER_")) {
            command.env_remove(key);
        }
        command.current_dir(&self.dir).stdin(Stdio::null());
        command
    }

    /// `serve` with child processes on free ports; later arguments must not repeat these.
    pub(crate) fn serve(&self, arguments: &[&str]) -> Command {
        companion::program();
        let mut command = self.program();
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        command.args(["--fleet", &self.fleet, "--state-dir"]).arg(self.state_dir());
        if !arguments.contains(&"--driver") {
            command.args(["--driver", "process"]);
        }
        if !arguments.contains(&"--workers") {
            command.args(["--workers", "2"]);
        }
        command.args(arguments);
        command
    }

    /// A running balancer.
    pub(crate) fn start(&self, arguments: &[&str]) -> Balancer {
        Balancer::spawn(self.serve(arguments))
    }

    /// A running balancer whose N replicas are in service.
    pub(crate) fn start_full(&self, n: usize, arguments: &[&str]) -> Balancer {
        let count = n.to_string();
        let balancer = self.start(&[&["--replicas", &count], arguments].concat());
        balancer.wait_for(n);
        balancer
    }

    /// Runs a command to its end.
    pub(crate) fn run(command: &mut Command) -> Run {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let begin = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if begin.elapsed() > LONG {
                let _ = child.kill();
                let left = child.wait_with_output().unwrap();
                panic!("it runs on: {}", String::from_utf8_lossy(&left.stderr));
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        Run {
            code: status.code().unwrap_or(-1),
            out: String::from_utf8(stdout).unwrap(),
            err: String::from_utf8(stderr).unwrap(),
        }
    }

    /// Runs the program with these arguments to its end.
    pub(crate) fn ringmaster(&self, arguments: &[&str]) -> Run {
        Self::run(self.program().args(arguments))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        remove(&self.dir);
    }
}

fn remove(dir: &Path) {
    if let Err(error) = fs::remove_dir_all(dir) {
        eprintln!("'{}' could not be removed: {error}", dir.display());
    }
}
