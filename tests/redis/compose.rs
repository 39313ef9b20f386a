//! `examples/redis` as it is started there: its compose file with real containers, and what its page
//! shows.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use crate::{
    docker::{self, engine},
    docker_support::{
        beside_others,
        compose::{self, Project},
        image,
    },
    harness::{eventually, page, skip},
};

/// The example, running.
struct Example(Project);

impl Example {
    fn start(host: &str) -> Self {
        let ports = ["PORT", "PORT_2", "ADMIN_PORT", "ADMIN_PORT_2"];
        let mut project = Project::new(host, "redis", &ports);
        // Before the name of each container.
        project.set("NAMES", &format!("{}-", project.name));
        let redis = project.set_image("REDIS_IMAGE");
        project.import(&redis, &["redis-server", "redis-cli", "sh", "sleep", "wget"]);
        let balancer = project.set_image("BALANCER_IMAGE");
        project.import(&balancer, &[concat!(env!("CARGO_BIN_EXE_ringmaster"), ":/ringmaster")]);
        let server = project.set_image("SERVER_IMAGE");
        image::provide(host, &server);
        project.set_image("NODE_IMAGE");
        project.compose(&["up", "--detach", "--build"]).unwrap();
        Self(project)
    }

    /// A command of the page for these containers and ports, and its output with the page's names.
    fn here(&self, command: &str) -> String {
        let Self(project) = self;
        let mut here = command.to_owned();
        for (page, setting) in [
            (":8080", "PORT"),
            (":8081", "PORT_2"),
            (":9091", "ADMIN_PORT"),
            (":9092", "ADMIN_PORT_2"),
        ] {
            let place = format!("http://localhost:{}", project.setting(setting));
            here = here.replace(&format!("http://localhost{page}"), &place);
        }
        // What runs inside a container is the page's.
        let inside = command.starts_with("docker exec ");
        let here = if inside { command } else { &here };
        let names = project.setting("NAMES");
        let here = ["docker exec ", "docker stop ", "docker start "]
            .iter()
            .fold(here.to_owned(), |here, word| here.replace(word, &format!("{word}{names}")));
        format!("export DOCKER_HOST={}\n{{ {here}\n}} | sed 's/^{names}//'", project.host)
    }
}

/// What is published on a channel, by the client inside the container of the Redis.
struct Heard {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Heard {
    fn on(Example(project): &Example, channel: &str) -> Self {
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
    if !is_there("wget") || !compose::is_there(&host) {
        return docker::skip("there is no `wget`, or no `docker-compose`");
    }
    let _machine = beside_others();
    let example = Example::start(&host);
    let heard = Heard::on(&example, "backend_changes");
    page::run(&example.0.page(), 12, |command| example.here(command));
    for status in ["unhealthy", "healthy"] {
        let change = format!(r#"{{"backend_id":"backend2","status":"{status}"}}"#);
        eventually(&format!("it is published as {status}"), || heard.has(&change));
    }
}
