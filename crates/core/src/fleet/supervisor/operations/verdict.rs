//! Verdicts on the health of a replica that come from outside.

use super::checks::replica_named;
use crate::fleet::{
    command::{CommandResult, Done},
    ids::{InstanceId, Moment, ReplicaName},
    notes::Note,
    observed::{EjectReason, Health, Instance, Passes, Phase, of_replica},
    state::State,
    supervisor::{context::Context, transitions::admit::readmit},
};

/// Takes a verdict for the result of a heartbeat. It holds until the next one, which comes after the
/// usual interval.
pub(super) fn mark(
    state: &mut State,
    cx: &mut Context<'_>,
    name: &ReplicaName,
    is_healthy: bool,
) -> CommandResult {
    let Some(id) = subject(state, name)? else { return Ok(Done::Marked) };
    let limits = &state.limits;
    let needed = limits.probe_passes;
    let verdict = Passes::InARow(if is_healthy { needed } else { 0 });
    // The result of a heartbeat that is under way must not be taken for one after the verdict.
    let interval = limits.probe_interval.max(limits.probe_timeout);
    let Some(instance) = state.instances.get_mut(&id) else { return Ok(Done::Marked) };
    // The result of a heartbeat that was sent before the verdict does not count.
    instance.probe_at(cx.now + interval);
    let comes_back = take_verdict(instance, is_healthy, verdict, cx.now);
    instance.last_probe = (!is_healthy).then(|| "it was marked unhealthy".into());
    cx.note(Note::Marked { instance: id, name: instance.name.clone(), is_healthy });
    if comes_back {
        readmit(state, cx, id);
    }
    Ok(Done::Marked)
}

/// The instance that a verdict on a replica is about: the serving one, not a successor that has
/// just been started.
fn subject(
    state: &State,
    name: &ReplicaName,
) -> Result<Option<InstanceId>, crate::fleet::command::ScaleError> {
    let replica = replica_named(state, name)?;
    let known = || of_replica(&state.instances, replica);
    let serving = known().find(|(_, instance)| instance.is_admitted());
    let latest = || known().rfind(|(_, instance)| !instance.is_leaving());
    Ok(serving.or_else(latest).map(|(id, _)| id))
}

/// Whether the instance may enter the table again because of it.
fn take_verdict(instance: &mut Instance, is_healthy: bool, verdict: Passes, now: Moment) -> bool {
    match &mut instance.phase {
        Phase::Warming { passes, .. } => *passes = verdict,
        Phase::Ejected { passes, reason, address, .. } => {
            *passes = verdict;
            return is_healthy && address.is_some() && reason.is_by_heartbeat();
        }
        Phase::Admitted { health, .. } => {
            *health = match (is_healthy, *health) {
                (true, _) => Health::Passing { failures: 0 },
                (false, failing @ Health::Failing { .. }) => failing,
                (false, Health::Passing { .. }) => {
                    Health::Failing { since: now, reason: EjectReason::Failing }
                }
            };
        }
        Phase::Starting { .. } | Phase::Draining { .. } | Phase::Stopping { .. } => {}
    }
    false
}
