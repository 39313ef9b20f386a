//! Two supervisors, a store and some balancers, on virtual time. Each supervisor is the real core behind
//! a lease. Clocks differ; messages are lost, late and out of order; the store hangs, is away or loses
//! everything; processes die, freeze and are cut off; and the engine still carries out what a supervisor
//! had begun before it lost the lease.
//!
//! The properties, with a mutation that shows each failing:
//!
//! | property | a mutation that shows it failing |
//! |---|---|
//! | begins an effect without a lease | a turn without checking `may_act` |
//! | begins an effect while another may act | no margin; an emptied store that is not quiet |
//! | begins an effect after its lease ended in the store | a lease that counts from the reply |
//! | an effect under another fence than the store's | a renewal that leaves no number, so that an earlier acquisition takes the lease over |
//! | a fence was given out twice | fences of an emptied store begin at 0 |
//! | begins with another state than the committed | a state that was read before the term is used |
//! | another table is routed by | a change is taken on any base |
//! | counts as drained, and is used | open requests, or the version, are not checked |
//! | the stored state lags behind in the end | what an emptied store has lost is not written again |
//! | a balancer routes by an old table in the end | no periodic read |
//!
//! Writes under a lower fence and generations that go back are refused by the arbiter; its own tests
//! cover that, because no core here writes without checking its lease.

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

/// The parameters of one run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Decides everything random in the run.
    pub seed: u64,
    /// Replicas at the start.
    pub replicas: usize,
    /// Processes that supervise or stand by.
    pub supervisors: usize,
    /// Processes that carry traffic.
    pub balancers: usize,
    /// Faults and commands.
    pub faults: usize,
    /// Initial probability that a message is late.
    pub trouble: f64,
    /// Virtual time with faults, in milliseconds.
    pub length_ms: u64,
    /// Virtual time after the last fault until all must have converged, in milliseconds.
    pub heal_ms: u64,
}

impl Scenario {
    /// The size of the tests.
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

/// The result of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Digest of the trace: equal for equal seeds.
    pub trace: u64,
    /// Turns of all cores.
    pub turns: u64,
    /// Terms of all supervisors.
    pub terms: u64,
    /// Messages that reached the store.
    pub messages: u64,
    /// Starts of instances.
    pub starts: u64,
    /// Starts that were carried out after their term had ended.
    pub late_starts: u64,
    /// Instances that counted as drained by all balancers.
    pub drains: u64,
    /// Times that a state was written again because the store had lost it.
    pub refills: u64,
    /// Times that a balancer could not apply a change and read the whole table.
    pub whole_reads: u64,
    /// Commands that succeeded.
    pub commands_done: u64,
    /// Commands that failed.
    pub commands_refused: u64,
}

/// Simulates one scenario.
///
/// # Errors
/// The first broken property, with the seed and the last lines of the trace.
pub fn run(scenario: &Scenario) -> Result<Report, String> {
    let mut world = World::new(scenario);
    world.play(Moment(scenario.length_ms))?;
    world.end_faults();
    world.play(Moment(scenario.length_ms + scenario.heal_ms))?;
    world.check_converged()?;
    Ok(world.report())
}
