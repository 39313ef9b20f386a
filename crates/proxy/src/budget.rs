//! How many retries a worker may make.

/// Tokens for retries that may make replicas do work twice. Pure: time is an argument.
///
/// It guards against a storm: replicas that are slow or resetting under load must not get up to
/// three times that load. So it is asked only where a replica may have seen the request: a
/// connection that was lost after bytes of the request went out. A refused or timed-out connect
/// and an instance that was ejected are free: there the request reaches one working replica once,
/// however often it is passed on, and the number of attempts bounds it. A killed replica would
/// otherwise empty the budget within milliseconds, and its share of the keys would fail until it
/// is out of the table.
#[derive(Clone, Debug)]
pub(crate) struct RetryBudget {
    tokens: f64,
    /// Tokens that a quiet time leaves: at most so many retries come at once.
    burst: f64,
    per_request: f64,
    per_millisecond: f64,
    refilled_at: u64,
}

impl RetryBudget {
    pub(crate) fn new(percent: u32, per_second: f64, burst: u32) -> Self {
        let burst = f64::from(burst.max(1));
        Self {
            tokens: burst,
            burst,
            per_request: f64::from(percent) / 100.0,
            per_millisecond: per_second / 1000.0,
            refilled_at: 0,
        }
    }

    /// A request came in: it pays for a part of a retry.
    pub(crate) fn deposit(&mut self) {
        self.tokens = (self.tokens + self.per_request).min(self.burst);
    }

    /// Whether one more retry is allowed at `now`, in milliseconds.
    pub(crate) fn withdraw(&mut self, now: u64) -> bool {
        let passed = now.saturating_sub(self.refilled_at);
        self.refilled_at = self.refilled_at.max(now);
        self.tokens = (self.tokens + passed as f64 * self.per_millisecond).min(self.burst);
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(budget: &mut RetryBudget, wanted: usize, now: u64) -> usize {
        (0..wanted).filter(|_| budget.withdraw(now)).count()
    }

    #[test]
    fn requests_pay_for_a_fifth_of_retries() {
        let mut budget = RetryBudget::new(20, 3.0, 10);
        assert_eq!(allowed(&mut budget, 100, 0), 10);
        for _ in 0..20 {
            budget.deposit();
        }
        assert_eq!(allowed(&mut budget, 100, 0), 4);
    }

    #[test]
    fn time_alone_pays_for_the_minimum_and_fills_up_to_the_burst() {
        let mut budget = RetryBudget::new(20, 3.0, 10);
        allowed(&mut budget, 100, 1_000);
        assert_eq!(allowed(&mut budget, 100, 2_001), 3);
        assert_eq!(allowed(&mut budget, 100, 1_000_000), 10);
        // Time that stands still or runs backwards gives nothing.
        assert_eq!(allowed(&mut budget, 100, 5), 0);
    }
}
