//! What should be: the committed desired state. The state file holds exactly this.

use std::sync::Arc;

use super::{
    command::RingView,
    ids::{Generation, Incarnation, InstanceId, ReplicaId, ReplicaName},
};
use crate::ring::{Member, Ring, RingError, RingSettings, moves, placement};

/// The committed desired state of a fleet. Its ring is always valid.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    generation: Generation,
    next_id: ReplicaId,
    replicas: Vec<Replica>,
    ring: Arc<Ring>,
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
        let ring = Arc::new(Ring::new(settings, members)?);
        let above = replicas.iter().map(|replica| replica.id().0.saturating_add(1)).max();
        let next_id = ReplicaId(next_id.0.max(above.unwrap_or(1)));
        Ok(Self { generation, next_id, replicas, ring })
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
        self.replicas.iter().find(|replica| replica.id() == id)
    }

    /// The state with newcomers, one generation later. They are placed one after the other, in the
    /// given order, so the result does not depend on when they became ready.
    ///
    /// # Errors
    /// [`RingError::Full`] when they do not fit.
    pub fn with(&self, newcomers: &[Newcomer]) -> Result<Self, RingError> {
        let mut next = self.clone();
        for newcomer in newcomers {
            let member = placement::place(&next.ring, newcomer.id, newcomer.weight)?;
            next.replicas.push(Replica {
                member,
                name: newcomer.name.clone(),
                incarnation: newcomer.incarnation,
            });
            next = next.rebuilt(self.ring.settings().clone())?;
        }
        next.generation.0 += 1;
        Ok(next)
    }

    /// The state without some replicas, one generation later.
    pub fn without(&self, ids: &[ReplicaId]) -> Self {
        let mut next = self.clone();
        next.replicas.retain(|replica| !ids.contains(&replica.id()));
        next.generation.0 += 1;
        match next.clone().rebuilt(self.ring.settings().clone()) {
            Ok(next) => next,
            // Fewer members of a valid ring are a valid ring.
            Err(error) => unreachable!("a removal cannot invalidate a ring: {error}"),
        }
    }

    /// The same replicas, in the same order, placed anew on a ring of other settings.
    ///
    /// # Errors
    /// [`RingError::Full`] when they do not fit.
    pub fn on_ring(&self, settings: RingSettings) -> Result<Self, RingError> {
        let mut next = Self::restore(settings, self.generation, self.next_id, Vec::new())?;
        for replica in &self.replicas {
            let member = placement::place(&next.ring, replica.id(), replica.member.weight)?;
            next.replicas.push(Replica { member, ..replica.clone() });
            let settings = next.ring.settings().clone();
            next = next.rebuilt(settings)?;
        }
        next.generation.0 += 1;
        Ok(next)
    }

    /// Notes that a replica now runs as another instance. The ring and the generation stay.
    pub fn set_instance(&mut self, instance: InstanceId, name: ReplicaName) {
        let replica = self.replicas.iter_mut().find(|replica| replica.id() == instance.replica);
        if let Some(replica) = replica {
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
    pub fn moves_to(&self, after: &Desired) -> moves::Moves {
        moves::between(&self.ring, &after.ring)
    }

    fn rebuilt(self, settings: RingSettings) -> Result<Self, RingError> {
        Self::restore(settings, self.generation, self.next_id, self.replicas)
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
}
