//! Two supervisors, a store and some balancers, on virtual time: the core as it is, each behind a
//! lease, with clocks that differ, messages that are lost, late and out of order, a store that hangs,
//! is away or loses everything, processes that die, freeze and are cut off, and an engine that still
//! does what a supervisor had begun before it was deposed.
//!
//! Judged by what no process can see. The properties, with a mutation that shows each failing:
//!
//! | property | a mutation that shows it failing |
//! |---|---|
//! | begins an effect without a lease | a turn without asking `may_act` |
//! | begins an effect while another may act | no margin; an emptied store that is not quiet |
//! | begins an effect after its lease ended in the store | a lease that counts from the reply |
//! | an effect under another fence than the store's | a renewal that leaves no number, so that an earlier acquisition takes the lease over |
//! | a fence was given out twice | fences of an emptied store begin at 0 |
//! | begins with another state than the committed | a state that was read before the term is used |
//! | another table is routed by | a change is taken on any base |
//! | counts as drained, and is used | open requests, or the version, are not asked for |
//! | the stored state lags behind in the end | what an emptied store has lost is not written again |
//! | a balancer routes by an old table in the end | no periodic read |
//!
//! Writes under a lower fence and generations that go back are refused by the arbiter; its own tests
//! see that, as no core here writes without having asked for its lease.

mod balancer;
mod check;
mod clock;
mod occurrence;
mod party;
mod store;
pub mod traffic;
mod world;

use ringmaster_core::fleet::ids::Moment;
pub use world::World;

/// How one run is played.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// All chance of the run.
    pub seed: u64,
    /// Replicas at the start.
    pub replicas: usize,
    /// Processes that want to supervise.
    pub supervisors: usize,
    /// Processes that follow.
    pub balancers: usize,
    /// Faults and commands.
    pub faults: usize,
    /// Chance that a message is late at first.
    pub trouble: f64,
    /// Virtual time in which they happen, in milliseconds.
    pub length_ms: u64,
    /// Virtual time after which, once they have ended, all must be well; in milliseconds.
    pub heal_ms: u64,
}

impl Scenario {
    /// The size that the tests play.
    pub fn of_seed(seed: u64) -> Self {
        Self {
            seed,
            replicas: 3 + (seed % 3) as usize,
            supervisors: 2,
            balancers: 3,
            faults: 60,
            trouble: 0.05,
            length_ms: 300_000,
            heal_ms: 150_000,
        }
    }
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Digest of what happened: equal for equal seeds.
    pub trace: u64,
    /// Turns of all cores.
    pub turns: u64,
    /// Times that a process began to act.
    pub terms: u64,
    /// Messages that reached the store.
    pub messages: u64,
    /// Starts that were begun.
    pub starts: u64,
    /// Of those, done after the term had ended in which they were begun.
    pub late_starts: u64,
    /// Instances that counted as drained by all balancers.
    pub drains: u64,
    /// Times that a state was written again because the store had lost it.
    pub refills: u64,
    /// Times that a balancer could do nothing with a change and asked for the whole table.
    pub whole_reads: u64,
    /// Commands that were answered with success.
    pub commands_done: u64,
    /// Commands that were answered with an error.
    pub commands_refused: u64,
}

/// Plays one scenario to its end.
///
/// # Errors
/// The first broken property, with the seed and what happened last.
pub fn run(scenario: &Scenario) -> Result<Report, String> {
    let mut world = World::new(scenario);
    world.play(Moment(scenario.length_ms))?;
    world.make_peace();
    world.play(Moment(scenario.length_ms + scenario.heal_ms))?;
    world.check_converged()?;
    Ok(world.report())
}
