//! How even the shares are: growing, after removals, scaling, and under bounded load.

use anyhow::{Context, Result};
use rand::RngExt;
use ringmaster::simulate;
use ringmaster_core::ring::explain::{most_even_victim, without};
use ringmaster_core::ring::{Algorithm, Ring, RingId, RingOptions};

use super::{Row, chance, grown, joined, peak, settings};

/// Placement depends on the identities, so figures are the worst of so many ranges of them.
pub(super) const OFFSETS: u32 = 40;
/// Between two ranges of identities.
const APART: u32 = 1_000;
/// Remove and add, so often.
const PAIRS: u32 = 1_000;

/// First and last N of a band, and its goal.
const GROWTH: [(u32, u32, f64); 4] =
    [(1, 10, 1.04), (11, 16, 1.10), (17, 32, 1.08), (33, 56, 1.13)];
/// N, the goal after a removal, and that after the next addition.
const CHURN: [(u32, f64, f64); 5] =
    [(3, 1.01, 1.01), (5, 1.03, 1.01), (10, 1.07, 1.02), (20, 1.12, 1.03), (40, 1.15, 1.03)];
const SCALE_GOAL: f64 = 1.07;

pub(super) fn rows() -> Result<Vec<Row>> {
    let mut rows = growth()?;
    rows.extend(churn()?);
    rows.push(scale("newest", |ring| ring.members().last().map(|member| member.id))?);
    rows.push(scale("most_even_after", |ring| {
        let all: Vec<RingId> = ring.members().iter().map(|member| member.id).collect();
        most_even_victim(ring, &all)
    })?);
    rows.push(slots()?);
    rows.push(bounded()?);
    Ok(rows)
}

pub(super) fn first_id(offset: u32) -> u32 {
    offset * APART + 1
}

fn growth() -> Result<Vec<Row>> {
    let mut worst = [0.0f64; GROWTH.len()];
    for offset in 0..OFFSETS {
        let mut ring = Ring::new(settings(Algorithm::Ring), Vec::new())?;
        for n in 1..=56 {
            ring = joined(&ring, RingId(first_id(offset) + n - 1), 1)?;
            for (&(first, last, _), worst) in GROWTH.iter().zip(&mut worst) {
                if (first..=last).contains(&n) {
                    *worst = worst.max(peak(&ring));
                }
            }
        }
    }
    let rows = GROWTH.iter().zip(worst).map(|(&(first, last, goal), worst)| Row {
        figure: format!("peak-to-average, growing, N {first} to {last}"),
        goal: format!("≤ {goal:.2}"),
        measured: format!("{worst:.4} worst of {OFFSETS} ranges of identities"),
        holds: worst <= goal,
    });
    Ok(rows.collect())
}

fn churn() -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (n, goal_removed, goal_added) in CHURN {
        let mut chance = chance(n.into());
        let mut ring = grown(&settings(Algorithm::Ring), 1..=n)?;
        let (mut removed, mut added) = (Vec::new(), Vec::new());
        for pair in 0..PAIRS {
            let victim = ring.members()[chance.random_range(0..n as usize)].id;
            ring = without(&ring, victim);
            removed.push(peak(&ring));
            ring = joined(&ring, RingId(n + 1 + pair), 1)?;
            added.push(peak(&ring));
        }
        let what = [
            ("after a random removal", removed, goal_removed),
            ("after the next addition", added, goal_added),
        ];
        rows.extend(what.map(|(when, peaks, goal)| {
            let mean = peaks.iter().sum::<f64>() / peaks.len() as f64;
            let greatest = peaks.into_iter().fold(0.0, f64::max);
            Row {
                figure: format!("mean peak-to-average {when}, N = {n}"),
                goal: format!("≤ {goal:.2}"),
                measured: format!("{mean:.4} (greatest {greatest:.3}) over {PAIRS} pairs"),
                holds: mean <= goal,
            }
        }));
    }
    // First all removals, then all additions, as the goals are read.
    rows.sort_by_key(|row| row.figure.contains("addition"));
    Ok(rows)
}

/// 3 → 10 → 3 → 10, where the balancer itself says who leaves.
fn scale(rule: &str, victim: impl Fn(&Ring) -> Option<RingId>) -> Result<Row> {
    let mut worst = 0.0f64;
    for offset in 0..OFFSETS {
        let mut id = first_id(offset) + 2;
        let mut ring = grown(&settings(Algorithm::Ring), first_id(offset)..=id)?;
        for wanted in [10, 3, 10] {
            while ring.members().len() != wanted {
                if ring.members().len() < wanted {
                    id += 1;
                    ring = joined(&ring, RingId(id), 1)?;
                } else {
                    ring = without(&ring, victim(&ring).context("no replica can leave")?);
                }
                worst = worst.max(peak(&ring));
            }
        }
    }
    Ok(Row {
        figure: format!("peak-to-average, 3 → 10 → 3 → 10, victim {rule}, every state"),
        goal: format!("≤ {SCALE_GOAL}"),
        measured: format!("{worst:.4} worst of {OFFSETS} ranges of identities"),
        holds: worst <= SCALE_GOAL,
    })
}

/// The algorithm `slots` through histories of up to 64 replicas.
fn slots() -> Result<Row> {
    const HISTORIES: u64 = 200;
    const CHANGES: usize = 200;
    let (mut states, mut wrong, mut worst) = (0, 0, 0.0f64);
    for seed in 0..HISTORIES {
        let mut chance = chance(seed);
        let mut ring = grown(&settings(Algorithm::Slots), 1..=1)?;
        // Some histories live among few replicas, some among many.
        let most = chance.random_range(2..=64);
        for id in 2..2 + CHANGES as u32 {
            let members = ring.members().len();
            ring = if members < 2 || (members < most && chance.random_bool(0.55)) {
                joined(&ring, RingId(id), 1)?
            } else {
                let victim = ring.members()[chance.random_range(0..members)].id;
                without(&ring, victim)
            };
            let bound = 512u64.div_ceil(ring.members().len() as u64);
            states += 1;
            wrong += u64::from(ring.owned().into_iter().max().unwrap_or(0) > bound);
            worst = worst.max(peak(&ring));
        }
    }
    Ok(Row {
        figure: "slots: peak-to-average at any N ≤ 64 after any history".to_owned(),
        goal: "≤ ⌈512/N⌉·N/512".to_owned(),
        measured: format!("{wrong} of {states} states above; {worst:.4} at worst"),
        holds: wrong == 0,
    })
}

fn bounded() -> Result<Row> {
    let options = simulate::Options {
        ring: RingOptions::default(),
        sequence: "10".to_owned(),
        victim: "newest".to_owned(),
        keys: 100_000,
        distribution: "zipf:1.1".to_owned(),
        bounded: Some(1.25),
        in_flight: 100,
        seed: 1,
    };
    let steps = simulate::run(&options.check()?)?;
    let step = steps.first().context("the simulation has no step")?;
    let spilled = step.spilled.context("bounded load was not simulated")?;
    let unbounded = step.keys.map_or(1.0, |keys| keys.peak_to_average);
    let average = f64::from(options.in_flight);
    Ok(Row {
        figure: "peak load, keys Zipf 1.1, 10 replicas, bounded 1.25".to_owned(),
        goal: "≤ 1.25 × average (+1)".to_owned(),
        measured: format!(
            "{:.3} × average ({unbounded:.2} without the bound), spill {:.1} %",
            spilled.peak_to_average,
            100.0 * spilled.spill_share
        ),
        holds: spilled.peak as f64 <= 1.25 * average + 1.0,
    })
}
