//! Registered servers, and replicas that get no requests because that was asked for.

use super::step::{Deadlines, Step};
use crate::fleet::{
    ids::ReplicaId,
    notes::StartCause,
    observed::{EjectReason, Lookup, Phase},
    state::State,
    values::Keeper,
};

/// A registered server has one instance: its place is looked up, and then it is checked for good.
pub(super) fn begin_step(replica: ReplicaId, has_none: bool, steps: &mut Vec<Step>) {
    if has_none {
        steps.push(Step::Start(replica, StartCause::Missing));
    }
}

/// What a drained replica has in the table leaves it, and what was set aside comes back.
pub(super) fn drain_steps(state: &State, steps: &mut Vec<Step>) {
    for (id, instance) in &state.instances {
        let Some(replica) = state.desired.replica(id.replica) else { continue };
        match instance.phase {
            Phase::Admitted { .. } if replica.is_drained => steps.push(Step::EjectDrained(*id)),
            Phase::Ejected { reason: EjectReason::Drained, .. } if !replica.is_drained => {
                steps.push(Step::Undrain(*id));
            }
            _ => {}
        }
    }
}

/// Hosts are looked up again and again. A host that is an address itself needs that only while it is
/// not known to be free for this server.
pub(super) fn lookup_steps(state: &State, deadlines: &mut Deadlines, steps: &mut Vec<Step>) {
    let servers = state.instances.iter().filter(|(_, i)| i.keeper == Keeper::Others);
    for (id, instance) in servers.filter(|(_, instance)| !instance.is_leaving()) {
        let is_fixed = state.server_of(id.replica).is_some_and(|s| s.address().is_some());
        let due = match instance.lookup {
            Lookup::Idle { .. } if is_fixed && instance.address().is_some() => continue,
            Lookup::Idle { next } => next,
            Lookup::Waiting { requested_at } => requested_at + state.limits.lookup_deadline,
        };
        if deadlines.is_due(due) {
            steps.push(Step::Resolve(*id));
        }
    }
}
