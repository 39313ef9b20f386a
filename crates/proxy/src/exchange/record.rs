//! What is counted, reported and logged of an exchange.

use std::time::Instant;

use http::StatusCode;
use ringmaster_core::fleet::message::FailureKind;

use super::{
    super::{access_log::Route, pool::Pool, worker::Worker},
    attempt::{AttemptError, Kind},
    request::Request,
};

/// How an answer was found.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    /// Replicas that were asked, the one that answered included.
    pub(super) attempts: usize,
    pub(super) spilled: bool,
}

pub(super) fn micros_since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Counts the answer of an instance.
pub(super) fn answer(worker: &Worker, pool: &Pool, status: u16, micros: u64) {
    pool.counters.answers.observe(micros);
    let is_error = status >= 500;
    if is_error {
        pool.counters.errors.bump();
    }
    worker.picker.learn(&worker.view, pool, micros, is_error);
    run_of_errors(worker, pool, is_error);
}

/// Counts and reports an attempt that failed. `starved`: it was the client that was waited for.
pub(super) fn miss(
    worker: &Worker,
    pool: &Pool,
    error: AttemptError,
    (began, starved): (Instant, bool),
) {
    let is_own = match error.kind {
        Kind::Local | Kind::Exhausted => false,
        Kind::TimedOut => !starved,
        _ => true,
    };
    if is_own {
        worker.picker.learn(&worker.view, pool, micros_since(began), true);
    }
    // Other misses are reported each for itself.
    if error.kind == Kind::BadAnswer {
        run_of_errors(worker, pool, true);
    }
    if let Some(kind) = error.report(starved) {
        worker.report(pool.instance(), kind);
    }
    if error.is_error() {
        pool.counters.errors.bump();
    }
    match error.kind {
        Kind::Ejected => worker.counters.given_up.bump(),
        Kind::Lost | Kind::Stale => worker.counters.lost.bump(),
        _ => {}
    }
}

/// Reports a run of errors, once: what it means is for a probe to say.
fn run_of_errors(worker: &Worker, pool: &Pool, is_error: bool) {
    let run = pool.answered(is_error);
    if is_error && run == worker.config.suspect_after_errors {
        worker.counters.error_runs.bump();
        worker.report(pool.instance(), FailureKind::Errors);
    }
}

/// Writes down whose answer a request got.
pub(super) fn route(
    worker: &Worker,
    request: &mut Request,
    pool: &Pool,
    micros: u64,
    found: Found,
) {
    let Some(entry) = &mut request.entry else { return };
    let why = match found {
        Found { attempts: 2.., .. } => "retry",
        Found { spilled: true, .. } => "spill",
        _ if worker.picker.is_by_key() => "ring",
        _ => "policy",
    };
    let replica = pool.name().clone();
    entry.route = Some(Route { replica, micros, attempts: found.attempts, why });
}

/// Counts the status that a client gets.
pub(super) fn status(worker: &Worker, request: &mut Request, status: u16) {
    let status = StatusCode::from_u16(status).unwrap_or_default();
    worker.counters.answered(status);
    if let Some(entry) = &mut request.entry {
        entry.status = status;
    }
}
