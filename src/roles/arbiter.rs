//! What the store of a fleet decides by, as a value: who has the lease, and which writes count. A real
//! store decides the same in one atomic script each; this is what those are compared with, and what the
//! simulation plays.
//!
//! | asked | done, else refused |
//! |---|---|
//! | acquire | the lease is free, or this process's own from an earlier request; the next fence is above all that were given out or that the process has heard of |
//! | the same, of an empty store | nothing for a `ttl`: somebody may hold a lease that was forgotten. Fences go on from the time in milliseconds, which is above all that were given out before: there were fewer terms than that |
//! | renew | it is this process's under this fence; or the store was emptied since, and nobody has shown a higher one. One that has only expired is not renewed: its holder has given it up already |
//! | release | it is this process's under this fence |
//! | write | the lease is held under its fence, it is not older than what is there, and no generation goes back from one term to the next |

use std::time::Duration;

use super::{
    ids::{Fence, Holder, RequestId, Version},
    lease::{Ask, Reply, Request, Stored},
};
use crate::fleet::ids::{Generation, Moment};

/// The store's side of a fleet. Moments are those of its own clock, from a zero that stays the same
/// when it is restarted.
#[derive(Clone, Debug)]
pub struct Arbiter {
    ttl: Duration,
    /// None that was given out is higher; `None`: the store is empty.
    fence: Option<Fence>,
    lease: Option<Entry>,
    state: Option<(Version, Generation)>,
    table: Option<Version>,
}

#[derive(Clone, Debug)]
struct Entry {
    term: Result<Term, AwaitsHolder>,
    until: Moment,
}

/// The store was emptied: whoever holds a lease has it back under no lower fence than this one.
#[derive(Clone, Copy, Debug)]
struct AwaitsHolder(Fence);

#[derive(Clone, Debug)]
struct Term {
    holder: Holder,
    /// The last request that it was given or renewed to.
    request: RequestId,
    fence: Fence,
}

/// Why a write does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The lease is held under another fence, or not at all: it was lost, or the store was emptied
    /// and counts again after the next renewal.
    #[error("the lease is not held under fence {}", .0.0)]
    Fenced(Fence),
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
            Ask::Renew { fence } => self.renew(who, request.id, fence, now),
            Ask::Release { fence } => {
                if self.is_held_by(who, fence) {
                    self.lease = None;
                }
                self.refusal()
            }
        }
    }

    /// Takes in a committed state. The same one again is no other.
    ///
    /// # Errors
    /// [`Refusal`]; what is there stays.
    pub fn write(
        &mut self,
        version: Version,
        generation: Generation,
        now: Moment,
    ) -> Result<(), Refusal> {
        self.may_write(version, self.state.map(|(version, _)| version), now)?;
        match self.state {
            // In a term a change may be taken back whose write was taken for lost.
            Some((last, stored)) if last.fence < version.fence && generation < stored => {
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
    pub fn publish(&mut self, version: Version, now: Moment) -> Result<(), Refusal> {
        self.may_write(version, self.table, now)?;
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
        entry.term.as_ref().ok().map(|term| (&term.holder, term.fence))
    }

    fn acquire(&mut self, who: &Holder, request: RequestId, at_least: Fence, now: Moment) -> Reply {
        let until = now + self.ttl;
        let Some(highest) = self.fence else {
            self.fence = Some(at_least.max(Fence(now.0)));
            self.lease = Some(Entry { term: Err(AwaitsHolder(at_least)), until });
            return self.refusal();
        };
        // A process that asks does not act: what it was given before is its own to take back.
        let is_free = match self.lease.as_mut().map(|entry| &mut entry.term) {
            None => true,
            Some(Err(awaits)) => {
                awaits.0 = awaits.0.max(at_least);
                false
            }
            Some(Ok(term)) => term.holder.id == who.id && term.request < request,
        };
        if !is_free {
            return self.refusal();
        }
        let fence = Fence(highest.max(at_least).0.saturating_add(1));
        self.fence = Some(fence);
        self.lease = Some(Entry { term: Ok(Term { holder: who.clone(), request, fence }), until });
        Reply::Granted { fence }
    }

    fn renew(&mut self, who: &Holder, request: RequestId, fence: Fence, now: Moment) -> Reply {
        let until = now + self.ttl;
        let may_return = match (self.fence, self.lease.as_ref().map(|entry| &entry.term)) {
            (None, _) => true,
            (Some(_), Some(Err(awaits))) => fence >= awaits.0,
            // It went back to an older state.
            (Some(highest), _) => fence > highest,
        };
        if !self.is_held_by(who, fence) {
            if !may_return {
                return self.refusal();
            }
            self.fence = self.fence.max(Some(fence)).max(Some(Fence(now.0)));
        }
        // An earlier request to acquire that comes late takes nothing over.
        self.lease = Some(Entry { term: Ok(Term { holder: who.clone(), request, fence }), until });
        Reply::Renewed { stored: self.stored() }
    }

    fn is_held_by(&self, who: &Holder, fence: Fence) -> bool {
        self.lease.as_ref().is_some_and(|entry| entry.is_held_by(who, fence))
    }

    fn refusal(&self) -> Reply {
        let term = self.lease.as_ref().and_then(|entry| entry.term.as_ref().ok());
        Reply::Refused {
            by: term.map(|term| term.holder.clone()),
            fence: term.map(|term| term.fence).unwrap_or_default(),
        }
    }

    fn may_write(
        &self,
        version: Version,
        stored: Option<Version>,
        now: Moment,
    ) -> Result<(), Refusal> {
        match self.holder(now) {
            Some((_, fence)) if fence == version.fence => {}
            _ => return Err(Refusal::Fenced(version.fence)),
        }
        match stored.is_some_and(|stored| stored > version) {
            true => Err(Refusal::Older),
            false => Ok(()),
        }
    }
}

impl Entry {
    fn is_held_by(&self, who: &Holder, fence: Fence) -> bool {
        let is_it = |term: &Term| term.holder.id == who.id && term.fence == fence;
        self.term.as_ref().is_ok_and(is_it)
    }
}
