//! What failed when an instance was asked, and whether another may be: one table (see [`Retry`]).

use ringmaster_core::fleet::message::FailureKind;

use super::super::upstream::DialError;

/// Why an instance gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Refused,
    ConnectTimeout,
    /// Our own side could not connect: no ports are left, or it may not.
    Local,
    /// Nothing is left to connect with.
    Exhausted,
    /// The connection was lost.
    Lost,
    /// A connection that had rested was lost, as if it had crossed the replica's close: that says
    /// nothing about the instance.
    Stale,
    Ejected,
    TimedOut,
    /// The answer cannot be understood.
    BadAnswer,
}

/// Whether a request may be sent to another instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retry {
    /// It reaches one working replica once, however often it is passed on.
    Free,
    /// It may do work twice: as far as the budget for that allows.
    Budgeted,
    Never,
}

/// An attempt that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AttemptError {
    pub(super) kind: Kind,
    pub(super) retry: Retry,
}

/// How far an attempt had come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Whether its connection had rested before.
    pub(super) is_reused: bool,
    /// Whether a byte of the request was written.
    pub(super) has_written: bool,
    /// Whether a byte of the final response came.
    pub(super) has_begun: bool,
    /// Whether it may be done twice, and all of it is kept.
    pub(super) is_repeatable: bool,
}

impl Progress {
    fn retry(self, repeated: Retry) -> Retry {
        match self {
            Progress { has_begun: true, .. } => Retry::Never,
            Progress { has_written: false, .. } => Retry::Free,
            Progress { is_repeatable: true, .. } => repeated,
            _ => Retry::Never,
        }
    }
}

impl AttemptError {
    /// The connection ended or broke.
    pub(super) fn lost(at: Progress) -> Self {
        let is_stale = at.is_reused && !at.has_begun;
        let (kind, repeated) =
            if is_stale { (Kind::Stale, Retry::Free) } else { (Kind::Lost, Retry::Budgeted) };
        Self { kind, retry: at.retry(repeated) }
    }

    /// The instance was ejected.
    pub(super) fn ejected(at: Progress) -> Self {
        Self { kind: Kind::Ejected, retry: at.retry(Retry::Free) }
    }

    /// What came is no response.
    pub(super) fn bad_answer() -> Self {
        Self { kind: Kind::BadAnswer, retry: Retry::Never }
    }

    /// No response came in time: another replica would need as long.
    pub(super) fn timed_out() -> Self {
        Self { kind: Kind::TimedOut, retry: Retry::Never }
    }

    /// What the control core is told of it, if anything. `starved`: it was the client that was
    /// waited for.
    pub(super) fn report(self, starved: bool) -> Option<FailureKind> {
        match self.kind {
            Kind::Refused => Some(FailureKind::Refused),
            Kind::ConnectTimeout => Some(FailureKind::ConnectTimeout),
            Kind::Lost => Some(FailureKind::Reset),
            Kind::TimedOut if !starved => Some(FailureKind::FirstByteTimeout),
            _ => None,
        }
    }

    /// Whether it is counted as an error of the instance.
    pub(super) fn is_error(self) -> bool {
        !matches!(self.kind, Kind::Local | Kind::Exhausted)
    }
}

impl AttemptError {
    /// There was no connection: nothing was written, so the next may be asked, unless that one would
    /// need as much. That the request was cancelled meanwhile is no failure of the attempt.
    pub(super) fn not_connected<Reason>(error: DialError<Reason>) -> Result<Self, Reason> {
        let free = |kind| Self { kind, retry: Retry::Free };
        Ok(match error {
            DialError::Refused => free(Kind::Refused),
            DialError::TimedOut => free(Kind::ConnectTimeout),
            DialError::Local => free(Kind::Local),
            DialError::Exhausted => Self { kind: Kind::Exhausted, retry: Retry::Never },
            DialError::Cancelled(reason) => return Err(reason),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Progress =
        Progress { is_reused: false, has_written: false, has_begun: false, is_repeatable: false };

    #[test]
    fn what_was_lost_may_be_tried_again_by_how_far_it_had_come() {
        let written = Progress { has_written: true, ..NOTHING };
        let kept = Progress { is_repeatable: true, ..written };
        for (at, kind, retry) in [
            (NOTHING, Kind::Lost, Retry::Free),
            (Progress { is_reused: true, ..NOTHING }, Kind::Stale, Retry::Free),
            (written, Kind::Lost, Retry::Never),
            (Progress { is_reused: true, ..written }, Kind::Stale, Retry::Never),
            (kept, Kind::Lost, Retry::Budgeted),
            (Progress { is_reused: true, ..kept }, Kind::Stale, Retry::Free),
            (Progress { has_begun: true, ..kept }, Kind::Lost, Retry::Never),
            (Progress { has_begun: true, is_reused: true, ..kept }, Kind::Lost, Retry::Never),
        ] {
            assert_eq!(AttemptError::lost(at), AttemptError { kind, retry }, "{at:?}");
        }
        assert_eq!(AttemptError::ejected(kept).retry, Retry::Free);
        assert_eq!(AttemptError::ejected(NOTHING).retry, Retry::Free);
        assert_eq!(AttemptError::ejected(written).retry, Retry::Never);
    }

    #[test]
    fn what_is_not_the_instances_fault_is_not_reported() {
        let report = |kind| AttemptError { kind, retry: Retry::Never }.report(false);
        for own in [Kind::Local, Kind::Exhausted, Kind::Stale, Kind::Ejected, Kind::BadAnswer] {
            assert_eq!(report(own), None, "{own:?}");
        }
        assert_eq!(report(Kind::Lost), Some(FailureKind::Reset));
        assert_eq!(AttemptError::timed_out().report(true), None, "the client was waited for");
        assert_eq!(AttemptError::timed_out().report(false), Some(FailureKind::FirstByteTimeout));
    }
}
