//! The decision record: each transition as one log line, one count, and one entry with its time. The
//! last entries are kept.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use ringmaster_core::fleet::{
    command::RingChange,
    endings::Ending,
    ids::{ReplicaId, ReplicaName},
    notes::{BootSource, Cause, Note, StartCause},
    roll,
};
use serde::Serialize;

/// Entries that are kept.
const ENTRIES_MAX: usize = 4_096;

/// One entry of the decision record.
#[derive(Clone, Debug, Serialize)]
pub struct RecordEntry {
    /// One more than that of the entry before.
    pub sequence: u64,
    /// Microseconds since the Unix epoch.
    pub time_us: u64,
    /// The kind of the transition.
    pub event: &'static str,
    /// The instance's name, or names separated by commas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replica: Option<String>,
    /// A description for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// Counters and last entries. Written by the control task, read by the API.
#[derive(Debug, Default)]
pub struct Record {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: VecDeque<RecordEntry>,
    sequence: u64,
    counts: BTreeMap<&'static str, u64>,
    moved_share: BTreeMap<&'static str, f64>,
}

enum Level {
    Info,
    Warn,
    Debug,
}

impl Record {
    /// Records one transition.
    pub fn take(&self, note: &Note) {
        let (level, event, replica, detail) = describe(note);
        match level {
            Level::Info => tracing::info!(replica = replica.as_deref(), "{event}: {detail}"),
            Level::Warn => tracing::warn!(replica = replica.as_deref(), "{event}: {detail}"),
            Level::Debug => tracing::debug!(replica = replica.as_deref(), "{event}: {detail}"),
        }
        let time_us = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_micros());
        let mut inner = self.lock();
        *inner.counts.entry(event).or_default() += 1;
        let moved = match note {
            Note::Committed { cause, change, .. } => Some((*cause, change)),
            Note::RingChanged { change } => Some((Cause::Ring, change)),
            _ => None,
        };
        if let Some((cause, change)) = moved {
            *inner.moved_share.entry(cause.name()).or_default() += change.moves.moved_share;
        }
        inner.sequence += 1;
        let entry = RecordEntry {
            sequence: inner.sequence,
            time_us: time_us as u64,
            event,
            replica,
            detail,
        };
        if inner.entries.len() == ENTRIES_MAX {
            inner.entries.pop_front();
        }
        inner.entries.push_back(entry);
    }

    /// The entries after a sequence number, oldest first.
    pub fn since(&self, sequence: u64) -> Vec<RecordEntry> {
        let inner = self.lock();
        inner.entries.iter().filter(|entry| entry.sequence > sequence).cloned().collect()
    }

    /// How often each transition happened.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.lock().counts.clone()
    }

    /// Sum of the shares of all keys that moved, by cause. Contains every cause, also with 0.
    pub fn moved_share(&self) -> BTreeMap<&'static str, f64> {
        let mut moved: BTreeMap<_, _> = Cause::ALL.map(|cause| (cause.name(), 0.0)).into();
        moved.extend(self.lock().moved_share.iter());
        moved
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Counters stay usable even if a reader panicked while it held the lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Moves that a log line lists; the dry run and the API list all.
const MOVES_SHOWN: usize = 8;

fn describe_change(change: &RingChange) -> String {
    let moves = &change.moves;
    let mut text = format!(
        "{:.1} % of keys move, {:.1} % is the minimum",
        moves.moved_share * 100.0,
        moves.minimum_share * 100.0
    );
    if let Some(peak) = change.after.ring.peak_to_average() {
        text.push_str(&format!(", peak-to-average {peak:.3}"));
    }
    let name = |id: Option<ReplicaId>| {
        let known = id.and_then(|id| change.name_of(id));
        known.map_or_else(|| "(nobody)".to_owned(), ToString::to_string)
    };
    for (index, entry) in moves.moves.iter().take(MOVES_SHOWN).enumerate() {
        let lead = if index == 0 { ": " } else { ", " };
        let (from, to) = (name(entry.from), name(entry.to));
        text.push_str(&format!("{lead}{from} -> {to} {:.1} %", entry.share * 100.0));
    }
    if let Some(more) = moves.moves.len().checked_sub(MOVES_SHOWN).filter(|&more| more > 0) {
        text.push_str(&format!(", and {more} more"));
    }
    text
}

fn servers_changed(names: [(&str, &Vec<ReplicaName>); 3], refused: &[Arc<str>]) -> String {
    let named = names.into_iter().filter(|(_, names)| !names.is_empty()).map(|(what, names)| {
        let names: Vec<&str> = names.iter().map(ReplicaName::as_str).collect();
        format!("{what} {}", names.join(", "))
    });
    let all: Vec<String> = named.chain(refused.iter().map(ToString::to_string)).collect();
    all.join("; ")
}

type Described = (Level, &'static str, Option<String>, String);

fn describe(note: &Note) -> Described {
    let known = describe_fleet(note).or_else(|| describe_roll(note));
    known.or_else(|| describe_instance(note)).unwrap_or_else(|| {
        // Not reached: the functions above cover every variant, which the compiler cannot see.
        (Level::Debug, "other", None, format!("{note:?}"))
    })
}

fn describe_fleet(note: &Note) -> Option<Described> {
    use Level::{Info, Warn};
    Some(match note {
        Note::Booted { source, replicas, adopted, strays } => {
            let from = match source {
                BootSource::StateFile => "the state file",
                BootSource::Labels => "labels",
                BootSource::LabelsBeyondRing => {
                    "labels, with algorithm slots because the configured ring does not hold them"
                }
                BootSource::Configuration => "the configuration",
            };
            let detail = format!(
                "{replicas} replicas from {from}, {adopted} instances adopted, {strays} strays"
            );
            (Info, "booted", None, detail)
        }
        Note::RingChanged { change } => {
            let detail = format!("the configured ring wins: {}", describe_change(change));
            (Warn, "ring_changed", None, detail)
        }
        Note::ServersChanged { added, changed, removed, refused } => {
            let level = if refused.is_empty() { Info } else { Warn };
            let names = [("added", added), ("changed", changed), ("removed", removed)];
            (level, "servers_changed", None, servers_changed(names, refused))
        }
        Note::ReplicasDiffer { configured, stored } => {
            let detail = format!(
                "the stored size {stored} wins over the configured {configured}; use /add or /rm"
            );
            (Info, "replicas_differ", None, detail)
        }
        Note::Committed { cause, names, change } => {
            let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
            let (cause, generation) = (cause.name(), change.after.generation.0);
            let change = describe_change(change);
            let detail = format!("{cause} takes effect as generation {generation}, {change}");
            let names = (!names.is_empty()).then(|| names.join(","));
            (Info, "committed", names, detail)
        }
        Note::RolledBack { error } => (Warn, "rolled_back", None, error.clone()),
        Note::Outdated { names } => {
            let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
            let detail = "started from another image or settings; replaced one by one".to_owned();
            (Info, "outdated", Some(names.join(",")), detail)
        }
        Note::BackedOff { replica, failures, delay } => {
            let detail = format!("replica {replica} ended {failures} times, waits {delay:?}");
            (Warn, "backed_off", None, detail)
        }
        Note::EngineAway { error } => (Warn, "engine_away", None, error.to_string()),
        Note::EngineBack => (Info, "engine_back", None, "it answers again".to_owned()),
        Note::PersistFailed { error } => (Warn, "persist_failed", None, error.to_string()),
        Note::PanicBegan { failing, living, hold } => {
            let detail = format!(
                "{failing} of {living} living replicas fail at once: none of them is replaced for \
                 {hold:?}, then one at a time"
            );
            (Warn, "panic_began", None, detail)
        }
        Note::PanicEnded => {
            (Info, "panic_ended", None, "no more than half of the replicas fail".to_owned())
        }
        Note::ReapFailed { handle, error } => {
            (Warn, "reap_failed", None, format!("stray {handle} could not be removed: {error}"))
        }
        Note::Reaped { handle } => (Info, "reaped", None, format!("stray {handle} is removed")),
        _ => return None,
    })
}

fn describe_roll(note: &Note) -> Option<Described> {
    use Level::{Info, Warn};
    Some(match note {
        Note::RollCompleted => {
            (Info, "roll_completed", None, "all replicas run what is wanted".to_owned())
        }
        Note::RollFailed { name, failures, error } => {
            let detail = format!("failure {failures} of {}: {error}", roll::FAILURES_MAX);
            (Warn, "roll_failed", Some(name.to_string()), detail)
        }
        Note::RollStopped { error } => {
            let detail = format!(
                "given up, the revision before stays in service: {error}; `ringmaster retry` or \
                 another image tries again"
            );
            (Warn, "roll_stopped", None, detail)
        }
        Note::RollRetried => (Info, "roll_retried", None, "as it was asked for".to_owned()),
        Note::RevisionLost { image } => {
            let detail =
                format!("the engine has no image {image} any more: what is wanted takes its place");
            (Warn, "revision_lost", None, detail)
        }
        _ => return None,
    })
}

/// Log lines that an entry shows; the status and `ringmaster logs` show more.
const LINES_SHOWN: usize = 3;

fn describe_ending(ending: &Ending) -> String {
    let lines = &ending.last_words.lines;
    let mut text = ending.last_words.to_string();
    for (index, line) in lines[lines.len().saturating_sub(LINES_SHOWN)..].iter().enumerate() {
        let line: String = line.chars().take(160).collect();
        text.push_str(if index == 0 { ": " } else { " | " });
        text.push_str(&line);
    }
    text
}

fn describe_instance(note: &Note) -> Option<Described> {
    use Level::{Debug, Info, Warn};
    let (level, event, name, detail) = match note {
        Note::Starting { name, cause, instance } => {
            let why = match cause {
                StartCause::Missing => "its replica has no instance",
                StartCause::Failing => "its predecessor is failing",
                StartCause::Outdated => "its predecessor is outdated",
                StartCause::Addition => "addition",
            };
            (Info, "starting", name, format!("instance {instance}: {why}"))
        }
        Note::StartFailed { name, error, retry_in, .. } => {
            (Warn, "start_failed", name, format!("{error}; next try in {retry_in:?}"))
        }
        Note::Admitted { name, address, instance } => {
            (Info, "admitted", name, format!("instance {instance} at {address}"))
        }
        Note::Readmitted { name, .. } => (Info, "readmitted", name, "it passes again".to_owned()),
        Note::ReadmittedAsLast { name, .. } => {
            (Warn, "readmitted_as_last", name, "failing, but no other passes".to_owned())
        }
        Note::KeptAsLast { name, reason, .. } => {
            (Warn, "kept_as_last", name, format!("{}, but no other passes", reason.name()))
        }
        Note::Ejected { name, reason, .. } => (Warn, "ejected", name, reason.name().to_owned()),
        Note::AddressTaken { name, address, by, .. } => {
            let detail = format!("{address} is the address of '{by}' too, which gets its requests");
            (Warn, "address_taken", name, detail)
        }
        Note::Died { name, exit_code, .. } => {
            let code = exit_code.map_or("unknown".to_owned(), |code| code.to_string());
            (Warn, "died", name, format!("exit code {code}"))
        }
        Note::Resolved { name, address, .. } => {
            (Info, "resolved", name, format!("found at {address}"))
        }
        Note::Marked { name, is_healthy: true, .. } => {
            (Info, "marked", name, "healthy, until the next check".to_owned())
        }
        Note::Marked { name, .. } => {
            (Warn, "marked", name, "unhealthy, until the next check".to_owned())
        }
        Note::NotReady { name, why, .. } => (Warn, "not_ready", name, why.to_string()),
        Note::Ended { ending } => (Info, "last_words", &ending.name, describe_ending(ending)),
        Note::OutOfMemory { name, .. } => (Warn, "out_of_memory", name, String::new()),
        Note::Suspected { name, kind, unnoted, .. } => {
            let others = match unnoted {
                0 => String::new(),
                more => format!(", and {more} times more since the last such entry"),
            };
            (Debug, "suspected", name, format!("{}{others}", kind.name()))
        }
        Note::Draining { name, .. } => (Info, "draining", name, String::new()),
        Note::Stopping { name, .. } => (Info, "stopping", name, String::new()),
        Note::Stopped { name, .. } => (Info, "stopped", name, String::new()),
        Note::StopFailed { name, error, .. } => (Warn, "stop_failed", name, error.to_string()),
        _ => return None,
    };
    Some((level, event, Some(name.to_string()), detail))
}
