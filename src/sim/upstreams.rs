//! A fleet that others keep: addresses that fail, move and come back. Nothing is started or
//! stopped, no state is stored, and no engine says anything by itself.

use rand::{RngExt, seq::IndexedRandom};

use super::{engine::Conduct, faults::Fault, world::World};
use crate::fleet::{
    ids::{Handle, Moment},
    message::{Event, FailureKind, FoundState},
};

impl World {
    /// What only befalls containers is nothing here.
    pub(super) fn befalls_upstreams(fault: Fault) -> bool {
        !matches!(
            fault,
            Fault::EngineRestarts
                | Fault::ImageChanges
                | Fault::BadBuild
                | Fault::ImageBreaks
                | Fault::ImageMends
                | Fault::Pauses
                | Fault::Unpauses
                | Fault::IsRemoved
                | Fault::RunsOutOfMemory
                | Fault::SeemsUnhealthy
        )
    }

    pub(super) fn hit_upstream(&mut self, fault: Fault) {
        let handles: Vec<Handle> = self.engine.containers.keys().cloned().collect();
        let Some(handle) = handles.choose(&mut self.rng).cloned() else { return };
        self.remember(format!("!! {fault:?} {handle}"));
        let others = self.engine.containers.values().map(|container| container.address);
        let others: Vec<_> = others.collect();
        // Two names may come to stand for one address.
        let elsewhere = match others.choose(&mut self.rng) {
            Some(taken) if self.rng.random_bool(0.3) => *taken,
            _ => self.engine.free_address(),
        };
        let now = self.now;
        let Some(container) = self.engine.containers.get_mut(&handle) else { return };
        container.is_blameless &= matches!(fault, Fault::RequestFails);
        match fault {
            Fault::Dies => container.conduct = Conduct::Refuses,
            Fault::Hangs => container.conduct = Conduct::Hangs,
            Fault::Fails => container.conduct = Conduct::Fails,
            Fault::Recovers => container.come_back(now),
            // Its name stands for no address any more, or for another one.
            Fault::LosesNetwork => container.state = FoundState::Running(None),
            Fault::Moves => {
                container.address = elsewhere;
                container.state = FoundState::Running(Some(elsewhere));
                // Who had it may lose it to an earlier name.
                let holders = self.engine.containers.values_mut();
                let holders = holders.filter(|holder| holder.address == elsewhere);
                holders.for_each(|holder| holder.is_blameless = false);
            }
            Fault::RequestFails => {
                let instance = container.identity.instance;
                let event = Event::RequestFailed { instance, kind: FailureKind::Refused };
                self.deliver(0, event);
            }
            _ => {}
        }
    }

    /// All are where they were at first, and well.
    pub(super) fn restore_upstreams(&mut self) {
        let now: Moment = self.now;
        self.engine.containers.values_mut().for_each(|upstream| upstream.come_back(now));
    }
}
