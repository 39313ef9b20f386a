use super::*;

/// Seeds that the ordinary test run plays. `SIM_SEEDS` plays others: `SIM_SEEDS=17..18`.
const SEEDS: std::ops::Range<u64> = 0..1_000;

pub(super) fn seeds_or(ordinary: std::ops::Range<u64>) -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("SIM_SEEDS") else { return ordinary };
    let (from, to) = text.split_once("..").expect("SIM_SEEDS is FROM..TO");
    from.parse().expect("a number")..to.parse().expect("a number")
}

/// Plays all seeds on all cores, and returns what each came to; the first broken one ends the test.
pub(super) fn play<R: Send + 'static>(
    ordinary: std::ops::Range<u64>,
    run: fn(u64) -> Result<R, String>,
) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let all = seeds_or(ordinary);
    let workers: Vec<_> = (0..threads)
        .map(|worker| {
            let seeds = all.clone().filter(move |seed| seed % threads == worker);
            std::thread::spawn(move || seeds.map(run).collect::<Result<Vec<R>, String>>())
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
    reports
}

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
    // The world must be a hard one, or the properties mean nothing.
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
