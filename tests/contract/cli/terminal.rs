//! The confirmation of a removal, on a real terminal.

use std::{
    fs::File,
    io::{Read, Write},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::Instant,
};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::harness::{Home, LONG, Run, eventually};

/// Runs a command with a terminal for its input and messages, and types a line when it asks.
fn at_terminal(mut command: Command, line: &str) -> Run {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let side = || File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    command.stdin(Stdio::from(side())).stderr(Stdio::from(side())).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Dropped, because its copies of the terminal would keep the read open after the child's end.
    drop(command);
    let mut master = File::from(master);
    let shown: Arc<Mutex<Vec<u8>>> = Arc::default();
    let (mut from, seen) = (master.try_clone().unwrap(), Arc::clone(&shown));
    let reader = std::thread::spawn(move || {
        let mut bytes = [0; 1_024];
        while let Ok(length @ 1..) = from.read(&mut bytes) {
            seen.lock().unwrap().extend_from_slice(&bytes[..length]);
        }
    });
    let text = || String::from_utf8_lossy(&shown.lock().unwrap()).into_owned();
    let (begin, mut has_asked) = (Instant::now(), false);
    while child.try_wait().unwrap().is_none() {
        if !has_asked && text().contains("[y/N] ") {
            has_asked = true;
            writeln!(master, "{line}").unwrap();
        }
        if begin.elapsed() > LONG {
            let _ = child.kill();
            panic!("it runs on: {}", text());
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    reader.join().unwrap();
    Run {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: text(),
    }
}

#[test]
fn at_a_terminal_most_of_a_fleet_is_removed_only_after_a_yes() {
    let home = Home::new();
    let balancer = home.start_full(4, &[]);
    let url = balancer.url();
    let rm = |arguments: &[&str], line: &str| {
        let mut command = home.program();
        command.args(["rm", "--url", &url]).args(arguments);
        at_terminal(command, line)
    };
    for line in ["", "n", "perhaps"] {
        let run = rm(&["-n", "3"], line);
        assert_eq!((run.code, run.out.as_str()), (1, ""), "{line}: {run:?}");
        for part in
            ["% of all keys would move", "remove 3 of 4 replicas? [y/N]", "nothing was removed"]
        {
            assert!(run.err.contains(part), "{part}: {run:?}");
        }
    }
    assert_eq!(balancer.rep().len(), 4);
    // A refused removal, and a removal of half of the fleet, need no confirmation.
    let run = rm(&["ghost"], "y");
    assert!(run.code == 1 && run.err.contains("'ghost' is not a replica"), "{run:?}");
    for (arguments, left) in [(&["-n", "1"] as &[&str], 3), (&["-n", "2", "--dry-run"], 3)] {
        let run = rm(arguments, "n");
        assert!(run.code == 0 && !run.err.contains("[y/N]"), "{run:?}");
        assert_eq!(balancer.rep().len(), left, "{run:?}");
    }
    let run = rm(&["-n", "2"], "y");
    assert!(run.code == 0 && run.out.contains("removed server_3 server_2"), "{run:?}");
    // The last replica needs one too, except with `--yes`.
    let run = rm(&["server_1"], "no");
    assert!(run.code == 1 && run.err.contains("remove 1 of 1 replicas?"), "{run:?}");
    let run = rm(&["server_1", "--yes"], "n");
    assert!(run.code == 0 && !run.err.contains("[y/N]"), "{run:?}");
    eventually("none is left", || balancer.rep().is_empty());
}

#[test]
fn a_script_is_not_asked() {
    let home = Home::new();
    let balancer = home.start_full(2, &[]);
    let run = home.ringmaster(&["rm", "-n", "2", "--url", &balancer.url()]);
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{run:?}");
    assert!(balancer.rep().is_empty());
}
