//! What clients got from a server, as the servers API shows it.

use serde::Serialize;

/// Counts since the last reset. Times are seconds until the response began.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Figures {
    pub(super) request_count: u64,
    pub(super) error_count: u64,
    /// 0 where there were no requests, as the error rate.
    pub(super) average_response_time: f64,
    pub(super) error_rate: f64,
}
