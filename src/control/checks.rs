//! The results of each instance's heartbeats, for the API. The core does not count them: a heartbeat
//! that changes no health leaves its state, and so its view, unchanged.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use ringmaster_core::fleet::{ids::InstanceId, message::ProbeOutcome, view::FleetView};

/// The heartbeats of one instance so far, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckView {
    /// When the last heartbeat ended, by the wall clock.
    pub last_check: SystemTime,
    /// How long the last heartbeat took, with the time to connect.
    pub response_time: Duration,
    /// Heartbeats that have passed in a row; 0 after one that failed.
    pub healthy_count: u64,
    /// Heartbeats that have failed in a row; 0 after one that passed.
    pub unhealthy_count: u64,
    /// Whether the last heartbeat passed.
    pub has_passed: bool,
}

/// The heartbeats of the instances in the view.
#[derive(Debug, Default)]
pub struct Checks {
    /// `None` before the first heartbeat.
    instances: Mutex<HashMap<InstanceId, Option<CheckView>>>,
}

impl Checks {
    /// The results of an instance's heartbeats; `None` before the first, and when it is gone.
    pub fn of(&self, instance: InstanceId) -> Option<CheckView> {
        self.instances().get(&instance).copied().flatten()
    }

    /// Keeps the instances of this view, and forgets all others.
    pub(super) fn follow(&self, view: &FleetView) {
        let of_replicas = view.replicas.iter().flat_map(|replica| &replica.instances);
        let ids = || of_replicas.clone().chain(&view.joining).map(|instance| instance.id);
        let mut instances = self.instances();
        let known = ids().map(|id| (id, instances.get(&id).copied().flatten()));
        *instances = known.collect();
    }

    /// Counts a heartbeat, unless the instance is gone. `ended` is by the wall clock.
    pub(super) fn record(
        &self,
        instance: InstanceId,
        outcome: &ProbeOutcome,
        ended: SystemTime,
        took: Duration,
    ) {
        let mut instances = self.instances();
        let Some(entry) = instances.get_mut(&instance) else { return };
        let (healthy, unhealthy) =
            entry.map_or((0, 0), |last| (last.healthy_count, last.unhealthy_count));
        let has_passed = *outcome == ProbeOutcome::Passed;
        let count = |before: u64, is_one: bool| if is_one { before.saturating_add(1) } else { 0 };
        *entry = Some(CheckView {
            last_check: ended,
            response_time: took,
            healthy_count: count(healthy, has_passed),
            unhealthy_count: count(unhealthy, !has_passed),
            has_passed,
        });
    }

    fn instances(&self) -> MutexGuard<'_, HashMap<InstanceId, Option<CheckView>>> {
        // Each change is one assignment: a panic elsewhere leaves the map whole.
        self.instances.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use ringmaster_core::fleet::{
        ids::{Incarnation, Moment, ReplicaId, ReplicaName},
        limits::Limits,
        state::Keeper,
        supervisor::{Settings, Supervisor},
        victim::VictimRule,
        view::{InstancePhase, InstanceView},
    };

    use super::*;

    fn id(replica: u32, incarnation: u32) -> InstanceId {
        InstanceId { replica: ReplicaId(replica), incarnation: Incarnation(incarnation) }
    }

    /// A view with these joining instances.
    fn view(ids: &[InstanceId]) -> FleetView {
        let settings = Settings {
            limits: Limits::default(),
            keeper: Keeper::Ringmaster,
            ring: ringmaster_core::ring::RingSettings::default(),
            victim: VictimRule::default(),
            replicas: 0,
            servers: Vec::new(),
            seed: 1,
        };
        let supervisor = Supervisor::new(settings, None, Moment(0)).unwrap();
        let joining = ids.iter().map(|id| InstanceView {
            id: *id,
            name: ReplicaName::new("one").unwrap(),
            phase: InstancePhase::Warming,
            reason: None,
            address: None,
            since: None,
            is_outdated: false,
            last_probe: None,
            handle: None,
        });
        FleetView { joining: joining.collect(), ..FleetView::of(supervisor.state()) }
    }

    #[test]
    fn heartbeats_in_a_row_are_counted() {
        let checks = Checks::default();
        checks.follow(&view(&[id(1, 1), id(2, 1)]));
        assert_eq!(checks.of(id(1, 1)), None);
        let bad = ProbeOutcome::BadAnswer("500".into());
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let mut counts = Vec::new();
        for (second, outcome) in [
            (1, ProbeOutcome::Passed),
            (2, ProbeOutcome::Passed),
            (3, bad.clone()),
            (4, ProbeOutcome::Silent("late".into())),
            (5, ProbeOutcome::NoAnswer("refused".into())),
            (6, ProbeOutcome::Passed),
        ] {
            checks.record(id(1, 1), &outcome, at(second), Duration::from_millis(second));
            let check = checks.of(id(1, 1)).unwrap();
            assert_eq!(check.last_check, at(second));
            assert_eq!(check.response_time, Duration::from_millis(second));
            assert_eq!(check.has_passed, check.healthy_count > 0);
            counts.push((check.healthy_count, check.unhealthy_count));
        }
        assert_eq!(counts, [(1, 0), (2, 0), (0, 1), (0, 2), (0, 3), (1, 0)]);
        assert_eq!(checks.of(id(2, 1)), None);
    }

    #[test]
    fn instances_that_are_gone_are_forgotten_and_late_results_do_not_bring_them_back() {
        let checks = Checks::default();
        let passed = |id| {
            checks.record(id, &ProbeOutcome::Passed, SystemTime::UNIX_EPOCH, Duration::ZERO);
        };
        checks.follow(&view(&[id(1, 1), id(2, 1)]));
        passed(id(1, 1));
        passed(id(2, 1));
        checks.follow(&view(&[id(1, 1), id(2, 2)]));
        assert_eq!(checks.of(id(1, 1)).map(|check| check.healthy_count), Some(1));
        passed(id(2, 1));
        assert_eq!((checks.of(id(2, 1)), checks.of(id(2, 2))), (None, None));
        assert_eq!(checks.instances().len(), 2);
    }
}
