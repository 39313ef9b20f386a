//! A roll: outdated instances are replaced one by one by what is wanted now, each of them watched for
//! a while before the next. What is wanted becomes the fleet's revision when all run from it; until
//! then an instance that dies is replaced from the revision that is known to work.

use std::sync::Arc;

use super::ids::{Moment, SpecDigest};

/// Newcomers of a roll that may fail before it is given up.
pub const FAILURES_MAX: u32 = 2;

/// How far a roll is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roll {
    /// What is wanted, as it was known last.
    pub target: Option<SpecDigest>,
    /// Newcomers that ended, or did not pass, since this revision is wanted.
    pub failures: u32,
    /// What the last failure was.
    pub last_error: Option<Arc<str>>,
    /// Until when the last newcomer is watched.
    pub bakes_until: Moment,
}

impl Roll {
    /// Begins anew where something else is wanted than before; whether that is so.
    pub fn aim_at(&mut self, spec: &SpecDigest) -> bool {
        let is_same = self.target.as_ref() == Some(spec);
        let is_other = self.target.is_some() && !is_same;
        if !is_same {
            *self = Self { target: Some(spec.clone()), ..Self::default() };
        }
        is_other
    }

    /// Forgets what failed.
    pub fn start_over(&mut self) {
        *self = Self { target: self.target.take(), ..Self::default() };
    }

    /// One more newcomer failed; whether the roll is to be given up.
    pub(super) fn fail(&mut self, why: &Arc<str>) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.last_error = Some(Arc::clone(why));
        self.has_failed()
    }

    /// Whether it is to be given up.
    pub fn has_failed(&self) -> bool {
        self.failures >= FAILURES_MAX
    }
}
