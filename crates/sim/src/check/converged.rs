//! The properties that must hold some time after all faults have ended.

use ringmaster_core::fleet::{
    desired::Desired,
    message::FoundState,
    observed::{EjectReason, Instance, Phase, of_replica},
    state::{self, Boot},
    supervisor::Supervisor,
};

use super::{Broken, Checker, ensure};
use crate::engine::{Container, Engine};

impl Checker {
    /// Observed equals desired, in the core, in the engine and on disk, and nothing is pending.
    pub(crate) fn check_converged(
        &self,
        supervisor: &Supervisor,
        engine: &Engine,
        disk: Option<&Desired>,
    ) -> Broken {
        let state = supervisor.state();
        ensure(state.boot == Boot::Done && state.engine == state::Engine::Up, || {
            "not up".to_owned()
        })?;
        ensure(state.operation.is_none() && state.queue.is_empty(), || {
            format!("a command is stuck: {:?} {:?}", state.operation, state.queue)
        })?;
        ensure(self.pending.is_empty(), || format!("never answered: {:?}", self.pending))?;
        for replica in state.desired.replicas() {
            let instances: Vec<_> = of_replica(&state.instances, replica.id()).collect();
            let is_well = |i: &Instance| match replica.is_drained {
                true => matches!(i.phase, Phase::Ejected { reason: EjectReason::Drained, .. }),
                false => i.is_passing() && !state.is_outdated(i),
            };
            ensure(instances.len() == 1 && is_well(instances[0].1), || {
                format!("replica {} is not well: {instances:?}", replica.id())
            })?;
        }
        // A drained replica is rolled when it returns, so a roll may not have begun yet.
        let ours = || state.desired.replicas().iter().filter(|replica| replica.server.is_none());
        let may_roll = ours().next().is_some() && ours().all(|replica| replica.is_drained);
        ensure((may_roll || !state.is_rolling()) && state.panic_since.is_none(), || {
            "a roll or a panic does not end".to_owned()
        })?;
        ensure(state.reaping.is_empty(), || format!("strays are left: {:?}", state.reaping))?;
        let n = state.desired.replicas().len();
        ensure(state.instances.len() == n, || "instances of no replica are left".to_owned())?;
        let runs = |c: &Container| matches!(c.state, FoundState::Running(Some(_)));
        let ours = ours().count();
        let containers = &engine.containers;
        ensure(containers.len() == ours && containers.values().all(runs), || {
            format!("{ours} replicas of ours, containers {containers:?}")
        })?;
        ensure(disk == Some(&state.desired), || format!("the state file lags behind: {disk:?}"))
    }
}
