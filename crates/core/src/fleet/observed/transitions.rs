//! How an instance passes from one phase to the next. Each transition starts from the phases that it
//! is meant for and leaves any other instance as it is; the return value says which it was.

use std::{net::SocketAddr, time::Duration};

use super::instance::{
    EjectReason, Health, Instance, Lookup, Passes, Phase, Probing, StopProgress, Suspicion,
};
use crate::fleet::{
    ids::{Moment, ReplicaName},
    limits::Limits,
    values::{FailureKind, Keeper, StopManner},
};

/// What an ejection took an instance out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Departure {
    /// The table.
    Table,
    /// Its way into the table: it was warming.
    Warming,
    /// Nothing: it was out already, or is on its way out.
    Nothing,
}

/// What a failed request led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Suspected {
    /// A heartbeat is sent at once.
    pub(crate) probes: bool,
    /// The failure is noted, with so many of the same kind before it that were not.
    pub(crate) noted: Option<u32>,
}

impl Phase {
    /// Out of the table, without ever having been in it.
    pub(crate) fn never_admitted(
        address: Option<SocketAddr>,
        reason: EjectReason,
        since: Moment,
    ) -> Self {
        let (admitted_for, passes) = (Duration::ZERO, Passes::InARow(0));
        Self::Ejected { address, since, reason, admitted_for, passes }
    }
}

impl Instance {
    /// An instance of which nothing is known but its phase.
    pub(crate) fn new(name: ReplicaName, keeper: Keeper, phase: Phase, now: Moment) -> Self {
        Self {
            name,
            keeper,
            phase,
            lookup: Lookup::Idle { next: now },
            handle: None,
            known_at: now,
            spec: None,
            image: None,
            probing: Probing::Idle { next: now, suspect: false },
            last_probe: None,
            suspicion: Suspicion::default(),
        }
    }

    /// It listens, and has not passed there yet: its first heartbeat is due.
    pub(crate) fn warm(&mut self, address: SocketAddr, now: Moment) {
        self.phase = Phase::Warming { address, since: now, passes: Passes::Untested };
        self.probe_at(now);
    }

    /// From warming into the table; where it listens.
    pub(crate) fn admit(&mut self, now: Moment) -> Option<SocketAddr> {
        let Phase::Warming { address, .. } = self.phase else { return None };
        let health = Health::Passing { failures: 0 };
        self.phase = Phase::Admitted { address, since: now, health };
        self.last_probe = None;
        Some(address)
    }

    /// Back into the table because it passes; whether it was out and can be reached.
    pub(crate) fn readmit(&mut self, now: Moment) -> bool {
        let Phase::Ejected { address: Some(address), .. } = self.phase else { return false };
        let health = Health::Passing { failures: 0 };
        self.phase = Phase::Admitted { address, since: now, health };
        true
    }

    /// Back into the table although it fails; whether it was out and can be reached.
    pub(crate) fn readmit_failing(&mut self, now: Moment) -> bool {
        let Phase::Ejected { address: Some(address), since, reason, .. } = self.phase else {
            return false;
        };
        self.phase =
            Phase::Admitted { address, since: now, health: Health::Failing { since, reason } };
        true
    }

    /// Out of the table, or kept from entering it, for a reason that heartbeats alone do not take
    /// back.
    pub(crate) fn eject(&mut self, why: EjectReason, now: Moment) -> Departure {
        match &mut self.phase {
            Phase::Admitted { address, since, .. } => {
                self.phase = Phase::Ejected {
                    address: Some(*address),
                    since: now,
                    reason: why,
                    admitted_for: now.since(*since),
                    passes: Passes::InARow(0),
                };
                Departure::Table
            }
            Phase::Ejected { reason, passes, .. } => {
                (*reason, *passes) = (why, Passes::InARow(0));
                Departure::Nothing
            }
            Phase::Warming { address, since, .. } => {
                self.phase = Phase::never_admitted(Some(*address), why, *since);
                Departure::Warming
            }
            Phase::Starting { .. } | Phase::Draining { .. } | Phase::Stopping { .. } => {
                Departure::Nothing
            }
        }
    }

    /// Out of the table because its heartbeats fail; why, if it was in the table and they do.
    pub(crate) fn eject_failing(&mut self, now: Moment) -> Option<EjectReason> {
        let Phase::Admitted { address, since, health: Health::Failing { since: failing, reason } } =
            self.phase
        else {
            return None;
        };
        self.phase = Phase::Ejected {
            address: Some(address),
            since: failing,
            reason,
            admitted_for: now.since(since),
            passes: Passes::InARow(0),
        };
        Some(reason)
    }

    /// It cannot be reached where it was.
    pub(crate) fn forget_address(&mut self) {
        if let Phase::Ejected { address, .. } = &mut self.phase {
            *address = None;
        }
    }

    /// It listens at another address, and must pass there first. `settled`: when the result of a
    /// heartbeat to the old address can no longer come.
    pub(crate) fn relocate(&mut self, to: SocketAddr, settled: Moment, now: Moment) {
        if let Phase::Ejected { address, reason, .. } = &mut self.phase {
            (*address, *reason) = (Some(to), EjectReason::Unreachable);
            self.known_at = now;
            let next = match self.probing {
                Probing::Waiting { .. } => settled,
                Probing::Idle { .. } => now,
            };
            self.probe_at(next);
        }
    }

    /// It is no longer frozen: heartbeats decide again.
    pub(crate) fn unpause(&mut self, now: Moment) {
        if let Phase::Ejected { reason: reason @ EjectReason::Paused, .. } = &mut self.phase {
            *reason = EjectReason::Unreachable;
            self.probe_at(now);
        }
    }

    /// Out of the table for good; its open requests may end until then.
    pub(crate) fn drain(&mut self, until: Moment) {
        self.phase = Phase::Draining { until };
    }

    /// To be stopped; its open requests may end where it can still answer them.
    pub(crate) fn stop(&mut self, manner: StopManner, now: Moment) {
        let may_finish = match self.phase {
            Phase::Draining { .. } => true,
            Phase::Ejected { reason, .. } => EjectReason::can_finish(reason),
            _ => false,
        };
        let progress = StopProgress::Due { manner, not_before: now };
        self.phase = Phase::Stopping { may_finish, progress };
    }

    /// It has ended by itself; what is left of it is to be collected. `false`: the driver that stops
    /// it removes it too.
    pub(crate) fn collect(&mut self, now: Moment) -> bool {
        if matches!(self.phase, Phase::Stopping { .. }) {
            return false;
        }
        let progress = StopProgress::Due { manner: StopManner::Collect, not_before: now };
        self.phase = Phase::Stopping { may_finish: false, progress };
        true
    }

    /// How far its stop is; `None` where none is to be made.
    pub(crate) fn stop_progress(&mut self) -> Option<&mut StopProgress> {
        match &mut self.phase {
            Phase::Stopping { progress, .. } => Some(progress),
            _ => None,
        }
    }

    /// The next heartbeat is due then, and no failed request asks for it.
    pub(crate) fn probe_at(&mut self, next: Moment) {
        self.probing = Probing::Idle { next, suspect: false };
    }

    /// A request to it failed: one heartbeat at once, but no more often than the minimum interval,
    /// since a trickle of failed requests must not turn into heartbeats at the speed of the network.
    pub(crate) fn suspect(&mut self, kind: FailureKind, limits: &Limits, now: Moment) -> Suspected {
        if !self.is_admitted() {
            return Suspected { probes: false, noted: None };
        }
        let suspicion = &mut self.suspicion;
        let probes = now >= suspicion.probe_from && matches!(self.probing, Probing::Idle { .. });
        if probes {
            self.probing = Probing::Idle { next: now, suspect: true };
            suspicion.probe_from = now + limits.suspect_interval;
        }
        if suspicion.kind == Some(kind) && now < suspicion.note_from {
            suspicion.unnoted = suspicion.unnoted.saturating_add(1);
            return Suspected { probes, noted: None };
        }
        let unnoted = std::mem::take(&mut suspicion.unnoted);
        suspicion.kind = Some(kind);
        suspicion.note_from = now + limits.suspect_note_interval;
        Suspected { probes, noted: Some(unnoted) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment(5_000);

    fn address() -> SocketAddr {
        ([10, 0, 0, 1], 80).into()
    }

    fn instance(phase: Phase) -> Instance {
        Instance::new(ReplicaName::numbered(1), Keeper::Ringmaster, phase, Moment(0))
    }

    fn warming() -> Instance {
        let (since, passes) = (Moment(1_000), Passes::Untested);
        instance(Phase::Warming { address: address(), since, passes })
    }

    fn admitted() -> Instance {
        let mut instance = warming();
        instance.admit(Moment(2_000));
        instance
    }

    fn leaving() -> [Instance; 3] {
        let mut stopping = admitted();
        stopping.stop(StopManner::Graceful, NOW);
        let starting = Phase::Starting { since: Moment(0), ended: None };
        [instance(starting), instance(Phase::Draining { until: NOW }), stopping]
    }

    #[test]
    fn an_ejection_says_what_it_took_the_instance_out_of() {
        let (mut from_table, mut from_warming) = (admitted(), warming());
        assert_eq!(from_table.eject(EjectReason::Paused, NOW), Departure::Table);
        assert_eq!(from_table.admitted_for(NOW), Some(Duration::from_secs(3)));
        assert_eq!(from_table.eject(EjectReason::Disconnected, NOW), Departure::Nothing);
        let Phase::Ejected { reason: EjectReason::Disconnected, since: NOW, .. } = from_table.phase
        else {
            panic!("the later reason holds, since the first: {:?}", from_table.phase)
        };
        assert_eq!(from_warming.eject(EjectReason::Paused, NOW), Departure::Warming);
        assert_eq!(from_warming.admitted_for(NOW), Some(Duration::ZERO));
        for mut other in leaving() {
            let before = other.clone();
            assert_eq!(other.eject(EjectReason::Paused, NOW), Departure::Nothing);
            assert_eq!(other, before);
        }
    }

    #[test]
    fn only_what_is_out_and_can_be_reached_comes_back() {
        let mut ejected = admitted();
        ejected.eject(EjectReason::Unreachable, NOW);
        let mut unreachable = ejected.clone();
        unreachable.forget_address();
        assert!(!unreachable.readmit(NOW) && !unreachable.readmit_failing(NOW));
        let mut failing = ejected.clone();
        assert!(failing.readmit_failing(NOW) && failing.is_admitted() && !failing.is_passing());
        assert_eq!(failing.eject_failing(NOW), Some(EjectReason::Unreachable));
        assert!(ejected.readmit(NOW) && ejected.is_passing());
        assert_eq!(ejected.eject_failing(NOW), None, "it passes");
        for mut other in leaving().into_iter().chain([warming(), admitted()]) {
            assert!(!other.readmit(NOW) && !other.readmit_failing(NOW), "{other:?}");
        }
        assert!(leaving().iter_mut().all(|other| other.admit(NOW).is_none()));
    }

    #[test]
    fn requests_end_where_a_stopped_instance_can_still_answer_them() {
        let may_finish = |mut instance: Instance| {
            instance.stop(StopManner::Graceful, NOW);
            matches!(instance.phase, Phase::Stopping { may_finish: true, .. })
        };
        let out = |reason| {
            let mut instance = admitted();
            instance.eject(reason, NOW);
            instance
        };
        assert!(may_finish(instance(Phase::Draining { until: NOW })));
        assert!(may_finish(out(EjectReason::Drained)) && may_finish(out(EjectReason::Failing)));
        assert!(!may_finish(out(EjectReason::Paused)) && !may_finish(warming()));
        let mut stopping = admitted();
        stopping.stop(StopManner::Graceful, NOW);
        assert!(!stopping.collect(NOW), "the driver that stops it removes it too");
        let mut ended = admitted();
        assert!(ended.collect(NOW) && ended.is_leaving());
    }

    #[test]
    fn failed_requests_are_bounded_in_heartbeats_and_notes() {
        let limits = Limits::default();
        let mut instance = admitted();
        let kind = FailureKind::Refused;
        let first = instance.suspect(kind, &limits, NOW);
        assert_eq!(first, Suspected { probes: true, noted: Some(0) });
        for _ in 0..3 {
            let next = instance.suspect(kind, &limits, NOW);
            assert_eq!(next, Suspected { probes: false, noted: None });
        }
        let later = NOW + limits.suspect_note_interval;
        let again = instance.suspect(kind, &limits, later);
        assert_eq!(again, Suspected { probes: true, noted: Some(3) });
        assert_eq!(warming().suspect(kind, &limits, NOW), Suspected { probes: false, noted: None });
    }
}
