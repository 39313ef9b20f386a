//! A disk that hangs, simulated by a FIFO: opening one without a reader hangs in the same way.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::{end_and_compare, fleet};
use crate::harness::{Home, Load, eventually};

const WHY: &str = "the state could not be written: the disk does not answer within 5s";
/// The deadline of a write, with time for a busy machine.
const REFUSED: std::ops::Range<Duration> = Duration::from_secs(5)..Duration::from_secs(10);
/// Much shorter than the deadline of a write.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Makes each further write of the state hang. A write under way has a file there until it ends.
fn hang(home: &Home) -> PathBuf {
    let place = home.state_dir().join("state.json.tmp");
    eventually("no write is under way", || {
        Command::new("mkfifo").arg(&place).stderr(Stdio::null()).status().unwrap().success()
    });
    place
}

#[test]
fn on_a_disk_that_hangs_commands_are_refused_and_traffic_flows() {
    let home = Home::new();
    let balancer = home.start_full(2, &[]);
    let before = fleet(&balancer);
    let place = hang(&home);
    let stored = fs::read(home.state_file()).unwrap();
    let load = Load::start(balancer.traffic, 1);
    let begun = Instant::now();
    assert_eq!(balancer.command("/rm", r#"{"n":1}"#).refusal(503), WHY);
    assert!(REFUSED.contains(&begun.elapsed()), "{:?}", begun.elapsed());
    for (path, body) in [("/add", r#"{"n":2,"names":["S5"]}"#), ("/rm", r#"{"n":1}"#)] {
        let begun = Instant::now();
        assert_eq!(balancer.command(path, body).refusal(503), WHY);
        assert!(begun.elapsed() < AT_ONCE, "{path}: {:?}", begun.elapsed());
        assert_eq!(fleet(&balancer), before, "{path}");
        assert_eq!(balancer.rep(), ["server_1", "server_2"], "{path}");
        assert_eq!(balancer.children().len(), 2, "{path}");
    }
    balancer.command("/rm?dry_run=true", r#"{"n":1}"#).message();
    // Healing continues without a disk.
    balancer.child("server_2").kill();
    eventually("it is replaced", || {
        let rep = balancer.rep();
        rep.len() == 2 && rep[1] != "server_2"
    });
    load.all_answered();
    assert_eq!(fs::read(home.state_file()).unwrap(), stored, "the old file is whole");
    // The disk works again: the write that hung fails, and the current state is written.
    let _reader = File::open(&place).unwrap();
    fs::remove_file(&place).unwrap();
    let names = balancer.rep();
    eventually("the new name is written by itself", || {
        fs::read_to_string(home.state_file()).unwrap().contains(&names[1])
    });
    eventually("commands are carried out again", || {
        balancer.command("/add", r#"{"n":1,"hostnames":["S6"]}"#).status == 200
    });
    let names = balancer.rep();
    end_and_compare(&home, balancer, &names);
}

#[test]
fn a_write_that_hangs_does_not_keep_the_balancer_from_ending() {
    let home = Home::new();
    let balancer = home.start_full(1, &[]);
    let place = hang(&home);
    balancer.command("/rm", r#"{"n":1}"#).refusal(503);
    let begun = Instant::now();
    let (status, log) = balancer.terminate();
    assert!(status.success(), "{log}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    fs::remove_file(place).unwrap();
}
