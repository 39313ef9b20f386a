//! Which replicas leave when none is named.

use std::{collections::BTreeMap, sync::Arc};

use rand::{Rng, RngExt};

use super::{desired::Desired, ids::ReplicaId};
use crate::ring::{Ring, explain};

/// How the replicas are chosen that a removal does not name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VictimRule {
    /// The last that joined: an exact undo of its addition.
    #[default]
    Newest,
    /// The first that joined.
    Oldest,
    /// The replica with the fewest requests in flight for its weight.
    LeastLoaded,
    /// The replica whose leaving leaves the most even ring.
    MostEvenAfter,
    /// Any.
    Random,
}

impl VictimRule {
    /// All of them, in the order of the documentation.
    pub const ALL: [VictimRule; 5] =
        [Self::Newest, Self::Oldest, Self::LeastLoaded, Self::MostEvenAfter, Self::Random];

    /// The name in configuration and API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Newest => "newest",
            Self::Oldest => "oldest",
            Self::LeastLoaded => "least_loaded",
            Self::MostEvenAfter => "most_even_after",
            Self::Random => "random",
        }
    }

    /// The rule with a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.name() == name)
    }

    /// One of `pool`, which is in the order of joining and part of the ring. `in_flight`: the open
    /// requests of each; a missing one has none. Of equals the newest. `None` without a pool.
    pub fn pick(
        self,
        ring: &Ring,
        pool: &[ReplicaId],
        in_flight: &BTreeMap<ReplicaId, u64>,
        rng: &mut impl Rng,
    ) -> Option<ReplicaId> {
        match self {
            Self::Newest => pool.last().copied(),
            Self::Oldest => pool.first().copied(),
            Self::MostEvenAfter => explain::most_even_victim(ring, pool),
            Self::Random => pool.get(rng.random_range(0..pool.len().max(1))).copied(),
            Self::LeastLoaded => {
                let load = |id: ReplicaId| in_flight.get(&id).copied().unwrap_or(0);
                let weight = |id: ReplicaId| {
                    let index = ring.index_of(id);
                    index.map_or(1, |index| u64::from(ring.members()[index.0 as usize].weight))
                };
                let lighter = |&a: &ReplicaId, &b: &ReplicaId| {
                    load(a).saturating_mul(weight(b)).cmp(&load(b).saturating_mul(weight(a)))
                };
                pool.iter().rev().copied().min_by(lighter)
            }
        }
    }
}

/// Fills `victims` up to `n`: those not in service first, each time by the rule.
pub(super) fn choose(
    rule: VictimRule,
    desired: &Desired,
    n: usize,
    mut victims: Vec<ReplicaId>,
    is_in_service: impl Fn(ReplicaId) -> bool,
    in_flight: &BTreeMap<ReplicaId, u64>,
    rng: &mut impl Rng,
) -> Vec<ReplicaId> {
    // What others keep leaves only when it is named.
    let ours = desired.replicas().iter().filter(|replica| replica.server.is_none());
    let ids = ours.map(|replica| replica.id());
    let mut left: Vec<ReplicaId> = ids.filter(|id| !victims.contains(id)).collect();
    if victims.len().saturating_add(left.len()) <= n {
        // All of them: there is nothing to choose.
        victims.extend(left.into_iter().rev());
        return victims;
    }
    // Only this rule looks at what is left of the ring, and only where that makes a difference
    // between victims.
    let follows = rule == VictimRule::MostEvenAfter && explain::tells_victims_apart(desired.ring());
    let mut ring = match follows && !victims.is_empty() {
        true => Arc::clone(desired.without(&victims).ring()),
        false => Arc::clone(desired.ring()),
    };
    while victims.len() < n {
        let out: Vec<ReplicaId> = left.iter().copied().filter(|&id| !is_in_service(id)).collect();
        let pool = if out.is_empty() { &left } else { &out };
        let Some(victim) = rule.pick(&ring, pool, in_flight, rng) else { break };
        left.retain(|&id| id != victim);
        if follows {
            ring = Arc::new(explain::without(&ring, victim));
        }
        victims.push(victim);
    }
    victims
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::ring::{RingSettings, membership};

    fn ring() -> Ring {
        let settings = RingSettings::default();
        let mut members = Vec::new();
        for (id, weight) in [(1, 1), (2, 1), (4, 3), (7, 1), (9, 1)] {
            membership::join(&settings, &mut members, ReplicaId(id), weight).unwrap();
        }
        Ring::new(settings, members).unwrap()
    }

    fn pick(rule: VictimRule, pool: &[u32], loads: &[(u32, u64)], seed: u64) -> Option<u32> {
        let pool: Vec<_> = pool.iter().copied().map(ReplicaId).collect();
        let loads = loads.iter().map(|&(id, load)| (ReplicaId(id), load)).collect();
        let mut rng = StdRng::seed_from_u64(seed);
        rule.pick(&ring(), &pool, &loads, &mut rng).map(|id| id.0)
    }

    #[test]
    fn each_rule_picks_whom_it_says() {
        let pool = [1, 2, 4, 9];
        assert_eq!(pick(VictimRule::Newest, &pool, &[], 1), Some(9));
        assert_eq!(pick(VictimRule::Oldest, &pool, &[], 1), Some(1));
        // 5 requests on weight 3 are fewer for it than 2 on weight 1; equals: the newest.
        let loads = [(1, 2), (2, 2), (4, 5), (9, 2)];
        assert_eq!(pick(VictimRule::LeastLoaded, &pool, &loads, 1), Some(4));
        assert_eq!(pick(VictimRule::LeastLoaded, &pool, &[(4, 1)], 1), Some(9));
        let ring = ring();
        let peak = |id: u32| explain::without(&ring, ReplicaId(id)).peak_to_average().unwrap();
        let best = pick(VictimRule::MostEvenAfter, &pool, &[], 1).unwrap();
        assert!(pool.iter().all(|&id| peak(best) <= peak(id)));
        let drawn: std::collections::BTreeSet<_> =
            (0..64).filter_map(|seed| pick(VictimRule::Random, &pool, &[], seed)).collect();
        assert_eq!(drawn, pool.into());
        for rule in VictimRule::ALL {
            assert_eq!(VictimRule::from_name(rule.name()), Some(rule));
            assert_eq!(pick(rule, &[], &[], 1), None);
        }
    }
}
