//! How even a ring is, and what would become of it: figures for people.

use std::collections::BTreeMap;

use super::{Algorithm, MemberIndex, Ring, RingId, membership, placement};

/// How evenly a ring deals out its slots, weights considered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evenness {
    /// The largest share for its weight over the mean: 1 is perfectly even.
    pub peak_to_average: f64,
    /// The smallest share for its weight over the mean.
    pub least_to_average: f64,
    /// Standard deviation of the shares for their weights, in parts of the mean.
    pub deviation: f64,
}

/// `None` on an empty ring.
pub fn evenness(ring: &Ring) -> Option<Evenness> {
    let owned: Vec<f64> = ring.owned().iter().map(|&owned| owned as f64).collect();
    let weights: Vec<f64> = ring.members().iter().map(|m| f64::from(m.weight)).collect();
    evenness_of(&owned, &weights)
}

/// The same of any loads and weights. `None` without loads, or when all are nothing.
pub fn evenness_of(loads: &[f64], weights: &[f64]) -> Option<Evenness> {
    let mean = loads.iter().sum::<f64>() / weights.iter().sum::<f64>();
    if loads.is_empty() || !mean.is_finite() || mean <= 0.0 {
        return None;
    }
    let relative: Vec<f64> =
        loads.iter().zip(weights).map(|(load, weight)| load / weight / mean).collect();
    let square = |value: &f64| (value - 1.0) * (value - 1.0);
    let deviation = (relative.iter().map(square).sum::<f64>() / relative.len() as f64).sqrt();
    Some(Evenness {
        peak_to_average: relative.iter().copied().fold(0.0, f64::max),
        least_to_average: relative.iter().copied().fold(f64::INFINITY, f64::min),
        deviation,
    })
}

/// Virtual servers of each member that do not sit where their placement wants them, by index.
pub fn displaced(ring: &Ring) -> Vec<usize> {
    let count = |member| match ring.settings().algorithm {
        Algorithm::Ring => placement::displaced(ring.settings(), member),
        _ => 0,
    };
    ring.members().iter().map(count).collect()
}

/// Whether it matters to the evenness of a ring who leaves it: the tables deal out again what a
/// leaver had.
pub fn tells_victims_apart(ring: &Ring) -> bool {
    matches!(ring.settings().algorithm, Algorithm::Ring | Algorithm::Ketama)
}

/// Peak-to-average of the ring without each of its members, by member index: what
/// `most_even_after` compares. `None` where no victim is better than another.
pub fn peaks_after_leaving(ring: &Ring) -> Option<Vec<f64>> {
    if !tells_victims_apart(ring) {
        return None;
    }
    let owned = ring.owned();
    let weights: Vec<f64> = ring.members().iter().map(|m| f64::from(m.weight)).collect();
    let all: f64 = weights.iter().sum();
    let relative = |index: usize, more: u64| (owned[index] + more) as f64 / weights[index];
    let mut fullest: Vec<usize> = (0..owned.len()).collect();
    fullest.sort_by(|&a, &b| relative(b, 0).total_cmp(&relative(a, 0)));
    let mut peaks: Vec<f64> = (0..owned.len())
        .map(|gone| fullest.iter().find(|&&one| one != gone).map_or(0.0, |&one| relative(one, 0)))
        .collect();
    for ((gone, heir), gain) in inheritance(ring) {
        peaks[gone] = peaks[gone].max(relative(heir, gain));
    }
    let circle = ring.settings().circle() as f64;
    for (peak, weight) in peaks.iter_mut().zip(&weights) {
        *peak *= (all - weight) / circle;
    }
    Some(peaks)
}

/// By member and heir: the slots that the heir would get if the member left.
fn inheritance(ring: &Ring) -> BTreeMap<(usize, usize), u64> {
    let arcs = ring.arcs();
    let mut gains = BTreeMap::new();
    let (mut owner, mut heir): (Option<MemberIndex>, Option<MemberIndex>) = (None, None);
    // Backwards, because an arc falls to the next owner clockwise; a first turn finds the owner
    // after the last arc.
    for arc in arcs.iter().rev() {
        if owner != Some(arc.owner) {
            (owner, heir) = (Some(arc.owner), owner);
        }
    }
    for arc in arcs.iter().rev() {
        if owner != Some(arc.owner) {
            (owner, heir) = (Some(arc.owner), owner);
        }
        if let Some(heir) = heir {
            *gains.entry((arc.owner.0 as usize, heir.0 as usize)).or_default() += arc.length;
        }
    }
    gains
}

/// The member whose leaving leaves the most even ring, out of some; the newest of equals, and
/// where it makes no difference.
pub fn most_even_victim(ring: &Ring, out_of: &[RingId]) -> Option<RingId> {
    let peaks = peaks_after_leaving(ring).unwrap_or_else(|| vec![0.0; ring.members().len()]);
    let newest_first = ring.members().iter().zip(peaks).rev();
    let candidates = newest_first.filter(|(member, _)| out_of.contains(&member.id));
    candidates.min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(member, _)| member.id)
}

/// The ring after one member left.
pub fn without(ring: &Ring, id: RingId) -> Ring {
    let mut members = ring.members().to_vec();
    membership::leave(ring.settings(), &mut members, &[id]);
    match Ring::new(ring.settings().clone(), members) {
        Ok(ring) => ring,
        // Fewer members of a valid ring are a valid ring.
        Err(error) => unreachable!("a removal cannot invalidate a ring: {error}"),
    }
}
