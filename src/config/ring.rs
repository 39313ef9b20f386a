//! The settings of the ring.

use ringmaster_core::{
    fleet::server::Registration,
    ring::{Algorithm, RingOptions, RingSettings},
};

use super::{Checked, Options, wrong};

/// The settings of the ring, with notices on a default that depends on the size of the fleet.
/// `replicas` is the size of a new fleet.
pub(super) fn ring_of(
    options: &Options,
    replicas: usize,
    upstreams: &[Registration],
) -> Checked<(RingSettings, Vec<String>)> {
    let named = RingOptions {
        algorithm: options.algorithm.clone(),
        slots: options.slots,
        virtual_servers: options.virtual_servers,
        placement: options.placement.clone(),
        collision: options.collision.clone(),
        hash: options.hash.clone(),
        hash_key: options.hash_key.as_ref().map(|key| key.0.clone()),
    };
    let ring = named.on(&RingSettings::default()).or_else(|error| wrong(error.key, error.why))?;
    if options.algorithm.is_some() || options.placement.is_some() {
        return Ok((ring, Vec::new()));
    }
    let wanted = (replicas + upstreams.len()).max(options.replicas_max.unwrap_or(0));
    let weights: u64 = upstreams.iter().map(|upstream| u64::from(upstream.weight)).sum();
    let weights = (weights + replicas as u64).max(wanted as u64);
    let hashed = RingSettings { placement: ringmaster_core::ring::Placement::Hash, ..ring.clone() };
    // Too many for even placement, although the ring itself has room for them.
    let is_beyond = wanted > ring.replicas_max() || weights > ring.weights_max();
    if !is_beyond || weights > hashed.weights_max() {
        return Ok((ring, Vec::new()));
    }
    let notice = format!(
        "{wanted} replicas of weight {weights} in all, with {} virtual servers each, are more than even placement serves: the algorithm is `slots`, unless `algorithm` or `placement` says another",
        ring.virtual_servers
    );
    Ok((RingSettings { algorithm: Algorithm::Slots, ..ring }, vec![notice]))
}

/// Checks that the ring has room for all upstreams: those without room would get no requests.
pub(super) fn room_for(
    upstreams: &[Registration],
    replicas: usize,
    ring: &RingSettings,
) -> Checked<()> {
    let weights: u64 = upstreams.iter().map(|upstream| u64::from(upstream.weight)).sum();
    let all = weights + replicas as u64;
    if all <= ring.weights_max() && upstreams.len() + replicas <= ring.replicas_max() {
        return Ok(());
    }
    let why = format!(
        "{} upstreams with weights of {weights} in all{} are too much for the ring; raise `slots`, or lower the weights or `virtual_servers`",
        upstreams.len(),
        if replicas > 0 { format!(" beside {replicas} replicas") } else { String::new() }
    );
    wrong("upstream", why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(text: &str) -> (Algorithm, usize) {
        let options: Options = toml::from_str(text).unwrap();
        let config = super::super::Config::check(options, true).unwrap();
        let about = |notice: &&String| notice.contains("the algorithm is");
        (config.ring.algorithm, config.notices.iter().filter(about).count())
    }

    #[test]
    fn beyond_even_placement_the_default_is_slots() {
        assert_eq!(chosen("replicas = 56"), (Algorithm::Ring, 0));
        assert_eq!(chosen("slots = 4096\nreplicas = 64"), (Algorithm::Ring, 0));
        assert_eq!(chosen("slots = 4096\nreplicas = 65"), (Algorithm::Slots, 1));
        assert_eq!(chosen("slots = 65536\nreplicas_max = 1000"), (Algorithm::Slots, 1));
        assert_eq!(
            chosen("slots = 4096\nupstream = [\"a1=h:1,weight=200\"]"),
            (Algorithm::Slots, 1)
        );
        let named = "slots = 4096\nplacement = \"hash\"\nreplicas = 65";
        assert_eq!(chosen(named), (Algorithm::Ring, 0));
    }
}
