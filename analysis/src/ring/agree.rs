//! Checks that two independent balancers compute the same ring.

use anyhow::Result;
use rand::RngExt;
use ringmaster_core::ring::{Algorithm, Member, Ring, RingId, RingSettings, membership};

use super::{Row, chance, settings};

const HISTORIES: u64 = 200;
const CHANGES: u32 = 20;

pub(super) fn row() -> Result<Row> {
    let mut compared = [0u64; 2];
    let mut differ = 0u64;
    for algorithm in [Algorithm::Ring, Algorithm::Slots] {
        let settings = settings(algorithm);
        for seed in 0..HISTORIES {
            let (first, labels) = play(&settings, seed)?;
            let (second, _) = play(&settings, seed)?;
            differ += u64::from(!are_equal(&first, &second));
            compared[0] += 1;
            // An engine lists the same containers in another order.
            let mut reversed = labels.clone();
            reversed.reverse();
            let read = |mut members: Vec<Member>| {
                membership::settle(&settings, &mut members)?;
                Ring::new(settings.clone(), members)
            };
            differ += u64::from(!are_equal(&read(labels)?, &read(reversed)?));
            compared[1] += 1;
        }
    }
    Ok(Row {
        figure: "same history, or same labels, on two balancers".to_owned(),
        goal: "same digest, same owners".to_owned(),
        measured: format!(
            "{differ} of {} histories and {} sets of labels differ",
            compared[0], compared[1]
        ),
        holds: differ == 0,
    })
}

/// A ring after a history, and its members with the positions that they had when they joined:
/// what the labels of their containers say.
fn play(settings: &RingSettings, seed: u64) -> Result<(Ring, Vec<Member>)> {
    let mut chance = chance(seed);
    let (mut members, mut labels) = (Vec::<Member>::new(), Vec::<Member>::new());
    for id in 1..=CHANGES {
        if members.len() > 2 && chance.random_bool(0.4) {
            let victim = members[chance.random_range(0..members.len())].id;
            membership::leave(settings, &mut members, &[victim]);
            labels.retain(|member| member.id != victim);
        } else {
            membership::join(settings, &mut members, RingId(id), 1)?;
            labels.extend(members.last().cloned());
        }
    }
    Ok((Ring::new(settings.clone(), members)?, labels))
}

fn are_equal(first: &Ring, second: &Ring) -> bool {
    let owner =
        |ring: &Ring, slot| ring.owner(slot).map(|index| ring.members()[index.0 as usize].id);
    let slots = 0..first.settings().slots;
    first.digest() == second.digest()
        && slots.into_iter().all(|slot| owner(first, slot) == owner(second, slot))
}
