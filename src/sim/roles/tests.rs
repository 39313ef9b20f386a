use super::*;
use crate::sim::tests::seeds_or;

/// Seeds that the ordinary test run plays. `SIM_SEEDS` plays others: `SIM_SEEDS=17..18`.
const SEEDS: std::ops::Range<u64> = 0..200;

#[test]
fn every_seed_is_safe_and_agrees_in_the_end() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let all = seeds_or(SEEDS);
    let workers: Vec<_> = (0..threads)
        .map(|worker| {
            let seeds = all.clone().filter(move |seed| seed % threads == worker);
            std::thread::spawn(move || {
                seeds
                    .map(|seed| run(&Scenario::of_seed(seed)))
                    .collect::<Result<Vec<Report>, String>>()
            })
        })
        .collect();
    let results: Vec<_> = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
    let mut reports = Vec::new();
    for result in results {
        match result {
            Ok(played) => reports.extend(played),
            Err(broken) => panic!("{broken}"),
        }
    }
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
    // The world must be a hard one, or the properties mean nothing.
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
