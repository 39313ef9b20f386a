//! The simulated world around the control core: an engine, containers, a disk and users that do
//! their worst, on virtual time. No tokio, no threads: pop the earliest occurrence, call
//! `handle`, schedule what its actions lead to.
//!
//! [`run`] plays one seed: first faults and commands, with the safety properties checked at every
//! turn, then peace, after which the fleet must become what is desired and then fall silent. The
//! same seed gives the same trace. [`roles`] plays several processes of one fleet.

mod check;
mod disk;
mod engine;
mod occurrence;
pub mod roles;
mod trace;
mod upstreams;
mod world;

use ringmaster_core::fleet::{ids::Moment, state::Keeper};
pub use world::{Report, World};

/// How one run is played.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// All chance of the run.
    pub seed: u64,
    /// Who keeps the replicas.
    pub keeper: Keeper,
    /// Replicas at the start.
    pub replicas: usize,
    /// Faults and commands.
    pub faults: usize,
    /// Virtual time in which they happen, in milliseconds.
    pub length_ms: u64,
    /// Virtual time after which, once they have ended, all must be well; in milliseconds.
    pub heal_ms: u64,
}

impl Scenario {
    /// The size that the tests play: 3 to 8 replicas, 200 faults and commands, an hour.
    pub fn of_seed(seed: u64) -> Self {
        Self {
            seed,
            // Now and then others do.
            keeper: if seed % 8 == 5 { Keeper::Others } else { Keeper::Ringmaster },
            replicas: 3 + (seed % 6) as usize,
            faults: 200,
            length_ms: 3_600_000,
            heal_ms: 240_000,
        }
    }
}

/// Plays one scenario to its end.
///
/// # Errors
/// The first broken property, with the seed and the last turns.
pub fn run(scenario: &Scenario) -> Result<Report, String> {
    let mut world = World::new(scenario);
    world.play(Moment(scenario.length_ms))?;
    world.make_peace();
    let healed = scenario.length_ms + scenario.heal_ms;
    world.play(Moment(healed))?;
    world.check_converged()?;
    world.expect_silence();
    world.play(Moment(healed + 60_000))?;
    world.check_converged()?;
    Ok(world.report())
}
