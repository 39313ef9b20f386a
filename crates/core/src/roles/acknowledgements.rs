//! What the balancers of a fleet have said: which table each routes by, which requests are still
//! open, and whether all of them have the same ring. A supervisor asks it whether an instance may be
//! stopped.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::ids::{Holder, ProcessId, Version};
use crate::fleet::ids::{InstanceId, Moment};

/// A balancer that has not reported for so long is not waited for.
pub const LIVE_FOR: Duration = Duration::from_secs(2);
/// A balancer may have another ring for so long before that is reported: a publication takes its time.
pub const DISAGREE_FOR: Duration = Duration::from_secs(1);
/// Balancers that are kept.
pub const BALANCERS_MAX: usize = 1_000;
/// Instances that one report may name: those of the largest fleet, and as many on their way out.
pub const INSTANCES_MAX: usize = 2 * crate::ring::MEMBERS_MAX;
/// Rings that the fleet has had lately and that are remembered.
const RINGS_MAX: usize = 64;

/// What a balancer says of itself, twice a second and whenever it has acknowledged a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which process.
    pub balancer: ProcessId,
    /// Rises with each of its reports; an earlier one that comes late changes nothing.
    pub number: u64,
    /// All of its workers route by this version or a later one. Read before `in_flight` is counted.
    pub acknowledged: Version,
    /// [`Ring::digest`](crate::ring::Ring::digest) of the ring of that version.
    pub digest: u64,
    /// Open requests, of the instances that have any.
    pub in_flight: BTreeMap<InstanceId, u64>,
    /// Where its admin port is reached; `None`: a program of an older version does not say that.
    pub admin: Option<Arc<str>>,
    /// Proves the address, as [`Holder::authenticator`] does.
    pub authenticator: Option<Arc<str>>,
}

impl Report {
    /// Who has reported, as the record of a lease would name it.
    pub fn process(&self) -> Option<Holder> {
        let (id, authenticator) = (self.balancer.clone(), self.authenticator.clone());
        self.admin.clone().map(|admin| Holder { id, admin, authenticator })
    }
}

/// Why a report does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// More balancers than can be kept.
    #[error("there are {BALANCERS_MAX} balancers already")]
    TooManyBalancers,
    /// More instances than a fleet can have.
    #[error("a report names {0} instances, more than {INSTANCES_MAX}")]
    TooManyInstances(usize),
    /// A later one of the same balancer came before.
    #[error("a later report came before")]
    Late,
}

/// A balancer, as its last report says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// What it said.
    pub report: Report,
    /// When that came.
    pub heard: Moment,
}

/// Whether all live balancers have the ring that was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// Some have had another one for longer than [`DISAGREE_FOR`]. Reported once for each set of them.
    Disagree {
        /// Ordered.
        balancers: Vec<ProcessId>,
    },
    /// They agree again.
    Agree,
}

/// All that the balancers have said since a supervisor began to listen.
#[derive(Clone, Debug)]
pub struct Acknowledgements {
    since: Moment,
    balancers: BTreeMap<ProcessId, Known>,
    /// Digests of the published rings, and when each was replaced; the last one is current.
    rings: VecDeque<(u64, Option<Moment>)>,
    /// Since when a balancer has had another ring than the current one.
    others: BTreeMap<ProcessId, Moment>,
    /// The balancers that disagree, as last reported.
    reported: Vec<ProcessId>,
}

impl Acknowledgements {
    /// Begins to listen. For the first [`LIVE_FOR`] there may be balancers that were not heard yet, so
    /// nothing counts as drained.
    pub fn new(now: Moment) -> Self {
        Self {
            since: now,
            balancers: BTreeMap::new(),
            rings: VecDeque::new(),
            others: BTreeMap::new(),
            reported: Vec::new(),
        }
    }

    /// A balancer has reported.
    ///
    /// # Errors
    /// A report that does not count; nothing is different then.
    pub fn take(&mut self, report: Report, now: Moment) -> Result<(), ReportError> {
        if report.in_flight.len() > INSTANCES_MAX {
            return Err(ReportError::TooManyInstances(report.in_flight.len()));
        }
        match self.balancers.get(&report.balancer) {
            Some(known) if known.report.number >= report.number => return Err(ReportError::Late),
            Some(_) => {}
            None => self.make_room(now)?,
        }
        self.balancers.insert(report.balancer.clone(), Known { report, heard: now });
        Ok(())
    }

    /// A balancer says that it ends: it is not waited for any more.
    pub fn forget(&mut self, balancer: &ProcessId) {
        self.balancers.remove(balancer);
    }

    /// Whether each balancer that lives has had the time to be heard.
    pub fn hears_all(&self, now: Moment) -> bool {
        now.since(self.since) >= LIVE_FOR
    }

    /// The balancers that are waited for.
    pub fn live(&self, now: Moment) -> impl Iterator<Item = &Known> {
        self.balancers.values().filter(move |known| is_live(known, now))
    }

    /// All that are remembered, live or not.
    pub fn all(&self) -> impl Iterator<Item = &Known> {
        self.balancers.values()
    }

    /// Whether no live balancer sends requests to an instance that left the table with a version, nor
    /// has one open.
    pub fn is_drained(&self, instance: InstanceId, gone_since: Version, now: Moment) -> bool {
        let is_done = |known: &Known| {
            known.report.acknowledged >= gone_since
                && !known.report.in_flight.contains_key(&instance)
        };
        self.hears_all(now) && self.live(now).all(is_done)
    }

    /// Whether all live balancers route by a version or a later one.
    pub fn is_acknowledged(&self, version: Version, now: Moment) -> bool {
        self.hears_all(now) && self.live(now).all(|known| known.report.acknowledged >= version)
    }

    /// Open requests of an instance, of all live balancers.
    pub fn in_flight(&self, instance: InstanceId, now: Moment) -> u64 {
        let open = self.live(now).filter_map(|known| known.report.in_flight.get(&instance));
        open.fold(0, |sum, open| sum.saturating_add(*open))
    }

    /// The latest version that any balancer has spoken of. Later than what the supervisor has
    /// published, it is of a later term: see [`Lease::heard`](super::lease::Lease::heard).
    pub fn newest(&self) -> Option<Version> {
        self.balancers.values().map(|known| known.report.acknowledged).max()
    }

    /// When [`Self::is_drained`] or [`Self::agreement`] may change without a report: the next balancer
    /// to be given up, or the end of what was waited for at first.
    pub fn wake_at(&self, now: Moment) -> Option<Moment> {
        let given_up = self.live(now).map(|known| known.heard + LIVE_FOR);
        let begins = Some(self.since + LIVE_FOR).filter(|begins| *begins > now);
        let reported =
            self.others.values().map(|since| *since + DISAGREE_FOR + Duration::from_millis(1));
        given_up.chain(begins).chain(reported.filter(|reported| *reported > now)).min()
    }

    /// A ring was published.
    pub fn published(&mut self, digest: u64, now: Moment) {
        match self.rings.back_mut() {
            Some((current, _)) if *current == digest => return,
            Some((_, replaced)) => *replaced = Some(now),
            None => {}
        }
        self.rings.push_back((digest, None));
        if self.rings.len() > RINGS_MAX {
            self.rings.pop_front();
        }
    }

    /// Compares the rings of the live balancers with the published one; what is different from the
    /// last time that it was reported, if anything is. To be called after each report and each
    /// publication, and when [`Self::wake_at`] says so.
    pub fn agreement(&mut self, now: Moment) -> Option<Agreement> {
        self.compare(now);
        let is_long = |since: &Moment| now.since(*since) > DISAGREE_FOR;
        let others = self.others.iter().filter(|(_, since)| is_long(since));
        let others: Vec<ProcessId> = others.map(|(balancer, _)| balancer.clone()).collect();
        if others == self.reported {
            return None;
        }
        self.reported.clone_from(&others);
        Some(match others.is_empty() {
            true => Agreement::Agree,
            false => Agreement::Disagree { balancers: others },
        })
    }

    /// Brings `others` up to date. A ring that was current a while ago has been another one only since
    /// it was replaced: a balancer that follows at some distance does not disagree.
    fn compare(&mut self, now: Moment) {
        let mut others = std::mem::take(&mut self.others);
        others.retain(|balancer, _| self.balancers.get(balancer).is_some_and(|k| is_live(k, now)));
        let is_current = |digest| self.rings.back().is_none_or(|(current, _)| *current == digest);
        for known in self.balancers.values().filter(|known| is_live(known, now)) {
            let (balancer, digest) = (&known.report.balancer, known.report.digest);
            if is_current(digest) {
                others.remove(balancer);
                continue;
            }
            let of_ring = self.rings.iter().rev().find(|(ring, _)| *ring == digest);
            let replaced = of_ring.and_then(|(_, replaced)| *replaced);
            let since = others.entry(balancer.clone()).or_insert(replaced.unwrap_or(now));
            *since = replaced.map_or(*since, |replaced| replaced.max(*since));
        }
        self.others = others;
    }

    /// Makes room for one more, at the cost of the balancer that has been silent for longest.
    fn make_room(&mut self, now: Moment) -> Result<(), ReportError> {
        if self.balancers.len() < BALANCERS_MAX {
            return Ok(());
        }
        let silent = self.balancers.values().filter(|known| !is_live(known, now));
        let longest = silent.min_by_key(|known| known.heard);
        let longest = longest.map(|known| known.report.balancer.clone());
        let longest = longest.ok_or(ReportError::TooManyBalancers)?;
        self.balancers.remove(&longest);
        Ok(())
    }
}

fn is_live(known: &Known, now: Moment) -> bool {
    now.since(known.heard) < LIVE_FOR
}

#[cfg(test)]
mod tests;
