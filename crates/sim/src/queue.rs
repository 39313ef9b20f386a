//! What is still to happen in a world, in the order of time.

use std::collections::BTreeMap;

use ringmaster_core::fleet::ids::Moment;

/// Occurrences by their moment; those of one moment in the order in which they were scheduled.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    waiting: BTreeMap<(Moment, u64), T>,
    scheduled: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), scheduled: 0 }
    }
}

impl<T> Queue<T> {
    /// Schedules an occurrence.
    pub(crate) fn push(&mut self, moment: Moment, occurrence: T) {
        self.scheduled += 1;
        self.waiting.insert((moment, self.scheduled), occurrence);
    }

    /// Takes the next occurrence, unless it comes later than a moment.
    pub(crate) fn pop_until(&mut self, until: Moment) -> Option<(Moment, T)> {
        let first = self.waiting.first_entry().filter(|first| first.key().0 <= until)?;
        let ((moment, _), occurrence) = first.remove_entry();
        Some((moment, occurrence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_scheduled_first_comes_first_at_one_moment() {
        let mut queue = Queue::default();
        for (moment, name) in [(5, "c"), (1, "a"), (5, "d"), (1, "b")] {
            queue.push(Moment(moment), name);
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.pop_until(Moment(4))).collect();
        assert_eq!(order, [(Moment(1), "a"), (Moment(1), "b")]);
        queue.push(Moment(5), "e");
        let order: Vec<_> = std::iter::from_fn(|| Some(queue.pop_until(Moment(5))?.1)).collect();
        assert_eq!(order, ["c", "d", "e"]);
    }
}
