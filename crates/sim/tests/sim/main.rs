//! Thousands of virtual hours of faults and commands, each from a seed.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod fleet;
mod roles;

fn seeds_or(ordinary: std::ops::Range<u64>) -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("SIM_SEEDS") else { return ordinary };
    let (from, to) = text.split_once("..").expect("SIM_SEEDS is FROM..TO");
    from.parse().expect("a number")..to.parse().expect("a number")
}

/// Runs all seeds on all cores and returns their reports. The first broken one fails the test.
fn play<R: Send + 'static>(
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
