//! Who holds an address. Engines give one to one instance at a time; where others keep the
//! replicas, two names may come to mean one address. Then the first in the order of the
//! configuration keeps it: the order decides, not who came first, so the two never take turns.

use std::net::SocketAddr;

use crate::fleet::supervisor::Supervisor;
use crate::fleet::{
    ids::{InstanceId, Moment},
    notes::Note,
    observed::{EjectReason, Phase},
    values::Keeper,
};

impl Supervisor {
    /// All others at an address.
    pub(in crate::fleet::supervisor) fn holders(
        &self,
        address: SocketAddr,
        but: InstanceId,
    ) -> Vec<InstanceId> {
        let holds = self.state.instances.iter().filter(|(_, i)| i.address() == Some(address));
        holds.map(|(id, _)| *id).filter(|id| *id != but).collect()
    }

    /// Settles whose an address is that others gave to an instance: whether it is this
    /// instance's. A holder that comes after it gives way.
    pub(in crate::fleet::supervisor) fn wins_address(
        &mut self,
        id: InstanceId,
        address: SocketAddr,
        now: Moment,
    ) -> bool {
        let holders = self.holders(address, id);
        // An engine knows who has an address; a name may be out of date.
        let is_ours = |holder: &InstanceId| {
            let holder = self.state.instances.get(holder);
            holder.is_some_and(|instance| instance.keeper == Keeper::Ringmaster)
        };
        if let Some(&first) = holders.iter().find(|holder| **holder < id || is_ours(holder)) {
            self.gives_way(id, first, address, now);
            return false;
        }
        for later in holders {
            self.gives_way(later, id, address, now);
        }
        true
    }

    fn gives_way(&mut self, id: InstanceId, to: InstanceId, address: SocketAddr, now: Moment) {
        let by = self.state.instances.get(&to).map(|instance| instance.name.clone());
        let Some((by, instance)) = by.zip(self.state.instances.get(&id)) else { return };
        let name = instance.name.clone();
        let taken = EjectReason::AddressTaken;
        let is_known = matches!(instance.phase, Phase::Ejected { reason, .. } if reason == taken);
        self.eject(id, taken, now);
        self.forget_address(id);
        if !is_known {
            self.note(Note::AddressTaken { instance: id, name, address, by });
        }
    }
}
