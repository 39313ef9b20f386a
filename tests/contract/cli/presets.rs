//! Presets, the file of another balancer, and `--print-config`.

use serde_json::{Value, json};

use super::{Upstream, free_address};
use crate::harness::{Balancer, Home, Run, eventually, get};

/// The settings that `check` shows, by key.
fn checked(home: &Home, arguments: &[&str]) -> (Value, Run) {
    let run = home.ringmaster(&[&["check", "--json"], arguments].concat());
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{run:?}");
    (serde_json::from_str(&run.out).unwrap(), run)
}

#[test]
fn flags_beat_the_environment_the_file_and_the_preset() {
    let home = Home::new();
    let file = home.write("own.toml", "preset = \"key-value\"\npolicy = \"p2c\"\ndrain = \"1s\"\n");
    let file = file.to_str().unwrap();
    let print = |arguments: &[&str]| {
        let mut program = home.program();
        program.env("RINGMASTER_DRAIN", "2s").args(["serve", "--print-config"]).args(arguments);
        let run = Home::run(&mut program);
        assert_eq!((run.code, run.err.as_str()), (0, ""), "{run:?}");
        run.out
    };
    let shown = print(&["--config", file, "--heartbeat-timeout", "1s"]);
    for line in [
        "listen = \"0.0.0.0:8081\"  # changed",
        "policy = \"p2c\"  # changed",
        "drain = \"2s\"  # changed",
        "heartbeat_timeout = \"1s\"  # changed",
        "heartbeat_interval = \"5s\"  # changed",
        "stop_grace = \"10s\"",
    ] {
        assert!(shown.lines().any(|one| one == line), "{line}: {shown}");
    }
    let shown = print(&["--config", file, "--preset", "course"]);
    assert!(shown.contains("\nnot_found_as_400 = true  # changed\n"), "{shown}");
    assert!(shown.contains("\nlisten = \"0.0.0.0:5000\"\n"), "{shown}");
}

#[test]
fn the_printed_configuration_has_the_same_meaning() {
    let home = Home::new();
    for arguments in [
        &["--preset", "servers", "--upstream", "a=127.0.0.1:1,weight=2"] as &[&str],
        &["--preset", "key-value", "--driver", "process"],
        &["--driver", "process", "--heartbeat-body", "it's \"ok\""],
    ] {
        let run = home.ringmaster(&[&["serve", "--print-config"], arguments].concat());
        assert_eq!((run.code, run.err.as_str()), (0, ""), "{run:?}");
        assert!(!home.state_dir().exists(), "nothing is started");
        let file = home.write("printed.toml", &run.out);
        let again = ["serve", "--config", file.to_str().unwrap(), "--print-config"];
        let again = home.ringmaster(&again);
        let plain = |text: &str| text.replace(" = 1.0\n", " = 1\n");
        let preset = |line: &&str| !line.starts_with("# preset");
        let plain = |text: &str| -> Vec<String> {
            plain(text).lines().filter(preset).map(str::to_owned).collect()
        };
        assert_eq!(plain(&again.out), plain(&run.out), "{again:?}");
    }
}

#[test]
fn the_config_json_of_a_balancer_with_registered_servers_serves() {
    let home = Home::new();
    let [one, two, admin] = [free_address(), free_address(), free_address()];
    let _servers = [Upstream::start("server1", one), Upstream::start("server2", two)];
    let text = json!({
        "servers": [
            {"name": "server1", "address": "localhost", "port": one.port(), "weight": 1},
            {"name": "server2", "address": "127.0.0.1", "port": two.port(), "weight": 2},
        ],
        "health_check": {"interval": 0.2, "timeout": 5, "path": "/heartbeat"},
        "api": {"host": "localhost", "port": admin.port(), "debug": false},
        "hash_function": "FNV-1a",
    });
    let file = home.write("config.json", &text.to_string());
    let file = file.to_str().unwrap();
    let (report, _) = checked(&home, &["--config", file]);
    assert_eq!(report["settings"]["hash"], json!({"value": "fnv1a", "default": false}));
    assert_eq!(report["settings"]["admin"]["value"], format!("127.0.0.1:{}", admin.port()));
    let warnings = report["warnings"].as_array().unwrap();
    assert!(warnings.len() == 1 && warnings[0].as_str().unwrap().contains("`api.debug`"));

    let mut command = home.program();
    command.args(["serve", "--config", file, "--listen", "127.0.0.1:0", "--workers", "1"]);
    let balancer = Balancer::spawn(command);
    assert_eq!(balancer.admin.port(), admin.port());
    assert!(balancer.logged("what it says of `api.debug` is not used").is_some());
    let in_service = || get(balancer.admin, "/rep").message()["replicas"].clone();
    eventually("both are in service", || in_service() == json!(["server1", "server2"]));
    let ring = balancer.ring();
    assert_eq!((&ring["virtual_servers"], &ring["hash"]), (&json!(100), &json!("fnv1a")));
    assert_eq!(ring["replicas"][1]["weight"], 2);
    // A path always goes to the same server.
    let served = |path: &str| get(balancer.traffic, path).json()["message"].clone();
    for path in ["/home", "/home?x=1"] {
        let first = served(path);
        assert!((0..10).all(|_| served(path) == first), "{path}");
    }
    // The scaling API is not part of it.
    assert_ne!(get(balancer.traffic, "/rep").status, 200);
}

#[test]
fn registered_servers_may_come_later() {
    let home = Home::new();
    let arguments = ["--preset", "servers", "--admin", "127.0.0.1:0", "--listen", "127.0.0.1:0"];
    let (report, _) = checked(&home, &arguments);
    assert_eq!(report["settings"]["driver"]["value"], "static");
    let balancer = home.start(&["--driver", "static"]);
    eventually("it is booted", || balancer.status()["booted"] == true);
    assert_eq!(balancer.rep(), Vec::<String>::new());
    assert_eq!(get(balancer.traffic, "/home").status, 503);
    assert_eq!(get(balancer.admin, "/readyz").status, 200);
}
