//! `examples/course` as it is started there: its compose file, whose balancer starts containers.

use std::process::{Command, Stdio};

use crate::{
    docker::{self, docker, engine},
    docker_support::{
        beside_others,
        compose::{self, Project},
        image,
    },
    harness::{Home, eventually, page, try_ask},
};

/// The example. Dropping it removes the replicas too.
struct Course(Project);

impl Course {
    fn start(host: &str) -> Self {
        let mut project = Project::new(host, "course", &["PORT", "ADMIN_PORT"]);
        let fleet = project.name.clone();
        project.set("FLEET", &fleet);
        let balancer = project.set_image("BALANCER_IMAGE");
        project.import(&balancer, &[concat!(env!("CARGO_BIN_EXE_ringmaster"), ":/ringmaster")]);
        let server = project.set_image("SERVER_IMAGE");
        image::provide(host, &server);
        if let Some(socket) = host.strip_prefix("unix://") {
            project.set("DOCKER_SOCKET", socket);
        }
        let course = Self(project);
        course.0.compose(&["up", "--detach"]).unwrap();
        course
    }

    /// The containers of its replicas.
    fn replicas(&self) -> Vec<String> {
        let label = format!("label=ringmaster.fleet={}", self.0.name);
        self.0.listed(&["ps", "--all", "--quiet", "--filter", &label])
    }

    /// What `/rep` names.
    fn in_service(&self) -> Vec<String> {
        let port: u16 = self.0.setting("PORT").parse().unwrap();
        // Until it listens, the engine's own proxy takes the connection.
        let Ok(answer) = try_ask(([127, 0, 0, 1], port).into(), "GET", "/rep", &[], "") else {
            return Vec::new();
        };
        let names = answer.message()["replicas"].as_array().unwrap().clone();
        names.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    }

    /// The commands of the page's last section, for this fleet.
    fn end(&self) {
        let page = self.0.page();
        let (_, section) = page.split_once("\n## End\n").unwrap();
        let commands = section.split_once("```sh\n").unwrap().1.split_once("```").unwrap().0;
        for command in commands.lines() {
            if let Some(args) = command.strip_prefix("docker-compose ") {
                let args: Vec<&str> = args.split(' ').collect();
                self.0.compose(&args).unwrap();
                continue;
            }
            let fleet = &self.0.name;
            let here = command
                .replace("ringmaster.fleet=default", &format!("ringmaster.fleet={fleet}"))
                .replace("net1", &self.network());
            assert_ne!(here, command, "it would be for another fleet");
            let mut shell = Command::new("sh");
            shell.args(["-euc", &here]).env("DOCKER_HOST", &self.0.host).stdin(Stdio::null());
            let run = Home::run(&mut shell);
            assert_eq!(run.code, 0, "{command}: {run:?}");
        }
    }

    fn network(&self) -> String {
        format!("{}-net", self.0.name)
    }

    fn networks(&self) -> Vec<String> {
        let filter = format!("name={}", self.0.name);
        self.0.listed(&["network", "ls", "--quiet", "--filter", &filter])
    }
}

impl Drop for Course {
    fn drop(&mut self) {
        // Before its replicas, which it would replace. Where the page's commands did it, nothing is left.
        let _ = self.0.compose(&["kill"]);
        self.0.remove_labelled(&format!("ringmaster.fleet={}", self.0.name));
        let own = format!("ringmaster.balances={}", self.0.name);
        self.0.remove_labelled(&own);
        let _ = docker(&self.0.host, &["network", "rm", &self.network()]);
    }
}

#[test]
fn the_page_of_the_course_is_true_in_containers() {
    let Some(host) = engine() else { return };
    if !compose::is_there(&host) {
        return docker::skip("there is no `docker-compose`");
    }
    let _machine = beside_others();
    let course = Course::start(&host);
    eventually("three replicas serve", || course.in_service().len() == 3);
    let place = format!("localhost:{}", course.0.setting("PORT"));
    page::run(&course.0.page(), 5, |command| command.replace("localhost:5000", &place));
    // Who is killed is replaced.
    let before = course.in_service();
    assert_eq!((before.len(), course.replicas().len()), (4, 4), "{before:?}");
    docker(&host, &["kill", &format!("{}-server_2", course.0.name)]).unwrap();
    eventually("another one takes its place", || {
        let now = course.in_service();
        let differ = now.iter().zip(&before).filter(|(now, before)| now != before);
        now.len() == 4 && differ.map(|(_, before)| before.as_str()).eq(["server_2"])
    });
    course.end();
    assert_eq!((course.replicas(), course.networks()), (Vec::new(), Vec::new()));
}
