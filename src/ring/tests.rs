use proptest::prelude::*;

use super::*;
use crate::ring::{moves, placement::place};

fn grown(settings: RingSettings, ids: impl IntoIterator<Item = u32>) -> Ring {
    ids.into_iter().fold(Ring::new(settings, Vec::new()).unwrap(), |ring, id| {
        let newcomer = place(&ring, RingId(id), 1).unwrap();
        with(&ring, newcomer)
    })
}

fn with(ring: &Ring, newcomer: Member) -> Ring {
    let mut members = ring.members().to_vec();
    members.push(newcomer);
    Ring::new(ring.settings().clone(), members).unwrap()
}

fn without(ring: &Ring, id: RingId) -> Ring {
    let members = ring.members().iter().filter(|member| member.id != id).cloned().collect();
    Ring::new(ring.settings().clone(), members).unwrap()
}

fn polynomial() -> RingSettings {
    RingSettings { placement: Placement::Polynomial, ..RingSettings::default() }
}

/// Shares of the requests, not of the slots: H reaches only 87 of 512 slots.
fn request_shares_percent(ring: &Ring) -> Vec<f64> {
    let slots = ring.settings().slots;
    let mut counts = vec![0u32; ring.members().len()];
    for i in 0..slots {
        let slot = ring.slot_of(i.to_string().as_bytes());
        counts[ring.owner(slot).unwrap().0 as usize] += 1;
    }
    counts.iter().map(|&n| f64::from(n) * 100.0 / f64::from(slots)).collect()
}

#[test]
fn polynomial_shares_are_those_of_the_course() {
    let cases: [(u32, &[f64]); 4] = [
        (2, &[95.3, 4.7]),
        (3, &[84.4, 4.7, 10.9]),
        (4, &[82.0, 4.7, 10.2, 3.1]),
        (6, &[78.9, 3.1, 9.4, 3.1, 4.7, 0.8]),
    ];
    for (n, expected) in cases {
        let shares = request_shares_percent(&grown(polynomial(), 1..=n));
        for (share, expected) in shares.iter().zip(expected) {
            assert!((share - expected).abs() < 0.05, "N={n}: {shares:?}, expected {expected:?}");
        }
    }
}

#[test]
fn polynomial_requests_reach_87_slots() {
    let settings = polynomial();
    let mut reached: Vec<_> =
        (0..512u32).map(|i| settings.slot_of(i.to_string().as_bytes())).collect();
    reached.sort_unstable();
    reached.dedup();
    assert_eq!(reached.len(), 87);
}

#[test]
fn polynomial_ordinals_fill_the_smallest_gap() {
    let ring = without(&grown(polynomial(), 1..=4), RingId(2));
    let newcomer = place(&ring, RingId(5), 1).unwrap();
    assert_eq!(newcomer.ordinal, 2);
    assert_eq!(newcomer.positions, grown(polynomial(), 1..=4).members()[1].positions);
}

#[test]
fn the_default_ring_ends_at_56_replicas() {
    let settings = RingSettings::default();
    assert_eq!(settings.replicas_max(), 56);
    let full = grown(settings, 1..=56);
    let error = place(&full, RingId(57), 1).unwrap_err();
    assert!(error.to_string().contains("raise `slots`"), "{error}");
}

#[test]
fn an_empty_ring_has_no_owner_and_one_member_owns_all() {
    let empty = grown(RingSettings::default(), []);
    assert_eq!((empty.owner(0), empty.owner(511)), (None, None));
    assert_eq!(empty.peak_to_average(), None);
    let one = grown(RingSettings::default(), [1]);
    assert_eq!(one.owned(), [512]);
    assert_eq!(one.peak_to_average(), Some(1.0));
}

#[test]
fn contradicting_positions_are_refused() {
    let member = |id, positions: &[Slot]| Member {
        id: RingId(id),
        ordinal: id,
        weight: 1,
        positions: positions.to_vec(),
    };
    let build = |members| Ring::new(RingSettings::default(), members).unwrap_err();
    assert_eq!(
        build(vec![member(1, &[5]), member(2, &[5])]),
        RingError::PositionTaken { first: RingId(1), second: RingId(2), slot: 5 }
    );
    assert_eq!(
        build(vec![member(1, &[512])]),
        RingError::PositionOutOfRange { id: RingId(1), slot: 512 }
    );
    assert_eq!(build(vec![member(1, &[1]), member(1, &[2])]), RingError::Twice(RingId(1)));
    assert_eq!(build(vec![member(1, &[])]), RingError::Empty(RingId(1)));
}

fn any_settings() -> impl Strategy<Value = RingSettings> {
    (16u32..2_000, 1u32..16, prop::bool::ANY).prop_map(|(slots, virtual_servers, hash)| {
        RingSettings {
            slots,
            virtual_servers,
            placement: if hash { Placement::Hash } else { Placement::Polynomial },
        }
    })
}

/// A ring of up to 24 members with weights and gaps in its identities.
fn any_ring() -> impl Strategy<Value = Ring> {
    (any_settings(), prop::collection::vec((1u32..4, prop::bool::ANY), 0..24)).prop_map(
        |(settings, members)| {
            let mut ring = Ring::new(settings, Vec::new()).unwrap();
            for (index, (weight, keep)) in members.into_iter().enumerate() {
                let id = RingId(index as u32 + 1);
                let Ok(newcomer) = place(&ring, id, weight) else {
                    continue;
                };
                ring = with(&ring, newcomer);
                if !keep && ring.members().len() > 1 {
                    let victim = ring.members()[0].id;
                    ring = without(&ring, victim);
                }
            }
            ring
        },
    )
}

proptest! {
    #[test]
    fn a_slot_belongs_to_the_first_virtual_server_at_or_after_it(ring in any_ring()) {
        let slots = ring.settings().slots;
        for slot in 0..slots {
            let naive = (0..slots).map(|step| (slot + step) % slots).find_map(|at| {
                ring.members().iter().position(|member| member.positions.contains(&at))
            });
            prop_assert_eq!(ring.owner(slot).map(|index| index.0 as usize), naive);
        }
    }

    #[test]
    fn a_preference_list_holds_every_member_once(ring in any_ring(), slot in 0u32..2_000) {
        let slot = slot % ring.settings().slots;
        let mut list: Vec<_> = ring.preference(slot).collect();
        prop_assert_eq!(list.len(), ring.members().len());
        list.sort_unstable();
        list.dedup();
        prop_assert_eq!(list.len(), ring.members().len());
    }

    #[test]
    fn owned_slots_add_up(ring in any_ring()) {
        let mut counted = vec![0u32; ring.members().len()];
        for slot in 0..ring.settings().slots {
            if let Some(owner) = ring.owner(slot) {
                counted[owner.0 as usize] += 1;
            }
        }
        prop_assert_eq!(ring.owned(), counted);
    }

    #[test]
    fn an_addition_moves_keys_only_to_the_newcomer(ring in any_ring(), weight in 1u32..4) {
        let id = RingId(1_000);
        let Ok(newcomer) = place(&ring, id, weight) else { return Ok(()) };
        prop_assert_eq!(newcomer.positions.len() as u32, weight * ring.settings().virtual_servers);
        let moved = moves::between(&ring, &with(&ring, newcomer));
        prop_assert!(moved.moves.iter().all(|entry| entry.to == Some(id)), "{:?}", moved);
        prop_assert!((moved.moved_share - moved.minimum_share).abs() < 1e-9);
    }

    #[test]
    fn a_removal_moves_only_the_removed_ones_keys(ring in any_ring(), pick in 0usize..64) {
        if ring.members().is_empty() { return Ok(()) }
        let victim = ring.members()[pick % ring.members().len()].id;
        let moved = moves::between(&ring, &without(&ring, victim));
        prop_assert!(moved.moves.iter().all(|entry| entry.from == Some(victim)), "{:?}", moved);
        prop_assert!((moved.moved_share - moved.minimum_share).abs() < 1e-9);
    }

    #[test]
    fn removing_the_newest_is_an_exact_undo(ring in any_ring()) {
        let Ok(newcomer) = place(&ring, RingId(1_000), 1) else { return Ok(()) };
        prop_assert_eq!(without(&with(&ring, newcomer), RingId(1_000)), ring);
    }

    #[test]
    fn the_digest_does_not_depend_on_the_order_of_members(ring in any_ring()) {
        let mut members = ring.members().to_vec();
        members.reverse();
        let reversed = Ring::new(ring.settings().clone(), members).unwrap();
        prop_assert_eq!(reversed.digest(), ring.digest());
        if let Some(first) = ring.members().first() {
            prop_assert_ne!(without(&ring, first.id).digest(), ring.digest());
        }
    }
}
