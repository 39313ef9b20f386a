//! The pages of `examples/`: runs each command that they show, with real processes, and compares its output.

mod course;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::harness::{Balancer, Home, companion, eventually, get, page};
use serde_json::Value;

/// Companion servers that end with the test.
struct Servers(Vec<(String, SocketAddr, Child)>);

impl Servers {
    fn start(names: &[&str]) -> Self {
        let start = |name: &&str| {
            let mut child = Command::new(companion::program())
                .env("SERVER_ID", name)
                .env("HOST", "127.0.0.1")
                .env("PORT", "0")
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let address = companion::listens(&mut child);
            ((*name).to_owned(), address, child)
        };
        Self(names.iter().map(start).collect())
    }
}

impl Servers {
    /// A command of a page with the addresses of these servers instead of the containers on the page.
    fn placed_in(&self, command: &str) -> String {
        self.0.iter().fold(command.to_owned(), |command, (name, address, _)| {
            let port = address.port();
            command
                .replace(&format!("http://{name}:5000"), &format!("http://127.0.0.1:{port}"))
                .replace(
                    &format!(r#""address": "{name}", "port": 5000"#),
                    &format!(r#""address": "127.0.0.1", "port": {port}"#),
                )
        })
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

/// Runs the commands of a page with the ports of this balancer and these servers.
fn run_page(name: &str, balancer: &Balancer, servers: &Servers, traffic_port: u16, least: usize) {
    let page = fs::read_to_string(example(name).join("README.md")).unwrap();
    page::run(&page, least, |command| {
        let command = command
            .replace(&format!("localhost:{traffic_port}"), &balancer.traffic.to_string())
            .replace("localhost:9090", &balancer.admin.to_string());
        servers.placed_in(&command)
    });
}

fn passing(balancer: &Balancer, n: u64) -> bool {
    get(balancer.admin, "/api/status").json()["passing"] == n
}

#[test]
fn the_page_of_the_key_value_store_is_correct() {
    let home = Home::new();
    let servers = Servers::start(&["node1", "node2", "node3", "node4"]);
    let upstreams =
        servers.0[..3].iter().map(|(name, address, _)| format!("--upstream={name}={address}"));
    let upstreams: Vec<String> = upstreams.collect();
    let mut arguments = vec!["--preset", "key-value", "--driver", "static"];
    arguments.extend(upstreams.iter().map(String::as_str));
    let balancer = home.start(&arguments);
    eventually("all nodes serve", || passing(&balancer, 3));
    run_page("key-value", &balancer, &servers, 8081, 8);
}

#[test]
fn the_page_of_registered_servers_is_correct() {
    let home = Home::new();
    let servers = Servers::start(&["server1", "server2", "server3"]);
    // The file of the example, with the addresses of these servers.
    let file = fs::read_to_string(example("servers").join("config.json")).unwrap();
    let mut file: Value = serde_json::from_str(&file).unwrap();
    let named = file["servers"].as_array_mut().unwrap();
    assert_eq!(named.len(), 2);
    for (server, (name, address, _)) in named.iter_mut().zip(&servers.0) {
        assert_eq!(server["name"], name.as_str());
        server["address"] = "localhost".into();
        server["port"] = address.port().into();
    }
    let file = home.write("config.json", &file.to_string());
    let balancer = home.start(&["--config", file.to_str().unwrap(), "--driver", "static"]);
    eventually("both servers serve", || passing(&balancer, 2));
    run_page("servers", &balancer, &servers, 8080, 13);
}

#[test]
fn the_page_of_the_course_is_correct() {
    let home = Home::new();
    let balancer = home.start_full(3, &["--preset", "course"]);
    run_page("course", &balancer, &Servers(Vec::new()), 5000, 5);
}

#[test]
fn the_readme_on_registered_servers_is_correct() {
    let home = Home::new();
    let balancer = home.start_full(3, &[]);
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let (_, section) = readme.split_once("\n## Servers that others keep\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let admin = balancer.admin.to_string();
    page::run(section, 15, |command| command.replace("127.0.0.1:9090", &admin));
}

#[test]
fn a_page_is_read_and_compared_line_by_line() {
    let text = "$ not\n```console\n$ one \\\n    two\nout\nmore\n$ three\n```\n$ not\n";
    let shown: Vec<_> =
        page::shown(text).into_iter().map(|one| (one.command, one.output)).collect();
    let expected = [("one \\\n    two", "out\nmore\n"), ("three", "")];
    assert_eq!(shown, expected.map(|(command, output)| (command.to_owned(), output.to_owned())));
    assert!(page::is_like(r#"{"a":1.5,"b":2}"#, r#"{"a":…,"b":2}"#));
    assert!(
        page::is_like("a b c b d", "a … b d") && page::is_like("", "") && page::is_like("x", "…")
    );
    for (actual, expected) in [("a", ""), ("", "a"), ("a\nb", "…"), ("a 1 b", "a … c"), ("ab", "a")]
    {
        assert!(!page::is_like(actual, expected), "{actual} {expected}");
    }
}

#[test]
fn the_compose_files_start_what_check_accepts() {
    let home = Home::new();
    for name in ["key-value", "servers", "course"] {
        let text = fs::read_to_string(example(name).join("docker-compose.yml")).unwrap();
        let flags = text.lines().filter_map(|line| line.trim_start().strip_prefix("- --"));
        // Paths of files differ in the container.
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
