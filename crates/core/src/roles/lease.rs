//! Holding the lease of a fleet: the part of one process in it, as a state machine.
//!
//! # What holds
//!
//! 1. *One at a time.* While [`Lease::may_act`] gives a fence in one process, it gives none in any
//!    other. The store counts the time of a lease from the arrival of a request; the process counts it
//!    from before the request was sent, and takes [`Timing::margin`] off. So it ends here first, however
//!    long request and reply were under way.
//! 2. *One term, one fence.* Each time that a process begins to act, it does so under a
//!    [`Fence`] that was never given out before and is higher than all others. Whatever is written
//!    carries it, and [`arbiter`](super::arbiter) refuses what carries a lower one: a request that was
//!    under way when the lease ended changes nothing.
//! 3. *No wait without need.* After the death of the holder the next acts within
//!    `ttl + 1.25 · poll_every` and a request; after [`Lease::release`] within `1.25 · poll_every`.
//!
//! # Under which assumptions
//!
//! - Moments are those of the process's own clock that only rises; clocks of two machines are never
//!   compared. Their *rates*, and that of the store's clock, differ by less than `margin / ttl` (an
//!   eighth), and the store's clock does not jump ahead by more than the margin.
//! - An effect is begun only while `may_act`, asked right before, and has a deadline of its own at the
//!   engine. What was begun in time may still arrive later: it bears its incarnation, so that the next
//!   supervisor finds it in a list and adopts or removes it. The margin is also what a process may lose
//!   between the question and the beginning. A machine that is suspended with its clock standing still
//!   is beyond that; its writes are refused all the same.
//! - The store keeps what it has, or loses all of it. An emptied one grants nothing for a whole `ttl`,
//!   but gives the lease back to a holder that renews it: a living holder goes on, and if there is none,
//!   its lease has ended by then. A store that went back to an older state (a replica that lagged
//!   behind and was promoted) may give the lease out twice for up to a `ttl`; the fences then still
//!   show which was later, as far as a process has [heard](Lease::heard) of them.

use std::time::Duration;

use super::ids::{Fence, Holder, RequestId, Version};
use crate::fleet::ids::Moment;

/// Intervals and deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long the store keeps a lease that is not renewed.
    pub ttl: Duration,
    /// From one renewal to the next.
    pub renew_every: Duration,
    /// From a renewal that failed at once to the next.
    pub retry_after: Duration,
    /// So long before the end of the lease the holder stops acting.
    pub margin: Duration,
    /// From one question of a standby to the next, give or take a quarter.
    pub poll_every: Duration,
    /// When a request without a reply is taken as lost.
    pub request_deadline: Duration,
}

impl Default for Timing {
    /// Three renewals may be lost one after the other before the lease is.
    fn default() -> Self {
        Self {
            ttl: Duration::from_millis(2_000),
            renew_every: Duration::from_millis(500),
            retry_after: Duration::from_millis(100),
            margin: Duration::from_millis(250),
            poll_every: Duration::from_millis(250),
            request_deadline: Duration::from_millis(400),
        }
    }
}

/// What the store is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Comes back with the reply.
    pub id: RequestId,
    /// What for.
    pub ask: Ask,
    /// When a reply is of no use any more.
    pub deadline: Moment,
}

/// The kinds of requests; see [`Arbiter`](super::arbiter::Arbiter) for what each does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The lease, if it is free.
    Acquire {
        /// The highest fence that this process has heard of; the next is above it.
        at_least: Fence,
    },
    /// The lease for another `ttl`.
    Renew {
        /// Of this term.
        fence: Fence,
    },
    /// Nothing any more; its reply is not waited for.
    Release {
        /// Of this term.
        fence: Fence,
    },
}

/// What the store says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The lease is yours, as a new term.
    Granted {
        /// Above all that were given out before.
        fence: Fence,
    },
    /// The lease is yours for another `ttl`.
    Renewed {
        /// What the store holds now.
        stored: Stored,
    },
    /// The lease is not yours.
    Refused {
        /// The process that has it; `None`: it is free, or not known yet because the store was emptied.
        by: Option<Holder>,
        /// Theirs.
        fence: Fence,
    },
    /// The store cannot be reached, or answered with an error. What was asked for may have happened.
    Failed,
}

/// What a store holds, said with each renewal: less than was written means that it was emptied, and
/// has to be filled again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// The committed state.
    pub state: Option<Version>,
    /// The full routing table.
    pub table: Option<Version>,
}

/// What came of an input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// To be sent now.
    pub send: Option<Request>,
    /// What is different now.
    pub change: Option<LeaseChange>,
    /// With a renewal: what the store holds.
    pub stored: Option<Stored>,
    /// When [`Lease::tick`] wants to be called at the latest; `None`: it is over.
    pub wake_at: Option<Moment>,
}

/// Whether this process acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// From now on. The state is to be loaded after this, never before.
    Won(Fence),
    /// Not any more: nothing may be begun from now on.
    Lost {
        /// The term that has ended.
        fence: Fence,
        /// Why.
        why: Loss,
    },
}

/// Why a term has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// No renewal was confirmed in time.
    Expired,
    /// The store says that it is another's, or was.
    Taken(Option<Holder>),
    /// A higher fence exists: the store has gone back to an older state.
    Outranked(Fence),
    /// It was given back.
    Released,
}

/// One process's part in the lease of a fleet.
#[derive(Clone, Debug)]
pub struct Lease {
    me: Holder,
    timing: Timing,
    /// The highest fence heard of.
    known: Fence,
    role: Role,
    under_way: Option<RequestUnderWay>,
    requests: u64,
    /// The holder by the last reply, and when that came.
    other: Option<(Holder, Moment)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Standby { acquire_at: Moment },
    Holder { fence: Fence, until: Moment, renew_at: Moment },
    Ended,
}

/// The one request under way.
#[derive(Clone, Copy, Debug)]
struct RequestUnderWay {
    id: RequestId,
    sent: Moment,
    deadline: Moment,
}

impl Lease {
    /// A process that wants the lease and does not have it. `known` is the highest fence that it has
    /// heard of before, for instance from the copy of a state.
    pub fn new(me: Holder, known: Fence, timing: Timing, now: Moment) -> Self {
        let role = Role::Standby { acquire_at: now };
        Self { me, timing, known, role, under_way: None, requests: 0, other: None }
    }

    /// The fence to act under; `None`: nothing may be begun. Ask right before each effect.
    pub fn may_act(&self, now: Moment) -> Option<Fence> {
        match self.role {
            Role::Holder { fence, until, .. } if now < until => Some(fence),
            _ => None,
        }
    }

    /// The process that has the lease, as far as is known: this one, or the holder that the store
    /// named within the last `ttl`.
    pub fn holder(&self, now: Moment) -> Option<&Holder> {
        if self.may_act(now).is_some() {
            return Some(&self.me);
        }
        let recent = |heard: Moment| now.since(heard) < self.timing.ttl;
        self.other.as_ref().filter(|(_, heard)| recent(*heard)).map(|(holder, _)| holder)
    }

    /// The highest fence heard of.
    pub fn known(&self) -> Fence {
        self.known
    }

    /// Time has passed. `jitter`, from 0 to 1, keeps standbys from asking in step.
    pub fn tick(&mut self, now: Moment, jitter: f64) -> Step {
        let change = self.expire(now, jitter);
        self.give_up_lost(now, jitter);
        self.step(change, now)
    }

    /// The store has replied. Late replies, and those to an earlier request, change nothing.
    pub fn replied(&mut self, id: RequestId, reply: Reply, now: Moment, jitter: f64) -> Step {
        let expired = self.expire(now, jitter);
        self.give_up_lost(now, jitter);
        let Some(under_way) = self.under_way.filter(|under_way| under_way.id == id) else {
            return self.step(expired, now);
        };
        self.under_way = None;
        let stored = match &reply {
            Reply::Renewed { stored } => Some(*stored),
            _ => None,
        };
        let change = self.take_in(under_way, reply, now, jitter);
        Step { stored, ..self.step(change.or(expired), now) }
    }

    /// A process has acted under a fence. A holder of a lower one gives its lease back, to come again
    /// with a higher one: balancers do not go back to lower fences.
    pub fn heard(&mut self, fence: Fence, now: Moment) -> Step {
        self.known = self.known.max(fence);
        let expired = self.expire(now, 0.5);
        match self.role {
            Role::Holder { fence: own, .. } if own < fence => {
                self.role = Role::Standby { acquire_at: now + self.timing.retry_after };
                self.give_back(own, Loss::Outranked(fence), now)
            }
            _ => self.step(expired, now),
        }
    }

    /// The store lets it be known that the lease is free: a standby asks at once.
    pub fn nudge(&mut self, now: Moment) -> Step {
        let expired = self.expire(now, 0.5);
        if let Role::Standby { acquire_at } = &mut self.role {
            *acquire_at = now.min(*acquire_at);
        }
        self.step(expired, now)
    }

    /// The process ends: it acts no more, and wants the lease no more.
    pub fn release(&mut self, now: Moment) -> Step {
        match std::mem::replace(&mut self.role, Role::Ended) {
            Role::Holder { fence, .. } => self.give_back(fence, Loss::Released, now),
            Role::Standby { .. } | Role::Ended => Step::default(),
        }
    }

    fn give_back(&mut self, fence: Fence, why: Loss, now: Moment) -> Step {
        let request = self.request(Ask::Release { fence }, now);
        // Nothing depends on its reply.
        self.under_way = None;
        let change = Some(LeaseChange::Lost { fence, why });
        Step { send: Some(request), change, stored: None, wake_at: self.wake_at() }
    }

    fn take_in(
        &mut self,
        under_way: RequestUnderWay,
        reply: Reply,
        now: Moment,
        jitter: f64,
    ) -> Option<LeaseChange> {
        let until = self.end_of(under_way.sent);
        match (reply, self.role) {
            // A store that gave out a fence for the second time is asked again for a higher one.
            (Reply::Granted { fence }, Role::Standby { .. }) if fence <= self.known => {
                self.role = Role::Standby { acquire_at: self.later(now, jitter) };
                None
            }
            (Reply::Granted { fence }, Role::Standby { .. }) => {
                self.known = fence;
                if now >= until {
                    self.role = Role::Standby { acquire_at: now };
                    return None;
                }
                let renew_at = under_way.sent + self.timing.renew_every;
                self.role = Role::Holder { fence, until, renew_at };
                self.other = None;
                Some(LeaseChange::Won(fence))
            }
            (Reply::Renewed { .. }, Role::Holder { fence, .. }) => {
                let renew_at = under_way.sent + self.timing.renew_every;
                self.role = Role::Holder { fence, until, renew_at };
                None
            }
            (Reply::Refused { by, fence: highest }, role) => {
                self.known = self.known.max(highest);
                self.other = by.clone().map(|holder| (holder, now));
                self.role = Role::Standby { acquire_at: self.later(now, jitter) };
                match role {
                    Role::Holder { fence, .. } => {
                        Some(LeaseChange::Lost { fence, why: Loss::Taken(by) })
                    }
                    _ => None,
                }
            }
            (Reply::Failed, Role::Holder { fence, until, .. }) => {
                let renew_at = now.max(under_way.sent + self.timing.retry_after);
                self.role = Role::Holder { fence, until, renew_at };
                None
            }
            (Reply::Failed, Role::Standby { .. }) => {
                self.role = Role::Standby { acquire_at: self.later(now, jitter) };
                None
            }
            // A store that answers what was not asked says nothing.
            (Reply::Granted { .. } | Reply::Renewed { .. } | Reply::Failed, _) => None,
        }
    }

    /// When a lease ends that was asked for at a moment.
    fn end_of(&self, sent: Moment) -> Moment {
        sent + self.timing.ttl.saturating_sub(self.timing.margin)
    }

    fn later(&self, now: Moment, jitter: f64) -> Moment {
        let part = 0.75 + 0.5 * jitter.clamp(0.0, 1.0);
        now + self.timing.poll_every.mul_f64(part)
    }

    fn expire(&mut self, now: Moment, jitter: f64) -> Option<LeaseChange> {
        let Role::Holder { fence, until, .. } = self.role else { return None };
        if now < until {
            return None;
        }
        // Whatever is under way comes too late.
        self.under_way = None;
        self.role = Role::Standby { acquire_at: self.later(now, jitter) };
        Some(LeaseChange::Lost { fence, why: Loss::Expired })
    }

    /// A request without a reply in time: the holder asks again at once, a standby when its turn comes.
    fn give_up_lost(&mut self, now: Moment, jitter: f64) {
        if self.under_way.is_none_or(|under_way| now < under_way.deadline) {
            return;
        }
        self.under_way = None;
        self.role = match self.role {
            Role::Holder { fence, until, .. } => Role::Holder { fence, until, renew_at: now },
            Role::Standby { .. } => Role::Standby { acquire_at: self.later(now, jitter) },
            Role::Ended => Role::Ended,
        };
    }

    fn step(&mut self, change: Option<LeaseChange>, now: Moment) -> Step {
        let due = match self.role {
            Role::Standby { acquire_at } if acquire_at <= now => {
                Some(Ask::Acquire { at_least: self.known })
            }
            Role::Holder { fence, renew_at, .. } if renew_at <= now => Some(Ask::Renew { fence }),
            _ => None,
        };
        let due = due.filter(|_| self.under_way.is_none());
        let send = due.map(|ask| self.request(ask, now));
        Step { send, change, stored: None, wake_at: self.wake_at() }
    }

    fn request(&mut self, ask: Ask, now: Moment) -> Request {
        self.requests += 1;
        let id = RequestId(self.requests);
        let deadline = now + self.timing.request_deadline;
        self.under_way = Some(RequestUnderWay { id, sent: now, deadline });
        Request { id, ask, deadline }
    }

    fn wake_at(&self) -> Option<Moment> {
        let lost_at = self.under_way.map(|under_way| under_way.deadline);
        match self.role {
            Role::Ended => None,
            Role::Standby { acquire_at } => Some(lost_at.unwrap_or(acquire_at)),
            Role::Holder { until, renew_at, .. } => Some(until.min(lost_at.unwrap_or(renew_at))),
        }
    }
}

#[cfg(test)]
mod tests;
