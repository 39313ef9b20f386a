//! Which instances stay in the table: those that pass; where none does, those that accept
//! connections; where none does even that, the last that failed.

use std::collections::BTreeMap;

use super::step::{Step, stopped_by};
use crate::fleet::{
    ids::{InstanceId, ReplicaId},
    limits::OnUnhealthy,
    observed::{EjectReason, Health, Instance, Phase},
    state::State,
};

pub(super) fn steps(state: &State, steps: &mut Vec<Step>) {
    // What enters passes; the next round sees it.
    if steps.iter().any(|step| matches!(step, Step::Admit { .. })) {
        return;
    }
    let members = || state.instances.iter().filter(|(id, _)| state.is_eligible(id.replica));
    let may_eject = state.limits.on_unhealthy != OnUnhealthy::Ignore;
    if members().any(|(_, instance)| instance.is_passing()) {
        if may_eject {
            let failing = members().filter(|(_, i)| i.is_admitted() && !i.is_passing());
            steps.extend(failing.map(|(id, _)| Step::Eject(*id)));
        }
        return;
    }
    let accepts = |i: &Instance| reason_of(i).is_some_and(EjectReason::accepts);
    if members().any(|(_, instance)| accepts(instance)) {
        if may_eject {
            let unreachable = members().filter(|(_, i)| i.is_admitted() && !accepts(i));
            steps.extend(unreachable.map(|(id, _)| Step::Eject(*id)));
        }
        readmit_accepting(state, steps);
    } else if !members().any(|(_, instance)| instance.is_admitted()) {
        readmit_last(state, steps);
    }
}

/// Why heartbeats speak against an instance that could be in the table.
fn reason_of(instance: &Instance) -> Option<EjectReason> {
    match instance.phase {
        Phase::Admitted { health: Health::Failing { reason, .. }, .. } => Some(reason),
        Phase::Ejected { reason, address: Some(_), .. } if reason.is_by_heartbeat() => Some(reason),
        _ => None,
    }
}

/// All that accept connections: one of each replica that has none in the table, the latest.
fn readmit_accepting(state: &State, steps: &mut Vec<Step>) {
    let mut chosen: BTreeMap<ReplicaId, InstanceId> = BTreeMap::new();
    // An instance that is about to be stopped in this plan is not brought back.
    let stopped = stopped_by(steps);
    for (id, instance) in &state.instances {
        let comes_back = !instance.is_admitted()
            && reason_of(instance).is_some_and(EjectReason::accepts)
            && state.is_eligible(id.replica)
            && state.admitted(id.replica).is_none_or(|admitted| {
                // Its sibling leaves in this very round.
                !reason_of(admitted).is_none_or(EjectReason::accepts)
            })
            && !stopped.contains(id);
        if comes_back {
            chosen.insert(id.replica, *id);
        }
    }
    steps.extend(chosen.into_values().map(Step::ReadmitAsLast));
}

fn readmit_last(state: &State, steps: &mut Vec<Step>) {
    let last = state.instances.iter().filter_map(|(id, instance)| match instance.phase {
        Phase::Ejected { since, reason, address: Some(_), .. }
            if reason.is_by_heartbeat() && state.is_eligible(id.replica) =>
        {
            Some((since, *id))
        }
        _ => None,
    });
    let stopped = stopped_by(steps);
    if let Some((_, id)) = last.filter(|(_, id)| !stopped.contains(id)).max() {
        steps.push(Step::ReadmitAsLast(id));
    }
}
