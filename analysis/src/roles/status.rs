//! The status of a fleet in its processes, and whether they agree.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde::Deserialize;

use super::fleet::{Process, until};

/// Timeout for an agreement.
const DEADLINE: Duration = Duration::from_secs(20);
/// Pause between two checks.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// The status of a fleet, as far as it matters here.
#[derive(Debug, Deserialize)]
pub(super) struct Status {
    pub(super) lease: Lease,
    pub(super) balancers: Vec<Reported>,
}

/// The supervising process.
#[derive(Debug, Deserialize)]
pub(super) struct Lease {
    pub(super) fence: u64,
}

/// The report of a balancer.
#[derive(Debug, Deserialize)]
pub(super) struct Reported {
    version: String,
    digest: String,
    live: bool,
}

impl Status {
    /// The digest that this many live balancers have in common.
    pub(super) fn agreed(&self, balancers: usize) -> Option<&str> {
        let live: Vec<&Reported> = self.balancers.iter().filter(|one| one.live).collect();
        let first = live.first()?;
        let all_agree = live.iter().all(|one| one.digest == first.digest);
        (live.len() == balancers && all_agree).then_some(first.digest.as_str())
    }

    /// Whether this many live balancers route by a table of the current term.
    pub(super) fn is_followed(&self, balancers: usize) -> bool {
        let term = format!("{}.", self.lease.fence);
        let live = self.balancers.iter().filter(|one| one.live);
        live.filter(|one| one.version.starts_with(&term)).count() == balancers
    }
}

/// What may not change by itself: the digest of the ring, the names, and with them N.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    digest: String,
    names: Vec<String>,
}

#[derive(Deserialize)]
struct RingDigest {
    digest: String,
}

/// What one process routes by.
pub(super) async fn standing(process: &Process) -> Option<Standing> {
    let ring: RingDigest = process.get("/api/ring").await?;
    Some(Standing { digest: ring.digest, names: process.replicas().await })
}

/// Waits until one of these leads, and all of so many balancers follow it with one ring.
pub(super) async fn settle(processes: &[Process], balancers: usize) -> Result<Duration> {
    until("one process supervises, and all balancers follow it", async || {
        for process in processes {
            let status: Option<Status> = process.get("/api/status").await;
            let is_settled = status.is_some_and(|status| {
                status.is_followed(balancers) && status.agreed(balancers).is_some()
            });
            if !is_settled {
                return false;
            }
        }
        true
    })
    .await
}

/// Waits until all of so many balancers have one ring, which is not that of before.
pub(super) async fn agree(
    process: &Process,
    balancers: usize,
    before: &str,
) -> Result<(Duration, String)> {
    let begun = Instant::now();
    while begun.elapsed() < DEADLINE {
        let status: Option<Status> = process.get("/api/status").await;
        let agreed = status.as_ref().and_then(|status| status.agreed(balancers));
        if let Some(digest) = agreed.filter(|digest| *digest != before) {
            return Ok((begun.elapsed(), digest.to_owned()));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    bail!("the digests are not equal after {DEADLINE:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(digests: &[(&str, &str, bool)]) -> Status {
        let one = |(version, digest, live): &(&str, &str, bool)| Reported {
            version: (*version).to_owned(),
            digest: (*digest).to_owned(),
            live: *live,
        };
        Status { lease: Lease { fence: 7 }, balancers: digests.iter().map(one).collect() }
    }

    #[test]
    fn agreement_needs_all_of_them_and_one_digest() {
        let agreeing = status(&[("7.1", "a", true), ("6.9", "a", true), ("6.1", "b", false)]);
        assert_eq!((agreeing.agreed(2), agreeing.agreed(3)), (Some("a"), None));
        assert!(!agreeing.is_followed(2) && agreeing.is_followed(1));
        assert_eq!(status(&[("7.1", "a", true), ("7.2", "b", true)]).agreed(2), None);
        assert_eq!(status(&[]).agreed(0), None);
    }
}
