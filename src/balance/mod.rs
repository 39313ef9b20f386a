//! Who gets a request. Pure: candidates, loads and chance come in as plain data.
//!
//! The ring gives the order, the routing table says who is admitted, a policy picks. Never sees a
//! connection, a clock or a request.

use crate::ring::{MemberIndex, Ring, Slot};

/// The members that a request may try, in the order of its key's preference list: those that are
/// admitted and not tried yet.
pub fn candidates<'a>(
    ring: &'a Ring,
    slot: Slot,
    admitted: impl Fn(MemberIndex) -> bool + 'a,
    tried: &'a [MemberIndex],
) -> impl Iterator<Item = MemberIndex> + 'a {
    ring.preference(slot).filter(move |&member| admitted(member) && !tried.contains(&member))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{RingId, RingSettings, placement::place};

    #[test]
    fn the_next_distinct_admitted_member_follows_the_owner() {
        let mut ring = Ring::new(RingSettings::default(), Vec::new()).unwrap();
        for id in 1..=5 {
            let mut members = ring.members().to_vec();
            members.push(place(&ring, RingId(id), 1).unwrap());
            ring = Ring::new(ring.settings().clone(), members).unwrap();
        }
        for slot in 0..512 {
            let order: Vec<_> = ring.preference(slot).collect();
            let picked = |tried: &[MemberIndex], out: MemberIndex| {
                candidates(&ring, slot, |member| member != out, tried).next()
            };
            assert_eq!(picked(&[], order[4]), Some(order[0]));
            assert_eq!(picked(&[], order[0]), Some(order[1]));
            assert_eq!(picked(&[order[0]], order[1]), Some(order[2]));
            assert_eq!(picked(&order, order[0]), None);
        }
    }
}
