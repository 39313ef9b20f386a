//! What failures weigh where load decides: who fails fast has little in flight, and would look idle.

use super::{Candidates, ewma::DECAY_MILLIS};
use crate::ring::MemberIndex;

/// The recent failures of an instance. Each counts like a request that is still open, and fades: so
/// one that fails at once is as busy as one that needs the fade's time for each answer. Pure: time
/// is an argument, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Failures {
    /// At the time of the last one.
    count: f64,
    at: u64,
}

impl Failures {
    /// With one more, but never more than `enough`, see [`enough_failures`]: what lies beyond would
    /// only keep the instance from its part for longer once it is well again.
    #[must_use]
    pub fn with(self, enough: u64, now: u64) -> Self {
        let at = self.at.max(now);
        let faded = self.faded(at);
        Self { count: faded.max((faded + 1.0).min(enough as f64)), at }
    }

    /// What they weigh, in open requests.
    pub fn load(self, now: u64) -> u64 {
        self.faded(now).round() as u64
    }

    fn faded(self, now: u64) -> f64 {
        self.count * (-(now.saturating_sub(self.at) as f64) / DECAY_MILLIS).exp()
    }
}

/// How many failures make a member the busiest for its weight: one more than all the others have.
pub fn enough_failures(
    candidates: &Candidates,
    failed: MemberIndex,
    in_flight: impl Fn(MemberIndex) -> u64,
) -> u64 {
    let all = candidates.as_slice();
    let own = all.iter().find(|candidate| candidate.member == failed);
    let weight = own.map_or(1, |candidate| u64::from(candidate.weight));
    let others = all.iter().filter(|candidate| candidate.member != failed);
    let parts = others.map(|other| {
        let part = in_flight(other.member).saturating_mul(weight);
        part.div_ceil(u64::from(other.weight))
    });
    parts.max().unwrap_or(0).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::{
        least_in_flight, p2c,
        testing::{candidates, rolls},
    };

    #[test]
    fn a_failure_counts_like_an_open_request_and_fades() {
        let none = Failures::default();
        assert_eq!(none.load(0), 0);
        let three = none.with(9, 5).with(9, 5).with(9, 5);
        assert_eq!(three.load(5), 3);
        assert_eq!(three.load(5 + DECAY_MILLIS as u64), 1, "3/e");
        assert_eq!(three.load(5 + 3 * DECAY_MILLIS as u64), 0);
        // Time that runs backwards changes nothing.
        assert_eq!(three.load(0), 3);
        assert_eq!(three.with(9, 0).load(5), 4);
    }

    #[test]
    fn more_than_enough_is_not_remembered() {
        let many = (0..1_000).fold(Failures::default(), |all, _| all.with(4, 0));
        assert_eq!(many.load(0), 4);
        // Nor forgotten at once where less would be enough now.
        assert_eq!(many.with(1, 0).load(0), 4);
        let all = candidates(&[1, 4, 2]);
        let in_flight = |member: MemberIndex| [10, 8, 3][usize::from(member.0)];
        assert_eq!(enough_failures(&all, MemberIndex(0), in_flight), 3, "half of 3 is below 2");
        assert_eq!(enough_failures(&all, MemberIndex(1), in_flight), 41);
        assert_eq!(enough_failures(&candidates(&[1]), MemberIndex(0), in_flight), 1);
    }

    type Pick = fn(&Candidates, &dyn Fn(MemberIndex) -> u64, [u64; 2]) -> Option<MemberIndex>;

    const PICKS: [(&str, Pick); 2] = [
        ("least_in_flight", |all, load, rolls| least_in_flight(all, load, rolls[0])),
        ("p2c", |all, load, rolls| p2c(all, load, rolls)),
    ];

    /// The part of the requests of a minute that the first of three gets, which fails within 50 µs
    /// until it is well; the others, and it too when it is well, answer in 5 ms. So many clients
    /// send one request after the other.
    fn share_of_the_first(pick: Pick, clients: usize, well_after: u64) -> (f64, f64) {
        let all = candidates(&[1, 1, 1]);
        let mut rolls = rolls(11);
        let (mut open, mut failures) = ([0_u64; 3], [Failures::default(); 3]);
        // When each client's request ends, in microseconds; whose it is; whether it fails.
        let mut ends: Vec<(u64, Option<usize>, bool)> = vec![(0, None, false); clients];
        let (mut ill, mut well) = ([0_u32; 3], [0_u32; 3]);
        loop {
            let next = (0..clients).min_by_key(|client| ends[*client].0).unwrap();
            let (now, whose, failed) = ends[next];
            let millis = now / 1_000;
            if millis >= 60_000 {
                break;
            }
            if let Some(member) = whose {
                open[member] -= 1;
                if failed {
                    let failed = MemberIndex(member as u16);
                    let in_flight = |member: MemberIndex| open[usize::from(member.0)];
                    let enough = enough_failures(&all, failed, in_flight);
                    failures[member] = failures[member].with(enough, millis);
                }
            }
            let load = |member: MemberIndex| {
                let member = usize::from(member.0);
                open[member] + failures[member].load(millis)
            };
            let pair = [rolls.next().unwrap(), rolls.next().unwrap()];
            let picked = usize::from(pick(&all, &load, pair).unwrap().0);
            open[picked] += 1;
            let fails = picked == 0 && millis < well_after;
            ends[next] = (now + if fails { 50 } else { 5_000 }, Some(picked), fails);
            // How it does half a minute after it is well again.
            match millis {
                _ if millis < well_after => ill[picked] += 1,
                _ if millis >= well_after + 30_000 => well[picked] += 1,
                _ => {}
            }
        }
        let share =
            |counts: [u32; 3]| f64::from(counts[0]) / f64::from(counts.iter().sum::<u32>().max(1));
        (share(ill), share(well))
    }

    #[test]
    fn who_fails_fast_gets_less_than_its_part() {
        for (name, pick) in PICKS {
            for clients in [1, 3, 30, 300] {
                let (share, _) = share_of_the_first(pick, clients, u64::MAX);
                assert!(share < 0.01, "{name}, {clients} clients: {share}");
                assert!(share > 0.0, "it is asked again now and then");
            }
        }
    }

    #[test]
    fn who_is_well_again_gets_its_part() {
        for (name, pick) in PICKS {
            for clients in [3, 30] {
                let (ill, well) = share_of_the_first(pick, clients, 20_000);
                assert!(ill < 0.01 && (0.28..0.36).contains(&well), "{name}: {ill}, then {well}");
            }
        }
    }
}
