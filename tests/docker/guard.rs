//! No second balancer of a fleet may start, and no container may change the fleet.

use std::{
    env, fs,
    net::SocketAddr,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    process::{Command, Stdio},
};

use crate::docker::{engine, eventually, skip};
use crate::docker_support::{
    Fleet, SOON,
    http::{Response, call},
    main_process,
};

/// The variable with the address for the test [`asks_from_inside`].
const INSIDE: &str = "RINGMASTER_TEST_ASKS";

#[test]
fn a_second_balancer_of_the_fleet_refuses_to_start() {
    let Some(host) = engine() else { return };
    let mut fleet = Fleet::of(&host, 1, &[]);
    let other_dir = fleet.state_dir().with_file_name("other");
    let other_dir = other_dir.to_str().unwrap();
    // By the state directory, and with another one by the name of the fleet.
    for more in [&[][..], &["--state-dir", other_dir]] {
        let output = second(&fleet, more);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(words.contains("another balancer already supervises"), "{words}");
    }
    // Also by another, long path to the same engine.
    if let Some(socket) = fleet.world.host.clone().strip_prefix("unix://").map(Path::new) {
        let link = fleet.state_dir().with_file_name("a-long-way-to-the-socket".repeat(2));
        std::os::unix::fs::symlink(socket.parent().unwrap(), &link).unwrap();
        let name = socket.file_name().unwrap().to_str().unwrap();
        let host = format!("unix://{}/{name}", link.display());
        let output = second_at(&fleet, &host, &["--state-dir", other_dir]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(words.contains("another balancer already supervises"), "{words}");
    }
    assert_eq!(fleet.replicas(), ["server_1"]);
    fleet.kill();
    // A balancer in a container, which is found only by its labels.
    let balances = format!("ringmaster.balances={}", fleet.world.fleet);
    let labels = ["--label", "ringmaster.role=balancer", "--label", &balances];
    let name = format!("{}-keeper", fleet.world.fleet);
    let keeper = fleet.world.run(&name, &labels);
    let output = second(&fleet, &[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(words.contains(&format!("container '{name}'")), "{words}");
    fleet.world.docker(&["rm", "--force", &keeper]);
    fleet.start(&[]);
    fleet.until_in_service(1);
    assert_eq!(fleet.replicas(), ["server_1"]);
}

/// Runs another balancer of the fleet, which must end by itself.
fn second(fleet: &Fleet, more: &[&str]) -> std::process::Output {
    second_at(fleet, &fleet.world.host, more)
}

fn second_at(fleet: &Fleet, host: &str, more: &[&str]) -> std::process::Output {
    let mut given: Vec<_> = fleet.command(&[]).get_args().map(|arg| arg.to_owned()).collect();
    if let [flag, value] = more {
        let at = given.iter().position(|arg| arg == flag).unwrap();
        given[at + 1] = value.into();
    }
    let mut command = Command::new("timeout");
    command.args(["20", "setpriv"]).args(given).env("DOCKER_HOST", host);
    command.stdin(Stdio::null()).output().unwrap()
}

/// Run in the network of a container, by [`from_inside`].
#[test]
fn asks_from_inside() {
    let Ok(admin) = env::var(INSIDE) else { return };
    let admin: SocketAddr = admin.parse().unwrap();
    for (method, path, body) in [
        ("GET", "/api/status", ""),
        ("POST", "/add", r#"{"n":1}"#),
        ("GET", "/metrics", ""),
        ("GET", "/readyz", ""),
    ] {
        let answer = call(admin, method, path, body).unwrap();
        println!("answer {path} {} {}", answer.status, answer.body.lines().next().unwrap_or(""));
    }
}

/// The balancer's responses to a container: commands and reads are refused, but a Prometheus or a health
/// check in a container is served.
fn from_inside(host: &str, container: &str, admin: SocketAddr) {
    let words = run_inside(host, container, admin, "guard::asks_from_inside");
    let answers: Vec<_> = words.lines().filter_map(|line| line.split_once("answer ")).collect();
    assert_eq!(answers.len(), 4, "{words}");
    for (_, answer) in &answers[..2] {
        assert!(answer.contains(" 403 ") && answer.contains("<Error> "), "{answer}");
    }
    for (_, answer) in &answers[2..] {
        assert!(answer.contains(" 200 "), "{answer}");
    }
}

/// Run in the network of a container, by [`ask_status_from`].
#[test]
fn asks_status_from_inside() {
    let Ok(admin) = env::var(INSIDE) else { return };
    let answer = call(admin.parse().unwrap(), "GET", "/api/status", "").unwrap();
    println!("answer {}", answer.status);
}

/// The status of the balancer's response to a container.
fn ask_status_from(host: &str, container: &str, admin: SocketAddr) -> u16 {
    let words = run_inside(host, container, admin, "guard::asks_status_from_inside");
    let status = words.lines().find_map(|line| line.split_once("answer ")?.1.parse().ok());
    status.unwrap_or_else(|| panic!("{words}"))
}

/// Runs one of these tests with the network of a container, and returns its output.
fn run_inside(host: &str, container: &str, admin: SocketAddr, test: &str) -> String {
    let process = main_process(host, container).as_raw_nonzero();
    let output = Command::new("nsenter")
        .arg(format!("--net=/proc/{process}/ns/net"))
        .arg(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, admin.to_string())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The program in a container on the fleet's network, as the compose file runs it.
struct Keeper<'a> {
    fleet: &'a Fleet,
    name: String,
}

impl<'a> Keeper<'a> {
    fn start(fleet: &'a Fleet, socket: &str, more: &[&str]) -> Self {
        let name = format!("{}-keeper", fleet.world.fleet);
        let state = fleet.state_dir();
        fs::create_dir_all(&state).unwrap();
        fs::set_permissions(&state, fs::Permissions::from_mode(0o777)).unwrap();
        let balances = format!("ringmaster.balances={}", fleet.world.fleet);
        let mut args: Vec<String> = ["run", "--detach", "--name", &name].map(Into::into).into();
        for label in ["ringmaster.role=balancer", &balances] {
            args.extend(["--label".into(), label.into()]);
        }
        let group = fs::metadata(socket).unwrap().gid().to_string();
        args.extend(["--user", "65532:65532", "--group-add", &group].map(Into::into));
        args.extend(["--cap-drop", "ALL", "--security-opt", "no-new-privileges"].map(Into::into));
        args.push("--read-only".into());
        // The program of a test run is not static: the libraries of this machine are mounted.
        let libraries = ["/lib", "/lib64", "/usr/lib"];
        let libraries = libraries.into_iter().filter(|dir| Path::new(dir).exists());
        let mounts = libraries.map(|dir| format!("{dir}:{dir}:ro")).chain([
            format!("{}:/ringmaster:ro", env!("CARGO_BIN_EXE_ringmaster")),
            format!("{socket}:/var/run/docker.sock"),
            format!("{}:/state", state.display()),
        ]);
        args.extend(mounts.flat_map(|mount| ["--volume".into(), mount]));
        args.extend(
            ["--publish", "127.0.0.1::9090", "--publish", "127.0.0.1::5000"].map(Into::into),
        );
        args.extend(["--entrypoint", "/ringmaster", &fleet.world.image, "serve"].map(Into::into));
        args.extend(["--driver", "docker", "--fleet", &fleet.world.fleet].map(Into::into));
        args.extend(["--image", &fleet.world.image, "--state-dir", "/state"].map(Into::into));
        args.extend(["--listen", "0.0.0.0:5000", "--admin", "0.0.0.0:9090"].map(Into::into));
        args.push("--admin-open".into());
        args.extend(more.iter().map(|arg| (*arg).into()));
        fleet.world.docker(&args.iter().map(String::as_str).collect::<Vec<_>>());
        Self { fleet, name }
    }

    /// The published address of a port on this machine.
    fn published(&self, port: u16) -> SocketAddr {
        let world = &self.fleet.world;
        let log = || world.docker(&["logs", &self.name]);
        assert_eq!(world.inspect(&self.name, "{{.State.Running}}"), "true", "{}", log());
        let address = world.docker(&["port", &self.name, &port.to_string()]);
        address.lines().next().unwrap().parse().unwrap()
    }

    /// Its address on the fleet's network.
    fn inside(&self) -> SocketAddr {
        self.at(&format!("{}-net", self.fleet.world.fleet))
    }

    /// The address of its admin port on a network.
    fn at(&self, network: &str) -> SocketAddr {
        let template = format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
        SocketAddr::new(self.fleet.world.inspect(&self.name, &template).parse().unwrap(), 9090)
    }

    fn in_service(&self) -> usize {
        let rep = call(self.published(5000), "GET", "/rep", "");
        rep.map_or(0, |rep: Response| rep.names("replicas").len())
    }
}

#[test]
fn a_replica_must_not_command_its_supervisor() {
    let Some(host) = engine() else { return };
    let Some(socket) = host.strip_prefix("unix://") else {
        return skip("the engine is not on this machine");
    };
    if !rustix::process::geteuid().is_root() {
        return skip("to speak from inside a container needs root");
    }
    let fleet = Fleet::new(&host);
    let keeper = Keeper::start(&fleet, socket, &["--replicas", "2"]);
    eventually("2 in service", SOON, || keeper.in_service() == 2);
    assert_eq!(call(keeper.published(5000), "GET", "/home", "").unwrap().status, 200);

    // From this machine, by the published port and directly: both come from the gateway.
    let admin = keeper.inside();
    for address in [keeper.published(9090), admin] {
        let status = call(address, "GET", "/api/status", "").unwrap().expect(200);
        assert_eq!(status.json()["N"], 2);
    }
    // From a replica: all is refused.
    from_inside(&host, &fleet.container("server_1"), admin);
    // The same from a container of another network that the balancer is on, from its start or since
    // a moment ago. Containers on yet other networks do not reach it.
    let world = &fleet.world;
    let stranger = world.run(&format!("{}-stranger", world.fleet), &[]);
    from_inside(&host, &stranger, keeper.at("bridge"));
    let other = format!("{}-other", world.fleet);
    world.docker(&["network", "create", &other]);
    world.docker(&["network", "connect", &other, &keeper.name]);
    world.docker(&["network", "connect", &other, &stranger]);
    let admin = keeper.at(&other);
    eventually("it is seen that there is another network", SOON, || {
        ask_status_from(&host, &stranger, admin) == 403
    });
    from_inside(&host, &stranger, admin);
    let status = call(admin, "GET", "/api/status", "").unwrap().expect(200);
    assert_eq!(status.json()["N"], 2, "the gateway of that network is this machine");
    assert_eq!(keeper.in_service(), 2);

    // Killed and started again as a container, it finds its own container, its network and its fleet.
    let before = fleet.containers();
    fleet.world.docker(&["kill", &keeper.name]);
    fleet.world.docker(&["start", &keeper.name]);
    eventually("2 in service", SOON, || keeper.in_service() == 2);
    assert_eq!(fleet.containers(), before);
}
