//! Repeats the way from a request's header to its replica, to count the instructions.
//!
//! It does what the data plane does with a key: finds it among the headers, looks up its
//! slot and that slot's preference list, and takes the first that is admitted.

use std::hint::black_box;

use anyhow::{Context, Result};
use http::{HeaderMap, HeaderName, HeaderValue};
use ringmaster_core::{
    balance,
    ring::{Algorithm, MemberIndex, Ring, RingId, RingSettings, membership},
};

/// Different keys, so that a turn cannot profit from the one before.
const KEYS: usize = 1_024;
/// The same for every number of replicas, and enough for a thousand.
pub(super) const SLOTS: u32 = 4_096;

/// Does this many turns.
///
/// # Errors
/// More replicas than a ring holds.
pub fn run(replicas: u32, turns: usize) -> Result<()> {
    let settings =
        RingSettings { slots: SLOTS, algorithm: Algorithm::Slots, ..RingSettings::default() };
    let mut members = Vec::new();
    for id in 1..=replicas {
        membership::join(&settings, &mut members, RingId(id), 1)?;
    }
    let ring = Ring::new(settings, members)?;
    let admitted = vec![true; ring.members().len()];
    let name = HeaderName::from_static("x-request-id");
    let requests: Vec<HeaderMap> = (0..KEYS).map(|key| request(&name, key)).collect();
    for headers in requests.iter().cycle().take(turns) {
        let key = black_box(headers).get(&name).map_or(&b""[..], HeaderValue::as_bytes);
        let is_admitted = |member: MemberIndex| admitted[usize::from(member.0)];
        let picked = balance::candidates(&ring, ring.slot_of(key), is_admitted, &[]).next();
        black_box(picked.context("no replica is admitted")?);
    }
    Ok(())
}

/// What a client sends, with the key among it.
fn request(key_name: &HeaderName, key: usize) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in [("host", "127.0.0.1:5000"), ("accept", "*/*"), ("user-agent", "walk")] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers.insert(key_name.clone(), HeaderValue::from(key * 7_919 % 1_000_000));
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_of_any_size_can_be_walked() {
        for replicas in [1, 3, 1_000] {
            run(replicas, 2_000).unwrap();
        }
        assert!(run(0, 1).is_err() && run(5_000, 1).is_err());
    }
}
