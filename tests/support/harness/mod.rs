//! Runs the real program with real replicas for the contract's tests, and takes everything down
//! again however a test ends.

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
pub(crate) use http::{Answer, ask, begin, finish, get, try_ask};
pub(crate) use load::Load;
pub(crate) use process::{Replica, replicas_of};

/// Far more than anything takes on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// Waits for a condition with a deadline; `what` says what did not come true.
pub(crate) fn eventually(what: &str, holds: impl FnMut() -> bool) {
    within(LONG, what, holds);
}

/// The same with a deadline of its own.
pub(crate) fn within(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Says on stderr that a test could not run here.
pub(crate) fn skip(why: &str) {
    eprintln!("SKIPPED: {why}");
}
