//! A compose file of `examples/` with real containers, under names and ports of a test's own.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::docker::{docker, random_name};

const TOP: &str = env!("CARGO_MANIFEST_DIR");

/// What a compose file starts. Dropping it removes the containers, their network and volumes, and the
/// images that the settings name.
pub(crate) struct Project {
    pub(crate) host: String,
    /// Of the project; no other test has it.
    pub(crate) name: String,
    folder: PathBuf,
    settings: Vec<(&'static str, String)>,
}

impl Project {
    /// Nothing runs yet. `folder`: below `examples`; `ports`: settings that get a free one each.
    pub(crate) fn new(host: &str, folder: &str, ports: &[&'static str]) -> Self {
        let listeners = ports.iter().map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let listeners: Vec<_> = listeners.collect();
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port().to_string();
        let settings = ports.iter().copied().zip(listeners.iter().map(port)).collect();
        let folder = Path::new(TOP).join("examples").join(folder);
        Self { host: host.to_owned(), name: random_name(), folder, settings }
    }

    pub(crate) fn set(&mut self, key: &'static str, value: &str) {
        self.settings.push((key, value.to_owned()));
    }

    /// Sets an image, `KEY_IMAGE`, to one of this project's own, which is to be made.
    pub(crate) fn set_image(&mut self, key: &'static str) -> String {
        let image = format!("{}:{}", self.name, key.trim_end_matches("_IMAGE").to_lowercase());
        self.set(key, &image);
        image
    }

    pub(crate) fn setting(&self, key: &str) -> &str {
        &self.settings.iter().find(|(known, _)| *known == key).unwrap().1
    }

    /// What the example's page says.
    pub(crate) fn page(&self) -> String {
        fs::read_to_string(self.folder.join("README.md")).unwrap()
    }

    /// Makes an image of programs, as the pages say where there is no registry.
    pub(crate) fn import(&self, image: &str, programs: &[&str]) {
        let output = Command::new(Path::new(TOP).join("scripts/import-image.sh"))
            .arg(image)
            .args(programs)
            .env("DOCKER_HOST", &self.host)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Runs `docker-compose`, and returns all that it said.
    pub(crate) fn compose(&self, args: &[&str]) -> Result<String, String> {
        let output = compose_command(&self.host)
            .args(["--project-name", &self.name, "--file"])
            .arg(self.folder.join("docker-compose.yml"))
            .args(args)
            .envs(self.settings.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .output()
            .map_err(|error| error.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let words = text(&output.stdout) + &text(&output.stderr);
        if output.status.success() { Ok(words) } else { Err(words) }
    }

    /// A list of the command line client, one entry in each line.
    pub(crate) fn listed(&self, args: &[&str]) -> Vec<String> {
        docker(&self.host, args).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// Removes all containers and networks with a label.
    pub(crate) fn remove_labelled(&self, label: &str) {
        let filter = format!("label={label}");
        for container in self.listed(&["ps", "--all", "--quiet", "--filter", &filter]) {
            let _ = docker(&self.host, &["rm", "--force", "--volumes", &container]);
        }
        for network in self.listed(&["network", "ls", "--quiet", "--filter", &filter]) {
            let _ = docker(&self.host, &["network", "rm", &network]);
        }
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for args in [&["ps"][..], &["logs", "--no-color", "--tail", "30"]] {
                let (Ok(words) | Err(words)) = self.compose(args);
                eprintln!("{words}");
            }
        }
        let _ = self.compose(&["down", "--volumes", "--remove-orphans", "--timeout", "1"]);
        // Also what a `compose` that failed half-way has left.
        self.remove_labelled(&format!("com.docker.compose.project={}", self.name));
        for (_, image) in self.settings.iter().filter(|(key, _)| key.ends_with("_IMAGE")) {
            let _ = docker(&self.host, &["rmi", "--force", image]);
        }
    }
}

/// `docker compose`, or the older program, for at most two minutes.
fn compose_command(host: &str) -> Command {
    let mut command = Command::new("timeout");
    command.arg("120").env("DOCKER_HOST", host);
    match docker(host, &["compose", "version"]) {
        Ok(_) => command.args(["docker", "compose"]),
        Err(_) => command.arg("docker-compose"),
    };
    command
}

/// Whether a compose file can be started here.
pub(crate) fn is_there(host: &str) -> bool {
    compose_command(host).arg("version").output().is_ok_and(|output| output.status.success())
}
