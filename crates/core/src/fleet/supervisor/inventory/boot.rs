//! The first list: takes over what an earlier run left, and removes what it had not committed.

use super::{configured, labels::from_labels};
use crate::fleet::{
    desired::{Desired, Newcomer},
    ids::{Incarnation, ReplicaId, ReplicaName},
    message::{Found, FoundIdentity, FoundState, Listing},
    notes::{BootSource, Note},
    observed::{EjectReason, Instance, Passes, Phase},
    state::{Boot, State},
    supervisor::{
        context::Context,
        settings::Settings,
        transitions::{address::evict_holders, stray::reap},
    },
    values::Keeper,
};

/// Boots the fleet.
pub(super) fn boot(state: &mut State, cx: &mut Context<'_>, listing: &Listing) {
    let source = establish_desired(state, cx.settings, listing);
    state.boot = Boot::Done;
    let (mut adopted, mut strays) = (0, 0);
    for found in &listing.found {
        match &found.identity {
            Some(identity) if adopt(state, cx, found, identity) => {
                if state.is_eligible(identity.instance.replica) {
                    state.adopted.insert(identity.instance);
                }
                adopted += 1;
            }
            _ => {
                strays += 1;
                reap(state, cx, found.handle.clone());
            }
        }
    }
    configured::settle(state, cx);
    let replicas = state.desired.replicas().len();
    cx.note(Note::Booted { source, replicas, adopted, strays });
    let kept = state.desired.replicas().iter();
    let stored = kept.filter(|replica| replica.server.is_none()).count();
    let starts = state.keeper == Keeper::Ringmaster;
    let configured = cx.settings.replicas;
    if state.is_stored && starts && stored != configured {
        cx.note(Note::ReplicasDiffer { configured, stored });
    }
}

fn establish_desired(state: &mut State, settings: &Settings, listing: &Listing) -> BootSource {
    if state.is_stored {
        return BootSource::StateFile;
    }
    state.writing.stale = true;
    state.writing.is_first = true;
    let identities: Vec<&FoundIdentity> =
        listing.found.iter().filter_map(|found| found.identity.as_ref()).collect();
    let (desired, source) = match from_labels(&settings.ring, &identities) {
        Some(desired) if desired.ring().settings() == desired.configured() => {
            (desired, BootSource::Labels)
        }
        Some(desired) => (desired, BootSource::LabelsBeyondRing),
        None => (initial(state, settings), BootSource::Configuration),
    };
    state.desired = desired;
    state.next_id = state.next_id.max(state.desired.next_id());
    source
}

/// `server_1`, `server_2`, … without those that containers of others bear.
fn initial(state: &State, settings: &Settings) -> Desired {
    let free = (1..).map(ReplicaName::numbered);
    let free = free.filter(|name| !state.foreign_names.contains(name));
    let wanted = match state.keeper {
        Keeper::Ringmaster => settings.replicas,
        Keeper::Others => 0,
    };
    let count = wanted.min(state.replicas_max());
    let newcomers: Vec<Newcomer> = free
        .take(count)
        .enumerate()
        .map(|(index, name)| Newcomer {
            id: ReplicaId(state.next_id.0 + index as u32),
            weight: 1,
            name,
            incarnation: Incarnation(0),
            server: None,
        })
        .collect();
    let full = state.desired.with(&newcomers);
    debug_assert!(full.is_ok(), "replicas_max() of them have room: {full:?}");
    full.unwrap_or_else(|_| state.desired.clone())
}

/// Whether a found instance belongs to a desired replica and runs.
fn adopt(state: &mut State, cx: &mut Context<'_>, found: &Found, identity: &FoundIdentity) -> bool {
    let id = identity.instance;
    let replica = state.desired.replica(id.replica);
    let is_ours = replica.is_some_and(|replica| replica.server.is_none());
    if !is_ours || state.instances.contains_key(&id) {
        return false;
    }
    let phase = match found.state {
        FoundState::Running(Some(address)) => {
            evict_holders(state, cx, address, id);
            Phase::Warming { address, since: cx.now, passes: Passes::Untested }
        }
        FoundState::Paused(address) => Phase::never_admitted(address, EjectReason::Paused, cx.now),
        FoundState::Running(None) | FoundState::Created | FoundState::Exited { .. } => {
            return false;
        }
    };
    let mut instance = Instance::new(identity.name.clone(), Keeper::Ringmaster, phase, cx.now);
    instance.handle = Some(found.handle.clone());
    instance.spec = Some(identity.spec.clone());
    instance.image.clone_from(&identity.image);
    state.instances.insert(id, instance);
    true
}
