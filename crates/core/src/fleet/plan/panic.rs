//! How many living instances may be replaced: a few at a time, and none where most of them fail at
//! once. Then the cause is hardly in them, and replacing them all would only lose what they hold.

use super::step::{Deadlines, Step};
use crate::fleet::{
    desired::Replica,
    limits::OnUnhealthy,
    observed::{Phase, of_replica},
    state::State,
    values::Keeper,
};

/// With fewer replicas than this it is never taken for more than accidents.
const REPLICAS_MIN: usize = 4;

/// How many more living instances may get a replacement now.
pub(super) fn replacements(
    state: &State,
    deadlines: &mut Deadlines,
    steps: &mut Vec<Step>,
) -> usize {
    let limits = &state.limits;
    if state.keeper == Keeper::Others || limits.on_unhealthy != OnUnhealthy::Replace {
        return 0;
    }
    let count = Count::of(state);
    match (state.panic_since, state.calm_since) {
        (None, _) if count.is_panic() => {
            steps.push(Step::BeginPanic { failing: count.failing, living: count.living });
            return 0;
        }
        (None, _) => {
            let ours = state.desired.replicas().iter().filter(|replica| is_counted(replica));
            let allowed = limits.replace_max.of(ours.count());
            return allowed.saturating_sub(count.being_replaced);
        }
        (Some(_), Some(_)) if count.is_panic() => steps.push(Step::CalmPanic(None)),
        (Some(_), None) if !count.is_panic() => steps.push(Step::CalmPanic(Some(deadlines.now()))),
        (Some(_), Some(calm_since)) if deadlines.is_due(calm_since + limits.replace_after) => {
            steps.push(Step::EndPanic);
        }
        _ => {}
    }
    let is_held =
        !state.panic_since.is_some_and(|since| deadlines.is_due(since + limits.panic_hold));
    let allowed = usize::from(!is_held);
    allowed.saturating_sub(count.being_replaced)
}

/// Only what we keep is replaced, and a drained replica gets no requests on purpose.
fn is_counted(replica: &Replica) -> bool {
    replica.server.is_none() && !replica.is_drained
}

#[derive(Default)]
struct Count {
    /// Replicas of which any instance is, or is on its way.
    present: usize,
    /// Replicas with a living instance that is, or was, in the table.
    living: usize,
    /// Those of which none is in the table and passes.
    failing: usize,
    /// A failing one has a successor on its way.
    being_replaced: usize,
}

impl Count {
    fn of(state: &State) -> Self {
        let mut count = Self::default();
        for replica in state.desired.replicas().iter().filter(|replica| is_counted(replica)) {
            let (mut lives, mut passes, mut has_successor) = (false, false, false);
            for (_, instance) in of_replica(&state.instances, replica.id()) {
                lives |= matches!(instance.phase, Phase::Admitted { .. } | Phase::Ejected { .. });
                passes |= instance.is_passing();
                has_successor |= instance.is_coming();
            }
            count.present += usize::from(lives || has_successor);
            count.living += usize::from(lives);
            count.failing += usize::from(lives && !passes);
            count.being_replaced += usize::from(lives && !passes && has_successor);
        }
        count
    }

    fn is_panic(&self) -> bool {
        self.present >= REPLICAS_MIN && self.failing * 2 > self.living
    }
}
