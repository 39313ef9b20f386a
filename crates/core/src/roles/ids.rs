//! Identities of processes, terms and what is published.

use std::sync::Arc;

/// The number of a term: rises with each, never used twice. 0 is before all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence(pub u64);

/// One run of a process; another one after a restart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId(pub Arc<str>);

/// A process that has, or wants, the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Which process.
    pub id: ProcessId,
    /// Where its admin port is reached, `HOST:PORT`.
    pub admin: Arc<str>,
    /// Proves to processes with the same admin token that the rest is its own word; `None`: it has
    /// no token.
    pub authenticator: Option<Arc<str>>,
}

/// Numbers the requests of a process, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Orders what is published: first by the term, then in it. What is of a later term is newer, whatever
/// its number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The term in which it was published.
    pub fence: Fence,
    /// Rises with each in a term, from 1.
    pub number: u64,
}
