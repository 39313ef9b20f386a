//! Scale commands and their results.

use super::{
    ids::{Generation, ReplicaId, ReplicaName},
    server::{Registration, ServerChange},
};
use crate::ring::{RingOptions, moves::Moves};

/// Numbers the commands of one run of the balancer; chosen by the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u64);

/// A command, and whether it is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What to do.
    pub command: ScaleCommand,
    /// `true`: change nothing and answer what would change.
    pub dry_run: bool,
}

/// Changes the replicas or their ring. Counts and names refer to the *desired* replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScaleCommand {
    /// `n` more; the first bear the given names, the others drawn ones.
    Add {
        /// How many, at least 1.
        n: usize,
        /// At most `n`, valid and distinct.
        names: Vec<ReplicaName>,
        /// Weight of each, at least 1.
        weight: u32,
    },
    /// `n` fewer: the named ones first, then those not in service, then by the victim rule.
    Remove {
        /// How many, at least 1; more than there are removes all.
        n: usize,
        /// At most `n`, valid and distinct.
        names: Vec<ReplicaName>,
    },
    /// Another weight.
    Reweigh {
        /// The replica's name.
        name: ReplicaName,
        /// At least 1.
        weight: u32,
    },
    /// Other settings of the ring.
    SetRing(RingOptions),
    /// Servers that others keep join the ring: when each was checked once, well or not, or has not
    /// been within a second. Answered by [`Done::Added`]; [`ScaleCommand::Remove`] takes them out.
    Register(Vec<Registration>),
    /// A registered server is somewhere else, or has another weight.
    ChangeServer {
        /// The replica's name.
        name: ReplicaName,
        /// What becomes different.
        change: ServerChange,
    },
    /// A replica gets no requests any more, and keeps its place on the ring; or gets them again.
    /// Open requests go on.
    SetDrained {
        /// The replica's name.
        name: ReplicaName,
        /// Whether it is out.
        is_drained: bool,
    },
    /// A verdict on the health of a replica, as if a heartbeat had just said so. It holds until the
    /// next heartbeats say otherwise. Answered by [`Done::Marked`].
    SetHealth {
        /// The replica's name.
        name: ReplicaName,
        /// Whether it is taken for healthy.
        is_healthy: bool,
    },
    /// Tries again what was given up: a roll that was stopped, and starts that wait for their
    /// back-off.
    Retry,
}

impl ScaleCommand {
    /// Checks what can be checked without knowing the fleet.
    ///
    /// # Errors
    /// See [`ScaleError`].
    pub fn add(n: usize, names: Vec<ReplicaName>, weight: u32) -> Result<Self, ScaleError> {
        match check(n, &names) {
            Err(ScaleError::MoreNames { .. }) => Err(ScaleError::MoreNames { adding: true }),
            Ok(()) if weight == 0 => Err(ScaleError::NotAWeight),
            other => other.map(|()| Self::Add { n, names, weight }),
        }
    }

    /// Checks what can be checked without knowing the fleet.
    ///
    /// # Errors
    /// See [`ScaleError`].
    pub fn reweigh(name: ReplicaName, weight: u32) -> Result<Self, ScaleError> {
        if weight == 0 { Err(ScaleError::NotAWeight) } else { Ok(Self::Reweigh { name, weight }) }
    }

    /// Checks what can be checked without knowing the fleet.
    ///
    /// # Errors
    /// See [`ScaleError`].
    pub fn remove(n: usize, names: Vec<ReplicaName>) -> Result<Self, ScaleError> {
        check(n, &names).map(|()| Self::Remove { n, names })
    }
}

fn check(n: usize, names: &[ReplicaName]) -> Result<(), ScaleError> {
    if n == 0 {
        return Err(ScaleError::NotACount);
    }
    if names.len() > n {
        return Err(ScaleError::MoreNames { adding: false });
    }
    for (at, name) in names.iter().enumerate() {
        let earlier = names[..at].iter().find(|earlier| earlier.is_same_host(name));
        match earlier {
            Some(earlier) if earlier == name => return Err(ScaleError::Duplicate(name.clone())),
            Some(earlier) => {
                let (name, other) = (name.clone(), earlier.clone());
                return Err(ScaleError::DuplicateHost { name, other });
            }
            None => {}
        }
    }
    Ok(())
}

/// What a command led to.
pub type CommandResult = Result<Done, ScaleError>;

/// A command that was carried out, or would have been.
#[derive(Clone, Debug, PartialEq)]
pub enum Done {
    /// Newcomers are in service.
    Added(Vec<ReplicaName>),
    /// They are out of the ring, drained and gone.
    Removed(Vec<ReplicaName>),
    /// The ring or a weight is another from now on.
    Changed(Box<RingChange>),
    /// What was given up is tried again.
    Retried {
        /// Whether a roll had been stopped.
        roll: bool,
        /// Replicas whose next start was waiting.
        waiting: usize,
    },
    /// The verdict was taken in.
    Marked,
    /// What would change.
    Preview(Box<RingChange>),
}

/// What a command changes, or would change.
#[derive(Clone, Debug, PartialEq)]
pub struct RingChange {
    /// The ring before it.
    pub before: RingView,
    /// The ring after it.
    pub after: RingView,
    /// Which replica gives which keys to which.
    pub moves: Moves,
}

impl RingChange {
    /// The name of a replica before the change, or after it.
    pub fn name_of(&self, id: ReplicaId) -> Option<&ReplicaName> {
        self.before.name_of(id).or_else(|| self.after.name_of(id))
    }
}

/// A ring with the names of its replicas, for people and machines outside.
#[derive(Clone, Debug, PartialEq)]
pub struct RingView {
    /// Version of the desired state.
    pub generation: Generation,
    /// The ring.
    pub ring: std::sync::Arc<crate::ring::Ring>,
    /// Names by member index.
    pub names: Vec<ReplicaName>,
}

impl RingView {
    /// The name of a replica on this ring.
    pub fn name_of(&self, id: ReplicaId) -> Option<&ReplicaName> {
        self.names.get(self.ring.index_of(id)?.0 as usize)
    }
}

/// Why a command was refused or given up. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScaleError {
    /// `n` below 1.
    #[error("'n' must be an integer of at least 1")]
    NotACount,
    /// A weight below 1.
    #[error("'weight' must be an integer of at least 1")]
    NotAWeight,
    /// Ring settings that cannot be.
    #[error("{0}")]
    BadRing(String),
    /// More names than replicas.
    #[error(
        "Length of hostname list is more than {}",
        if *adding { "newly added instances" } else { "removable instances" }
    )]
    MoreNames {
        /// Whether it was an addition.
        adding: bool,
    },
    /// A name given twice.
    #[error("duplicate hostname '{0}'")]
    Duplicate(ReplicaName),
    /// An addition of a name in service.
    #[error("replica '{0}' already exists")]
    Exists(ReplicaName),
    /// A name given twice, but for upper and lower case.
    #[error("duplicate hostname '{name}': '{other}' is the same hostname")]
    DuplicateHost {
        /// The later one.
        name: ReplicaName,
        /// The earlier one.
        other: ReplicaName,
    },
    /// An addition of a name in service, but for upper and lower case.
    #[error("replica '{name}' already exists: '{other}' is the same hostname")]
    HostExists {
        /// As it was given.
        name: ReplicaName,
        /// In service.
        other: ReplicaName,
    },
    /// A name that the engine does not allow.
    #[error("{0}")]
    BadName(String),
    /// The name of a container of others.
    #[error("'{0}' is the name of another container")]
    Foreign(ReplicaName),
    /// A removal of an unknown name.
    #[error("'{0}' is not a replica")]
    Unknown(ReplicaName),
    /// The ring or a limit has no room.
    #[error("{0}")]
    NoRoom(String),
    /// A removal that would leave too few.
    #[error(
        "{leave} of {have} replicas cannot go: `replicas_min` keeps at least {least} in the fleet"
    )]
    TooFew {
        /// How many would go.
        leave: usize,
        /// How many are desired.
        have: usize,
        /// How many must stay.
        least: usize,
    },
    /// This fleet has no driver that could start replicas.
    #[error(
        "this fleet starts no replicas: its driver is `static`; servers are registered with POST /api/servers or --upstream"
    )]
    Static,
    /// The change of a place of a replica that we keep.
    #[error("replica '{0}' is started by the balancer, which knows its address")]
    NotRegistered(ReplicaName),
    /// A host or port that cannot be.
    #[error("{0}")]
    BadPlace(String),
    /// A place where another server is registered.
    #[error("'{place}' is the address of '{other}' already")]
    PlaceTaken {
        /// As it was given.
        place: String,
        /// The server that is registered there.
        other: ReplicaName,
    },
    /// A place where this balancer itself listens.
    #[error("'{0}' is a port of this balancer, which would get its own requests back")]
    OwnPort(String),
    /// A start failed; what had started was removed again.
    #[error("{0}")]
    StartFailed(String),
    /// The state could not be written; nothing was changed.
    #[error("the state could not be written: {0}")]
    NotPersisted(String),
    /// Too many commands wait already.
    #[error("too many commands are waiting ({0}); try again later")]
    QueueFull(usize),
    /// The engine cannot be asked.
    #[error("{0}")]
    EngineAway(String),
    /// It was committed, but its end could not be seen in time.
    #[error("{0}")]
    Unfinished(String),
    /// The balancer is shutting down.
    #[error("the balancer is shutting down")]
    ShuttingDown,
}

impl ScaleError {
    /// Whether the request was impossible, as opposed to something that failed.
    pub fn is_callers_fault(&self) -> bool {
        match self {
            Self::NotACount
            | Self::NotAWeight
            | Self::BadRing(_)
            | Self::MoreNames { .. }
            | Self::Duplicate(_)
            | Self::Exists(_)
            | Self::DuplicateHost { .. }
            | Self::HostExists { .. }
            | Self::BadName(_)
            | Self::Foreign(_)
            | Self::Unknown(_)
            | Self::NoRoom(_)
            | Self::TooFew { .. }
            | Self::NotRegistered(_)
            | Self::BadPlace(_)
            | Self::PlaceTaken { .. }
            | Self::OwnPort(_)
            | Self::Static => true,
            Self::StartFailed(_)
            | Self::NotPersisted(_)
            | Self::QueueFull(_)
            | Self::EngineAway(_)
            | Self::Unfinished(_)
            | Self::ShuttingDown => false,
        }
    }
}
