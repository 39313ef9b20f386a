//! Several processes of one fleet, with a store that loses and delays messages and is emptied.

use ringmaster_core::fleet::ids::Moment;
use ringmaster_sim::roles::{Report, Scenario, World, run, traffic};

use crate::play;

/// The seeds of an ordinary test run. `SIM_SEEDS` sets others: `SIM_SEEDS=17..18`.
const SEEDS: std::ops::Range<u64> = 0..200;

#[test]
fn every_seed_is_safe_and_agrees_in_the_end() {
    let reports = play(SEEDS, |seed| run(&Scenario::of_seed(seed)));
    let sum = |part: fn(&Report) -> u64| reports.iter().map(part).sum::<u64>();
    let seeds = reports.len() as u64;
    let total = [
        ("turns", sum(|r| r.turns)),
        ("terms", sum(|r| r.terms)),
        ("messages", sum(|r| r.messages)),
        ("starts", sum(|r| r.starts)),
        ("late starts", sum(|r| r.late_starts)),
        ("drains", sum(|r| r.drains)),
        ("refills", sum(|r| r.refills)),
        ("whole reads", sum(|r| r.whole_reads)),
        ("commands done", sum(|r| r.commands_done)),
        ("refused", sum(|r| r.commands_refused)),
    ];
    eprintln!("{seeds} seeds: {total:?}");
    // With few faults the properties would hold trivially.
    assert!(sum(|r| r.terms) > 5 * seeds);
    assert!(sum(|r| r.commands_done) > 2 * seeds);
    assert!(sum(|r| r.drains) > seeds);
    assert!(sum(|r| r.refills) > seeds / 2);
    assert!(sum(|r| r.late_starts) > 0);
    assert!(sum(|r| r.whole_reads) > seeds);
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let play = |seed| run(&Scenario::of_seed(seed)).unwrap();
    for seed in 0..3 {
        assert_eq!(play(seed), play(seed));
    }
    assert_ne!(play(1).trace, play(2).trace);
}

/// The time to a takeover, without other faults, after the leader was killed or has ended.
fn takeover(seed: u64, is_killed: bool) -> u64 {
    let calm = Scenario { faults: 0, trouble: 0.0, ..Scenario::of_seed(seed) };
    let mut world = World::new(&calm);
    world.play(Moment(20_000 + 37 * seed)).unwrap();
    world.check_converged().unwrap();
    world.stop_leader(is_killed).unwrap();
    world.time_to_take_over().unwrap().expect("another takes over")
}

#[test]
fn another_takes_over_within_three_seconds_of_a_death_and_at_once_after_an_end() {
    let all = |is_killed| (0..60).map(|seed| takeover(seed, is_killed)).max().unwrap();
    let (killed, ended) = (all(true), all(false));
    eprintln!("taken over at most {killed} ms after a death, {ended} ms after an end");
    assert!((1_000..=2_500).contains(&killed), "{killed}");
    assert!(ended <= 400, "{ended}");
}

#[test]
fn a_change_costs_what_has_changed_once_for_each_balancer() {
    use ringmaster_core::ring::{Placement, RingSettings};

    let ring =
        || RingSettings { slots: 65_536, placement: Placement::Hash, ..RingSettings::default() };
    let fleet = |replicas, balancers| traffic::Fleet::new(ring(), replicas, balancers).unwrap();
    let mut large = fleet(1_000, 100);
    let (health, add) = (large.eject(1), large.add().unwrap());
    assert!(large.agrees());
    eprintln!("1,000 replicas, 100 balancers: health {health:?}, /add {add:?}");
    assert_eq!((health.messages, add.messages), (100, 100), "a message each, and no question");
    assert!(health.sent_bytes / 100 < 600, "{health:?}");
    assert!(add.sent_bytes / 100 < 1_200, "{add:?}");
    assert!(health.written_bytes < 250_000, "{health:?}");
    // Linear in the balancers and in the changes, independent of the size of the fleet.
    let (small, few) = (fleet(100, 100).eject(1), fleet(1_000, 10).eject(1));
    assert!(health.sent_bytes <= small.sent_bytes * 11 / 10, "{health:?} {small:?}");
    assert_eq!(health.sent_bytes, 10 * few.sent_bytes);
    let (ten, hundred) = (fleet(1_000, 10).eject(10), fleet(1_000, 10).eject(100));
    assert!(hundred.sent_bytes < 10 * ten.sent_bytes, "{ten:?} {hundred:?}");
    assert!(hundred.sent_bytes > 5 * ten.sent_bytes, "{ten:?} {hundred:?}");
}
