//! What a list says of revisions: what is wanted, and what the instances were started from.

use std::collections::BTreeMap;

use crate::fleet::{
    ids::{InstanceId, ReplicaName},
    message::Listing,
    notes::Note,
    observed::{Instances, Phase},
    state::State,
    supervisor::context::Context,
    values::Revision,
};

/// Takes in what the configuration asks for, and what the found instances were started from.
/// `is_first`: it is the first list of this run.
pub(super) fn take(state: &mut State, cx: &mut Context<'_>, listing: &Listing, is_first: bool) {
    let before = outdated(state);
    match &listing.wanted {
        Some(wanted) => state.want(wanted.clone()),
        None => state.wanted = None,
    }
    for found in &listing.found {
        let Some(identity) = &found.identity else { continue };
        let Some(instance) = state.instances.get_mut(&identity.instance) else { continue };
        if instance.handle.as_ref() == Some(&found.handle) {
            instance.spec = Some(identity.spec.clone());
        }
    }
    establish(state, listing, is_first);
    let names = outdated(state).into_iter().filter(|(id, _)| !before.contains_key(id));
    let names: Vec<ReplicaName> = names.map(|(_, name)| name).collect();
    if !names.is_empty() {
        cx.note(Note::Outdated { names });
    }
}

fn outdated(state: &State) -> BTreeMap<InstanceId, ReplicaName> {
    let instances = state.instances.iter();
    let outdated =
        instances.filter(|(_, instance)| !instance.is_leaving() && state.is_outdated(instance));
    outdated.map(|(id, instance)| (*id, instance.name.clone())).collect()
}

/// A fleet of which nothing is left at the start, or that has no replicas, is made from what is
/// wanted. One of which no state says what it was made from, from what most of its instances run.
fn establish(state: &mut State, listing: &Listing, is_first: bool) {
    let is_empty = (is_first || state.desired.replicas().is_empty())
        && listing.found.is_empty()
        && state.instances.is_empty();
    let revision = match state.desired.revision() {
        Some(_) if !is_empty || state.is_roll_stopped() => return,
        Some(_) => state.wanted.clone(),
        None => most_common(&state.instances, listing).or(state.wanted.clone()),
    };
    state.establish(revision);
}

/// What most of the adopted instances run from; of equals the latest.
fn most_common(instances: &Instances, listing: &Listing) -> Option<Revision> {
    let mut counts: BTreeMap<_, (usize, InstanceId, Revision)> = BTreeMap::new();
    for identity in listing.found.iter().filter_map(|found| found.identity.as_ref()) {
        let is_ours = instances
            .get(&identity.instance)
            .is_some_and(|instance| !matches!(instance.phase, Phase::Starting { .. }));
        if is_ours {
            let revision = Revision { spec: identity.spec.clone(), image: identity.image.clone() };
            let entry =
                counts.entry(identity.spec.clone()).or_insert((0, identity.instance, revision));
            entry.0 += 1;
            entry.1 = entry.1.max(identity.instance);
        }
    }
    let most = counts.into_values().max_by_key(|(count, latest, _)| (*count, *latest));
    most.map(|(_, _, revision)| revision)
}
