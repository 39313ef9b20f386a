//! The properties that must hold some time after all faults have ended.

use ringmaster_core::{
    fleet::{
        ids::Moment,
        message::FoundState,
        observed::of_replica,
        state::{Boot, State},
    },
    roles::lease::Timing,
};

use crate::roles::{Report, occurrence::Fault, party::Party, world::World};

impl World {
    /// One supervisor acts and the others know it; its state is in the store; all balancers route by its
    /// newest table; and the fleet is as desired.
    ///
    /// # Errors
    /// The first property that does not hold.
    pub fn check_converged(&self) -> Result<(), String> {
        self.converged().map_err(|broken| self.explain(&format!("not converged: {broken}")))
    }

    fn converged(&self) -> Result<(), String> {
        let now = self.now;
        let acts = |index: &usize| self.parties[*index].may_act(now).is_some();
        let acting: Vec<usize> = (0..self.parties.len()).filter(acts).collect();
        let [leader] = acting[..] else { return Err(format!("{acting:?} act")) };
        let party = &self.parties[leader];
        let leading = party.lease.holder(party.clock.at(now));
        for (index, other) in self.parties.iter().enumerate() {
            if other.lease.holder(other.clock.at(now)) != leading {
                return Err(format!("{index} does not know that {leader} has the lease"));
            }
        }
        let term = party.term.as_ref().ok_or("no term")?;
        let core = term.core.as_ref().ok_or("the state is not loaded")?;
        is_well(core.state())?;
        let stored = self.store.state.as_ref().map(|(_, desired)| desired);
        if stored != Some(&core.state().desired) {
            return Err(format!("the stored state lags behind: {stored:?}"));
        }
        let published = term.published.as_ref().ok_or("no table")?;
        if self.store.table.as_ref() != Some(published) || published.table() != &core.table() {
            return Err("the stored table lags behind".into());
        }
        self.balancers_agree(published, now)?;
        let local = party.clock.at(now);
        let (live, digest) =
            (term.acknowledgements.live(local).count(), published.table().ring.digest());
        let agree = term.acknowledgements.live(local).all(|known| known.report.digest == digest);
        if live != self.balancers.len() || !agree {
            return Err(format!("{live} balancers are live, agree: {agree}"));
        }
        let replicas = core.state().desired.replicas().len();
        let containers = &self.engine.containers;
        let runs = containers.values().all(|c| matches!(c.state, FoundState::Running(Some(_))));
        if containers.len() != replicas || !runs {
            return Err(format!("{replicas} replicas, containers {containers:?}"));
        }
        Ok(())
    }

    /// The result of the run.
    pub fn report(&self) -> Report {
        self.report.clone()
    }

    /// Kills the acting supervisor, or shuts it down.
    ///
    /// # Errors
    /// The first broken property.
    pub fn stop_leader(&mut self, is_killed: bool) -> Result<(), String> {
        let acting = (0..self.parties.len()).find(|i| self.parties[*i].may_act(self.now).is_some());
        let leader = acting.ok_or("no supervisor acts")?;
        self.inflict(match is_killed {
            true => Fault::SupervisorDies(leader),
            false => Fault::SupervisorEnds(leader),
        })
    }

    /// Virtual time until another process acts; `None` if that takes more than two terms.
    ///
    /// # Errors
    /// The first broken property.
    pub fn time_to_take_over(&mut self) -> Result<Option<u64>, String> {
        let begin = self.now.0;
        let end = begin + 2 * u64::try_from(Timing::default().ttl.as_millis()).unwrap_or(u64::MAX);
        while self.now.0 < end {
            self.play(Moment(self.now.0 + 1))?;
            let leads = |party: &Party| {
                party.may_act(self.now).is_some()
                    && party.term.as_ref().is_some_and(|term| term.core.is_some())
            };
            if self.parties.iter().any(leads) {
                return Ok(Some(self.now.0 - begin));
            }
        }
        Ok(None)
    }
}

fn is_well(state: &State) -> Result<(), String> {
    if state.boot != Boot::Done || state.operation.is_some() || !state.queue.is_empty() {
        return Err(format!("not done: {:?} {:?}", state.boot, state.operation));
    }
    for replica in state.desired.replicas() {
        let instances: Vec<_> = of_replica(&state.instances, replica.id()).collect();
        if instances.len() != 1 || !instances[0].1.is_passing() {
            return Err(format!("replica {} is not well: {instances:?}", replica.id()));
        }
    }
    match state.instances.len() == state.desired.replicas().len() && state.reaping.is_empty() {
        true => Ok(()),
        false => Err(format!("instances are left over: {:?}", state.instances)),
    }
}
