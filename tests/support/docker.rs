//! Helpers for tests with a real engine: the command line client, an image from scratch, and a
//! guard that removes everything of a test, also when it fails.

#![allow(dead_code, clippy::unwrap_used)]

use std::{
    cell::RefCell,
    env,
    hash::{BuildHasher, DefaultHasher, Hasher, RandomState},
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

/// The engine to test with. Without one a test is skipped with a visible line, unless
/// `RINGMASTER_TEST_DOCKER=required`.
pub(crate) fn engine() -> Option<String> {
    static HOST: OnceLock<Option<String>> = OnceLock::new();
    let host = HOST.get_or_init(|| {
        let host = ringmaster::driver::docker::default_host();
        docker(&host, &["version"]).is_ok().then_some(host)
    });
    if host.is_none() {
        skip("no Docker engine answers");
    }
    host.clone()
}

/// Prints why a test is skipped, or fails where an engine is required.
pub(crate) fn skip(why: &str) {
    assert_ne!(env::var("RINGMASTER_TEST_DOCKER").as_deref(), Ok("required"), "{why}");
    // Not `eprintln!`, which the test harness would hide.
    let _ = writeln!(io::stderr(), "skipped: {why}");
}

/// A name that no other test uses.
pub(crate) fn random_name() -> String {
    let random = RandomState::new().build_hasher().finish();
    format!("rmdrv-{:08x}", random & 0xffff_ffff)
}

/// Runs the command line client, for at most a minute.
pub(crate) fn docker(host: &str, args: &[&str]) -> Result<String, String> {
    let output = Command::new("timeout")
        .args(["60", "docker", "--host", host])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

/// The test replica, compiled once for each version of its source.
pub(crate) fn replica() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/replica.rs");
        let mut version = DefaultHasher::new();
        version.write(&std::fs::read(&source).unwrap());
        let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let dir = base.join(format!("replica-{:016x}", version.finish()));
        let program = dir.join("replica");
        if program.exists() {
            return program;
        }
        let fresh = base.join(format!("replica-new-{}", std::process::id()));
        std::fs::create_dir_all(&fresh).unwrap();
        let output = Command::new(env::var("RUSTC").unwrap_or_else(|_| "rustc".into()))
            .args(["--edition=2024", "-Copt-level=1", "-Cstrip=symbols"])
            .args(["-Ctarget-feature=+crt-static", "-Cpanic=abort", "-o"])
            .args([&fresh.join("replica"), &source])
            .output()
            .unwrap();
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words}");
        // A rename is atomic, so no run sees an incomplete program. Those of concurrent runs are equal.
        if std::fs::rename(&fresh, &dir).is_err() {
            assert!(program.exists());
            std::fs::remove_dir_all(fresh).unwrap();
        }
        program
    })
}

/// Imports the test replica as an image, and returns its id. Each import has an id of its own.
pub(crate) fn import_image(host: &str, name: &str, entrypoint: &str) -> String {
    let mut tar = Command::new("tar")
        .arg("-c")
        .arg("-C")
        .arg(replica().parent().unwrap())
        .arg("replica")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let import = Command::new("timeout")
        .args(["60", "docker", "--host", host, "import", "--change"])
        .args([&format!("ENTRYPOINT [\"{entrypoint}\"]"), "-", name])
        .stdin(tar.stdout.take().unwrap())
        .output()
        .unwrap();
    assert!(tar.wait().unwrap().success() && import.status.success());
    String::from_utf8_lossy(&import.stdout).trim().to_owned()
}

/// A fleet of one test. Dropping it removes everything with its label or its name.
pub(crate) struct World {
    pub(crate) host: String,
    pub(crate) fleet: String,
    pub(crate) image: String,
    imported: RefCell<Vec<String>>,
}

impl World {
    pub(crate) fn new(host: &str) -> Self {
        let world = Self::without_image(host);
        world.import("/replica");
        world
    }

    /// The same without an image under its name.
    pub(crate) fn without_image(host: &str) -> Self {
        let fleet = random_name();
        Self {
            host: host.into(),
            image: format!("{fleet}:test"),
            fleet,
            imported: RefCell::default(),
        }
    }

    /// Removes another image too, by id or name, when this is dropped.
    pub(crate) fn owns_image(&self, image: String) {
        self.imported.borrow_mut().push(image);
    }

    /// Imports the image, or another one under the same name.
    pub(crate) fn import(&self, entrypoint: &str) {
        let id = import_image(&self.host, &self.image, entrypoint);
        self.imported.borrow_mut().push(id);
    }

    /// Runs the command line client, which must succeed.
    pub(crate) fn docker(&self, args: &[&str]) -> String {
        docker(&self.host, args).unwrap()
    }

    /// Whether a container of this name or id exists.
    pub(crate) fn exists(&self, container: &str) -> bool {
        docker(&self.host, &["container", "inspect", container]).is_ok()
    }

    /// A value of `docker inspect`.
    pub(crate) fn inspect(&self, container: &str, template: &str) -> String {
        self.docker(&["inspect", "--format", template, container])
    }

    /// Runs a foreign container under this full name, with these arguments before the
    /// image.
    pub(crate) fn run(&self, name: &str, more: &[&str]) -> String {
        let mut args = vec!["run", "--detach", "--name", name, "--env", "PORT=5000"];
        args.extend(more);
        args.push(&self.image);
        self.docker(&args)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let name = format!("name={}", self.fleet);
        let label = format!("label=ringmaster.fleet={}", self.fleet);
        for filter in [&name, &label] {
            let list = ["ps", "--all", "--quiet", "--filter", filter];
            for container in docker(&self.host, &list).unwrap_or_default().lines() {
                let _ = docker(&self.host, &["rm", "--force", "--volumes", container]);
            }
            let list = ["network", "ls", "--quiet", "--filter", filter];
            for network in docker(&self.host, &list).unwrap_or_default().lines() {
                let _ = docker(&self.host, &["network", "rm", network]);
            }
        }
        for image in self.imported.borrow().iter().chain([&self.image]) {
            let _ = docker(&self.host, &["rmi", "--force", image]);
        }
    }
}

/// Waits for a condition, for at most `limit`.
pub(crate) fn eventually(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
