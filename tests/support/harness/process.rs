//! The replicas of a balancer, read from `/proc`.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// One child of a balancer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Replica {
    pub(crate) pid: i32,
    /// The `SERVER_ID` of the replica.
    pub(crate) name: String,
    /// The replica's id and incarnation.
    pub(crate) id: u32,
    pub(crate) incarnation: u32,
}

impl Replica {
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid).unwrap(), signal).unwrap();
    }

    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Whether the process exists, and its id has not been reused.
    pub(crate) fn lives(&self) -> bool {
        read(self.pid).is_some_and(|(_, replica)| &replica == self)
    }
}

/// All living replicas of a balancer, by id and incarnation.
pub(crate) fn replicas_of(balancer: u32) -> Vec<Replica> {
    let mut found: Vec<Replica> = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(read)
        .filter(|(parent, _)| *parent == balancer)
        .map(|(_, replica)| replica)
        .collect();
    found.sort_by_key(|replica| (replica.id, replica.incarnation));
    found
}

/// A process and its parent; `None` if it has ended or is no replica.
fn read(pid: i32) -> Option<(u32, Replica)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    let parent = fields.next()?.parse().ok()?;
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let text = String::from_utf8_lossy(&environment);
    let value =
        |key: &str| text.split('\0').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
    let replica = Replica {
        pid,
        name: value("SERVER_ID")?.to_owned(),
        id: value("RINGMASTER_REPLICA")?.parse().ok()?,
        incarnation: value("RINGMASTER_INCARNATION")?.parse().ok()?,
    };
    Some((parent, replica))
}
