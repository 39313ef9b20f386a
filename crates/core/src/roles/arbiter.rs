//! What the store of a fleet decides by, as a value: which process has the lease, and which writes
//! count. A real store decides the same in one atomic script each; this is what those are compared
//! with, and what the simulation plays.
//!
//! | asked | done, else refused |
//! |---|---|
//! | acquire | the lease is free, or this process's own from an earlier request; the next fence is above all that were given out or that the process has heard of |
//! | renew | it is this process's under this fence. A lease that has only expired is not renewed: its holder has given it up already |
//! | release | it is this process's under this fence |
//! | write | the lease is held under its fence, it is not older than what is there, and no generation goes back from one term to the next |
//!
//! A store that was emptied is *quiet* for a `ttl` from when it is first asked: there may be a holder
//! that it has forgotten. It grants nothing to any process then, whatever is released or ends, and a
//! renewal gives a lease back, if its fence is higher than all that others have shown. After that time
//! a holder has renewed, or its lease has ended. Fences go on from the time in milliseconds, which is
//! above all that were given out before: there were fewer terms than that.

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
    quiet: Option<Quiet>,
    lease: Option<HeldLease>,
    state: Option<(Version, Generation)>,
    table: Option<Version>,
}

/// The store was emptied.
#[derive(Clone, Copy, Debug)]
struct Quiet {
    until: Moment,
    /// The highest fence that a process has shown since.
    shown: Fence,
}

#[derive(Clone, Debug)]
struct HeldLease {
    holder: Holder,
    /// The last request that it was given or renewed to.
    request: RequestId,
    fence: Fence,
    until: Moment,
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
        Self { ttl, fence: None, quiet: None, lease: None, state: None, table: None }
    }

    /// Decides a request about the lease.
    pub fn ask(&mut self, who: &Holder, request: &Request, now: Moment) -> Reply {
        self.lease = self.lease.take().filter(|entry| entry.until > now);
        self.quiet = self.quiet.filter(|quiet| quiet.until > now);
        if self.fence.is_none() {
            self.fence = Some(Fence(now.0));
            self.quiet = Some(Quiet { until: now + self.ttl, shown: Fence::default() });
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

    /// The holder of the lease, and its fence.
    pub fn holder(&self, now: Moment) -> Option<(&Holder, Fence)> {
        let entry = self.lease.as_ref().filter(|entry| entry.until > now)?;
        Some((&entry.holder, entry.fence))
    }

    fn acquire(&mut self, who: &Holder, request: RequestId, at_least: Fence, now: Moment) -> Reply {
        if let Some(quiet) = &mut self.quiet {
            quiet.shown = quiet.shown.max(at_least);
            return self.refusal();
        }
        // A process that asks does not act: what it was given before is its own to take back.
        let is_own = |entry: &HeldLease| entry.holder.id == who.id && entry.request < request;
        if !self.lease.as_ref().is_none_or(is_own) {
            return self.refusal();
        }
        let highest = self.fence.unwrap_or_default().max(at_least);
        let fence = Fence(highest.0.saturating_add(1));
        self.give(who, request, fence, now);
        Reply::Granted { fence }
    }

    fn renew(&mut self, who: &Holder, request: RequestId, fence: Fence, now: Moment) -> Reply {
        let is_back = self.quiet.is_some_and(|quiet| fence >= quiet.shown);
        // Higher than all: the store has gone back to an older state.
        let may_return = is_back || self.fence < Some(fence);
        if !self.is_held_by(who, fence) && !may_return {
            return self.refusal();
        }
        if let Some(quiet) = &mut self.quiet {
            quiet.shown = quiet.shown.max(fence);
        }
        // With its number, so that an earlier request to acquire that comes late takes nothing over.
        self.give(who, request, fence, now);
        Reply::Renewed { stored: self.stored() }
    }

    fn give(&mut self, who: &Holder, request: RequestId, fence: Fence, now: Moment) {
        self.fence = self.fence.max(Some(fence));
        let until = now + self.ttl;
        self.lease = Some(HeldLease { holder: who.clone(), request, fence, until });
    }

    fn is_held_by(&self, who: &Holder, fence: Fence) -> bool {
        let is_it = |entry: &HeldLease| entry.holder.id == who.id && entry.fence == fence;
        self.lease.as_ref().is_some_and(is_it)
    }

    fn refusal(&self) -> Reply {
        let entry = self.lease.as_ref();
        Reply::Refused {
            by: entry.map(|entry| entry.holder.clone()),
            fence: entry.map(|entry| entry.fence).unwrap_or_default(),
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
