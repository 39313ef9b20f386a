//! Small values that messages, state and notes share.

use super::ids::{ImageId, SpecDigest};

/// Whether we or others start and stop an instance, or all of a fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeper {
    /// We do.
    Ringmaster,
    /// Others do: it is only admitted and ejected.
    Others,
}

/// What replicas are made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// Digest of all of it.
    pub spec: SpecDigest,
    /// The build of the image, where replicas are made from one.
    pub image: Option<ImageId>,
}

/// How an instance is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopManner {
    /// SIGTERM, the grace, then SIGKILL.
    Graceful,
    /// SIGKILL; also ends a paused one.
    Kill,
    /// It has ended by itself: its last words are kept, then it is removed.
    Collect,
}

/// How a request failed, seen from the data plane. Never one 5xx alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FailureKind {
    /// The connection was refused.
    Refused,
    /// No connection within the deadline.
    ConnectTimeout,
    /// The connection was lost before the answer began.
    Reset,
    /// The answer did not begin within the deadline.
    FirstByteTimeout,
    /// So many answers in a row were of 500 and above, or no HTTP, that it is worth a question. What
    /// the application responds to requests ejects no instance: only its heartbeat does.
    Errors,
    /// Not a request: the health check that the image brings has failed.
    ImageCheck,
}

impl FailureKind {
    /// In words, for the decision record.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "connection refused",
            Self::ConnectTimeout => "no connection in time",
            Self::Reset => "connection lost before the answer",
            Self::FirstByteTimeout => "no answer in time",
            Self::Errors => "errors in a row",
            Self::ImageCheck => "the image's own health check failed",
        }
    }
}
