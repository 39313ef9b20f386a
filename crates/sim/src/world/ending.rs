//! A balancer that is told to end, with or without its replicas, and the next one.
//!
//! | property | a mutation that shows it failing |
//! |---|---|
//! | told to end, and starts | `start_cause` does not look at the shutdown |
//! | has ended, and is left | no sweep: done when nothing is known |

use rand::RngExt;
use ringmaster_core::fleet::{
    ids::Moment,
    message::{Action, Event, Turn},
    state::Finish,
};

use super::World;
use crate::occurrence::{Fault, Occurrence};

/// The shell waits so long for the core, and then ends all the same.
const PATIENCE_MS: u64 = 60_000;

impl World {
    pub(super) fn tell_to_end(&mut self, with_replicas: bool) {
        if self.rng.random_bool(0.7) {
            self.user_commands(Fault::Adds);
        }
        let starting_for = self.rng.random_range(0..300);
        self.deliver(starting_for, Event::ShutDown { stop_replicas: false });
        if with_replicas {
            let drained_in = starting_for + self.rng.random_range(0..200);
            self.deliver(drained_in, Event::ShutDown { stop_replicas: true });
        } else {
            // The shell ends as soon as it hears that all is done; sometimes only at its deadline.
            let ends_in = self.rng.random_range(0..5_000);
            self.at_latest(ends_in, Fault::BalancerRestarts);
        }
        self.at_latest(PATIENCE_MS, Fault::BalancerRestarts);
    }

    fn at_latest(&mut self, delay_ms: u64, fault: Fault) {
        let moment = (self.now.0 + delay_ms).min(self.scenario.length_ms);
        self.at(Moment(moment.max(self.now.0)), Occurrence::Fault(fault));
    }

    /// In a turn of one that was told to end.
    pub(super) fn starts_nothing(&self, turn: &Turn) -> Result<(), String> {
        let starts = |action: &Action| matches!(action, Action::Start(_));
        match turn.actions.iter().find(|action| starts(action)) {
            Some(start) if self.supervisor.state().shutdown.is_some() => {
                Err(format!("it was told to end, and starts {start:?}"))
            }
            _ => Ok(()),
        }
    }

    /// After a turn: where the core says that it is done, with the replicas too, nothing of ours is
    /// left, and the process ends.
    pub(super) fn follow_end(&mut self) -> Result<(), String> {
        let state = self.supervisor.state();
        if !state.stops_replicas() {
            return Ok(());
        }
        let Some(finish) = state.finish() else { return Ok(()) };
        if finish == Finish::Done {
            // An engine may come to a start long after it was given up: no property can wait for that.
            let mut left = self.engine.containers.iter().filter(|(_, c)| !c.is_late);
            if let Some((handle, container)) = left.next() {
                return Err(format!("it has ended, and {handle} is left: {container:?}"));
            }
            self.report.ends += 1;
        }
        self.restart_balancer(false)
    }
}
