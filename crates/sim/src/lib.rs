//! The simulated world around the control core: an engine, containers, a disk and users, with many
//! faults, on virtual time. No tokio, no threads: pop the earliest occurrence, call `handle`, schedule
//! the results of its actions.
//!
//! [`run`] simulates one seed: first faults and commands, with the safety properties checked at every
//! turn, then a time without faults, after which the fleet must be as desired and have nothing more to
//! do. The same seed gives the same trace. [`roles`] simulates several processes of one fleet.

mod check;
mod disk;
mod engine;
mod occurrence;
mod queue;
pub mod roles;
mod trace;
mod upstreams;
mod world;

use ringmaster_core::fleet::{ids::Moment, state::Keeper};
pub use world::{Report, World};

/// The parameters of one run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Decides everything random in the run.
    pub seed: u64,
    /// Whether the replicas are started by the supervisor or registered.
    pub keeper: Keeper,
    /// Replicas at the start.
    pub replicas: usize,
    /// Faults and commands.
    pub faults: usize,
    /// Virtual time with faults, in milliseconds.
    pub length_ms: u64,
    /// Virtual time after the last fault until the fleet must have converged, in milliseconds.
    pub heal_ms: u64,
}

impl Scenario {
    /// The size of the tests: 3 to 8 replicas, 200 faults and commands, an hour.
    pub fn of_seed(seed: u64) -> Self {
        Self {
            seed,
            // One seed in eight is a fleet of registered servers.
            keeper: if seed % 8 == 5 { Keeper::Others } else { Keeper::Ringmaster },
            replicas: 3 + (seed % 6) as usize,
            faults: 200,
            length_ms: 3_600_000,
            heal_ms: 240_000,
        }
    }
}

/// Simulates one scenario.
///
/// # Errors
/// The first broken property, with the seed and the last turns.
pub fn run(scenario: &Scenario) -> Result<Report, String> {
    let mut world = World::new(scenario);
    world.play(Moment(scenario.length_ms))?;
    world.end_faults();
    let healed = scenario.length_ms + scenario.heal_ms;
    world.play(Moment(healed))?;
    world.check_converged()?;
    world.expect_silence();
    world.play(Moment(healed + 60_000))?;
    world.check_converged()?;
    Ok(world.report())
}
