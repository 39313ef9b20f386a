//! How long a placement, a lookup and the derivation of a table take.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context, Result};
use rand::RngExt;
use ringmaster_core::ring::{Algorithm, Placement, Ring, RingId, RingSettings, membership};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region};

use super::even::{OFFSETS, first_id};
use super::{Row, chance, grown, settings};
use crate::report::{spread, thousands};

const ROUNDS: usize = 15;
/// Measurements of each placement. Their median counts, which excludes interruptions by other programs.
const PLACEMENT_ROUNDS: usize = 5;
/// Enough keys for all of a table, and a power of two, so that choosing one costs nothing.
const KEYS: usize = 65_536;
const LOOKUPS: usize = 1_000_000;

const PLACEMENT_GOAL_MS: f64 = 1.0;
const LOOKUP_GOAL_NS: f64 = 15.0;
/// Lookups that differ by less than this are as fast with many replicas as with few.
const FLAT_WITHIN_NS: f64 = 2.0;

pub(super) fn rows() -> Result<Vec<Row>> {
    let mut rows = vec![placement()?];
    rows.extend(lookups()?);
    rows.push(derivation(
        "512 slots, 56 replicas",
        &grown(&RingSettings::default(), 1..=56)?,
        100.0,
    )?);
    rows.push(derivation("65,536 slots, 1,000 replicas", &thousand(Algorithm::Ring)?, 20_000.0)?);
    let slots = thousand(Algorithm::Slots)?;
    rows.push(derivation("65,536 slots, 1,000 replicas, algorithm slots", &slots, 20_000.0)?);
    Ok(rows)
}

fn placement() -> Result<Row> {
    let settings = settings(Algorithm::Ring);
    let mut times = Vec::new();
    for offset in 0..OFFSETS {
        let mut members = Vec::new();
        for n in 0..56 {
            let mut rounds = Vec::with_capacity(PLACEMENT_ROUNDS);
            let mut after = Vec::new();
            for _ in 0..PLACEMENT_ROUNDS {
                after.clone_from(&members);
                let begun = Instant::now();
                membership::join(
                    &settings,
                    black_box(&mut after),
                    RingId(first_id(offset) + n),
                    1,
                )?;
                rounds.push(begun.elapsed().as_secs_f64() * 1e3);
            }
            times.push(spread(rounds).0);
            members = after;
        }
    }
    let (median, least, worst) = spread(times.iter().copied());
    Ok(Row {
        figure: "one placement at N ≤ 56".to_owned(),
        goal: format!("≤ {PLACEMENT_GOAL_MS} ms, median and worst"),
        measured: format!(
            "{median:.3} ms median ({least:.3} to {worst:.3}) of {} placements, each the median of {PLACEMENT_ROUNDS}",
            thousands(times.len() as u64)
        ),
        holds: worst <= PLACEMENT_GOAL_MS,
    })
}

/// 1,000 replicas on 65,536 slots.
fn thousand(algorithm: Algorithm) -> Result<Ring> {
    let placement = Placement::Hash;
    let settings = RingSettings { algorithm, placement, slots: 65_536, ..RingSettings::default() };
    Ok(grown(&settings, 1..=1_000)?)
}

fn lookups() -> Result<Vec<Row>> {
    let rings = [
        ("3 replicas", grown(&RingSettings::default(), 1..=3)?),
        ("56 replicas", grown(&RingSettings::default(), 1..=56)?),
        ("1,000 replicas, slots of 65,536", thousand(Algorithm::Slots)?),
        ("1,000 replicas, ring of 65,536 × 9", thousand(Algorithm::Ring)?),
    ];
    let mut chance = chance(1);
    let keys: Vec<[u8; 16]> = (0..KEYS).map(|_| chance.random()).collect();
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); rings.len()];
    // Round by round, so that noise affects all of them alike.
    for _ in 0..ROUNDS {
        for ((_, ring), times) in rings.iter().zip(&mut times) {
            let begun = Instant::now();
            look_up(ring, &keys);
            times.push(begun.elapsed().as_secs_f64() * 1e9 / LOOKUPS as f64);
        }
    }
    let mut least_times = Vec::new();
    let mut rows: Vec<Row> = Vec::new();
    for ((name, _), times) in rings.iter().zip(times) {
        let (median, least, greatest) = spread(times);
        least_times.push(least);
        rows.push(Row {
            figure: format!("lookup of a 16-byte key, hash included, {name}"),
            goal: format!("≤ {LOOKUP_GOAL_NS} ns"),
            measured: format!("{median:.2} ns median ({least:.2} to {greatest:.2})"),
            holds: median <= LOOKUP_GOAL_NS,
        });
    }
    // The least times, because a busy machine can only increase them.
    let (_, fastest, slowest) = spread(least_times);
    rows.push(Row {
        figure: "lookup, flat in N".to_owned(),
        goal: format!("least times within {FLAT_WITHIN_NS} ns"),
        measured: format!("within {:.2} ns", slowest - fastest),
        holds: slowest - fastest <= FLAT_WITHIN_NS,
    });
    rows.push(allocations(&rings, &keys)?);
    Ok(rows)
}

#[inline(never)]
fn look_up(ring: &Ring, keys: &[[u8; 16]]) {
    for number in 0..LOOKUPS {
        let key = black_box(&keys[number % KEYS]);
        black_box(ring.owner(ring.slot_of(key)));
    }
}

/// Counted by the allocator of the program. A known allocation first shows that it counts.
fn allocations(rings: &[(&str, Ring)], keys: &[[u8; 16]]) -> Result<Row> {
    let region = Region::new(&INSTRUMENTED_SYSTEM);
    drop(black_box(Box::new(1u64)));
    let counts = region.change().allocations > 0;
    let region = Region::new(&INSTRUMENTED_SYSTEM);
    for (_, ring) in rings {
        look_up(ring, keys);
        let walk = ring.preference(ring.slot_of(keys.first().context("there are keys")?));
        black_box(walk.take(3).count());
    }
    let made = region.change().allocations;
    Ok(Row {
        figure: "allocations of lookups and of preference lists".to_owned(),
        goal: "none".to_owned(),
        measured: if counts {
            format!("{made} in {} lookups", thousands((rings.len() * LOOKUPS) as u64))
        } else {
            "not counted: another allocator is in place".to_owned()
        },
        holds: counts && made == 0,
    })
}

fn derivation(name: &str, ring: &Ring, goal_us: f64) -> Result<Row> {
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let (settings, members) = (ring.settings().clone(), ring.members().to_vec());
        let begun = Instant::now();
        let derived = Ring::new(settings, members)?;
        times.push(begun.elapsed().as_secs_f64() * 1e6);
        drop(black_box(derived));
    }
    let (median, least, greatest) = spread(times);
    Ok(Row {
        figure: format!("table from positions, {name}"),
        goal: format!("≤ {} µs", thousands(goal_us as u64)),
        measured: format!("{median:.1} µs median ({least:.1} to {greatest:.1})"),
        holds: median <= goal_us,
    })
}
