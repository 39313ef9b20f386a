//! One supervisor, with all faults.

use ringmaster_sim::{Report, Scenario, run};

use crate::play;

/// The seeds of an ordinary test run. `SIM_SEEDS` sets others: `SIM_SEEDS=17..18`.
const SEEDS: std::ops::Range<u64> = 0..1_000;

#[test]
fn every_seed_is_safe_and_heals() {
    let reports = play(SEEDS, |seed| run(&Scenario::of_seed(seed)));
    let sum = |part: fn(&Report) -> u64| reports.iter().map(part).sum::<u64>();
    let seeds = reports.len() as u64;
    eprintln!(
        "{seeds} seeds: {} turns, {} starts, {} commands done, {} refused, {} runs, {} with their replicas",
        sum(|r| r.turns),
        sum(|r| r.starts),
        sum(|r| r.commands_done),
        sum(|r| r.commands_refused),
        sum(|r| u64::from(r.epochs)),
        sum(|r| r.ends),
    );
    // With few faults or commands the properties would hold trivially.
    assert!(sum(|r| r.commands_done) > 10 * seeds);
    assert!(sum(|r| r.commands_refused) > seeds);
    assert!(sum(|r| u64::from(r.epochs)) > 10 * seeds);
    assert!(sum(|r| r.ends) > seeds);
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..5 {
        let play = || run(&Scenario::of_seed(seed)).unwrap();
        assert_eq!(play(), play());
    }
    let trace = |seed| run(&Scenario::of_seed(seed)).unwrap().trace;
    assert_ne!(trace(1), trace(7));
}
