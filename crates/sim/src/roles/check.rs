//! The properties, checked with knowledge that no process has: all clocks, the store and the engine.

use std::collections::BTreeMap;

use ringmaster_core::{
    fleet::{
        desired::Desired,
        ids::{Generation, InstanceId, Moment},
    },
    roles::{
        ids::{Fence, Holder, ProcessId, Version},
        publication::Publication,
    },
};

use super::{balancer::Balancer, store::Store};

/// Published tables that are kept.
const TABLES_MAX: usize = 2_000;

#[derive(Default)]
pub(super) struct Checker {
    /// The term that acted under each fence.
    terms: BTreeMap<Fence, u64>,
    highest: Fence,
    won_at: Moment,
    tables: BTreeMap<Version, Publication>,
}

type Broken = Result<(), String>;

impl Checker {
    /// A term begins.
    pub(super) fn won(&mut self, fence: Fence, now: Moment) -> Broken {
        self.won_at = now;
        match self.terms.contains_key(&fence) {
            true => Err(format!("fence {} was given out twice", fence.0)),
            false => Ok(()),
        }
    }

    /// A process begins an effect. `acting` are other processes that believe to hold the lease.
    pub(super) fn effect(
        &mut self,
        holder: &Holder,
        fence: Fence,
        term: u64,
        acting: &[usize],
        store: &Store,
        now: Moment,
    ) -> Broken {
        if let Some(other) = acting.first() {
            return Err(format!("{holder:?} begins an effect while {other} may act, too"));
        }
        if fence < self.highest {
            return Err(format!("an effect under fence {} after {}", fence.0, self.highest.0));
        }
        self.highest = fence;
        if *self.terms.entry(fence).or_insert(term) != term {
            return Err(format!("two terms act under fence {}", fence.0));
        }
        let of_store = store.arbiter.holder(store.clock.at(now));
        let is_forgotten = store.emptied_at.is_some_and(|at| now.since(at).as_millis() < 2_100);
        match of_store {
            Some((other, _)) if other.id != holder.id => {
                Err(format!("{holder:?} begins an effect while {other:?} has the lease"))
            }
            Some((_, other)) if other != fence => {
                Err(format!("an effect under fence {}, the store has {}", fence.0, other.0))
            }
            None if !is_forgotten => {
                Err(format!("{holder:?} begins an effect after its lease ended in the store"))
            }
            _ => Ok(()),
        }
    }

    /// A term begins with a loaded state.
    pub(super) fn loaded(&self, version: Option<Version>, store: &Store) -> Broken {
        let is_emptied = store.emptied_at.is_some_and(|at| at >= self.won_at);
        let stored = store.state.as_ref().map(|(version, _)| *version);
        match is_emptied || stored == version {
            true => Ok(()),
            false => Err(format!("it begins with the state {version:?}, committed is {stored:?}")),
        }
    }

    /// The store accepts a state. A later term must not undo what an earlier one has committed.
    pub(super) fn written(
        &self,
        stored: Option<&(Version, Desired)>,
        version: Version,
        new: Generation,
    ) -> Broken {
        let Some((last, desired)) = stored else { return Ok(()) };
        let stored = desired.generation();
        match version.fence < last.fence || (version.fence > last.fence && new < stored) {
            true => Err(format!("{last:?} of {} becomes {version:?} of {}", stored.0, new.0)),
            false => Ok(()),
        }
    }

    /// A table is published.
    pub(super) fn published(&mut self, table: Publication) -> Broken {
        let version = table.version();
        if self.tables.insert(version, table).is_some() {
            return Err(format!("{version:?} is published twice"));
        }
        if self.tables.len() > TABLES_MAX {
            self.tables.pop_first();
        }
        Ok(())
    }

    /// A balancer routes by a table. It must be equal to the one published under this version, so that all
    /// balancers that have acknowledged it send a key to the same instance.
    pub(super) fn acknowledged(&self, table: &Publication) -> Broken {
        match self.tables.get(&table.version()) {
            Some(published) if published == table => Ok(()),
            Some(_) => Err(format!("another table is routed by as {:?}", table.version())),
            None => Err(format!("{:?} was never published", table.version())),
        }
    }

    /// A start ends what has borne its name: nothing that requests go to.
    pub(super) fn displaced(&self, bearer: InstanceId, by: InstanceId) -> Broken {
        let newest = self.tables.last_key_value().map(|(_, publication)| publication.table());
        let mut targets = newest.into_iter().flat_map(|table| table.targets.iter().flatten());
        match targets.any(|target| target.instance == bearer) {
            true => Err(format!("the start of {by} ends {bearer}, which requests go to")),
            false => Ok(()),
        }
    }

    /// A supervisor counts an instance as drained, with regard to these balancers.
    pub(super) fn drained(
        &self,
        instance: InstanceId,
        live: &[ProcessId],
        balancers: &[Balancer],
    ) -> Broken {
        let running = balancers.iter().enumerate().filter(|(_, balancer)| balancer.is_alive);
        let mut live_balancers =
            running.filter(|(index, balancer)| live.contains(&balancer.id(*index)));
        match live_balancers.find(|(_, balancer)| balancer.uses(instance)) {
            Some((index, balancer)) => Err(format!(
                "{instance} counts as drained, and balancer {index} uses it by {:?}",
                balancer.version()
            )),
            None => Ok(()),
        }
    }
}
