//! How many client connections the limit of open files allows.
//!
//! A process without descriptors left cannot connect to its replicas, send heartbeats or write its
//! state, and would take healthy replicas for dead. So clients get only what the rest can spare.

use rustix::process::{Resource, getrlimit};

/// For heartbeats, calls to the engine, the state file and the log.
const RESERVED: usize = 20;
/// A client connection, the one to its replica, and one to another replica that rests.
const PER_CONNECTION: usize = 3;

/// The most client connections, not more than `wanted`. To be asked when everything but the data
/// plane is open; `workers` threads are still to start.
pub(super) fn connections_within(wanted: usize, workers: usize) -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else { return wanted };
    // Where that cannot be read, there is no limit worth a guess.
    let Ok(open) = std::fs::read_dir("/proc/self/fd") else { return wanted };
    let most = spare(limit, open.count(), workers);
    if most < wanted {
        tracing::warn!(
            "connections_max is {most} instead of {wanted}: {limit} files may be open (ulimit -n)"
        );
    }
    wanted.min(most)
}

/// At least one, whatever that leads to.
fn spare(limit: usize, open: usize, workers: usize) -> usize {
    // Each worker has a listener, a poller and its waker.
    let spare = limit.saturating_sub(open + RESERVED + 4 * workers);
    (spare / PER_CONNECTION).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_has_room_beside_all_connections() {
        assert_eq!(spare(1_024, 24, 2), 324);
        assert_eq!(spare(20, 24, 2), 1);
        assert_eq!(connections_within(1, 2), 1);
    }
}
