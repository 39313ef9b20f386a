use super::{super::ids::Fence, *};
use crate::fleet::ids::{Incarnation, ReplicaId};

const BEGIN: Moment = Moment(10_000);

fn at(ms: u64) -> Moment {
    Moment(BEGIN.0 + ms)
}

fn version(number: u64) -> Version {
    Version { fence: Fence(1), number }
}

fn id(name: &str) -> ProcessId {
    ProcessId(name.into())
}

fn instance(replica: u32) -> InstanceId {
    InstanceId { replica: ReplicaId(replica), incarnation: Incarnation::FIRST }
}

fn report(name: &str, number: u64, acknowledged: u64, open: &[(u32, u64)]) -> Report {
    Report {
        balancer: id(name),
        number,
        acknowledged: version(acknowledged),
        digest: 7,
        in_flight: open.iter().map(|(replica, open)| (instance(*replica), *open)).collect(),
        admin: None,
        authenticator: None,
    }
}

#[test]
fn a_drain_waits_for_every_live_balancer_and_its_last_request() {
    let mut heard = Acknowledgements::new(BEGIN);
    let drained = |heard: &Acknowledgements, ms| heard.is_drained(instance(1), version(5), at(ms));
    // One that was not heard yet may route to it.
    assert!(!drained(&heard, 1_999));
    assert!(drained(&heard, 2_000));
    heard.take(report("a", 1, 5, &[]), at(2_000)).unwrap();
    heard.take(report("b", 1, 4, &[]), at(2_000)).unwrap();
    assert!(!drained(&heard, 2_100), "b routes by an older table");
    heard.take(report("b", 2, 5, &[(1, 3), (2, 1)]), at(2_200)).unwrap();
    assert!(!drained(&heard, 2_300), "b has requests open");
    assert_eq!(heard.in_flight(instance(1), at(2_300)), 3);
    heard.take(report("b", 3, 6, &[(2, 1)]), at(2_400)).unwrap();
    assert!(drained(&heard, 2_500));
    assert_eq!(heard.newest(), Some(version(6)));
}

#[test]
fn a_silent_balancer_is_not_waited_for() {
    let mut heard = Acknowledgements::new(BEGIN);
    heard.take(report("a", 1, 4, &[(1, 1)]), at(2_000)).unwrap();
    assert!(!heard.is_drained(instance(1), version(5), at(3_999)));
    assert_eq!(heard.wake_at(at(3_999)), Some(at(4_000)));
    assert!(heard.is_drained(instance(1), version(5), at(4_000)));
    assert_eq!((heard.live(at(4_000)).count(), heard.all().count()), (0, 1));
    // One that comes back, or comes anew, counts with what it says.
    heard.take(report("a", 2, 4, &[]), at(5_000)).unwrap();
    assert!(!heard.is_acknowledged(version(5), at(5_000)));
    heard.forget(&id("a"));
    assert!(heard.is_acknowledged(version(5), at(5_000)));
}

#[test]
fn late_reports_change_nothing() {
    let mut heard = Acknowledgements::new(BEGIN);
    heard.take(report("a", 5, 5, &[(1, 1)]), at(2_000)).unwrap();
    assert_eq!(heard.take(report("a", 4, 5, &[]), at(3_000)), Err(ReportError::Late));
    assert_eq!(heard.take(report("a", 5, 5, &[]), at(3_000)), Err(ReportError::Late));
    assert!(!heard.is_drained(instance(1), version(5), at(3_000)));
    assert_eq!(heard.live(at(4_000)).count(), 0, "nor do they keep it alive");
}

#[test]
fn there_is_a_bound_and_the_longest_silent_makes_room() {
    let mut heard = Acknowledgements::new(BEGIN);
    for n in 0..BALANCERS_MAX {
        heard.take(report(&n.to_string(), 1, 1, &[]), at(n as u64)).unwrap();
    }
    let refused = heard.take(report("new", 1, 1, &[]), at(1_500));
    assert_eq!(refused, Err(ReportError::TooManyBalancers));
    heard.take(report("5", 2, 1, &[]), at(1_500)).unwrap();
    heard.take(report("new", 1, 1, &[]), at(2_003)).unwrap();
    assert_eq!(heard.all().count(), BALANCERS_MAX);
    assert!(
        !heard.all().any(|known| known.report.balancer == id("0")),
        "it was silent for longest"
    );
    let many = Report {
        in_flight: (0..=INSTANCES_MAX as u32).map(|n| (instance(n), 1)).collect(),
        ..report("5", 3, 1, &[])
    };
    assert!(matches!(heard.take(many, at(2_003)), Err(ReportError::TooManyInstances(_))));
}

#[test]
fn a_disagreement_is_told_once_after_a_second() {
    let mut heard = Acknowledgements::new(BEGIN);
    heard.published(7, at(0));
    let say = |heard: &mut Acknowledgements, name: &str, number, digest, ms| {
        heard.take(Report { digest, ..report(name, number, 1, &[]) }, at(ms)).unwrap();
        heard.agreement(at(ms))
    };
    assert_eq!(say(&mut heard, "a", 1, 7, 0), None);
    assert_eq!(say(&mut heard, "b", 1, 8, 100), None);
    assert_eq!(heard.wake_at(at(100)), Some(at(1_101)));
    assert_eq!(say(&mut heard, "b", 2, 8, 1_100), None);
    let told = Agreement::Disagree { balancers: vec![id("b")] };
    assert_eq!(say(&mut heard, "b", 3, 8, 1_101), Some(told));
    assert_eq!(say(&mut heard, "b", 4, 8, 1_900), None);
    assert_eq!(say(&mut heard, "b", 5, 7, 2_000), Some(Agreement::Agree));
    assert_eq!(heard.agreement(at(2_000)), None);
    // The end of one is the end of its disagreement.
    assert_eq!(say(&mut heard, "b", 6, 8, 2_100), None);
    assert!(say(&mut heard, "b", 7, 8, 3_200).is_some());
    assert_eq!(heard.agreement(at(5_200)), Some(Agreement::Agree));
}

#[test]
fn who_follows_at_some_distance_does_not_disagree() {
    let mut heard = Acknowledgements::new(BEGIN);
    let mut number = 0;
    // A new ring twice a second, and one that is always one behind.
    for n in 1..40 {
        heard.published(n, at(500 * n));
        number += 1;
        let digest = n - 1;
        let behind = Report { digest, ..report("a", number, n, &[]) };
        heard.take(behind, at(500 * n + 100)).unwrap();
        if n > 1 {
            assert_eq!(heard.agreement(at(500 * n + 100)), None, "{n}");
        }
    }
    // One that stays with a ring that was replaced long ago does.
    let behind = Report { digest: 30, ..report("b", 1, 1, &[]) };
    heard.take(behind, at(20_000)).unwrap();
    let told = Agreement::Disagree { balancers: vec![id("b")] };
    assert_eq!(heard.agreement(at(20_000)), Some(told));
}
