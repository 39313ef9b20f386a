//! The shutdown of a balancer, with or without its replicas, and the next start.
//!
//! | property | a mutation that shows it failing |
//! |---|---|
//! | starts during the shutdown | `start_cause` does not look at the shutdown |
//! | has ended, and is left | no final list: done when no instance is known |

use rand::RngExt;
use ringmaster_core::fleet::{
    ids::Moment,
    message::{Action, Event, Turn},
    state::Finish,
};

use super::World;
use crate::occurrence::{Fault, Occurrence};

/// The shell ends after this time, also if the core is not done.
const SHUTDOWN_TIMEOUT_MS: u64 = 60_000;

impl World {
    pub(super) fn begin_shutdown(&mut self, with_replicas: bool) {
        if self.rng.random_bool(0.7) {
            self.user_commands(Fault::Adds);
        }
        let starting_for = self.rng.random_range(0..300);
        self.deliver(starting_for, Event::ShutDown { stop_replicas: false });
        if with_replicas {
            let drained_in = starting_for + self.rng.random_range(0..200);
            self.deliver(drained_in, Event::ShutDown { stop_replicas: true });
        } else {
            // The shell ends when the core is done, sometimes only at its deadline.
            let ends_in = self.rng.random_range(0..5_000);
            self.at_latest(ends_in, Fault::BalancerRestarts);
        }
        self.at_latest(SHUTDOWN_TIMEOUT_MS, Fault::BalancerRestarts);
    }

    fn at_latest(&mut self, delay_ms: u64, fault: Fault) {
        let moment = (self.now.0 + delay_ms).min(self.scenario.length_ms);
        self.at(Moment(moment.max(self.now.0)), Occurrence::Fault(fault));
    }

    /// During a shutdown no instance is started.
    pub(super) fn starts_nothing(&self, turn: &Turn) -> Result<(), String> {
        let starts = |action: &Action| matches!(action, Action::Start(_));
        match turn.actions.iter().find(|action| starts(action)) {
            Some(start) if self.supervisor.state().shutdown.is_some() => {
                Err(format!("starts during the shutdown: {start:?}"))
            }
            _ => Ok(()),
        }
    }

    /// Ends the process when the core is done, and checks that no container is left if the replicas were
    /// to be stopped.
    pub(super) fn follow_end(&mut self) -> Result<(), String> {
        let state = self.supervisor.state();
        if !state.stops_replicas() {
            return Ok(());
        }
        let Some(finish) = state.finish() else { return Ok(()) };
        if finish == Finish::Done {
            // Except late ones: an engine may create a container long after the start was given up.
            let mut left = self.engine.containers.iter().filter(|(_, c)| !c.is_late);
            if let Some((handle, container)) = left.next() {
                return Err(format!("it has ended, and {handle} is left: {container:?}"));
            }
            self.report.ends += 1;
        }
        self.restart_balancer(false)
    }
}
