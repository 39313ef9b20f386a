//! What clients got from each replica since the last reset.
//!
//! The data plane's own numbers only rise, as Prometheus wants them; a reset remembers where they
//! stood, and that is subtracted from then on.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use ringmaster_core::fleet::ids::ReplicaId;
use ringmaster_proxy::{ReplicaTotals, Totals};

use super::metrics::TotalsSource;

/// The statistics of this process, shared by all who show or reset them.
pub struct Statistics {
    totals: TotalsSource,
    /// Held while the totals are read, too: else a reset could go back behind another one.
    baseline: Mutex<Baseline>,
}

/// What was counted since the last reset, or since the start: sums only, so that those of several
/// processes add up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Of all replicas, those that have left included.
    pub total: ReplicaTotals,
    /// Requests that no replica answered.
    pub unanswered: u64,
    /// By replica, for those of the fleet that have ever answered.
    pub servers: BTreeMap<ReplicaId, ReplicaTotals>,
}

impl Counted {
    /// Takes in what another process counted.
    pub fn merge(&mut self, other: &Self) {
        self.total.merge(&other.total);
        self.unanswered = self.unanswered.saturating_add(other.unanswered);
        for (replica, served) in &other.servers {
            self.servers.entry(*replica).or_default().merge(served);
        }
    }
}

/// The figures of what was counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Of all replicas, those that have left included.
    pub total: ServerStatistics,
    /// Requests that no replica answered: 502, 503 and 504 of our own. They are no part of `total`.
    pub unanswered: u64,
    /// By replica, for those of the fleet that have ever answered; another one has no statistics
    /// yet, which is [`ServerStatistics::default`].
    pub servers: BTreeMap<ReplicaId, ServerStatistics>,
    /// Which processes of the fleet are not part of it, and why, each in a sentence.
    pub incomplete: Vec<String>,
}

impl Snapshot {
    /// Of what was counted, without some processes.
    pub fn of(counted: &Counted, incomplete: Vec<String>) -> Self {
        let servers = counted.servers.iter();
        Self {
            total: ServerStatistics::of(&counted.total),
            unanswered: counted.unanswered,
            servers: servers.map(|(id, served)| (*id, ServerStatistics::of(served))).collect(),
            incomplete,
        }
    }
}

/// What clients got from a replica. Times go to the first byte of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ServerStatistics {
    /// Answers that were passed on to clients. Attempts that a client never saw are no part of it.
    pub requests: u64,
    /// Of these, those of 500 and above, and those that broke off.
    pub errors: u64,
    /// The sum of the times, in seconds.
    pub seconds_sum: f64,
    /// The time that half of the answers stayed below, in seconds, as far as the classes tell; 0
    /// without answers. So the others.
    pub p50: f64,
    /// The same of 90 %.
    pub p90: f64,
    /// The same of 95 %.
    pub p95: f64,
    /// The same of 99 %.
    pub p99: f64,
}

impl ServerStatistics {
    /// The mean time in seconds; 0 without answers.
    pub fn average(&self) -> f64 {
        if self.requests == 0 { 0.0 } else { self.seconds_sum / self.requests as f64 }
    }

    /// The part of the answers that were errors, 0 to 1. An answer from before a reset may break off
    /// after it.
    pub fn error_rate(&self) -> f64 {
        match self.requests {
            0 => 0.0,
            requests => (self.errors as f64 / requests as f64).min(1.0),
        }
    }

    fn of(totals: &ReplicaTotals) -> Self {
        let seconds = |part| totals.times.percentile(part).unwrap_or(0.0) / 1e6;
        Self {
            requests: totals.requests(),
            errors: totals.errors,
            seconds_sum: totals.times.micros as f64 / 1e6,
            p50: seconds(0.5),
            p90: seconds(0.9),
            p95: seconds(0.95),
            p99: seconds(0.99),
        }
    }
}

impl Statistics {
    /// Statistics that begin with what the data plane has counted since its start.
    pub fn new(totals: TotalsSource) -> Self {
        Self { totals, baseline: Mutex::default() }
    }

    /// What was counted since the last reset. An answer is in it before the client has its first
    /// byte.
    pub fn since_reset(&self) -> Counted {
        let baseline = self.baseline();
        baseline.since(&(self.totals)())
    }

    /// Begins anew. Returns what was counted until now, so that nothing falls between the two.
    pub fn reset(&self) -> Counted {
        let mut baseline = self.baseline();
        let totals = (self.totals)();
        let until = baseline.since(&totals);
        *baseline = Baseline::at(totals);
        until
    }

    fn baseline(&self) -> MutexGuard<'_, Baseline> {
        // It is replaced as a whole, so it is whole after a panic, too.
        self.baseline.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the numbers stood at a reset.
#[derive(Debug, Default)]
struct Baseline {
    replicas: BTreeMap<ReplicaId, ReplicaTotals>,
    all: ReplicaTotals,
    unanswered: u64,
}

impl Baseline {
    fn at(totals: Totals) -> Self {
        Self { all: all(&totals), replicas: totals.replicas, unanswered: totals.unserved }
    }

    fn since(&self, totals: &Totals) -> Counted {
        let servers = totals.replicas.iter().map(|(replica, served)| {
            let before = self.replicas.get(replica).copied().unwrap_or_default();
            (*replica, served.since(&before))
        });
        Counted {
            servers: servers.collect(),
            // From the sum, which only rises: a replica that has left has taken a part of its own
            // number into the remainder that was there before the reset.
            total: all(totals).since(&self.all),
            unanswered: totals.unserved.saturating_sub(self.unanswered),
        }
    }
}

fn all(totals: &Totals) -> ReplicaTotals {
    let mut all = totals.gone;
    totals.replicas.values().for_each(|served| all.merge(served));
    all
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use ringmaster_proxy::{BOUNDS_MICROS, HistogramTotals};

    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Answer { replica: u32, micros: u64, is_error: bool },
        NoAnswer,
        Leave(u32),
        Reset,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0..6_u32, 0..3_000_000_u64, any::<bool>())
                .prop_map(|(replica, micros, is_error)| Step::Answer { replica, micros, is_error }),
            2 => Just(Step::NoAnswer),
            1 => (0..6_u32).prop_map(Step::Leave),
            2 => Just(Step::Reset),
        ]
    }

    /// What the data plane counts of some steps. One that has left never comes back: its successor
    /// has another identity.
    struct World {
        counted: Arc<Mutex<Totals>>,
        statistics: Statistics,
        ids: [u32; 6],
    }

    impl World {
        fn new() -> Self {
            let counted = Arc::<Mutex<Totals>>::default();
            let shown = Arc::clone(&counted);
            let statistics = Statistics::new(Arc::new(move || shown.lock().unwrap().clone()));
            Self { counted, statistics, ids: [0, 1, 2, 3, 4, 5] }
        }

        fn id(&self, replica: u32) -> ReplicaId {
            ReplicaId(self.ids[replica as usize])
        }

        fn answer(&self, replica: u32, micros: u64, is_error: bool) {
            let mut times = HistogramTotals { micros, ..HistogramTotals::default() };
            times.classes[BOUNDS_MICROS.partition_point(|&bound| bound < micros)] = 1;
            let served = ReplicaTotals { errors: is_error.into(), times };
            let mut counted = self.counted.lock().unwrap();
            counted.replicas.entry(self.id(replica)).or_default().merge(&served);
        }

        fn leave(&mut self, replica: u32) {
            let id = self.id(replica);
            let mut counted = self.counted.lock().unwrap();
            let served = counted.replicas.remove(&id).unwrap_or_default();
            counted.gone.merge(&served);
            self.ids[replica as usize] += 6;
        }
    }

    proptest! {
        #[test]
        fn what_lies_between_resets_adds_up_exactly(
            steps in proptest::collection::vec(step(), 0..120),
        ) {
            let mut world = World::new();
            // Since the last reset, and ever: answers, errors, microseconds, without an answer.
            let (mut since, mut ever) = ([0_u64; 4], [0_u64; 4]);
            let mut servers = BTreeMap::<ReplicaId, (u64, u64)>::new();
            for step in steps {
                match step {
                    Step::Answer { replica, micros, is_error } => {
                        world.answer(replica, micros, is_error);
                        let one = [1, is_error.into(), micros, 0];
                        since.iter_mut().zip(one).for_each(|(sum, one)| *sum += one);
                        let server = servers.entry(world.id(replica)).or_default();
                        *server = (server.0 + 1, server.1 + u64::from(is_error));
                    }
                    Step::NoAnswer => {
                        world.counted.lock().unwrap().unserved += 1;
                        since[3] += 1;
                    }
                    Step::Leave(replica) => {
                        servers.remove(&world.id(replica));
                        world.leave(replica);
                    }
                    Step::Reset => {
                        let until = world.statistics.reset();
                        prop_assert_eq!(figures(&until), since);
                        ever.iter_mut().zip(since).for_each(|(sum, part)| *sum += part);
                        since = [0; 4];
                        servers.values_mut().for_each(|server| *server = (0, 0));
                    }
                }
                let snapshot = world.statistics.since_reset();
                prop_assert_eq!(figures(&snapshot), since);
                let shown = snapshot.servers.iter();
                let shown: BTreeMap<_, _> =
                    shown.map(|(id, server)| (*id, (server.requests(), server.errors))).collect();
                prop_assert_eq!(&shown, &servers);
            }
            ever.iter_mut().zip(since).for_each(|(sum, part)| *sum += part);
            let totals = world.counted.lock().unwrap().clone();
            let all = all(&totals);
            prop_assert_eq!(ever, [all.requests(), all.errors, all.times.micros, totals.unserved]);
        }
    }

    fn figures(counted: &Counted) -> [u64; 4] {
        let Counted { total, unanswered, .. } = counted;
        [total.requests(), total.errors, total.times.micros, *unanswered]
    }

    proptest! {
        /// Whichever process a request comes to, and whenever a process begins anew, the sums over all
        /// are those of one process that has all requests.
        #[test]
        fn processes_add_up_to_one_that_has_all_requests(
            steps in proptest::collection::vec((0..3_usize, step()), 0..120),
        ) {
            let mut worlds = [World::new(), World::new(), World::new()];
            let mut one = World::new();
            for (process, step) in steps {
                match step {
                    Step::Answer { replica, micros, is_error } => {
                        worlds[process].answer(replica, micros, is_error);
                        one.answer(replica, micros, is_error);
                    }
                    Step::NoAnswer => {
                        for world in [&worlds[process], &one] {
                            world.counted.lock().unwrap().unserved += 1;
                        }
                    }
                    // A replica leaves all tables.
                    Step::Leave(replica) => {
                        worlds.iter_mut().chain([&mut one]).for_each(|world| world.leave(replica));
                    }
                    Step::Reset => {
                        let until = merged(worlds.iter().map(|world| world.statistics.reset()));
                        prop_assert_eq!(served(&until), served(&one.statistics.reset()));
                    }
                }
                let sum = merged(worlds.iter().map(|world| world.statistics.since_reset()));
                let expected = one.statistics.since_reset();
                prop_assert_eq!(served(&sum), served(&expected));
                let percentiles = |counted| Snapshot::of(counted, Vec::new()).total;
                prop_assert_eq!(percentiles(&sum), percentiles(&expected));
            }
        }
    }

    fn merged(parts: impl Iterator<Item = Counted>) -> Counted {
        let mut sum = Counted::default();
        parts.for_each(|part| sum.merge(&part));
        sum
    }

    /// Without the servers that have answered nothing.
    fn served(counted: &Counted) -> Counted {
        let mut counted = counted.clone();
        counted.servers.retain(|_, served| *served != ReplicaTotals::default());
        counted
    }

    #[test]
    fn means_and_rates_are_numbers_whatever_was_counted() {
        let nothing = ServerStatistics::default();
        assert_eq!((nothing.average(), nothing.error_rate()), (0.0, 0.0));
        let world = World::new();
        for _ in 0..3 {
            world.answer(1, 400, false);
        }
        world.answer(1, 800_000, true);
        let snapshot = || Snapshot::of(&world.statistics.since_reset(), Vec::new());
        let Snapshot { total, servers, .. } = snapshot();
        assert_eq!(servers[&ReplicaId(1)], total);
        assert_eq!((total.requests, total.errors, total.error_rate()), (4, 1, 0.25));
        assert!((total.average() - 0.2003).abs() < 1e-9, "{}", total.average());
        assert!((0.000_25..=0.000_5).contains(&total.p50) && (0.5..=1.0).contains(&total.p99));
        // One that was counted before a reset breaks off behind it.
        world.statistics.reset();
        world.counted.lock().unwrap().replicas.get_mut(&ReplicaId(1)).unwrap().errors += 1;
        let late = snapshot().total;
        assert_eq!((late.requests, late.errors, late.error_rate()), (0, 1, 0.0));
    }
}
