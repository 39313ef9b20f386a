//! What should be: the committed desired state. The state file holds exactly this.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    command::{RingChange, RingView},
    ids::{Generation, Incarnation, InstanceId, ReplicaId, ReplicaName, SpecDigest},
    server::{Registration, Server, ServerChange},
    values::Revision,
};
use crate::ring::{Member, Ring, RingError, RingSettings, membership, moves};

/// The committed desired state of a fleet. Its ring is always valid.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    generation: Generation,
    next_id: ReplicaId,
    replicas: Vec<Replica>,
    /// Where in `replicas` each is.
    index: BTreeMap<ReplicaId, usize>,
    ring: Arc<Ring>,
    /// The ring settings of the configuration when they last took effect. The ring may have been
    /// changed since; only a configuration that says something new changes it again.
    configured: RingSettings,
    /// What the fleet is made from, as far as it is known to work.
    revision: Option<Revision>,
    /// What a roll was given up for, and is not tried again without being asked.
    rejected: Option<SpecDigest>,
    /// The servers of the configuration when they last took effect. Others may have been registered
    /// since; only a configuration that says something new changes them again.
    registered: Vec<Registration>,
}

/// A desired identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Its place on the ring.
    pub member: Member,
    /// The name of its latest committed instance.
    pub name: ReplicaName,
    /// The number of its latest committed instance.
    pub incarnation: Incarnation,
    /// Where it is, if others keep it; `None`: we start and stop it.
    pub server: Option<Server>,
    /// Whether it gets no requests although it is desired.
    pub is_drained: bool,
}

impl Replica {
    /// The ring identity.
    pub fn id(&self) -> ReplicaId {
        self.member.id
    }

    /// Its latest committed instance.
    pub fn instance(&self) -> InstanceId {
        InstanceId { replica: self.id(), incarnation: self.incarnation }
    }
}

impl Desired {
    /// A fleet without replicas.
    ///
    /// # Errors
    /// Settings on which no ring can be built.
    pub fn empty(settings: RingSettings) -> Result<Self, RingError> {
        Self::restore(settings, Generation(0), ReplicaId(1), Vec::new())
    }

    /// The same with other settings noted as those of the configuration.
    pub fn configured_as(mut self, settings: RingSettings) -> Self {
        self.configured = settings;
        self
    }

    /// The ring settings of the configuration when they last took effect.
    pub fn configured(&self) -> &RingSettings {
        &self.configured
    }

    /// A fleet from its parts, as a state file or labels give them. `next_id` is raised above every
    /// identity in use.
    ///
    /// # Errors
    /// Replicas that contradict each other or the settings.
    pub fn restore(
        settings: RingSettings,
        generation: Generation,
        next_id: ReplicaId,
        replicas: Vec<Replica>,
    ) -> Result<Self, RingError> {
        let members = replicas.iter().map(|replica| replica.member.clone()).collect();
        let ring = Arc::new(Ring::new(settings.clone(), members)?);
        let above = replicas.iter().map(|replica| replica.id().0.saturating_add(1)).max();
        let next_id = ReplicaId(next_id.0.max(above.unwrap_or(1)));
        let index = replicas.iter().enumerate().map(|(at, replica)| (replica.id(), at)).collect();
        let configured = settings;
        Ok(Self {
            generation,
            next_id,
            replicas,
            index,
            ring,
            configured,
            revision: None,
            rejected: None,
            registered: Vec::new(),
        })
    }

    /// The same, made from something.
    pub fn made_from(mut self, revision: Option<Revision>, rejected: Option<SpecDigest>) -> Self {
        self.revision = revision;
        self.rejected = rejected;
        self
    }

    /// The same with other servers noted as those of the configuration.
    pub fn registered_as(mut self, servers: Vec<Registration>) -> Self {
        self.registered = servers;
        self
    }

    /// The servers of the configuration when they last took effect.
    pub fn registered(&self) -> &[Registration] {
        &self.registered
    }

    /// What the fleet is made from: what a missing instance is started from. `None` until the driver
    /// has said what that is.
    pub fn revision(&self) -> Option<&Revision> {
        self.revision.as_ref()
    }

    /// What a roll was given up for.
    pub fn rejected(&self) -> Option<&SpecDigest> {
        self.rejected.as_ref()
    }

    /// The version; rises with each committed change of the replicas or of the ring.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The next ring identity that has never been used.
    pub fn next_id(&self) -> ReplicaId {
        self.next_id
    }

    /// The replicas in the order in which they joined.
    pub fn replicas(&self) -> &[Replica] {
        &self.replicas
    }

    /// The ring of all replicas; members are in the same order.
    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// One replica.
    pub fn replica(&self, id: ReplicaId) -> Option<&Replica> {
        self.index.get(&id).map(|&at| &self.replicas[at])
    }

    /// The state with newcomers, one generation later. They are placed one after the other, in the
    /// given order, so the result does not depend on when they became ready.
    ///
    /// # Errors
    /// [`RingError::Full`] when they do not fit.
    pub fn with(&self, newcomers: &[Newcomer]) -> Result<Self, RingError> {
        let settings = self.ring.settings();
        let mut members = self.ring.members().to_vec();
        let mut next = self.clone();
        for newcomer in newcomers {
            membership::join(settings, &mut members, newcomer.id, newcomer.weight)?;
            if let Some(member) = members.last().cloned() {
                let (name, incarnation) = (newcomer.name.clone(), newcomer.incarnation);
                let server = newcomer.server.clone();
                next.replicas.push(Replica {
                    member,
                    name,
                    incarnation,
                    server,
                    is_drained: false,
                });
            }
        }
        next.succeeded_by(settings.clone(), members)
    }

    /// The state without some replicas, one generation later.
    pub fn without(&self, ids: &[ReplicaId]) -> Self {
        let settings = self.ring.settings();
        let mut members = self.ring.members().to_vec();
        membership::leave(settings, &mut members, ids);
        let mut next = self.clone();
        let leaving: std::collections::BTreeSet<&ReplicaId> = ids.iter().collect();
        next.replicas.retain(|replica| !leaving.contains(&replica.id()));
        match next.succeeded_by(settings.clone(), members) {
            Ok(next) => next,
            // Fewer members of a valid ring are a valid ring.
            Err(error) => unreachable!("a removal cannot invalidate a ring: {error}"),
        }
    }

    /// The state with another weight of one replica, one generation later.
    ///
    /// # Errors
    /// [`RingError::Full`] when its virtual servers do not fit.
    pub fn reweighed(&self, id: ReplicaId, weight: u32) -> Result<Self, RingError> {
        let settings = self.ring.settings();
        let mut members = self.ring.members().to_vec();
        membership::reweigh(settings, &mut members, id, weight)?;
        self.clone().succeeded_by(settings.clone(), members)
    }

    /// The state with a registered server somewhere else or with another weight, one generation later.
    /// A host that is none was refused before.
    ///
    /// # Errors
    /// [`RingError::Full`] when its virtual servers do not fit.
    pub fn with_server(&self, id: ReplicaId, change: &ServerChange) -> Result<Self, RingError> {
        let weight = self.replica(id).map_or(1, |replica| replica.member.weight);
        let mut next = self.reweighed(id, change.weight.unwrap_or(weight))?;
        if let Some(&at) = next.index.get(&id)
            && let Some(server) = &mut next.replicas[at].server
        {
            server.host = change.host.clone().unwrap_or_else(|| Arc::clone(&server.host));
            server.port = change.port.unwrap_or(server.port);
        }
        Ok(next)
    }

    /// The state with a replica drained or not, one generation later.
    ///
    /// # Errors
    /// None: the ring stays as it is.
    pub fn with_drained(&self, id: ReplicaId, is_drained: bool) -> Result<Self, RingError> {
        let mut next = self.clone();
        if let Some(&at) = next.index.get(&id) {
            next.replicas[at].is_drained = is_drained;
        }
        let members = self.ring.members().to_vec();
        next.succeeded_by(self.ring.settings().clone(), members)
    }

    /// The same replicas, in the same order, on a ring of other settings; see
    /// [`membership::transfer`].
    ///
    /// # Errors
    /// [`RingError::Full`] when they do not fit.
    pub fn on_ring(&self, settings: RingSettings) -> Result<Self, RingError> {
        let members = membership::transfer(&self.ring, &settings)?;
        self.clone().succeeded_by(settings, members)
    }

    /// Notes that a replica now runs as another instance. The ring and the generation stay.
    pub fn set_instance(&mut self, instance: InstanceId, name: ReplicaName) {
        if let Some(&at) = self.index.get(&instance.replica) {
            let replica = &mut self.replicas[at];
            replica.incarnation = instance.incarnation;
            replica.name = name;
        }
    }

    /// The ring with the names on it.
    pub fn view(&self) -> RingView {
        RingView {
            generation: self.generation,
            ring: Arc::clone(&self.ring),
            names: self.replicas.iter().map(|replica| replica.name.clone()).collect(),
        }
    }

    /// What a change to another state moves.
    pub fn change_to(&self, after: &Desired) -> RingChange {
        let moves = moves::between(&self.ring, &after.ring);
        RingChange { before: self.view(), after: after.view(), moves }
    }

    /// The next generation: the same replicas with other places on the ring.
    fn succeeded_by(
        mut self,
        settings: RingSettings,
        members: Vec<Member>,
    ) -> Result<Self, RingError> {
        for (replica, member) in self.replicas.iter_mut().zip(members) {
            debug_assert_eq!(replica.id(), member.id, "members are in the order of the replicas");
            replica.member = member;
        }
        let generation = Generation(self.generation.0 + 1);
        let next = Self::restore(settings, generation, self.next_id, self.replicas)?;
        let next = next.configured_as(self.configured).registered_as(self.registered);
        Ok(next.made_from(self.revision, self.rejected))
    }
}

/// A replica that is to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Newcomer {
    /// A ring identity that was never used.
    pub id: ReplicaId,
    /// At least 1.
    pub weight: u32,
    /// Its first name.
    pub name: ReplicaName,
    /// Its first instance.
    pub incarnation: Incarnation,
    /// Where it is, if others keep it.
    pub server: Option<Server>,
}
