//! How many living instances may be replaced: a few at a time, and none where most of them fail at
//! once. Then the cause is hardly in them, and replacing them all would only lose what they hold.

use super::step::{Clock, Step};
use crate::fleet::{
    limits::OnUnhealthy,
    observed::{Phase, of_replica},
    state::{Keeper, State},
};

/// Fewer living replicas than this are never too many that fail.
const LIVING_MIN: usize = 4;

/// How many more living instances may get a replacement now.
pub(super) fn replacements(state: &State, clock: &mut Clock, steps: &mut Vec<Step>) -> usize {
    let limits = &state.limits;
    if state.keeper == Keeper::Others || limits.on_unhealthy != OnUnhealthy::Replace {
        return 0;
    }
    let count = Count::of(state);
    match (count.is_panic(), state.panic_since) {
        (true, None) => {
            steps.push(Step::BeginPanic { failing: count.failing, living: count.living });
        }
        (false, Some(_)) => {
            steps.push(Step::EndPanic);
            // Only then is it known how long those who still fail are to be left.
            return 0;
        }
        _ => {}
    }
    let allowed = match state.panic_since {
        _ if !count.is_panic() => limits.replace_max.of(state.desired.replicas().len()),
        Some(since) if clock.is_due(since + limits.panic_hold) => 1,
        _ => 0,
    };
    allowed.saturating_sub(count.being_replaced)
}

/// Replicas with a living instance.
#[derive(Default)]
struct Count {
    living: usize,
    /// None of its instances is in the table and passes.
    failing: usize,
    /// A failing one has a successor on its way.
    being_replaced: usize,
}

impl Count {
    fn of(state: &State) -> Self {
        let mut count = Self::default();
        for replica in state.desired.replicas() {
            let (mut lives, mut passes, mut has_successor) = (false, false, false);
            for (_, instance) in of_replica(&state.instances, replica.id()) {
                lives |= matches!(instance.phase, Phase::Admitted { .. } | Phase::Ejected { .. });
                passes |= instance.is_passing();
                has_successor |= instance.is_coming();
            }
            count.living += usize::from(lives);
            count.failing += usize::from(lives && !passes);
            count.being_replaced += usize::from(lives && !passes && has_successor);
        }
        count
    }

    fn is_panic(&self) -> bool {
        self.living >= LIVING_MIN && self.failing * 2 > self.living
    }
}
