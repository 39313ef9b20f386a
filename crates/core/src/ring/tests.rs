use proptest::prelude::*;

use super::*;
use explain::{evenness, without};

fn joined(ring: &Ring, id: u32, weight: u32) -> Result<Ring, RingError> {
    let mut members = ring.members().to_vec();
    membership::join(ring.settings(), &mut members, RingId(id), weight)?;
    Ring::new(ring.settings().clone(), members)
}

fn reweighed(ring: &Ring, id: RingId, weight: u32) -> Result<Ring, RingError> {
    let mut members = ring.members().to_vec();
    membership::reweigh(ring.settings(), &mut members, id, weight)?;
    Ring::new(ring.settings().clone(), members)
}

fn grown(settings: RingSettings, ids: impl IntoIterator<Item = u32>) -> Ring {
    let empty = Ring::new(settings, Vec::new()).unwrap();
    ids.into_iter().fold(empty, |ring, id| joined(&ring, id, 1).unwrap())
}

fn peak(ring: &Ring) -> f64 {
    evenness(ring).unwrap().peak_to_average
}

fn polynomial() -> RingSettings {
    RingSettings {
        placement: Placement::Polynomial,
        hash: HashFunction::Polynomial,
        ..RingSettings::default()
    }
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
    let ring = joined(&without(&grown(polynomial(), 1..=4), RingId(2)), 5, 1).unwrap();
    let newcomer = ring.members().last().unwrap();
    assert_eq!(newcomer.ordinal, 2);
    assert_eq!(newcomer.positions, grown(polynomial(), 1..=4).members()[1].positions);
}

#[test]
fn quadratic_probing_finds_every_free_slot() {
    let settings = RingSettings {
        slots: 18,
        collision: Collision::Quadratic,
        placement: Placement::Hash,
        ..RingSettings::default()
    };
    assert_eq!(grown(settings.clone(), 1..=2).owned().iter().sum::<u64>(), 18);
    let linear = RingSettings { collision: Collision::Linear, ..settings.clone() };
    assert_ne!(grown(settings, 1..=2).digest(), grown(linear, 1..=2).digest());
}

#[test]
fn the_default_ring_ends_at_56_replicas() {
    let settings = RingSettings::default();
    assert_eq!(settings.replicas_max(), 56);
    let error = joined(&grown(settings, 1..=56), 57, 1).unwrap_err();
    assert!(error.to_string().contains("raise `slots`"), "{error}");
}

#[test]
fn even_placement_ends_where_it_says() {
    let settings = RingSettings { slots: 4_096, ..RingSettings::default() };
    let error = joined(&grown(settings.clone(), 1..=64), 65, 1).unwrap_err();
    assert!(error.to_string().contains("choose `algorithm` slots"), "{error}");
    let error = joined(&grown(settings, 1..=10), 11, 104).unwrap_err();
    assert!(matches!(error, RingError::EvenFull { points: 1_026 }), "{error}");
}

#[test]
fn an_empty_ring_has_no_owner_and_one_member_owns_all() {
    for settings in every_algorithm() {
        let empty = grown(settings.clone(), []);
        assert_eq!((empty.owner(0), empty.owner(511)), (None, None), "{settings:?}");
        assert_eq!(empty.preference(7).count(), 0);
        assert_eq!(evenness(&empty), None);
        let one = grown(settings.clone(), [1]);
        assert_eq!(one.owned(), [settings.circle()]);
        assert_eq!(peak(&one), 1.0);
    }
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
    let slots = RingSettings {
        algorithm: Algorithm::Slots,
        slots: 4,
        virtual_servers: 1,
        ..RingSettings::default()
    };
    let unowned = Ring::new(slots, vec![member(1, &[0, 1, 3])]).unwrap_err();
    assert_eq!(unowned, RingError::Unowned(2));
}

/// The goals of the product for the default ring, growing.
#[test]
fn the_default_ring_grows_evenly() {
    let mut ring = grown(RingSettings::default(), []);
    for n in 1..=56 {
        ring = joined(&ring, n, 1).unwrap();
        let goal = match n {
            ..=10 => 1.04,
            11..=16 => 1.10,
            17..=32 => 1.08,
            _ => 1.13,
        };
        assert!(peak(&ring) <= goal, "N={n}: {}", peak(&ring));
    }
}

#[test]
fn two_replicas_share_by_halves_and_weights_by_parts() {
    let ring = grown(RingSettings::default(), 1..=2);
    assert_eq!(ring.owned(), [256, 256]);
    let ring = joined(&grown(RingSettings::default(), 1..=4), 5, 4).unwrap();
    let owned = ring.owned();
    assert!(
        owned[4].abs_diff(256) <= 2 && owned[..4].iter().all(|&o| o.abs_diff(64) <= 2),
        "{owned:?}"
    );
}

#[test]
fn scaling_with_our_own_victims_stays_even() {
    for victim in [newest as fn(&Ring) -> RingId, most_even] {
        let mut ring = grown(RingSettings::default(), 1..=3);
        let mut id = 3;
        for _ in 0..2 {
            while ring.members().len() < 10 {
                id += 1;
                ring = joined(&ring, id, 1).unwrap();
                assert!(peak(&ring) <= 1.07, "{}", peak(&ring));
            }
            while ring.members().len() > 3 {
                ring = without(&ring, victim(&ring));
                assert!(peak(&ring) <= 1.07, "{}", peak(&ring));
            }
        }
    }
}

fn most_even(ring: &Ring) -> RingId {
    let all: Vec<RingId> = ring.members().iter().map(|member| member.id).collect();
    explain::most_even_victim(ring, &all).unwrap()
}

fn newest(ring: &Ring) -> RingId {
    ring.members().last().unwrap().id
}

#[test]
fn slots_are_never_further_apart_than_one() {
    let settings = RingSettings { algorithm: Algorithm::Slots, ..RingSettings::default() };
    let mut ring = grown(settings, 1..=1);
    let mut id = 1;
    for step in 0..600u64 {
        let members = ring.members().len();
        let draw = hash::mix(9, step);
        let grow = members < 2 || (members < 64 && draw.is_multiple_of(2));
        if grow {
            id += 1;
            ring = joined(&ring, id, 1).unwrap();
        } else {
            let victim = ring.members()[(draw >> 8) as usize % members].id;
            ring = without(&ring, victim);
        }
        let most = ring.owned().into_iter().max().unwrap();
        let members = ring.members().len() as u64;
        assert!(most <= 512u64.div_ceil(members), "N={members}: {:?}", ring.owned());
    }
}

#[test]
fn slots_settle_from_the_positions_of_creation() {
    let settings = RingSettings { algorithm: Algorithm::Slots, ..RingSettings::default() };
    let mut ring = grown(settings.clone(), []);
    let mut created = Vec::new();
    for id in 1..=7 {
        ring = joined(&ring, id, 1).unwrap();
        created.push(ring.members().last().unwrap().clone());
    }
    membership::settle(&settings, &mut created).unwrap();
    assert_eq!(Ring::new(settings.clone(), created.clone()).unwrap().digest(), ring.digest());
    // One is missing: its slots are dealt out, and the others keep theirs.
    created.remove(2);
    membership::settle(&settings, &mut created).unwrap();
    let settled = Ring::new(settings, created).unwrap();
    assert_eq!(settled.owned().iter().sum::<u64>(), 512);
    let moved = moves::between(&ring, &settled);
    assert!(moved.moves.iter().all(|entry| entry.from == Some(RingId(3))), "{moved:?}");
}

fn transferred(ring: &Ring, settings: RingSettings) -> Ring {
    let members = membership::transfer(ring, &settings).unwrap();
    Ring::new(settings, members).unwrap()
}

#[test]
fn who_does_not_fit_the_circle_any_more_is_placed_anew() {
    let ring = grown(RingSettings::default(), 1..=5);
    let mut members = ring.members().to_vec();
    members[1].weight = 2;
    members[3].positions = members[0].positions.clone();
    members[4].positions[0] = 512;
    membership::settle(ring.settings(), &mut members).unwrap();
    let settled = Ring::new(ring.settings().clone(), members).unwrap();
    let counts = settled.members().iter().map(|member| member.positions.len());
    assert!(counts.eq([9, 18, 9, 9, 9]));
    assert_eq!(settled.members()[0], ring.members()[0]);
    assert_eq!(settled.members()[2], ring.members()[2]);
}

#[test]
fn a_table_of_slots_begins_with_the_owners_there_are() {
    let ring = grown(RingSettings::default(), 1..=20);
    let ring = without(&without(&ring, RingId(3)), RingId(7));
    for slots in [512, 65_536] {
        let table = RingSettings { algorithm: Algorithm::Slots, slots, ..RingSettings::default() };
        let after = transferred(&ring, table);
        let owned = after.owned();
        let spread = owned.iter().max().unwrap() - owned.iter().min().unwrap();
        assert!(spread <= 1, "{owned:?}");
        let moved = moves::between(&ring, &after);
        assert!(moved.moved_share < 0.08, "{moved:?}");
        assert!(moved.moved_share - moved.minimum_share < 1e-9, "{moved:?}");
    }
}

#[test]
fn settings_that_place_no_member_move_nothing() {
    let ring = grown(RingSettings::default(), 1..=6);
    let other = RingSettings {
        hash: HashFunction::Md5,
        collision: Collision::Quadratic,
        ..RingSettings::default()
    };
    assert_eq!(transferred(&ring, other.clone()).members(), ring.members());
    let hashed = RingSettings { placement: Placement::Hash, ..other };
    let expected = grown(hashed.clone(), 1..=6);
    assert_eq!(transferred(&ring, hashed).digest(), expected.digest());
}

#[test]
fn moves_across_hash_functions_are_sampled() {
    let ring = grown(RingSettings::default(), 1..=4);
    let md5 = RingSettings { hash: HashFunction::Md5, ..RingSettings::default() };
    let moved = moves::between(&ring, &Ring::new(md5, ring.members().to_vec()).unwrap());
    // The same ring under an unrelated hash: a key stays with one chance in four.
    assert!(moved.sampled_keys.is_some() && (moved.moved_share - 0.75).abs() < 0.01, "{moved:?}");
    assert!(moved.minimum_share < 0.02, "{moved:?}");
    assert_eq!(moves::between(&ring, &ring).moved_share, 0.0);
}

fn every_algorithm() -> Vec<RingSettings> {
    Algorithm::ALL.map(|algorithm| RingSettings { algorithm, ..RingSettings::default() }).to_vec()
}

fn any_settings() -> impl Strategy<Value = RingSettings> {
    let names = (0usize..4, 0usize..3, 0usize..2);
    (32u32..2_000, 1u32..16, names).prop_map(|(slots, virtual_servers, (kind, place, rule))| {
        RingSettings {
            // Twice as many rings as tables: they have more ways to be wrong.
            algorithm: [Algorithm::Ring, Algorithm::Ring, Algorithm::Slots, Algorithm::Ketama]
                [kind],
            slots,
            virtual_servers,
            placement: Placement::ALL[place],
            collision: Collision::ALL[rule],
            hash: HashFunction::Xxh3,
        }
    })
}

/// A ring of up to 24 members with weights and gaps in its identities.
fn any_ring() -> impl Strategy<Value = Ring> {
    (any_settings(), prop::collection::vec((1u32..4, prop::bool::ANY), 0..24)).prop_map(
        |(settings, members)| {
            let mut ring = Ring::new(settings, Vec::new()).unwrap();
            for (index, (weight, keep)) in members.into_iter().enumerate() {
                let Ok(next) = joined(&ring, index as u32 + 1, weight) else {
                    continue;
                };
                ring = next;
                if !keep && ring.members().len() > 1 {
                    let victim = ring.members()[0].id;
                    ring = without(&ring, victim);
                }
            }
            ring
        },
    )
}

/// Slots to look at: all of a small circle, some of a large one.
fn some_slots(ring: &Ring) -> impl Iterator<Item = Slot> {
    let circle = ring.settings().circle();
    (0..circle).step_by((circle / 4_096).max(1) as usize).map(|slot| slot as Slot)
}

proptest! {
    #[test]
    fn a_slot_belongs_to_the_first_virtual_server_at_or_after_it(ring in any_ring()) {
        prop_assume!(ring.settings().algorithm != Algorithm::Slots);
        let arcs = ring.arcs();
        for slot in some_slots(&ring) {
            let naive = arcs.iter().find(|arc| arc.end >= slot).or(arcs.first());
            prop_assert_eq!(ring.owner(slot), naive.map(|arc| arc.owner));
            prop_assert_eq!(ring.preference(slot).next(), ring.owner(slot));
        }
    }

    #[test]
    fn a_preference_list_holds_every_member_once(ring in any_ring(), slot in any::<u32>()) {
        let slot = (u64::from(slot) % ring.settings().circle()) as Slot;
        let mut list: Vec<_> = ring.preference(slot).collect();
        prop_assert_eq!(list.len(), ring.members().len());
        list.sort_unstable();
        list.dedup();
        prop_assert_eq!(list.len(), ring.members().len());
    }

    #[test]
    fn owned_slots_add_up(ring in any_ring()) {
        let circle = if ring.members().is_empty() { 0 } else { ring.settings().circle() };
        prop_assert_eq!(ring.owned().iter().sum::<u64>(), circle);
        let mut by_arc = vec![0; ring.members().len()];
        for arc in ring.arcs() {
            by_arc[arc.owner.0 as usize] += arc.length;
        }
        prop_assert_eq!(ring.owned(), by_arc);
    }

    #[test]
    fn an_addition_moves_keys_only_to_the_newcomer(ring in any_ring(), weight in 1u32..4) {
        let Ok(after) = joined(&ring, 1_000, weight) else { return Ok(()) };
        let moved = moves::between(&ring, &after);
        prop_assert!(moved.moves.iter().all(|entry| entry.to == Some(RingId(1_000))), "{:?}", moved);
        prop_assert!((moved.moved_share - moved.minimum_share).abs() < 1e-9);
        if ring.settings().algorithm == Algorithm::Ring {
            let wanted = weight * ring.settings().virtual_servers;
            prop_assert_eq!(after.members().last().unwrap().positions.len() as u32, wanted);
        }
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
    fn what_leaves_peaks_where_it_says(ring in any_ring()) {
        let Some(told) = explain::peaks_after_leaving(&ring) else { return Ok(()) };
        for (member, told) in ring.members().iter().zip(told) {
            let after = evenness(&without(&ring, member.id)).map_or(0.0, |e| e.peak_to_average);
            prop_assert!((told - after).abs() < 1e-9, "{} {} {}", member.id, told, after);
        }
    }

    #[test]
    fn a_weight_moves_keys_only_to_or_from_its_member(
        ring in any_ring(), pick in 0usize..64, weight in 1u32..6,
    ) {
        if ring.members().is_empty() { return Ok(()) }
        let member = &ring.members()[pick % ring.members().len()];
        let (id, before) = (member.id, member.weight);
        let Ok(after) = reweighed(&ring, id, weight) else { return Ok(()) };
        let moved = moves::between(&ring, &after);
        let fits = |entry: &moves::Move| {
            if weight > before { entry.to == Some(id) } else { entry.from == Some(id) }
        };
        prop_assert!(moved.moves.iter().all(fits), "{} -> {}: {:?}", before, weight, moved);
        prop_assert!((moved.moved_share - moved.minimum_share).abs() < 1e-9);
        prop_assert_eq!(after.members()[after.index_of(id).unwrap().0 as usize].weight, weight);
    }

    #[test]
    fn removing_the_newest_is_an_exact_undo(ring in any_ring()) {
        // Dealing out knows nothing of who had a slot before.
        prop_assume!(ring.settings().algorithm != Algorithm::Slots);
        let Ok(after) = joined(&ring, 1_000, 1) else { return Ok(()) };
        prop_assert_eq!(without(&after, RingId(1_000)), ring);
    }

    #[test]
    fn a_refused_change_changes_nothing(ring in any_ring()) {
        let mut members = ring.members().to_vec();
        let refused = membership::join(ring.settings(), &mut members, RingId(1_000), 60_000);
        prop_assert!(refused.is_err() || !ring.settings().algorithm.has_positions());
        if refused.is_err() {
            prop_assert_eq!(&members, ring.members());
            if let Some(first) = ring.members().first() {
                prop_assert!(membership::reweigh(ring.settings(), &mut members, first.id, 60_000).is_err());
                prop_assert_eq!(&members, ring.members());
            }
        }
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

#[test]
fn every_table_holds_everybody_and_moves_little() {
    for settings in every_algorithm() {
        let name = settings.algorithm.name();
        let ring = grown(settings, 1..=10);
        assert!(peak(&ring) < 1.35, "{name}: {}", peak(&ring));
        for slot in [0, 1, 77, 511] {
            assert_eq!(ring.preference(slot).count(), 10, "{name}");
            assert_eq!(ring.preference(slot).next(), ring.owner(slot), "{name}");
        }
        let moved = moves::between(&ring, &joined(&ring, 11, 1).unwrap());
        assert!(moved.moved_share < 0.2, "{name}: {moved:?}");
        // Maglev alone lets others trade.
        if name != "maglev" {
            assert!(moved.moves.iter().all(|entry| entry.to == Some(RingId(11))), "{name}");
        }
    }
}
