//! A ring through a sequence of changes, without a fleet: how even it is at each step, what moves,
//! what bounded load would spill. Pure: the same [`Question`] gives the same result.
//!
//! Everything is computed by the code that also serves: [`ring`](ringmaster_core::ring) places and looks
//! up, [`balance`](ringmaster_core::balance) computes the bounds, [`VictimRule`] picks who leaves.

mod bounded;
mod keys;
mod options;

use rand::{SeedableRng, rngs::StdRng};
use ringmaster_core::{
    fleet::victim::VictimRule,
    ring::{
        OptionError, Ring, RingError, RingId, RingSettings,
        explain::{self, Evenness, evenness, evenness_of},
        membership,
        moves::{self, Moves},
    },
};

use keys::Keys;

pub use bounded::{Bounded, Spilled};
pub use keys::{Distribution, KEYS_MAX};
pub use options::{CHANGES_MAX, Options, SequenceStep};

/// Victims and requests have generators of their own, so that a draw for one does not change the other.
const VICTIMS: u64 = 0x7669_6374;
const REQUESTS: u64 = 0x7265_7175;

/// What is to be simulated.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// The settings of the ring.
    pub ring: RingSettings,
    /// The sequence, with the initial number of replicas.
    pub changes: Vec<SequenceStep>,
    /// The rule for replicas that leave.
    pub victim: VictimRule,
    /// Different keys, at most [`KEYS_MAX`].
    pub keys: u32,
    /// How requests spread over the keys.
    pub distribution: Distribution,
    /// Bounded load, if that is simulated.
    pub bounded: Option<Bounded>,
    /// Decides keys, requests and random victims.
    pub seed: u64,
}

/// The ring after one change, and what the change did.
#[derive(Clone, Debug)]
pub struct Step {
    /// The change of this step.
    pub change: SequenceStep,
    /// The replicas that joined, in order.
    pub added: Vec<RingId>,
    /// The replicas that left, in order.
    pub removed: Vec<RingId>,
    /// The ring after the change.
    pub ring: Ring,
    /// How even the shares of slots are; `None` without replicas.
    pub slots: Option<Evenness>,
    /// How even the requests are if all go to the owners of their keys; `None` without replicas.
    pub keys: Option<Evenness>,
    /// The effect of bounded load, if that is simulated; `None` without replicas.
    pub spilled: Option<Spilled>,
    /// What moved; `None` for the initial ring.
    pub moves: Option<Moves>,
    /// Virtual servers that are displaced by collisions.
    pub displaced: usize,
}

/// Runs the whole sequence.
///
/// # Errors
/// An error of the key `sequence`, if the ring becomes too full.
pub fn run(question: &Question) -> Result<Vec<Step>, OptionError> {
    let settings = &question.ring;
    let keys = Keys::draw(settings, question.keys, question.distribution, question.seed);
    let mut victims = StdRng::seed_from_u64(question.seed ^ VICTIMS);
    let mut requests = StdRng::seed_from_u64(question.seed ^ REQUESTS);
    let empty = Ring::new(settings.clone(), Vec::new()).map_err(|error| refused(&error))?;
    let (mut steps, mut before, mut last_id) = (Vec::<Step>::new(), empty, 0);
    for &change in &question.changes {
        let (mut ring, mut added, mut removed) = (before.clone(), Vec::new(), Vec::new());
        match change {
            SequenceStep::Start(number) | SequenceStep::Add(number) => {
                added.extend((1..=number as u32).map(|next| RingId(last_id + next)));
                last_id += number as u32;
                ring = grown(&ring, &added).map_err(|error| refused(&error))?;
            }
            SequenceStep::Remove(number) => {
                for _ in 0..number {
                    let Some(victim) = victim(question.victim, &ring, &keys, &mut victims) else {
                        break;
                    };
                    ring = explain::without(&ring, victim);
                    removed.push(victim);
                }
            }
        }
        let ones = vec![1.0; ring.members().len()];
        steps.push(Step {
            change,
            added,
            removed,
            slots: evenness(&ring),
            keys: evenness_of(&keys.loads(&ring), &ones),
            spilled: question
                .bounded
                .and_then(|bounded| bounded::run(&ring, &keys, bounded, &mut requests)),
            moves: (!steps.is_empty()).then(|| moves::between(&before, &ring)),
            displaced: explain::displaced(&ring).iter().sum(),
            ring: ring.clone(),
        });
        before = ring;
    }
    Ok(steps)
}

/// The replica that leaves next. Its load is the frequency of the keys that it owns.
fn victim(rule: VictimRule, ring: &Ring, keys: &Keys, rng: &mut StdRng) -> Option<RingId> {
    let pool: Vec<RingId> = ring.members().iter().map(|member| member.id).collect();
    let loads = pool.iter().copied().zip(keys.loads(ring));
    // The rule compares whole numbers; the most popular key has a frequency of 1.
    let loads = loads.map(|(id, load)| (id, (load * 1e6).round() as u64)).collect();
    rule.pick(ring, &pool, &loads, rng)
}

fn refused(error: &RingError) -> OptionError {
    OptionError { key: "sequence", why: error.to_string() }
}

/// A ring with some more members of weight 1.
fn grown(ring: &Ring, newcomers: &[RingId]) -> Result<Ring, RingError> {
    let mut members = ring.members().to_vec();
    for &id in newcomers {
        membership::join(ring.settings(), &mut members, id, 1)?;
    }
    Ring::new(ring.settings().clone(), members)
}

#[cfg(test)]
mod tests {
    use ringmaster_core::ring::RingOptions;

    use super::*;

    fn options(sequence: &str) -> Options {
        Options {
            ring: RingOptions::default(),
            sequence: sequence.to_owned(),
            victim: "newest".to_owned(),
            keys: 10_000,
            distribution: "uniform".to_owned(),
            bounded: None,
            in_flight: 100,
            seed: 1,
        }
    }

    fn play(options: &Options) -> Vec<Step> {
        run(&options.check().unwrap()).unwrap()
    }

    #[test]
    fn each_step_describes_the_ring_and_the_change() {
        let steps = play(&options("3,+2,-1,-4"));
        let members = |step: &Step| step.ring.members().len();
        assert_eq!(steps.iter().map(members).collect::<Vec<_>>(), [3, 5, 4, 0]);
        assert!(steps[0].moves.is_none());
        for step in &steps[1..] {
            let moves = step.moves.as_ref().unwrap();
            assert!((moves.moved_share - moves.minimum_share).abs() < 1e-9, "{moves:?}");
        }
        assert_eq!(steps[1].added, [RingId(4), RingId(5)]);
        assert_eq!(steps[2].removed, [RingId(5)]);
        assert_eq!((steps[3].slots, steps[3].keys), (None, None));
        // With uniform keys both are nearly equal.
        for step in &steps[..3] {
            let (slots, keys) = (step.slots.unwrap(), step.keys.unwrap());
            assert!((slots.peak_to_average - keys.peak_to_average).abs() < 0.1, "{step:?}");
        }
    }

    #[test]
    fn identities_are_never_used_twice() {
        let steps = play(&Options { victim: "oldest".to_owned(), ..options("2,-1,+1,-1,+2") });
        let added: Vec<RingId> = steps.iter().flat_map(|step| step.added.clone()).collect();
        assert_eq!(added, (1..=5).map(RingId).collect::<Vec<_>>());
        assert_eq!(steps[1].removed, [RingId(1)]);
        assert_eq!(steps[3].removed, [RingId(2)]);
    }

    #[test]
    fn the_same_seed_gives_the_same_result() {
        let input = Options {
            victim: "random".to_owned(),
            distribution: "zipf:1.1".to_owned(),
            bounded: Some(1.25),
            ..options("8,-3,+3,-3")
        };
        let traced = |options: &Options| format!("{:?}", play(options));
        assert_eq!(traced(&input), traced(&input));
        assert_ne!(traced(&input), traced(&Options { seed: 2, ..input.clone() }));
    }

    #[test]
    fn the_polynomials_displace_and_a_full_ring_is_refused() {
        let mut polynomial = options("6");
        polynomial.ring.placement = Some("polynomial".to_owned());
        let step = &play(&polynomial)[0];
        assert!(step.displaced > 0 && step.slots.unwrap().peak_to_average > 4.0, "{step:?}");
        let error = run(&options("3,+54").check().unwrap()).unwrap_err().to_string();
        assert!(error.starts_with("`sequence`: ") && error.contains("raise `slots`"), "{error}");
    }

    #[test]
    fn the_least_loaded_leaves_by_the_frequency_of_its_keys() {
        let input = Options {
            victim: "least_loaded".to_owned(),
            distribution: "zipf:1.2".to_owned(),
            ..options("6,-1")
        };
        let steps = play(&input);
        let question = input.check().unwrap();
        let keys = Keys::draw(&question.ring, question.keys, question.distribution, question.seed);
        let loads = keys.loads(&steps[0].ring);
        let gone = steps[0].ring.index_of(steps[1].removed[0]).unwrap();
        assert!(loads.iter().all(|&load| loads[gone.0 as usize] <= load), "{loads:?}");
    }

    #[test]
    fn a_hot_key_loads_its_owner() {
        let hot = Options { distribution: "zipf:1.5".to_owned(), ..options("10") };
        let step = &play(&hot)[0];
        assert!(step.keys.unwrap().peak_to_average > 3.0, "{:?}", step.keys);
        assert!(step.slots.unwrap().peak_to_average < 1.05);
    }
}
