//! What a list of all instances changes: the truth, as of when it was asked for.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::fleet::supervisor::Supervisor;
use crate::fleet::{
    desired::{Desired, Newcomer, Replica},
    ids::{Incarnation, InstanceId, Moment, ReplicaId, ReplicaName},
    message::{EngineError, Found, FoundIdentity, FoundState, Listing},
    notes::{BootSource, Note},
    observed::{EjectReason, Instance, Lookup, Passes, Phase, Probing, Suspicion},
    state::{Boot, Engine, Keeper},
};
use crate::ring::{Algorithm, Member, RingError, RingSettings, SLOTS_MAX, membership};

impl Supervisor {
    pub(in crate::fleet::supervisor) fn listed(
        &mut self,
        asked: Moment,
        result: Result<Listing, EngineError>,
        now: Moment,
    ) {
        // Only the latest list counts: one that was taken as lost may be older than it looks.
        if self.state.listing.asked.take_if(|latest| *latest == asked).is_none() {
            return;
        }
        match result {
            Ok(listing) => {
                self.engine_is(Engine::Up);
                self.take_listing(listing, asked, now);
            }
            Err(error) => {
                self.state.listing.next = now + self.state.limits.list_retry;
                self.engine_is(Engine::Away(error.to_string().into()));
            }
        }
    }

    fn take_listing(&mut self, listing: Listing, asked: Moment, now: Moment) {
        self.state.foreign_names = listing.foreign_names.iter().cloned().collect();
        for found in listing.found.iter().filter_map(|found| found.identity.as_ref()) {
            let highest = self
                .state
                .incarnations
                .entry(found.instance.replica)
                .or_insert(found.instance.incarnation);
            *highest = (*highest).max(found.instance.incarnation);
            let above = ReplicaId(found.instance.replica.0.saturating_add(1));
            self.state.next_id = self.state.next_id.max(above);
        }
        let is_first = self.state.boot == Boot::AwaitingList;
        match self.state.boot {
            Boot::AwaitingList => self.boot(&listing, now),
            Boot::Done => self.reconcile(&listing, asked, now),
        }
        self.take_specs(&listing, is_first);
        // A later list, and only that can come, was asked for after these had gone.
        self.state.departed.retain(|_, gone| *gone >= asked);
        self.forget_the_gone();
    }

    /// Ring identities are never used again, so nothing needs the history of those that are gone.
    fn forget_the_gone(&mut self) {
        let (desired, operation) = (&self.state.desired, &self.state.operation);
        let instances = &self.state.instances;
        let is_known = |id: &ReplicaId| {
            desired.replica(*id).is_some()
                || operation.as_ref().is_some_and(|operation| operation.awaits(*id))
                || instances.keys().any(|instance| instance.replica == *id)
        };
        Arc::make_mut(&mut self.state.endings).trim(|id| is_known(&id));
        self.state.incarnations.retain(|id, _| is_known(id));
        self.state.backoffs.retain(|id, _| is_known(id));
    }

    /// Takes over what an earlier run left, and removes what it had not committed.
    fn boot(&mut self, listing: &Listing, now: Moment) {
        let source = self.establish_desired(listing);
        self.state.boot = Boot::Done;
        let (mut adopted, mut strays) = (0, 0);
        for found in &listing.found {
            match &found.identity {
                Some(identity) if self.adopt(found, identity, now) => {
                    if self.state.is_eligible(identity.instance.replica) {
                        self.state.adopted.insert(identity.instance);
                    }
                    adopted += 1;
                }
                _ => {
                    strays += 1;
                    self.reap(found.handle.clone());
                }
            }
        }
        self.settle_servers(now);
        let replicas = self.state.desired.replicas().len();
        self.note(Note::Booted { source, replicas, adopted, strays });
        let kept = self.state.desired.replicas().iter();
        let stored = kept.filter(|replica| replica.server.is_none()).count();
        let starts = self.state.keeper == Keeper::Ringmaster;
        if self.is_stored && starts && stored != self.settings.replicas {
            let configured = self.settings.replicas;
            self.note(Note::ReplicasDiffer { configured, stored });
        }
    }

    fn establish_desired(&mut self, listing: &Listing) -> BootSource {
        if self.is_stored {
            return BootSource::StateFile;
        }
        self.state.writing.stale = true;
        self.state.writing.is_first = true;
        let identities: Vec<&FoundIdentity> =
            listing.found.iter().filter_map(|found| found.identity.as_ref()).collect();
        if let Some(desired) = from_labels(&self.settings.ring, &identities) {
            let is_configured = desired.ring().settings() == desired.configured();
            self.state.desired = desired;
            self.state.next_id = self.state.next_id.max(self.state.desired.next_id());
            return match is_configured {
                true => BootSource::Labels,
                false => BootSource::LabelsBeyondRing,
            };
        }
        self.state.desired = self.initial();
        self.state.next_id = self.state.next_id.max(self.state.desired.next_id());
        BootSource::Configuration
    }

    /// `server_1`, `server_2`, … without those that somebody else bears.
    fn initial(&self) -> Desired {
        let free = (1..).map(ReplicaName::numbered);
        let free = free.filter(|name| !self.state.foreign_names.contains(name));
        let wanted = match self.state.keeper {
            Keeper::Ringmaster => self.settings.replicas,
            Keeper::Others => 0,
        };
        let count = wanted.min(self.state.replicas_max());
        let newcomers: Vec<Newcomer> = free
            .take(count)
            .enumerate()
            .map(|(index, name)| Newcomer {
                id: ReplicaId(self.state.next_id.0 + index as u32),
                weight: 1,
                name,
                incarnation: Incarnation(0),
                server: None,
            })
            .collect();
        let full = self.state.desired.with(&newcomers);
        debug_assert!(full.is_ok(), "replicas_max() of them have room: {full:?}");
        full.unwrap_or_else(|_| self.state.desired.clone())
    }

    /// Whether a found instance belongs to a desired replica and runs.
    fn adopt(&mut self, found: &Found, identity: &FoundIdentity, now: Moment) -> bool {
        let id = identity.instance;
        let replica = self.state.desired.replica(id.replica);
        let is_ours = replica.is_some_and(|replica| replica.server.is_none());
        if !is_ours || self.state.instances.contains_key(&id) {
            return false;
        }
        let ejected = |address, reason| Phase::Ejected {
            address,
            since: now,
            reason,
            admitted_for: std::time::Duration::ZERO,
            passes: Passes::InARow(0),
        };
        let phase = match found.state {
            FoundState::Running(Some(address)) => {
                self.evict_holders(address, id, now);
                Phase::Warming { address, since: now, passes: Passes::Untested }
            }
            FoundState::Paused(address) => ejected(address, EjectReason::Paused),
            FoundState::Running(None) | FoundState::Created | FoundState::Exited { .. } => {
                return false;
            }
        };
        let instance = Instance {
            name: identity.name.clone(),
            keeper: Keeper::Ringmaster,
            lookup: Lookup::Idle { next: now },
            phase,
            handle: Some(found.handle.clone()),
            known_at: now,
            spec: Some(identity.spec.clone()),
            image: identity.image.clone(),
            probing: Probing::Idle { next: now, suspect: false },
            suspicion: Suspicion::default(),
            last_probe: None,
        };
        self.state.instances.insert(id, instance);
        true
    }

    fn reconcile(&mut self, listing: &Listing, asked: Moment, now: Moment) {
        let mut seen = BTreeSet::new();
        for found in &listing.found {
            let known = found.identity.as_ref().and_then(|identity| {
                let id = identity.instance;
                let instance = self.state.instances.get(&id)?;
                match &instance.handle {
                    Some(handle) if handle == &found.handle => Some(id),
                    // Its start is under way and will say whether this is it.
                    None => Some(id),
                    Some(_) => None,
                }
            });
            match known {
                Some(id) => {
                    seen.insert(id);
                    self.saw_state(id, found.state, asked, now);
                }
                None if self.has_departed(found, asked) => {}
                None => self.reap(found.handle.clone()),
            }
        }
        let missing: Vec<InstanceId> = self
            .state
            .instances
            .iter()
            // A list says nothing about a start under way: its container may not exist yet.
            .filter(|(_, instance)| instance.handle.is_some() && instance.known_at < asked)
            .filter(|(id, _)| !seen.contains(id))
            .map(|(id, _)| *id)
            .collect();
        for id in missing {
            self.vanished(id, now);
        }
    }

    /// Whether a list holds the rest of an instance that has gone since it was asked for. If
    /// something is left nevertheless, the next list will say so.
    fn has_departed(&self, found: &Found, asked: Moment) -> bool {
        let identity = found.identity.as_ref();
        let gone = identity.and_then(|identity| self.state.departed.get(&identity.instance));
        gone.is_some_and(|gone| *gone >= asked)
    }

    /// What the list says of an instance that is known. A list that was asked for before the
    /// instance was known says nothing about it.
    fn saw_state(&mut self, id: InstanceId, state: FoundState, asked: Moment, now: Moment) {
        let Some(instance) = self.state.instances.get(&id) else {
            return;
        };
        let is_starting = matches!(instance.phase, Phase::Starting { .. });
        if is_starting || instance.is_leaving() || instance.known_at >= asked {
            return;
        }
        let is_paused =
            matches!(instance.phase, Phase::Ejected { reason: EjectReason::Paused, .. });
        match state {
            FoundState::Exited { exit_code } => self.died(id, exit_code, now),
            FoundState::Created => {}
            FoundState::Paused(_) => {
                if !is_paused {
                    self.eject(id, EjectReason::Paused, now);
                }
            }
            FoundState::Running(None) => self.disconnect(id, now),
            FoundState::Running(Some(address)) => {
                if is_paused {
                    self.unpaused(id, now);
                }
                let is_elsewhere =
                    self.state.instances.get(&id).and_then(Instance::address) != Some(address);
                // Whoever got this address after the list was asked for is right about it.
                let mut holders = self.state.instances.values();
                let is_old = holders.any(|i| i.address() == Some(address) && i.known_at >= asked);
                if is_elsewhere && !is_old {
                    self.moved(id, address, now);
                }
            }
        }
    }

    /// It listens somewhere else now, and must pass there first.
    pub(in crate::fleet::supervisor) fn moved(
        &mut self,
        id: InstanceId,
        to: std::net::SocketAddr,
        now: Moment,
    ) {
        self.evict_holders(to, id, now);
        self.disconnect(id, now);
        // The result of a heartbeat to where it was must not be taken for one from where it is.
        let settled = now + self.state.limits.probe_timeout;
        if let Some(instance) = self.state.instances.get_mut(&id)
            && let Phase::Ejected { address, reason, .. } = &mut instance.phase
        {
            *address = Some(to);
            *reason = EjectReason::Unreachable;
            instance.known_at = now;
            let next = match instance.probing {
                Probing::Waiting { .. } => settled,
                Probing::Idle { .. } => now,
            };
            instance.probing = Probing::Idle { next, suspect: false };
        }
    }
}

/// The desired state that labels tell of. Exited containers count as replicas too; of several
/// incarnations the highest says the name. `None` when there is nothing, or nothing that fits.
fn from_labels(settings: &RingSettings, identities: &[&FoundIdentity]) -> Option<Desired> {
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
        // Labels of another ring: the same replicas, placed anew. Who has no room on it is no stray.
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
