//! What the store of a fleet decides by, as a value: who has the lease, and which writes count. A real
//! store decides the same in one atomic script each; this is what those are compared with, and what the
//! simulation plays.
//!
//! | asked | done, else refused |
//! |---|---|
//! | acquire | the lease is free, or this process's own from an earlier request; the next fence is above all that were given out or that the process has heard of |
//! | the same, of an empty store | nothing for a `ttl`: somebody may hold a lease that was forgotten |
//! | renew | it is this process's under this fence; or the store was emptied since, or has heard of lower fences only |
//! | release | it is this process's under this fence; that fence is then as good as used up |
//! | write | its fence is the highest, it is not older than what is there, and no generation goes back |

use std::time::Duration;

use super::{
    ids::{Fence, Holder, RequestId, Version},
    lease::{Ask, Reply, Request, Stored},
};
use crate::fleet::ids::{Generation, Moment};

/// The store's side of a fleet. Moments are those of its own clock.
#[derive(Clone, Debug)]
pub struct Arbiter {
    ttl: Duration,
    /// The highest fence given out or shown; `None`: the store is empty.
    fence: Option<Fence>,
    lease: Option<Entry>,
    state: Option<(Version, Generation)>,
    table: Option<Version>,
}

#[derive(Clone, Debug)]
struct Entry {
    /// `None`: the store was emptied, and waits for who may hold a lease.
    term: Option<Term>,
    until: Moment,
}

#[derive(Clone, Debug)]
struct Term {
    holder: Holder,
    /// Which request it was given to.
    request: RequestId,
    fence: Fence,
}

/// Why a write does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Somebody else has had the lease since.
    #[error("fence {} is not the highest, which is {}", .own.0, .highest.0)]
    Fenced {
        /// Under which it was written.
        own: Fence,
        /// What the store has heard of.
        highest: Fence,
    },
    /// The store was emptied; it counts again after the next renewal.
    #[error("the store is empty and no lease is renewed yet")]
    Empty,
    /// A newer one is there.
    #[error("a newer version is stored")]
    Older,
    /// It would take back a committed change.
    #[error("generation {} would take the place of {}", .new.0, .stored.0)]
    GoesBack {
        /// What is there.
        stored: Generation,
        /// What was to be written.
        new: Generation,
    },
}

impl Arbiter {
    /// An empty store.
    pub fn new(ttl: Duration) -> Self {
        Self { ttl, fence: None, lease: None, state: None, table: None }
    }

    /// Decides a request about the lease.
    pub fn ask(&mut self, who: &Holder, request: &Request, now: Moment) -> Reply {
        if self.lease.as_ref().is_some_and(|entry| entry.until <= now) {
            self.lease = None;
        }
        match request.ask {
            Ask::Acquire { at_least } => self.acquire(who, request.id, at_least, now),
            Ask::Renew { fence } => self.renew(who, fence, now),
            Ask::Release { fence } => {
                if self.is_held_by(who, fence) {
                    self.lease = None;
                    // A renewal that was under way comes too late.
                    self.fence = Some(Fence(fence.0.saturating_add(1)));
                }
                self.refusal()
            }
        }
    }

    /// Takes in a committed state. The same one again is no other.
    ///
    /// # Errors
    /// [`Refusal`]; what is there stays.
    pub fn write(&mut self, version: Version, generation: Generation) -> Result<(), Refusal> {
        self.is_newest(version, self.state.map(|(version, _)| version))?;
        match self.state {
            Some((_, stored)) if generation < stored => {
                return Err(Refusal::GoesBack { stored, new: generation });
            }
            _ => {}
        }
        self.state = Some((version, generation));
        Ok(())
    }

    /// Takes in a routing table. The same one again is no other.
    ///
    /// # Errors
    /// [`Refusal`]; what is there stays.
    pub fn publish(&mut self, version: Version) -> Result<(), Refusal> {
        self.is_newest(version, self.table)?;
        self.table = Some(version);
        Ok(())
    }

    /// Loses everything.
    pub fn empty(&mut self) {
        *self = Self::new(self.ttl);
    }

    /// What it holds.
    pub fn stored(&self) -> Stored {
        Stored { state: self.state.map(|(version, _)| version), table: self.table }
    }

    /// Who holds the lease, and under which fence.
    pub fn holder(&self, now: Moment) -> Option<(&Holder, Fence)> {
        let entry = self.lease.as_ref().filter(|entry| entry.until > now)?;
        entry.term.as_ref().map(|term| (&term.holder, term.fence))
    }

    fn acquire(&mut self, who: &Holder, request: RequestId, at_least: Fence, now: Moment) -> Reply {
        let until = now + self.ttl;
        let Some(highest) = self.fence else {
            self.fence = Some(at_least);
            self.lease = Some(Entry { term: None, until });
            return self.refusal();
        };
        // A process that asks does not act: what it was given before is its own to take back.
        let is_free = match &self.lease {
            None => true,
            Some(Entry { term: None, .. }) => false,
            Some(Entry { term: Some(term), .. }) => {
                term.holder.id == who.id && term.request < request
            }
        };
        if !is_free {
            return self.refusal();
        }
        let fence = Fence(highest.max(at_least).0.saturating_add(1));
        let term = Term { holder: who.clone(), request, fence };
        self.fence = Some(fence);
        self.lease = Some(Entry { term: Some(term), until });
        Reply::Granted { fence }
    }

    fn renew(&mut self, who: &Holder, fence: Fence, now: Moment) -> Reply {
        let is_waiting = matches!(self.lease, Some(Entry { term: None, .. }));
        let may_return = match self.fence {
            None => true,
            Some(highest) => fence > highest || (is_waiting && fence == highest),
        };
        if !self.is_held_by(who, fence) && !may_return {
            return self.refusal();
        }
        self.fence = Some(fence);
        let until = now + self.ttl;
        match &mut self.lease {
            Some(entry) if !may_return => entry.until = until,
            // The number of no request: each that asks after this is a later one.
            lease => {
                let term = Term { holder: who.clone(), request: RequestId(0), fence };
                *lease = Some(Entry { term: Some(term), until });
            }
        }
        Reply::Renewed { stored: self.stored() }
    }

    fn is_held_by(&self, who: &Holder, fence: Fence) -> bool {
        let term = self.lease.as_ref().and_then(|entry| entry.term.as_ref());
        term.is_some_and(|term| term.holder.id == who.id && term.fence == fence)
    }

    fn refusal(&self) -> Reply {
        let term = self.lease.as_ref().and_then(|entry| entry.term.as_ref());
        Reply::Refused {
            by: term.map(|term| term.holder.clone()),
            fence: self.fence.unwrap_or_default(),
        }
    }

    fn is_newest(&self, version: Version, stored: Option<Version>) -> Result<(), Refusal> {
        match self.fence {
            None => Err(Refusal::Empty),
            Some(highest) if version.fence != highest => {
                Err(Refusal::Fenced { own: version.fence, highest })
            }
            Some(_) if stored.is_some_and(|stored| stored > version) => Err(Refusal::Older),
            Some(_) => Ok(()),
        }
    }
}
