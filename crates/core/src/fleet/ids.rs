//! Identities: one newtype for each number or name with a meaning.

use std::{fmt, sync::Arc, time::Duration};

pub use crate::ring::{RingId as ReplicaId, Slot};

/// One concrete run of a replica, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u32);

impl Incarnation {
    /// The first run of a replica.
    pub const FIRST: Incarnation = Incarnation(1);

    /// The one after it.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Names an instance for ever: every effect and every result carries it, so that a late result can
/// be distinguished from a current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId {
    /// The replica that runs.
    pub replica: ReplicaId,
    /// The number of the run.
    pub incarnation: Incarnation,
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.replica.0, self.incarnation.0)
    }
}

/// Version of the desired state; rises with each committed scale command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

/// A point in time: milliseconds since the balancer started. The core never asks a clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// The time between two moments, zero if `earlier` is later.
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, duration: Duration) -> Moment {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Moment(self.0.saturating_add(millis))
    }
}

/// The name of a replica's current instance, without the fleet: `[A-Za-z0-9][A-Za-z0-9_.-]{0,62}`.
/// An engine may ask for more; see [`NameRule`](super::names::NameRule).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaName(Arc<str>);

/// A name that no replica could bear.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a valid name: 1 to 63 letters, digits, '_', '.' or '-', the first a letter or digit"
)]
pub struct NameError(String);

impl ReplicaName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`NameError`] with the name, cut to 80 characters.
    pub fn new(name: &str) -> Result<Self, NameError> {
        let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        let first_fits = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        if (1..=63).contains(&name.len()) && first_fits && name.bytes().all(inner) {
            Ok(Self(name.into()))
        } else {
            Err(NameError(name.chars().take(80).collect()))
        }
    }

    /// Whether it is the same hostname: upper and lower case make no difference there.
    pub fn is_same_host(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }

    /// `server_<number>`: the names that the balancer gives by itself.
    pub fn numbered(number: u32) -> Self {
        Self(format!("server_{number}").into())
    }

    /// The bare name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReplicaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a driver finds an instance again: opaque to the core (a container's id, a process's number).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(pub Arc<str>);

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Digest of what an instance was started from: image, port, environment, command.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpecDigest(pub Arc<str>);

/// What an engine calls one build of an image: unlike a tag it never names another build. Opaque to
/// the core.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageId(pub Arc<str>);

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_hostnames() {
        for good in ["a", "S5", "server_1", "a.b-c_d", "0x", &"a".repeat(63)] {
            assert_eq!(ReplicaName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "-", "-ab", ".ab", "_ab", "a b", "a/b", "ä2", "a\n", &"a".repeat(64)] {
            assert!(ReplicaName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn moments_saturate() {
        assert_eq!(Moment(3).since(Moment(5)), Duration::ZERO);
        assert_eq!(Moment(u64::MAX) + Duration::MAX, Moment(u64::MAX));
    }
}
