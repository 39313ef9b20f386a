//! The pages of `examples/`: each command that they show with its output, against real processes.

#![allow(clippy::unwrap_used)]

#[path = "../harness/mod.rs"]
mod harness;

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use harness::{Balancer, Home, companion, eventually, get};
use serde_json::Value;

/// Companion servers with these names, which end with the test.
struct Servers(Vec<(String, SocketAddr, Child)>);

impl Servers {
    fn start(names: &[&str]) -> Self {
        let start = |name: &&str| {
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let child = Command::new(companion::program())
                .env("SERVER_ID", name)
                .env("HOST", "127.0.0.1")
                .env("PORT", address.port().to_string())
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            ((*name).to_owned(), address, child)
        };
        let servers = Self(names.iter().map(start).collect());
        eventually("all servers listen", || {
            servers.0.iter().all(|(_, address, _)| std::net::TcpStream::connect(address).is_ok())
        });
        servers
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for (_, _, child) in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

/// What a page shows: commands after `$ `, each with the lines that it writes.
fn shown(page: &str) -> Vec<(String, String)> {
    let mut shown: Vec<(String, String)> = Vec::new();
    let mut is_console = false;
    for line in page.lines() {
        match (is_console, line) {
            (_, "```console") => is_console = true,
            (true, "```") => is_console = false,
            (true, line) => match line.strip_prefix("$ ") {
                Some(command) => shown.push((command.to_owned(), String::new())),
                None => shown.last_mut().unwrap().1 += &format!("{line}\n"),
            },
            (false, _) => {}
        }
    }
    shown
}

/// Runs what a page shows, with the balancer's own ports.
fn run_page(name: &str, balancer: &Balancer, traffic_port: u16, least: usize) {
    let page = fs::read_to_string(example(name).join("README.md")).unwrap();
    let shown = shown(&page);
    assert!(shown.len() >= least, "the page shows only {shown:?}");
    for (command, expected) in shown {
        let here = command
            .replace(&format!("localhost:{traffic_port}"), &balancer.traffic.to_string())
            .replace("localhost:9090", &balancer.admin.to_string());
        let mut shell = Command::new("sh");
        let run = Home::run(shell.args(["-euc", &here]).stdin(Stdio::null()).env("NO_PROXY", "*"));
        assert_eq!(run.code, 0, "{command}: {run:?}");
        assert_eq!(run.out.trim_end(), expected.trim_end(), "{command}");
    }
}

fn passing(balancer: &Balancer, n: u64) -> bool {
    get(balancer.admin, "/api/status").json()["passing"] == n
}

#[test]
fn the_page_of_the_key_value_store_is_true() {
    let home = Home::new();
    let servers = Servers::start(&["node1", "node2", "node3"]);
    let upstreams =
        servers.0.iter().map(|(name, address, _)| format!("--upstream={name}={address}"));
    let upstreams: Vec<String> = upstreams.collect();
    let mut arguments = vec!["--preset", "key-value", "--driver", "static"];
    arguments.extend(upstreams.iter().map(String::as_str));
    let balancer = home.start(&arguments);
    eventually("all nodes serve", || passing(&balancer, 3));
    run_page("key-value", &balancer, 8081, 5);
}

#[test]
fn the_page_of_registered_servers_is_true() {
    let home = Home::new();
    let servers = Servers::start(&["server1", "server2"]);
    // The file of the example, with the places of these servers.
    let file = fs::read_to_string(example("servers").join("config.json")).unwrap();
    let mut file: Value = serde_json::from_str(&file).unwrap();
    let named = file["servers"].as_array_mut().unwrap();
    assert_eq!(named.len(), servers.0.len());
    for (server, (name, address, _)) in named.iter_mut().zip(&servers.0) {
        assert_eq!(server["name"], name.as_str());
        server["address"] = "localhost".into();
        server["port"] = address.port().into();
    }
    let file = home.write("config.json", &file.to_string());
    let balancer = home.start(&["--config", file.to_str().unwrap(), "--driver", "static"]);
    eventually("both servers serve", || passing(&balancer, 2));
    run_page("servers", &balancer, 8080, 3);
}

#[test]
fn the_compose_files_start_what_check_accepts() {
    let home = Home::new();
    for name in ["key-value", "servers", "course"] {
        let text = fs::read_to_string(example(name).join("docker-compose.yml")).unwrap();
        let flags = text.lines().filter_map(|line| line.trim_start().strip_prefix("- --"));
        // Files have other places there.
        let flags = flags.map(|flag| match flag.strip_prefix("config=/") {
            Some(file) => format!("--config={}", example(name).join(file).display()),
            None => format!("--{flag}"),
        });
        let flags: Vec<String> = flags.filter(|flag| !flag.starts_with("--state-dir")).collect();
        assert!(flags.len() >= 3, "{name}: {flags:?}");
        let run = Home::run(home.program().arg("check").args(&flags));
        assert_eq!((run.code, run.err.as_str()), (0, ""), "{name}: {run:?}");
    }
}
