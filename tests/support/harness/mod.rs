//! Runs the real program with real replicas for the contract tests, and removes everything when a test
//! ends, also when it fails.

#![allow(dead_code, unused_imports, clippy::unwrap_used)]

mod balancer;
pub(crate) mod companion;
mod home;
mod http;
mod load;
pub(crate) mod page;
mod process;

use std::time::{Duration, Instant};

pub(crate) use balancer::Balancer;
pub(crate) use home::{Home, Run};
pub(crate) use http::{Response, ask, begin, finish, get, try_ask};
pub(crate) use load::Load;
pub(crate) use process::{Replica, replicas_of};

/// Timeout of every wait, long enough for a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// Waits for a condition with a deadline; `what` describes it in the failure.
pub(crate) fn eventually(what: &str, holds: impl FnMut() -> bool) {
    within(LONG, what, holds);
}

/// Waits for a condition for at most `limit`.
pub(crate) fn within(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Prints on standard error that a test could not run.
pub(crate) fn skip(why: &str) {
    eprintln!("SKIPPED: {why}");
}
