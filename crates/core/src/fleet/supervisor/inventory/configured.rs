//! Registered servers: where they are, who joins and leaves, and who is set aside. And verdicts on the
//! health of a replica that come from outside.

use std::{net::SocketAddr, sync::Arc};

use crate::fleet::supervisor::Supervisor;
use crate::fleet::{
    command::{Answer, Done, ScaleError},
    desired::{Desired, Newcomer},
    ids::{Incarnation, InstanceId, Moment, ReplicaId, ReplicaName},
    notes::Note,
    observed::{
        EjectReason, Health, Instance, Lookup, Passes, Phase, Probing, Suspicion, of_replica,
    },
    operation::Change,
    server::{Registration, Server, ServerChange},
    values::Keeper,
};

impl Supervisor {
    /// The first sight of a registered server, or of one that is to be: its place is looked up next.
    pub(in crate::fleet::supervisor) fn begin_to_serve(&mut self, replica: ReplicaId, now: Moment) {
        let joining =
            self.state.operation.as_ref().and_then(|operation| operation.newcomer(replica));
        let (name, committed) = match (joining, self.state.desired.replica(replica)) {
            (Some(newcomer), _) => (newcomer.name.clone(), newcomer.incarnation),
            (None, Some(known)) => (known.name.clone(), known.incarnation),
            (None, None) => return,
        };
        // One that has moved is another instance: nothing that is under way for the old place counts.
        let was_seen = self.state.incarnations.get(&replica).copied();
        let incarnation = was_seen.map_or(committed, |seen| seen.max(committed).next());
        self.state.incarnations.insert(replica, incarnation);
        let instance = Instance {
            name,
            keeper: Keeper::Others,
            phase: Phase::Starting { since: now, ended: None },
            lookup: Lookup::Idle { next: now },
            handle: None,
            known_at: now,
            spec: None,
            image: None,
            probing: Probing::Idle { next: now, suspect: false },
            suspicion: Suspicion::default(),
            last_probe: None,
        };
        self.state.instances.insert(InstanceId { replica, incarnation }, instance);
    }

    /// Looks up where a server is. A host that is an address needs no lookup.
    pub(in crate::fleet::supervisor) fn resolve(&mut self, id: InstanceId, now: Moment) {
        let Some(server) = self.state.server_of(id.replica).cloned() else { return };
        if let Some(address) = server.address() {
            return self.resolved(id, Ok(address), now);
        }
        if let Some(instance) = self.state.instances.get_mut(&id) {
            instance.lookup = Lookup::Waiting { asked: now };
            self.act(crate::fleet::message::Action::Resolve {
                instance: id,
                host: server.host,
                port: server.port,
            });
        }
    }

    /// Where a server is, or why that is not known. A place that was known stays known while its name
    /// cannot be looked up: its checks judge it.
    pub(in crate::fleet::supervisor) fn resolved(
        &mut self,
        id: InstanceId,
        result: Result<SocketAddr, Arc<str>>,
        now: Moment,
    ) {
        let next = now + self.state.limits.lookup_interval;
        let Some(instance) = self.state.instances.get_mut(&id) else { return };
        if instance.keeper == Keeper::Ringmaster || instance.is_leaving() {
            return;
        }
        instance.lookup = Lookup::Idle { next };
        let known = instance.address();
        if matches!(instance.phase, Phase::Starting { .. }) {
            instance.phase = ejected(None, EjectReason::Unresolved, now);
        }
        let address = match result {
            Ok(address) => address,
            Err(why) => {
                if known.is_none() {
                    self.keep_problem(id, why);
                }
                return;
            }
        };
        if known == Some(address) || !self.wins_address(id, address, now) {
            return;
        }
        if known.is_some() {
            return self.moved(id, address, now);
        }
        if let Some(instance) = self.state.instances.get_mut(&id) {
            instance.phase = Phase::Warming { address, since: now, passes: Passes::Untested };
            instance.probing = Probing::Idle { next: now, suspect: false };
            if instance.last_probe.take().is_some() {
                let name = instance.name.clone();
                self.note(Note::Resolved { instance: id, name, address });
            }
        }
    }

    /// Out of the table because its replica is drained; its checks go on, so that it may come back at
    /// once.
    pub(in crate::fleet::supervisor) fn set_aside(&mut self, id: InstanceId, now: Moment) {
        let needed = self.state.limits.probe_passes;
        let passes = self.state.instances.get(&id).is_some_and(Instance::is_passing);
        self.eject(id, EjectReason::Drained, now);
        if let Some(Phase::Ejected { passes: counted, .. }) =
            self.state.instances.get_mut(&id).map(|instance| &mut instance.phase)
        {
            *counted = Passes::InARow(if passes { needed } else { 0 });
        }
    }

    pub(in crate::fleet::supervisor) fn take_back(&mut self, id: InstanceId, now: Moment) {
        let needed = self.state.limits.probe_passes;
        let Some(instance) = self.state.instances.get_mut(&id) else { return };
        let Phase::Ejected { reason, passes, since, .. } = &mut instance.phase else { return };
        // It was away by a wish: only from now on it may fail for too long.
        (*reason, *since) = (EjectReason::Unreachable, now);
        if passes.reach(needed) {
            return self.readmit(id, now);
        }
        if let Probing::Idle { next, .. } = &mut instance.probing {
            *next = now;
        }
    }

    /// Takes in the servers of the configuration, where it says something new. What was registered,
    /// changed or removed since stays.
    pub(in crate::fleet::supervisor) fn settle_servers(&mut self, now: Moment) {
        let wanted = self.settings.servers.clone();
        let before = self.state.desired.registered().to_vec();
        let mut change = Settling::default();
        let mut desired = self.state.desired.clone();
        for old in before.iter().filter(|old| !wanted.iter().any(|new| new.name == old.name)) {
            change.remove(&mut desired, old);
        }
        for new in wanted.iter().filter(|new| !before.contains(new)) {
            let id = self.state.next_id.max(desired.next_id());
            change.set(&mut desired, new, id, (&wanted, self.state.replicas_max()));
        }
        // What was refused is tried, and said, again at the next start.
        let settled = |new: Registration| match change.is_refused(&new.name) {
            true => before.iter().find(|old| old.name == new.name).cloned(),
            false => Some(new),
        };
        let settled: Vec<Registration> = wanted.into_iter().filter_map(settled).collect();
        if settled != before || !change.refused.is_empty() {
            self.state.desired = desired.registered_as(settled);
            self.state.next_id = self.state.next_id.max(self.state.desired.next_id());
            self.state.writing.stale = true;
            let Settling { added, changed, removed, refused } = change;
            let refused = refused.into_iter().map(|(_, why)| why).collect();
            self.note(Note::ServersChanged { added, changed, removed, refused });
        }
        let desired = self.state.desired.replicas().iter();
        let servers = desired.filter(|replica| replica.server.is_some());
        let servers: Vec<_> = servers.map(|r| (r.instance(), r.is_drained)).collect();
        for (id, is_drained) in servers {
            self.begin_to_serve(id.replica, now);
            // Requests wait for those that may pass at once, as for containers that run already.
            if !is_drained {
                self.state.adopted.insert(id);
            }
        }
    }

    /// Who would join by a registration.
    pub(in crate::fleet::supervisor) fn registered(
        &self,
        servers: &[Registration],
    ) -> Result<Vec<Newcomer>, ScaleError> {
        let mut newcomers: Vec<Newcomer> = Vec::new();
        for registration in servers {
            let Registration { name, weight, server } = registration;
            self.is_free(name)?;
            self.is_free_place(server, None)?;
            if *weight == 0 {
                return Err(ScaleError::NotAWeight);
            }
            for earlier in &newcomers {
                if earlier.name.is_same_host(name) {
                    return Err(ScaleError::Duplicate(name.clone()));
                }
                if earlier.server.as_ref().is_some_and(|other| other.is_same_place(server)) {
                    let (place, other) = (server.place(), earlier.name.clone());
                    return Err(ScaleError::PlaceTaken { place, other });
                }
            }
            let index = u32::try_from(newcomers.len()).unwrap_or(u32::MAX);
            newcomers.push(Newcomer {
                id: ReplicaId(self.state.next_id.0.saturating_add(index)),
                weight: *weight,
                name: name.clone(),
                incarnation: Incarnation::FIRST,
                server: Some(server.clone()),
            });
        }
        self.has_room(newcomers.len())?;
        Ok(newcomers)
    }

    /// What a change of a server comes to.
    pub(in crate::fleet::supervisor) fn server_change(
        &self,
        name: &ReplicaName,
        change: &ServerChange,
    ) -> Result<Change, ScaleError> {
        let id = self.replica_named(name).ok_or_else(|| ScaleError::Unknown(name.clone()))?;
        if change.weight == Some(0) {
            return Err(ScaleError::NotAWeight);
        }
        // A weight is as good for a replica that we keep.
        if let ServerChange { host: None, port: None, weight: Some(weight) } = *change {
            return Ok(Change::Weight { id, weight });
        }
        let server = self.state.desired.replica(id).and_then(|replica| replica.server.as_ref());
        let server = server.ok_or_else(|| ScaleError::NotRegistered(name.clone()))?;
        let host = change.host.as_ref().unwrap_or(&server.host);
        let port = change.port.unwrap_or(server.port);
        let moved = Server::new(host, port, server.source)
            .map_err(|error| ScaleError::BadPlace(error.to_string()))?;
        self.is_free_place(&moved, Some(id))?;
        let change = ServerChange { host: Some(moved.host), port: Some(port), ..change.clone() };
        Ok(Change::Server { id, change })
    }

    fn is_free_place(&self, server: &Server, but: Option<ReplicaId>) -> Result<(), ScaleError> {
        let mut others = self.state.desired.replicas().iter().filter(|r| Some(r.id()) != but);
        let holds = |other: &Server| other.is_same_place(server);
        match others.find(|other| other.server.as_ref().is_some_and(holds)) {
            None => Ok(()),
            Some(other) => {
                let (place, other) = (server.place(), other.name.clone());
                Err(ScaleError::PlaceTaken { place, other })
            }
        }
    }

    /// A server is somewhere else: its old instance leaves, and the plan begins with the next one.
    pub(in crate::fleet::supervisor) fn leave_old_place(
        &mut self,
        before: &Desired,
        id: ReplicaId,
        now: Moment,
    ) {
        let place =
            |desired: &Desired| desired.replica(id).and_then(|replica| replica.server.clone());
        if place(before) == place(&self.state.desired) {
            return;
        }
        let old: Vec<InstanceId> =
            of_replica(&self.state.instances, id).map(|(old, _)| old).collect();
        for old in old {
            match self.state.instances.get(&old) {
                Some(instance) if instance.is_admitted() => self.drain(old, now),
                Some(instance) if !instance.is_leaving() => drop(self.state.remove(old, now)),
                _ => {}
            }
        }
    }

    /// Takes a verdict for the result of a heartbeat. It holds until the next one, which comes after
    /// the usual interval.
    pub(in crate::fleet::supervisor) fn mark(
        &mut self,
        name: &ReplicaName,
        is_healthy: bool,
        now: Moment,
    ) -> Answer {
        let replica = self.replica_named(name).ok_or_else(|| ScaleError::Unknown(name.clone()))?;
        // The one that serves, not a successor that has just been started.
        let known = || of_replica(&self.state.instances, replica);
        let serving = known().find(|(_, instance)| instance.is_admitted());
        let latest = || known().rfind(|(_, instance)| !instance.is_leaving());
        let Some(id) = serving.or_else(latest).map(|(id, _)| id) else {
            return Ok(Done::Marked);
        };
        let limits = &self.state.limits;
        let needed = limits.probe_passes;
        // The result of a heartbeat that is under way must not be taken for one after the verdict.
        let interval = limits.probe_interval.max(limits.probe_timeout);
        let Some(instance) = self.state.instances.get_mut(&id) else { return Ok(Done::Marked) };
        // The result of one that was sent before the verdict does not count.
        instance.probing = Probing::Idle { next: now + interval, suspect: false };
        let verdict = Passes::InARow(if is_healthy { needed } else { 0 });
        let mut comes_back = false;
        match &mut instance.phase {
            Phase::Warming { passes, .. } => *passes = verdict,
            Phase::Ejected { passes, reason, address, .. } => {
                *passes = verdict;
                comes_back = is_healthy && address.is_some() && reason.is_by_heartbeat();
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
        instance.last_probe = (!is_healthy).then(|| "it was marked unhealthy".into());
        let name = instance.name.clone();
        self.note(Note::Marked { instance: id, name, is_healthy });
        if comes_back {
            self.readmit(id, now);
        }
        Ok(Done::Marked)
    }
}

fn ejected(address: Option<SocketAddr>, reason: EjectReason, now: Moment) -> Phase {
    Phase::Ejected {
        address,
        since: now,
        reason,
        admitted_for: std::time::Duration::ZERO,
        passes: Passes::InARow(0),
    }
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
        // One that is named has its place from the configuration, now or in a moment.
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
