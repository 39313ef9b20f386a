//! `examples/redis` as it is started there: its compose file with real containers, and what its page
//! shows.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use crate::{
    docker::{self, docker, engine, random_name},
    docker_support::{beside_others, image},
    harness::{eventually, get, page, skip, try_ask},
};

const TOP: &str = env!("CARGO_MANIFEST_DIR");

fn example(file: &str) -> PathBuf {
    Path::new(TOP).join("examples/redis").join(file)
}

/// The containers of the example under names and ports of their own. Dropping it removes them, their
/// network and their images.
struct Project {
    host: String,
    /// Of the project, and before the name of each container.
    name: String,
    settings: Vec<(&'static str, String)>,
}

impl Project {
    /// All of it, running.
    fn start(host: &str) -> Self {
        let name = random_name();
        let image = |of: &str| format!("{name}:{of}");
        let listeners: Vec<_> = (0..4).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let port = |at: usize| listeners[at].local_addr().unwrap().port().to_string();
        let settings = vec![
            ("NAMES", format!("{name}-")),
            ("REDIS_IMAGE", image("redis")),
            ("SERVER_IMAGE", image("server")),
            ("NODE_IMAGE", image("node")),
            ("BALANCER_IMAGE", image("balancer")),
            ("PORT", port(0)),
            ("PORT_2", port(1)),
            ("ADMIN_PORT", port(2)),
            ("ADMIN_PORT_2", port(3)),
        ];
        drop(listeners);
        let project = Self { host: host.to_owned(), name, settings };
        project.import("redis", &["redis-server", "redis-cli", "sh", "sleep", "wget"]);
        project.import("balancer", &[concat!(env!("CARGO_BIN_EXE_ringmaster"), ":/ringmaster")]);
        image::provide(host, project.setting("SERVER_IMAGE"));
        project.compose(&["up", "--detach", "--build"]).unwrap();
        project
    }

    fn setting(&self, key: &str) -> &str {
        &self.settings.iter().find(|(known, _)| *known == key).unwrap().1
    }

    /// As the page says where there is no registry.
    fn import(&self, tag: &str, programs: &[&str]) {
        let output = Command::new(Path::new(TOP).join("scripts/import-image.sh"))
            .arg(format!("{}:{tag}", self.name))
            .args(programs)
            .env("DOCKER_HOST", &self.host)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn compose(&self, args: &[&str]) -> Result<String, String> {
        let output = compose_command(&self.host)
            .args(["--project-name", &self.name, "--file"])
            .arg(example("docker-compose.yml"))
            .args(args)
            .envs(self.settings.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .output()
            .map_err(|error| error.to_string())?;
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(words) } else { Err(words) }
    }

    /// A command of the page for these containers and ports, and its output with the page's names.
    fn here(&self, command: &str) -> String {
        let mut here = command.to_owned();
        for (page, setting) in [
            (":8080", "PORT"),
            (":8081", "PORT_2"),
            (":9091", "ADMIN_PORT"),
            (":9092", "ADMIN_PORT_2"),
        ] {
            let place = format!("http://localhost:{}", self.setting(setting));
            here = here.replace(&format!("http://localhost{page}"), &place);
        }
        // What runs inside a container is the page's.
        let inside = command.starts_with("docker exec ");
        let here = if inside { command } else { &here };
        let names = self.setting("NAMES");
        let here = ["docker exec ", "docker stop ", "docker start "]
            .iter()
            .fold(here.to_owned(), |here, word| here.replace(word, &format!("{word}{names}")));
        format!("export DOCKER_HOST={}\n{{ {here}\n}} | sed 's/^{names}//'", self.host)
    }

    fn log(&self) -> String {
        self.compose(&["ps"]).unwrap_or_default()
            + &["supervisor", "balancer1", "redis-init"]
                .map(|of| {
                    let container = format!("{}{of}", self.setting("NAMES"));
                    let log =
                        format!("docker --host {} logs --tail 30 {container} 2>&1", self.host);
                    let output = Command::new("sh").args(["-c", &log]).output().unwrap();
                    format!("--- {of}\n{}", String::from_utf8_lossy(&output.stdout))
                })
                .concat()
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        let _ = self.compose(&["down", "--volumes", "--remove-orphans", "--timeout", "1"]);
        // Also what a `compose` that failed half-way has left.
        let label = format!("label=com.docker.compose.project={}", self.name);
        let list = ["ps", "--all", "--quiet", "--filter", &label];
        for container in docker(&self.host, &list).unwrap_or_default().lines() {
            let _ = docker(&self.host, &["rm", "--force", "--volumes", container]);
        }
        let list = ["network", "ls", "--quiet", "--filter", &label];
        for network in docker(&self.host, &list).unwrap_or_default().lines() {
            let _ = docker(&self.host, &["network", "rm", network]);
        }
        for image in ["node", "redis", "server", "balancer"] {
            let _ = docker(&self.host, &["rmi", "--force", &format!("{}:{image}", self.name)]);
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

/// What is published on a channel, by the client inside the container of the Redis.
struct Heard {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Heard {
    fn on(project: &Project, channel: &str) -> Self {
        let redis = format!("{}redis", project.setting("NAMES"));
        let mut child = Command::new("docker")
            .args(["--host", &project.host, "exec", &redis, "redis-cli", "SUBSCRIBE", channel])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (pipe, lines) = (child.stdout.take().unwrap(), Arc::<Mutex<Vec<String>>>::default());
        let heard = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                heard.lock().unwrap().push(line);
            }
        });
        let heard = Self { child, lines };
        eventually("it listens", || heard.has("subscribe"));
        heard
    }

    fn has(&self, text: &str) -> bool {
        self.lines.lock().unwrap().iter().any(|line| line == text)
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_there(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[test]
fn seed_002_the_page_of_the_example_is_true_in_containers() {
    let Some(host) = engine() else { return };
    for program in ["redis-server", "redis-cli"] {
        if !is_there(program) {
            let is_required = std::env::var("RINGMASTER_TEST_REDIS").as_deref() == Ok("required");
            assert!(!is_required, "there is no `{program}`, and it is required");
            return skip(&format!("there is no `{program}` here"));
        }
    }
    if !is_there("wget") || compose_command(&host).arg("version").output().is_err() {
        return docker::skip("there is no `wget`, or no `docker-compose`");
    }
    let _machine = beside_others();
    let project = Project::start(&host);
    let heard = Heard::on(&project, "backend_changes");
    let text = fs::read_to_string(example("README.md")).unwrap();
    page::run(&text, 12, |command| project.here(command));
    for status in ["unhealthy", "healthy"] {
        let change = format!(r#"{{"backend_id":"backend2","status":"{status}"}}"#);
        eventually(&format!("it is published as {status}"), || heard.has(&change));
    }
    // A supervisor without traffic adds up what its balancers count, by the names of containers.
    let at = |key: &str| SocketAddr::from(([127, 0, 0, 1], project.setting(key).parse().unwrap()));
    let token = [("authorization", "Bearer change-me")];
    let total = || {
        let stats = try_ask(at("ADMIN_PORT_2"), "GET", "/api/stats", &token, "").ok()?;
        let figures = (stats.status == 200).then(|| stats.json())?;
        figures.get("incomplete").is_none().then(|| figures["total_requests"].as_u64())?
    };
    eventually("all processes answer", || total().is_some());
    let before = total().unwrap();
    for port in ["PORT", "PORT", "PORT", "PORT_2"] {
        assert_eq!(get(at(port), "/home").status, 200);
    }
    assert_eq!(total(), Some(before + 4));
}
