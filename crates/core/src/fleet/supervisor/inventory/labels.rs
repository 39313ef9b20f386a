//! A fleet without a state file, rebuilt from the labels of what was found.

use std::collections::BTreeMap;

use crate::{
    fleet::{
        desired::{Desired, Newcomer, Replica},
        ids::ReplicaId,
        message::FoundIdentity,
    },
    ring::{Algorithm, Member, RingError, RingSettings, SLOTS_MAX, membership},
};

/// The desired state that labels describe. Exited containers count as replicas too; of several
/// incarnations the highest says the name. `None` when there is nothing, or nothing that fits.
pub(super) fn from_labels(
    settings: &RingSettings,
    identities: &[&FoundIdentity],
) -> Option<Desired> {
    let mut newest: BTreeMap<ReplicaId, &FoundIdentity> = BTreeMap::new();
    for &identity in identities {
        let kept = newest.entry(identity.instance.replica).or_insert(identity);
        if identity.instance.incarnation > kept.instance.incarnation {
            *kept = identity;
        }
    }
    let mut replicas: Vec<Replica> = newest.into_values().map(replica_of).collect();
    if replicas.is_empty() {
        return None;
    }
    let mut members: Vec<Member> = replicas.iter().map(|r| r.member.clone()).collect();
    if membership::settle(settings, &mut members).is_ok() {
        for (replica, member) in replicas.iter_mut().zip(members) {
            replica.member = member;
        }
    }
    let restored =
        |replicas| Desired::restore(settings.clone(), Default::default(), ReplicaId(1), replicas);
    match restored(replicas.clone()) {
        Ok(desired) => Some(desired),
        // Labels of another ring: the same replicas, placed anew. A replica without room on it is no
        // stray.
        Err(_) => place_anew(settings, &replicas)
            .or_else(|_| place_anew(&with_room(settings, &replicas), &replicas))
            .map(|desired| desired.configured_as(settings.clone()))
            .ok(),
    }
}

/// The algorithm `slots`, which holds any replicas that a ring could have held.
fn with_room(settings: &RingSettings, replicas: &[Replica]) -> RingSettings {
    let weights = replicas.iter().map(|replica| u64::from(replica.member.weight)).sum::<u64>();
    let needed = weights.min(SLOTS_MAX.into()) as u32;
    let algorithm = Algorithm::Slots;
    RingSettings { algorithm, slots: settings.slots.max(needed), ..settings.clone() }
}

fn replica_of(identity: &FoundIdentity) -> Replica {
    Replica {
        member: Member {
            id: identity.instance.replica,
            ordinal: identity.ordinal,
            weight: identity.weight.max(1),
            positions: identity.positions.clone(),
        },
        name: identity.name.clone(),
        incarnation: identity.instance.incarnation,
        server: None,
        is_drained: false,
    }
}

fn place_anew(settings: &RingSettings, replicas: &[Replica]) -> Result<Desired, RingError> {
    let newcomers: Vec<Newcomer> = replicas
        .iter()
        .map(|replica| Newcomer {
            id: replica.id(),
            weight: replica.member.weight,
            name: replica.name.clone(),
            incarnation: replica.incarnation,
            server: replica.server.clone(),
        })
        .collect();
    Desired::empty(settings.clone())?.with(&newcomers)
}
