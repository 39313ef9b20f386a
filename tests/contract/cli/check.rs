//! `check` finds the errors that `serve` would find later, changes nothing, and shows all settings.

use std::{fs, process::Command};

use serde_json::{Value, json};

use super::one_line;
use crate::harness::{Balancer, Home, Run, companion};

/// `check` with child processes and the state directory of the test.
fn check(home: &Home, arguments: &[&str]) -> Run {
    companion::program();
    let mut program = home.program();
    program.args(["check", "--driver", "process", "--fleet", home.fleet(), "--state-dir"]);
    Home::run(program.arg(home.state_dir()).args(arguments))
}

#[test]
fn given_settings_are_marked_and_secrets_are_hidden() {
    let home = Home::new();
    let file = home.write("ringmaster.toml", "replicas = 1\ndrain = \"1s\"\n");
    let arguments = ["--config", file.to_str().unwrap(), "--drain", "3s", "--env", "A=s3cret"];
    let with_token = ["--admin-token", "s3cret"];
    let run = check(&home, &[&arguments[..], &with_token].concat());
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{run:?}");
    let lines: Vec<Vec<&str>> =
        run.out.lines().map(|line| line.split_whitespace().collect()).collect();
    for shown in [
        "replicas = 1",
        "drain = 3s",
        "driver = process",
        "attempts = 3 (default)",
        "admin = 127.0.0.1:9090 (default)",
        "env = A=(hidden)",
        "admin_token = (hidden)",
    ] {
        let words: Vec<&str> = shown.split(' ').collect();
        assert!(lines.contains(&words), "{shown}: {}", run.out);
    }
    assert!(!run.out.contains("s3cret") && !run.out.contains('{'), "{}", run.out);
    let run = check(&home, &[&arguments[..], &with_token, &["--json"]].concat());
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{run:?}");
    assert!(!run.out.contains("s3cret"), "{}", run.out);
    let read: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(read["ok"], true);
    assert_eq!(read["settings"]["drain"], json!({"value": "3s", "default": false}));
    assert_eq!(read["settings"]["attempts"], json!({"value": 3, "default": true}));
    assert!(!home.state_dir().exists(), "`check` changes nothing");

    let run = check(&home, &["--drain", "never", "--json"]);
    assert_eq!(run.code, 2);
    assert!(run.err.starts_with("error: `drain`: "), "{run:?}");
    let read: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!((&read["ok"], &read["error"]["key"]), (&json!(false), &json!("drain")));
}

#[test]
fn settings_that_serve_refuses_are_refused() {
    let home = Home::new();
    let [place, inside] = ["file", "file/state"].map(|name| home.path(name));
    fs::write(&place, "").unwrap();
    let [place, inside] = [&place, &inside].map(|path| path.to_str().unwrap());
    let upstreams = |one, other| ["--upstream", one, "--upstream", other];
    let cases: &[(&[&str], &str)] = &[
        (
            &["--listen", "127.0.0.1:1", "--admin", "127.0.0.1:1"],
            "`admin`: 127.0.0.1:1 is `listen`",
        ),
        (&["--listen", "0.0.0.0:9090"], "`admin`: 127.0.0.1:9090 and `listen` (0.0.0.0:9090)"),
        (&["--image", "My/Image"], "`image`: 'My/Image' is not an image"),
        (&["--network", "host"], "`network`: 'host' is Docker's own"),
        (&upstreams("S1=127.0.0.1:1", "s1=127.0.0.1:2"), "'S1' and 's1' differ only in upper"),
        (&upstreams("a=LOCALHOST:1", "b=localhost:1"), "'a' (LOCALHOST:1) and 'b' (localhost:1)"),
        // Another spelling of an address, which only the resolver accepts.
        (
            &upstreams("a=127.0.0.1:1", "b=127.1:1"),
            "'a' (127.0.0.1:1) and 'b' (127.1:1) are at one",
        ),
    ];
    for (arguments, expected) in cases {
        for subcommand in ["serve", "check"] {
            one_line(&home.ringmaster(&[&[subcommand], *arguments].concat()), 2, expected);
        }
    }
    for subcommand in ["serve", "check"] {
        for nonsense in ["loud", "info,loud", "hyper=loud"] {
            let mut program = home.program();
            let run = Home::run(program.arg(subcommand).env("RINGMASTER_LOG", nonsense));
            let named = nonsense.rsplit(',').next().unwrap();
            one_line(&run, 2, &format!("`RINGMASTER_LOG`: '{named}' is not one of off, error"));
        }
        // This copy of the program has no companion server in its directory.
        let copy = home.path("ringmaster");
        let _ = fs::copy(env!("CARGO_BIN_EXE_ringmaster"), &copy).unwrap();
        let mut program = Command::new(&copy);
        program.current_dir(home.path(".")).args([subcommand, "--driver", "process"]);
        one_line(&Home::run(&mut program), 2, "`command`: there is no '");
    }
    for place in [place, inside] {
        let run = home.ringmaster(&["check", "--driver", "process", "--state-dir", place]);
        one_line(&run, 2, "`state_dir`: ");
    }
}

#[test]
fn an_unusable_state_directory_is_found() {
    let home = Home::new();
    let balancer = home.start_full(1, &[]);
    let run = check(&home, &[]);
    let used = "warning: a balancer supervises from state directory '";
    assert_eq!((run.code, run.out.contains(used)), (0, true), "{run:?}");
    balancer.kill();
    let run = check(&home, &[]);
    assert_eq!((run.code, run.out.contains("warning: ")), (0, false), "{run:?}");
    let run = check(&home, &["--fleet", "another", "--admin", "127.0.0.1:1"]);
    // The message about a repeated flag names the flag.
    one_line(&run, 2, "--fleet");
    let state_dir = home.state_dir();
    let mut other = home.program();
    other.args(["check", "--driver", "process", "--fleet", "another", "--state-dir"]);
    one_line(&Home::run(other.arg(&state_dir)), 2, "belongs to the fleet");
    fs::write(home.state_file(), "{").unwrap();
    let run = check(&home, &[]);
    assert_eq!((run.code, run.out.contains("would be set aside")), (0, true), "{run:?}");
    assert_eq!(fs::read_to_string(home.state_file()).unwrap(), "{", "it is still there");
}

#[test]
fn an_upstream_that_cannot_be_resolved_is_a_warning() {
    let home = Home::new();
    let upstream = ["--upstream", "gone=nowhere.invalid:1", "--upstream", "b=127.0.0.1:1"];
    let run = home.ringmaster(&[&["check"], &upstream[..]].concat());
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{run:?}");
    let warning = "warning: the upstream 'gone' (nowhere.invalid:1) cannot be resolved now";
    assert!(run.out.contains(warning), "{}", run.out);
    let arguments = [&["--driver", "static"], &upstream[..]].concat();
    let balancer: Balancer = home.start(&arguments);
    assert!(balancer.log().contains("the upstream 'gone'"), "{}", balancer.log());
}
