//! No state is lost: restarts and kills at bad moments, damaged and foreign state, full disks.

mod hanging_disk;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::harness::{Balancer, Home, Load, begin, eventually, get, skip};
use serde_json::{Value, json};

/// The part of the fleet that must survive: names, identities and slots, in order.
fn fleet(balancer: &Balancer) -> Value {
    let ring = balancer.ring();
    json!([ring["digest"], ring["replicas"], ring["generation"]])
}

/// Ends a balancer, by SIGTERM or SIGKILL.
fn end(balancer: Balancer, gently: bool) {
    if gently {
        let (status, log) = balancer.terminate();
        assert!(status.success(), "{log}");
    } else {
        balancer.kill();
    }
}

#[test]
fn a_restart_brings_the_same_names_and_slots() {
    for gently in [true, false] {
        let home = Home::new();
        let balancer = home.start_full(2, &[]);
        balancer.add(r#"{"n":2,"hostnames":["S5"]}"#);
        balancer.rm(r#"{"n":1,"hostnames":["server_1"]}"#);
        // A replacement's new name survives too.
        balancer.child("S5").kill();
        eventually("it is replaced", || {
            let rep = balancer.rep();
            rep.len() == 3 && rep[1] != "S5"
        });
        let (names, before) = (balancer.rep(), fleet(&balancer));
        eventually("the new name is on the disk", || {
            fs::read_to_string(home.state_file()).unwrap().contains(&names[1])
        });
        let old = balancer.children();
        end(balancer, gently);

        let balancer = home.start(&["--replicas", "7"]);
        assert_eq!(balancer.wait_for(3), names, "gently: {gently}");
        assert_eq!(fleet(&balancer), before, "gently: {gently}");
        let log = balancer.log();
        assert!(log.contains("the stored size 3 wins over the configured 7"), "{log}");
        // Other processes, of a later incarnation.
        for (old, new) in old.iter().zip(balancer.children()) {
            assert_eq!((&old.name, old.id), (&new.name, new.id));
            assert!(new.pid != old.pid && new.incarnation > old.incarnation, "{new:?} {old:?}");
        }
        // Identities are never used twice.
        let added = balancer.add(r#"{"n":1,"hostnames":["server_1"]}"#);
        assert_eq!(added["N"], 4);
        let ids: Vec<u64> = balancer.ring()["replicas"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["id"].as_u64().unwrap())
            .collect();
        assert_eq!(ids, [2, 3, 4, 5]);
    }
}

#[test]
fn zero_replicas_stay_zero() {
    for gently in [true, false] {
        let home = Home::new();
        let balancer = home.start_full(2, &[]);
        assert_eq!(balancer.rm(r#"{"n":2}"#)["N"], 0);
        end(balancer, gently);
        let balancer = home.start(&["--replicas", "3"]);
        eventually("it is booted", || balancer.status()["booted"] == true);
        assert_eq!(balancer.status()["desired"], 0);
        get(balancer.traffic, "/home").refusal(503);
        assert_eq!(balancer.add(r#"{"n":1}"#)["N"], 1);
        assert_eq!(balancer.ring()["replicas"][0]["id"], 3);
    }
}

/// Replacements and some new replicas start slowly.
const SLOW: &str = r#"case "$SERVER_ID$RINGMASTER_INCARNATION" in
  server_[0-9]1|[A-Z]*.quick*) ;;
  *.slow*) sleep 0.7 ;;
  *) sleep 0.3 ;;
esac"#;

#[test]
fn a_kill_in_the_middle_of_a_command_leaves_the_state_before_or_after_it() {
    let home = Home::new();
    let command = home.command(SLOW);
    let arguments = ["--command", command.as_str(), "--drain", "300ms"];
    let mut balancer = home.start_full(3, &arguments);
    let mut before = fleet(&balancer);
    // Before the commit: rolled back.
    for gently in [false, true] {
        let body = r#"{"n":2,"hostnames":["A.slow","B.quick"]}"#;
        let _stream = begin(balancer.traffic, "POST", "/add", &[], body).unwrap();
        eventually("it is begun", || balancer.children().len() == 5);
        if gently {
            // Open requests may end: the command is carried out within the drain, or not at all.
            balancer.signal(rustix::process::Signal::TERM);
            let (status, log) = balancer.terminate();
            assert!(status.success(), "{log}");
        } else {
            balancer.kill();
        }
        balancer = home.start(&arguments);
        let n = balancer.ring()["replicas"].as_array().unwrap().len();
        assert_eq!(n, 3, "it was not committed");
        balancer.wait_for(3);
        assert_eq!(fleet(&balancer), before);
    }
    // At random moments: the state is the one before or the one after, never a mixture.
    for round in 0..6 {
        let name = format!("R{round}.quick");
        let body = format!(r#"{{"n":1,"hostnames":["{name}"]}}"#);
        let preview = balancer.command("/add?dry_run=1", &body).message();
        let stream = begin(balancer.traffic, "POST", "/add", &[], &body).unwrap();
        std::thread::sleep(Duration::from_millis(7 * round));
        balancer.kill();
        drop(stream);
        balancer = home.start(&arguments);
        let count = balancer.ring()["replicas"].as_array().unwrap().len();
        balancer.wait_for(count);
        let after = &preview["after"];
        let after = json!([after["digest"], after["replicas"], after["generation"]]);
        let now = fleet(&balancer);
        assert!(now == before || now == after, "round {round}: {now}");
        before = now;
    }
    // In the middle of a removal, which is committed: the replica does not come back.
    let names = balancer.rep();
    let target = "/process?delay_ms=30000&id=";
    let _open: Vec<_> = (0..12)
        .map(|id| begin(balancer.traffic, "GET", &format!("{target}{id}"), &[], "").unwrap())
        .collect();
    let _stream = begin(balancer.traffic, "POST", "/rm", &[], r#"{"n":2}"#).unwrap();
    eventually("it is committed", || {
        balancer.ring()["replicas"].as_array().unwrap().len() == names.len() - 2
    });
    balancer.kill();
    let balancer = home.start(&arguments);
    assert_eq!(balancer.wait_for(names.len() - 2), names[..names.len() - 2]);
}

#[test]
fn a_kill_in_the_middle_of_a_replacement_loses_nothing() {
    let home = Home::new();
    let command = home.command(SLOW);
    let balancer = home.start_full(3, &["--command", &command]);
    let before = balancer.ring();
    balancer.child("server_2").kill();
    eventually("it is being replaced", || {
        balancer.rep().len() == 2 && balancer.children().len() == 3
    });
    balancer.kill();
    let balancer = home.start(&["--command", &command]);
    balancer.wait_for(3);
    let after = balancer.ring();
    assert_eq!(
        (&after["digest"], &after["generation"]),
        (&before["digest"], &before["generation"])
    );
    let rep = balancer.rep();
    assert_eq!((rep[0].as_str(), rep[2].as_str()), ("server_1", "server_3"));
}

#[test]
fn a_missing_file_means_a_new_fleet() {
    let home = Home::new();
    let balancer = home.start_full(2, &[]);
    balancer.add(r#"{"n":1,"hostnames":["S5"]}"#);
    end(balancer, true);
    fs::remove_file(home.state_file()).unwrap();
    let balancer = home.start(&["--replicas", "2"]);
    assert_eq!(balancer.wait_for(2), ["server_1", "server_2"]);
}

type Damage = fn(Vec<u8>) -> Vec<u8>;

#[test]
fn a_corrupt_file_is_set_aside_and_reported() {
    let damages: [(&str, Damage); 5] = [
        ("empty", |_| Vec::new()),
        ("half", |text| text[..text.len() / 2].to_vec()),
        ("zeros", |text| vec![0; text.len()]),
        ("a changed name", |text| {
            String::from_utf8(text).unwrap().replace("server_1", "server_9").into_bytes()
        }),
        ("no object", |_| b"[]".to_vec()),
    ];
    let home = Home::new();
    end(home.start_full(1, &[]), true);
    for (index, (what, damage)) in damages.into_iter().enumerate() {
        let bad = damage(fs::read(home.state_file()).unwrap());
        fs::write(home.state_file(), &bad).unwrap();
        let balancer = home.start_full(1, &[]);
        let aside = home.state_dir().join(format!("state.json.corrupt-{}", index + 1));
        assert_eq!(fs::read(&aside).unwrap(), bad, "{what}");
        let line = balancer.logged("corrupt").unwrap_or_else(|| panic!("{what}: not said"));
        assert!(line.contains("WARN") && line.contains(aside.to_str().unwrap()), "{line}");
        end(balancer, true);
    }
}

/// Starts a balancer that must fail with one line.
fn refused(home: &Home, arguments: &[&str], expected: &str) {
    let mut command = home.serve(arguments);
    let run = Home::run(command.env("RINGMASTER_LOG", "warn"));
    assert_eq!((run.code, run.err.lines().count()), (1, 1), "{run:?}");
    assert!(run.err.starts_with("error: ") && run.err.contains(expected), "{expected}: {run:?}");
}

#[test]
fn foreign_state_is_not_changed() {
    let home = Home::new();
    let balancer = home.start_full(1, &[]);
    // A second balancer of the same fleet.
    refused(&home, &[], "another balancer already supervises");
    assert_eq!(get(balancer.traffic, "/home").status, 200);
    end(balancer, true);
    let file = fs::read_to_string(home.state_file()).unwrap();

    let other = file.replace(home.fleet(), "somebody");
    let other = other.replace(&checksum_of(&file), &checksum_for(&other));
    fs::write(home.state_file(), &other).unwrap();
    refused(&home, &[], "belongs to the fleet 'somebody'");
    assert_eq!(fs::read_to_string(home.state_file()).unwrap(), other);

    // A file of a newer version, with any content.
    for newer in
        [file.replacen("\"version\":4", "\"version\":5", 1), r#"{"version":6,"x":[]}"#.into()]
    {
        assert_ne!(newer, file);
        fs::write(home.state_file(), &newer).unwrap();
        refused(&home, &[], "version");
        assert_eq!(fs::read_to_string(home.state_file()).unwrap(), newer);
    }
    fs::write(home.state_file(), file).unwrap();
    home.start(&[]).wait_for(1);
}

fn checksum_of(file: &str) -> String {
    let value: Value = serde_json::from_str(file).unwrap();
    value["checksum"].as_str().unwrap().to_owned()
}

/// The checksum that the program would write over the state in this file.
fn checksum_for(file: &str) -> String {
    let state = file.split_once("\"state\":").unwrap().1.strip_suffix('}').unwrap();
    format!("{:016x}", ringmaster_core::ring::hash::xxh3(state.as_bytes()))
}

#[test]
fn an_unusable_state_directory_is_one_line() {
    let home = Home::new();
    let file = home.write("file", "");
    let inside = file.join("state");
    let mut command = home.program();
    command.args(["serve", "--driver", "process", "--listen", "127.0.0.1:0"]);
    command.args(["--admin", "127.0.0.1:0", "--state-dir"]).arg(&inside);
    let run = Home::run(&mut command);
    assert_eq!((run.code, run.err.lines().count()), (1, 1), "{run:?}");
    assert!(run.err.contains(inside.to_str().unwrap()), "{run:?}");
}

#[test]
fn changed_ring_settings_win_and_the_moves_are_logged() {
    let home = Home::new();
    let balancer = home.start_full(3, &[]);
    let before = balancer.ring();
    end(balancer, true);
    // A ring without room for the fleet is refused with the reason.
    let unfit = &["--replicas", "2", "--virtual-servers", "200"];
    refused(&home, unfit, "stored state do not fit the configured ring: the ring of 512 slots");
    let balancer = home.start(&["--virtual-servers", "20"]);
    assert_eq!(balancer.wait_for(3), ["server_1", "server_2", "server_3"]);
    let after = balancer.ring();
    assert_eq!((&after["virtual_servers"], &after["slots"]), (&json!(20), &json!(512)));
    assert_eq!(after["generation"].as_u64(), before["generation"].as_u64().map(|g| g + 1));
    let line = balancer.logged("ring_changed").unwrap();
    assert!(line.contains("% of keys move"), "{line}");
    eventually("it is on the disk", || {
        fs::read_to_string(home.state_file()).unwrap().contains("\"virtual_servers\":20")
    });
    end(balancer, true);
    // Logged once, not at each start.
    let balancer = home.start(&["--virtual-servers", "20"]);
    balancer.wait_for(3);
    assert_eq!(balancer.logged("ring_changed"), None);
    assert_eq!(balancer.ring()["digest"], after["digest"]);
    end(balancer, true);
    // Settings without room for the stored fleet are refused, and the file is unchanged.
    let file = fs::read(home.state_file()).unwrap();
    refused(&home, &["--slots", "20", "--virtual-servers", "9", "--replicas", "1"], "slots");
    assert_eq!(fs::read(home.state_file()).unwrap(), file);
}

/// A state directory that can be filled up: a small file system of its own.
struct Disk(PathBuf);

impl Disk {
    fn new(home: &Home) -> Option<Self> {
        let path = home.state_dir();
        fs::create_dir(&path).unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k,mode=700", "ringmaster-test"])
            .arg(&path)
            .output();
        match mount {
            Ok(output) if output.status.success() => Some(Self(path)),
            _ => {
                skip("a small file system needs root and mount");
                None
            }
        }
    }

    fn fill(&self) {
        let filler = self.0.join("filler");
        let mut size = 64 * 1024;
        let mut bytes = Vec::new();
        while size > 0 {
            bytes.resize(bytes.len() + size, 0);
            if fs::write(&filler, &bytes).is_err() {
                bytes.truncate(bytes.len() - size);
                size /= 2;
            }
        }
        let _ = fs::write(&filler, vec![0; 128 * 1024]);
    }

    fn empty(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn on_a_full_disk_commands_fail_and_traffic_flows() {
    let home = Home::new();
    let Some(disk) = Disk::new(&home) else { return };
    full_or_read_only(&home, || disk.fill(), || disk.empty());
}

#[test]
fn in_an_unwritable_directory_commands_fail_and_traffic_flows() {
    let home = Home::new();
    let allow = |mode: u32| {
        fs::set_permissions(home.state_dir(), fs::Permissions::from_mode(mode)).unwrap();
    };
    if rustix::process::geteuid().is_root() {
        // Permissions have no effect on root: a directory blocks the temporary file instead.
        let place = home.state_dir().join("state.json.tmp");
        let take = || {
            let _ = fs::remove_file(&place);
            fs::create_dir_all(place.join("x")).unwrap();
        };
        return full_or_read_only(&home, take, || fs::remove_dir_all(&place).unwrap());
    }
    full_or_read_only(&home, || allow(0o500), || allow(0o700));
}

fn full_or_read_only(home: &Home, spoil: impl Fn(), repair: impl Fn()) {
    let balancer = home.start_full(2, &[]);
    let before = fleet(&balancer);
    let stored = fs::read(home.state_file()).unwrap();
    spoil();
    let load = Load::start(balancer.traffic, 1);
    for (path, body) in [("/add", r#"{"n":2,"names":["S5"]}"#), ("/rm", r#"{"n":1}"#)] {
        let answer = balancer.command(path, body);
        let why = answer.refusal(503);
        assert!(why.contains("the state could not be written"), "{why}");
        assert_eq!(fleet(&balancer), before, "{path}");
        assert_eq!(balancer.rep(), ["server_1", "server_2"], "{path}");
        assert_eq!(balancer.children().len(), 2, "{path}");
    }
    // Healing continues without a disk.
    balancer.child("server_2").kill();
    eventually("it is replaced", || {
        let rep = balancer.rep();
        rep.len() == 2 && rep[1] != "server_2"
    });
    load.all_answered();
    assert_eq!(fs::read(home.state_file()).unwrap(), stored, "the old file is whole");
    repair();
    let names = balancer.rep();
    eventually("the new name is written by itself", || {
        fs::read_to_string(home.state_file()).unwrap().contains(&names[1])
    });
    assert_eq!(balancer.add(r#"{"n":1,"hostnames":["S6"]}"#)["N"], 3);
    let names = balancer.rep();
    end_and_compare(home, balancer, &names);
}

fn end_and_compare(home: &Home, balancer: Balancer, names: &[String]) {
    balancer.kill();
    let balancer = home.start(&[]);
    assert_eq!(balancer.wait_for(names.len()), names);
    assert!(only_known_files(&home.state_dir()));
}

fn only_known_files(dir: &Path) -> bool {
    let names = fs::read_dir(dir).unwrap().flatten().map(|entry| entry.file_name());
    let mut others = names.filter(|name| {
        !["state.json", "state.json.tmp", "lock"].contains(&name.to_str().unwrap_or(""))
    });
    others.next().is_none()
}
