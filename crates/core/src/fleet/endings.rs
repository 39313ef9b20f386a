//! What is kept of instances that ended by themselves: how they ended, and the last they wrote.
//! Bounded in every direction, for it lives as long as the balancer.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::Arc,
};

use super::ids::{InstanceId, Moment, ReplicaId, ReplicaName};

/// Lines that are kept of one instance.
pub const LINES_MAX: usize = 50;
/// Bytes of them that are kept, the newest first.
pub const BYTES_MAX: usize = 16 * 1024;
/// Endings that are kept of one replica.
const OF_REPLICA_MAX: usize = 3;
/// Endings that are kept of replicas that are gone, all together.
const OF_GONE_MAX: usize = 32;
/// Endings that are kept at all.
const ENDINGS_MAX: usize = 1_024;
/// Bytes of lines that are kept at all.
const ALL_BYTES_MAX: usize = 2 * 1024 * 1024;

/// What an engine knows of an instance that has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastWords {
    /// Its exit status as a shell says it: above 128 for the end by a signal.
    pub exit_code: Option<i64>,
    /// Whether the kernel killed it because it took too much memory.
    pub out_of_memory: bool,
    /// The last lines that it wrote, oldest first, without control characters.
    pub lines: Vec<String>,
}

impl LastWords {
    /// An end of which nothing but the exit status is known.
    pub fn of_exit(exit_code: Option<i64>) -> Self {
        Self { exit_code, ..Self::default() }
    }

    /// The signal that ended it, as far as the exit status says.
    pub fn signal(&self) -> Option<Signal> {
        let number = u8::try_from(self.exit_code?.checked_sub(128)?).ok()?;
        (1..=64).contains(&number).then_some(Signal(number))
    }

    fn bytes(&self) -> usize {
        self.lines.iter().map(String::len).sum()
    }

    /// Leaves away the oldest lines beyond the bounds.
    fn bound(&mut self) {
        let mut bytes = 0;
        let fits = self.lines.iter().rev().take(LINES_MAX).take_while(|line| {
            bytes += line.len();
            bytes <= BYTES_MAX
        });
        let beyond = self.lines.len() - fits.count();
        self.lines.drain(..beyond);
    }
}

impl fmt::Display for LastWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.exit_code, self.signal()) {
            (Some(code), Some(signal)) => write!(f, "exit code {code} ({signal})")?,
            (Some(code), None) => write!(f, "exit code {code}")?,
            (None, _) => f.write_str("exit code unknown")?,
        }
        if self.out_of_memory {
            f.write_str(", out of memory")?;
        }
        Ok(())
    }
}

/// A signal, shown by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal(pub u8);

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            1 => "SIGHUP",
            2 => "SIGINT",
            3 => "SIGQUIT",
            4 => "SIGILL",
            5 => "SIGTRAP",
            6 => "SIGABRT",
            7 => "SIGBUS",
            8 => "SIGFPE",
            9 => "SIGKILL",
            10 => "SIGUSR1",
            11 => "SIGSEGV",
            12 => "SIGUSR2",
            13 => "SIGPIPE",
            14 => "SIGALRM",
            15 => "SIGTERM",
            24 => "SIGXCPU",
            25 => "SIGXFSZ",
            31 => "SIGSYS",
            other => return write!(f, "signal {other}"),
        };
        f.write_str(name)
    }
}

/// The end of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The instance that ended.
    pub instance: InstanceId,
    /// Under which name.
    pub name: ReplicaName,
    /// When it was seen.
    pub at: Moment,
    /// How.
    pub last_words: LastWords,
}

/// What last went wrong with a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastError {
    /// When.
    pub at: Moment,
    /// What, in words.
    pub text: Arc<str>,
}

/// The kept endings of a fleet, and each replica's last error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endings {
    /// Oldest first.
    kept: VecDeque<Arc<Ending>>,
    errors: BTreeMap<ReplicaId, LastError>,
}

impl Endings {
    /// Keeps an ending, or completes the one of the same instance. `is_known`: whether a replica is
    /// desired, or about to be.
    pub fn keep(&mut self, ending: Ending, is_known: impl Fn(ReplicaId) -> bool) -> Arc<Ending> {
        let mut ending = ending;
        ending.last_words.bound();
        let earlier = self.kept.iter().position(|kept| kept.instance == ending.instance);
        if let Some(earlier) = earlier.and_then(|index| self.kept.remove(index)) {
            ending.at = earlier.at;
            let (words, before) = (&mut ending.last_words, &earlier.last_words);
            words.exit_code = words.exit_code.or(before.exit_code);
            words.out_of_memory |= before.out_of_memory;
            if words.lines.is_empty() {
                words.lines.clone_from(&before.lines);
            }
        }
        let ending = Arc::new(ending);
        let place = self.kept.partition_point(|kept| kept.at <= ending.at);
        self.kept.insert(place, Arc::clone(&ending));
        self.trim(is_known);
        ending
    }

    /// Keeps what went wrong, instead of what went wrong before.
    pub fn keep_error(&mut self, replica: ReplicaId, error: LastError) {
        self.errors.insert(replica, error);
    }

    /// Forgets what lies beyond the bounds, and errors of replicas that are gone.
    pub fn trim(&mut self, is_known: impl Fn(ReplicaId) -> bool) {
        self.errors.retain(|id, _| is_known(*id));
        let mut of_replica: BTreeMap<ReplicaId, usize> = BTreeMap::new();
        let (mut all, mut gone, mut bytes) = (0, 0, 0);
        let mut newest_first = std::mem::take(&mut self.kept);
        newest_first.make_contiguous().reverse();
        newest_first.retain(|ending| {
            let id = ending.instance.replica;
            let siblings = of_replica.entry(id).or_default();
            let is_gone = !is_known(id);
            let size = ending.last_words.bytes();
            let fits = *siblings < OF_REPLICA_MAX
                && all < ENDINGS_MAX
                && bytes + size <= ALL_BYTES_MAX
                && !(is_gone && gone >= OF_GONE_MAX);
            if fits {
                (*siblings, all, bytes) = (*siblings + 1, all + 1, bytes + size);
                gone += usize::from(is_gone);
            }
            fits
        });
        newest_first.make_contiguous().reverse();
        self.kept = newest_first;
    }

    /// The endings of a replica, oldest first.
    pub fn of_replica(&self, id: ReplicaId) -> impl DoubleEndedIterator<Item = &Arc<Ending>> {
        self.kept.iter().filter(move |ending| ending.instance.replica == id)
    }

    /// The ending of one instance.
    pub fn of_instance(&self, id: InstanceId) -> Option<&Arc<Ending>> {
        self.kept.iter().rev().find(|ending| ending.instance == id)
    }

    /// The endings of instances that bore a name, oldest first.
    pub fn named(&self, name: &ReplicaName) -> impl DoubleEndedIterator<Item = &Arc<Ending>> {
        self.kept.iter().filter(move |ending| &ending.name == name)
    }

    /// What last went wrong with a replica.
    pub fn last_error(&self, id: ReplicaId) -> Option<&LastError> {
        self.errors.get(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::ids::Incarnation;

    fn ending(replica: u32, incarnation: u32, lines: &[&str]) -> Ending {
        let words = LastWords {
            exit_code: Some(137),
            out_of_memory: false,
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
        };
        Ending {
            instance: InstanceId {
                replica: ReplicaId(replica),
                incarnation: Incarnation(incarnation),
            },
            name: ReplicaName::numbered(100 * replica + incarnation),
            at: Moment(u64::from(incarnation)),
            last_words: words,
        }
    }

    fn incarnations(endings: &Endings, replica: u32) -> Vec<u32> {
        endings.of_replica(ReplicaId(replica)).map(|e| e.instance.incarnation.0).collect()
    }

    #[test]
    fn ends_are_told_with_signal_and_memory() {
        let mut words = LastWords::of_exit(Some(137));
        assert_eq!(words.to_string(), "exit code 137 (SIGKILL)");
        words.out_of_memory = true;
        assert_eq!(words.to_string(), "exit code 137 (SIGKILL), out of memory");
        for (code, signal) in [(0, None), (1, None), (128, None), (139, Some(11)), (255, None)] {
            assert_eq!(LastWords::of_exit(Some(code)).signal(), signal.map(Signal), "{code}");
        }
        assert_eq!(LastWords::of_exit(Some(i64::MIN)).signal(), None);
        assert_eq!(LastWords::of_exit(Some(163)).to_string(), "exit code 163 (signal 35)");
        assert_eq!(LastWords::of_exit(None).to_string(), "exit code unknown");
    }

    #[test]
    fn a_replica_keeps_its_last_three() {
        let mut endings = Endings::default();
        for incarnation in 1..=5 {
            endings.keep(ending(1, incarnation, &["x"]), |_| true);
            endings.keep(ending(2, incarnation, &["x"]), |_| true);
        }
        assert_eq!(incarnations(&endings, 1), [3, 4, 5]);
        assert_eq!(incarnations(&endings, 2), [3, 4, 5]);
        assert_eq!(endings.named(&ReplicaName::numbered(104)).count(), 1);
        assert_eq!(endings.named(&ReplicaName::numbered(101)).count(), 0);
    }

    #[test]
    fn what_is_known_later_completes_an_ending() {
        let mut endings = Endings::default();
        let mut first = ending(1, 1, &[]);
        first.at = Moment(10);
        endings.keep(first, |_| true);
        let mut later = ending(1, 1, &["bye"]);
        later.at = Moment(90);
        later.last_words.exit_code = None;
        later.last_words.out_of_memory = true;
        let whole = endings.keep(later, |_| true);
        assert_eq!((whole.at, whole.last_words.exit_code), (Moment(10), Some(137)));
        assert!(whole.last_words.out_of_memory);
        assert_eq!(whole.last_words.lines, ["bye"]);
        assert_eq!(incarnations(&endings, 1), [1]);
    }

    #[test]
    fn of_many_and_long_lines_the_last_stay() {
        let mut endings = Endings::default();
        let many: Vec<String> = (0..200).map(|n| n.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let kept = endings.keep(ending(1, 1, &many), |_| true);
        assert_eq!(kept.last_words.lines.len(), LINES_MAX);
        assert_eq!(kept.last_words.lines[49], "199");
        let long = "x".repeat(BYTES_MAX / 2);
        let kept = endings.keep(ending(1, 2, &[&long, &long, "last"]), |_| true);
        assert_eq!(kept.last_words.lines, [long.as_str(), "last"]);
    }

    #[test]
    fn those_of_replicas_that_are_gone_are_few_and_all_together_bounded() {
        let mut endings = Endings::default();
        for replica in 1..=100 {
            endings.keep(ending(replica, 1, &["x"]), |_| true);
            endings
                .keep_error(ReplicaId(replica), LastError { at: Moment(1), text: "failed".into() });
        }
        endings.trim(|id| id.0 <= 10);
        assert_eq!(endings.kept.len(), 10 + OF_GONE_MAX);
        assert_eq!(incarnations(&endings, 100), [1], "the newest of those that are gone");
        assert_eq!(incarnations(&endings, 11), [] as [u32; 0]);
        assert!(endings.last_error(ReplicaId(10)).is_some());
        assert!(endings.last_error(ReplicaId(11)).is_none());

        let long = "x".repeat(BYTES_MAX);
        for replica in 1..=2_000 {
            endings.keep(ending(replica, 2, &[&long]), |_| true);
        }
        let bytes: usize = endings.kept.iter().map(|ending| ending.last_words.bytes()).sum();
        assert!(bytes <= ALL_BYTES_MAX && endings.kept.len() <= ENDINGS_MAX, "{bytes}");
        assert_eq!(incarnations(&endings, 2_000), [2]);
    }
}
