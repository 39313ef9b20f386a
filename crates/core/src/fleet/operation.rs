//! The running scale command. One at a time; the others wait.

use super::{
    command::{CommandId, ScaleError},
    desired::{Desired, Newcomer},
    ids::{Moment, ReplicaId, ReplicaName},
    message::WriteId,
    notes::Cause,
    server::ServerChange,
};
use crate::ring::{Member, RingError, RingSettings};

/// A scale command on its way.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// Newcomers start and warm outside the ring until all pass.
    Adding {
        /// The command that waits for the result.
        command: CommandId,
        /// In the order in which they will be placed, which is that of their identities.
        newcomers: Vec<Newcomer>,
        /// Their places on the ring, in the same order.
        places: Vec<Member>,
        /// The first of them bear names that the caller gave.
        named: usize,
        /// How far it is.
        stage: AddStage,
    },
    /// Replicas leave the ring, drain and go.
    Removing {
        /// The command that waits for the result.
        command: CommandId,
        /// The replicas that leave.
        ids: Vec<ReplicaId>,
        /// Their names, for the result.
        names: Vec<ReplicaName>,
        /// How far it is.
        stage: RemoveStage,
    },
    /// The ring or a replica becomes another. Nothing is started or stopped by us.
    Changing {
        /// The command that waits for the result.
        command: CommandId,
        /// What changes.
        change: FleetChange,
        /// How far it is.
        stage: ChangeStage,
    },
}

/// A change of the ring or of one replica. Nothing is started or stopped by us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FleetChange {
    /// Of a weight.
    Weight {
        /// The replica.
        id: ReplicaId,
        /// At least 1.
        weight: u32,
    },
    /// Of the settings.
    Ring(RingSettings),
    /// Of where a registered server is, or of its weight.
    Server {
        /// The replica.
        id: ReplicaId,
        /// What becomes different; checked.
        change: ServerChange,
    },
    /// Of whether a replica gets requests.
    Drained {
        /// The replica.
        id: ReplicaId,
        /// Whether it gets none.
        is_drained: bool,
    },
}

impl FleetChange {
    /// Which replica it is about, and what it is called in notes and metrics.
    pub fn subject(&self) -> (Cause, Option<ReplicaId>) {
        match self {
            Self::Weight { id, .. } => (Cause::Weight, Some(*id)),
            Self::Ring(_) => (Cause::Ring, None),
            Self::Server { id, .. } => (Cause::Server, Some(*id)),
            Self::Drained { id, is_drained: true } => (Cause::Drain, Some(*id)),
            Self::Drained { id, is_drained: false } => (Cause::Enable, Some(*id)),
        }
    }

    /// The state that it leads to.
    ///
    /// # Errors
    /// No room.
    pub fn apply(&self, desired: &Desired) -> Result<Desired, RingError> {
        match self {
            Self::Weight { id, weight } => desired.reweighed(*id, *weight),
            Self::Ring(settings) => desired.on_ring(settings.clone()),
            Self::Server { id, change } => desired.with_server(*id, change),
            Self::Drained { id, is_drained } => desired.with_drained(*id, *is_drained),
        }
    }
}

/// How far a change of the ring is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeStage {
    /// Waits for an earlier write to end.
    Accepted,
    /// The new state is being written.
    Writing(WriteId),
}

/// How far an addition is.
#[derive(Clone, Debug, PartialEq)]
pub enum AddStage {
    /// Newcomers start and warm.
    Warming {
        /// When the addition is given up.
        deadline: Moment,
    },
    /// The new state is being written.
    Writing(WriteId),
    /// It is given up: what was started is removed.
    RollingBack {
        /// The answer.
        error: ScaleError,
        /// When it is given even if something is still there.
        deadline: Moment,
    },
}

/// How far a removal is.
#[derive(Clone, Debug, PartialEq)]
pub enum RemoveStage {
    /// Waits for an earlier write to end.
    Accepted,
    /// The new state is being written.
    Writing(WriteId),
    /// Committed: they drain and stop.
    Leaving {
        /// When the answer is given even if something is still there.
        deadline: Moment,
    },
}

impl Operation {
    /// The command that waits for the result.
    pub fn command(&self) -> CommandId {
        match self {
            Self::Adding { command, .. }
            | Self::Removing { command, .. }
            | Self::Changing { command, .. } => *command,
        }
    }

    /// What it is called in notes, metrics and views.
    pub fn cause(&self) -> Cause {
        match self {
            Self::Adding { newcomers, .. } => {
                let are_servers = newcomers.iter().any(|newcomer| newcomer.server.is_some());
                if are_servers { Cause::Register } else { Cause::Add }
            }
            Self::Removing { .. } => Cause::Remove,
            Self::Changing { change, .. } => change.subject().0,
        }
    }

    /// Whether a replica is a newcomer that may still join.
    pub fn awaits(&self, id: ReplicaId) -> bool {
        match self {
            Self::Adding { stage: AddStage::RollingBack { .. }, .. }
            | Self::Removing { .. }
            | Self::Changing { .. } => false,
            Self::Adding { newcomers, .. } => by_id(newcomers, id).is_some(),
        }
    }

    /// A replica that may still join.
    pub fn newcomer(&self, id: ReplicaId) -> Option<&Newcomer> {
        match self {
            Self::Adding { newcomers, .. } if self.awaits(id) => by_id(newcomers, id),
            _ => None,
        }
    }

    /// Whether a newcomer bears a name.
    pub fn reserves(&self, name: &ReplicaName) -> bool {
        match self {
            Self::Adding { newcomers, .. } => newcomers.iter().any(|n| &n.name == name),
            Self::Removing { .. } | Self::Changing { .. } => false,
        }
    }

    /// The write that it waits for.
    pub fn write(&self) -> Option<WriteId> {
        match self {
            Self::Adding { stage: AddStage::Writing(write), .. }
            | Self::Removing { stage: RemoveStage::Writing(write), .. }
            | Self::Changing { stage: ChangeStage::Writing(write), .. } => Some(*write),
            _ => None,
        }
    }
}

/// Identities are drawn upwards, so newcomers lie in their order. Each plan asks for every instance
/// whether it is one of them: by scanning, an addition of many would cost their number squared.
fn by_id(newcomers: &[Newcomer], id: ReplicaId) -> Option<&Newcomer> {
    let at = newcomers.binary_search_by_key(&id, |newcomer| newcomer.id).ok()?;
    newcomers.get(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::ids::Incarnation;

    #[test]
    fn each_newcomer_is_found_by_its_identity_until_the_addition_is_given_up() {
        let newcomers = [3, 4, 5, 9].map(|id| Newcomer {
            id: ReplicaId(id),
            weight: 1,
            name: ReplicaName::numbered(id),
            incarnation: Incarnation::FIRST,
            server: None,
        });
        let stage = AddStage::Warming { deadline: Moment(1) };
        let mut adding = Operation::Adding {
            command: CommandId(1),
            newcomers: newcomers.to_vec(),
            places: Vec::new(),
            named: 0,
            stage,
        };
        for id in 1..=10 {
            let expected = newcomers.iter().find(|newcomer| newcomer.id == ReplicaId(id));
            assert_eq!(adding.newcomer(ReplicaId(id)), expected, "{id}");
            assert_eq!(adding.awaits(ReplicaId(id)), expected.is_some(), "{id}");
        }
        if let Operation::Adding { stage, .. } = &mut adding {
            *stage = AddStage::RollingBack { error: ScaleError::ShuttingDown, deadline: Moment(1) };
        }
        assert!(!adding.awaits(ReplicaId(3)) && adding.newcomer(ReplicaId(3)).is_none());
    }
}
