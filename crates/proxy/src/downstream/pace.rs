//! How fast a client sends the body of its request. Pure.

/// How long a replica waits for the client before the rate is looked at, in milliseconds: a body may
/// begin slowly, and pause.
const WINDOW: u64 = 5_000;

/// The pace of one body. Only the time counts in which the client is waited for: one that we, or the
/// replica, hold up is not slow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pace {
    waited: u64,
    /// Bytes that had come when the window began.
    before: u64,
}

impl Pace {
    /// After so many milliseconds more of waiting, with so many bytes in all. Returns whether fewer
    /// than `least` bytes per second have come.
    pub(crate) fn waited(&mut self, millis: u64, bytes: u64, least: u64) -> bool {
        self.waited += millis;
        if self.waited < WINDOW {
            return false;
        }
        let came = u128::from(bytes.saturating_sub(self.before));
        let is_slow = came * 1_000 < u128::from(least) * u128::from(self.waited);
        *self = Self { waited: 0, before: bytes };
        is_slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a client that sends so many bytes each 100 ms is too slow within a minute.
    fn is_slow(bytes: u64, least: u64) -> bool {
        let mut pace = Pace::default();
        (1..=600).any(|step| pace.waited(100, step * bytes, least))
    }

    #[test]
    fn slow_is_what_stays_below_the_rate() {
        assert!(!is_slow(100, 1_000) && is_slow(99, 1_000));
        assert!(!is_slow(0, 0), "there is no least");
        assert!(is_slow(u64::MAX / 600, u64::MAX) || !is_slow(1, 1));
    }

    #[test]
    fn a_window_passes_before_anything_is_said_and_each_is_looked_at_for_itself() {
        let mut pace = Pace::default();
        assert!((0..49).all(|_| !pace.waited(100, 0, 1_000_000)), "a body may begin slowly");
        assert!(pace.waited(100, 0, 1_000_000));
        assert!((0..49).all(|_| !pace.waited(100, 10_000, 1_000)));
        assert!(!pace.waited(100, 10_000, 1_000), "it came in the middle");
        assert!((0..49).all(|_| !pace.waited(100, 10_000, 1_000)));
        assert!(pace.waited(100, 10_000, 1_000), "nothing since");
    }
}
