//! The servers of the configuration, at boot. What was registered, changed or removed since the
//! configuration took effect stays; only what it says anew changes something.

use std::sync::Arc;

use crate::fleet::{
    desired::{Desired, Newcomer},
    ids::{Incarnation, ReplicaId, ReplicaName},
    notes::Note,
    server::{Registration, Server, ServerChange},
    state::State,
    supervisor::{context::Context, transitions::begin::begin_server},
};

/// Takes in the servers of the configuration, and begins with all that are registered.
pub(super) fn settle(state: &mut State, cx: &mut Context<'_>) {
    take_configuration(state, cx);
    let desired = state.desired.replicas().iter();
    let servers = desired.filter(|replica| replica.server.is_some());
    let servers: Vec<_> = servers.map(|r| (r.instance(), r.is_drained)).collect();
    for (id, is_drained) in servers {
        begin_server(state, cx, id.replica);
        // Requests wait for those that may pass at once, as for containers that run already.
        if !is_drained {
            state.adopted.insert(id);
        }
    }
}

fn take_configuration(state: &mut State, cx: &mut Context<'_>) {
    let wanted = &cx.settings.servers;
    let before = state.desired.registered().to_vec();
    let mut change = Settling::default();
    let mut desired = state.desired.clone();
    for old in before.iter().filter(|old| !wanted.iter().any(|new| new.name == old.name)) {
        change.remove(&mut desired, old);
    }
    for new in wanted.iter().filter(|new| !before.contains(new)) {
        let id = state.next_id.max(desired.next_id());
        change.set(&mut desired, new, id, (wanted, state.replicas_max()));
    }
    // What was refused is tried, and said, again at the next start.
    let settled = |new: &Registration| match change.is_refused(&new.name) {
        true => before.iter().find(|old| old.name == new.name).cloned(),
        false => Some(new.clone()),
    };
    let settled: Vec<Registration> = wanted.iter().filter_map(settled).collect();
    if settled == before && change.refused.is_empty() {
        return;
    }
    state.desired = desired.registered_as(settled);
    state.next_id = state.next_id.max(state.desired.next_id());
    state.writing.stale = true;
    let Settling { added, changed, removed, refused } = change;
    let refused = refused.into_iter().map(|(_, why)| why).collect();
    cx.note(Note::ServersChanged { added, changed, removed, refused });
}

/// What a new configuration does to the servers.
#[derive(Default)]
struct Settling {
    added: Vec<ReplicaName>,
    changed: Vec<ReplicaName>,
    removed: Vec<ReplicaName>,
    refused: Vec<(ReplicaName, Arc<str>)>,
}

impl Settling {
    fn remove(&mut self, desired: &mut Desired, old: &Registration) {
        let is_it =
            |name: &ReplicaName, server: &Option<Server>| name == &old.name && server.is_some();
        let found = desired.replicas().iter().find(|replica| is_it(&replica.name, &replica.server));
        if let Some(id) = found.map(|replica| replica.id()) {
            *desired = desired.without(&[id]);
            self.removed.push(old.name.clone());
        }
    }

    fn is_refused(&self, name: &ReplicaName) -> bool {
        self.refused.iter().any(|(refused, _)| refused == name)
    }

    /// `wanted`: all servers of the configuration, whose places differ.
    fn set(
        &mut self,
        desired: &mut Desired,
        new: &Registration,
        next_id: ReplicaId,
        (wanted, replicas_max): (&[Registration], usize),
    ) {
        let Registration { name, weight, server } = new;
        let is_there = |other: &Server| other.is_same_place(server);
        let bearer = desired.replicas().iter().find(|replica| replica.name.is_same_host(name));
        // A configured server has its place from the configuration, now or in a moment.
        let is_named = |holder: &ReplicaName| wanted.iter().any(|named| named.name == *holder);
        let holder = desired.replicas().iter().find(|replica| {
            !is_named(&replica.name) && replica.server.as_ref().is_some_and(is_there)
        });
        if let Some(holder) = holder {
            let (place, holder) = (server.place(), &holder.name);
            return self.refuse(name, &format!("'{place}' is the address of '{holder}' already"));
        }
        let after = match bearer {
            Some(bearer) if bearer.server.is_some() => {
                self.changed.push(name.clone());
                let change = ServerChange {
                    host: Some(Arc::clone(&server.host)),
                    port: Some(server.port),
                    weight: Some(*weight),
                };
                desired.with_server(bearer.id(), &change)
            }
            Some(_) => return self.refuse(name, "a replica that we keep bears its name"),
            None if desired.replicas().len() >= replicas_max => {
                return self.refuse(name, "there are as many as `replicas_max` allows");
            }
            None => {
                self.added.push(name.clone());
                desired.with(&[Newcomer {
                    id: next_id,
                    weight: *weight,
                    name: name.clone(),
                    incarnation: Incarnation::FIRST,
                    server: Some(server.clone()),
                }])
            }
        };
        match after {
            Ok(after) => *desired = after,
            Err(error) => {
                self.added.retain(|other| other != name);
                self.changed.retain(|other| other != name);
                self.refuse(name, &error.to_string());
            }
        }
    }

    fn refuse(&mut self, name: &ReplicaName, why: &str) {
        let why = format!("'{name}' of the configuration does not join: {why}");
        self.refused.push((name.clone(), why.into()));
    }
}
