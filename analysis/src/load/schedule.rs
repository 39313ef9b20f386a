//! When each request is due.
//!
//! Open loop: the moments are fixed before the run and do not wait for responses,
//! as real users do not. A latency counts from the intended moment, so a stall
//! of the server shows in all requests that were due during it (otherwise it
//! would show in one only, which is known as coordinated omission).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// How fast requests follow each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// Each connection sends its next request when the response has arrived.
    Closed,
    /// Requests are due at a fixed rate, independent of the responses.
    Open {
        /// Requests per second, above 0.
        rate: f64,
    },
}

/// When a run is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// After this many requests.
    Requests(u64),
    /// After this time; requests in flight are still waited for.
    Duration(Duration),
}

/// Hands out the numbers of requests, and the moment each one is due.
#[derive(Debug)]
pub struct Schedule {
    pace: Pace,
    /// Unknown only for a closed loop that is limited by time.
    total: Option<u64>,
    /// The end of a closed loop that is limited by time.
    closes: Option<Duration>,
    next: AtomicU64,
    /// Set when the run is ended early.
    ended: AtomicBool,
}

impl Schedule {
    /// A schedule at its beginning.
    #[must_use]
    pub fn new(pace: Pace, amount: Amount) -> Schedule {
        let (total, closes) = match (pace, amount) {
            (_, Amount::Requests(total)) => (Some(total), None),
            (Pace::Closed, Amount::Duration(time)) => (None, Some(time)),
            // A request is due at 0, so a second at 10 per second has 10, the last at 0.9 s.
            (Pace::Open { rate }, Amount::Duration(time)) => {
                (Some((time.as_secs_f64() * rate).ceil() as u64), None)
            }
        };
        Schedule { pace, total, closes, next: AtomicU64::new(0), ended: AtomicBool::new(false) }
    }

    /// How many requests there will be, when that is known.
    #[must_use]
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    /// Takes the next request's number; none when the run is over.
    pub fn claim(&self, elapsed: Duration) -> Option<u64> {
        let is_closed = self.closes.is_some_and(|closes| elapsed >= closes);
        if is_closed || self.ended.load(Ordering::Relaxed) {
            return None;
        }
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        (self.total.is_none_or(|total| index < total)).then_some(index)
    }

    /// Hands out no more numbers. Requests with a number are still sent.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// When request `index` is due, counted from the start; none in a closed loop.
    #[must_use]
    pub fn due(&self, index: u64) -> Option<Duration> {
        match self.pace {
            Pace::Closed => None,
            Pace::Open { rate } => Some(Duration::from_secs_f64(index as f64 / rate)),
        }
    }

    /// When the last request is due; none when there is no such moment.
    #[must_use]
    pub fn last_due(&self) -> Option<Duration> {
        self.due(self.total?.checked_sub(1)?)
    }
}

/// Releases the requests of an open loop when they are due.
///
/// It is a thread of its own since the runtime's timer counts in whole
/// milliseconds, which would show as latency: a thread's sleep is exact to some
/// 60 microseconds. Dropping the pacer ends it.
#[derive(Debug)]
pub(crate) struct Pacer {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// The longest sleep before the pacer looks whether it was dropped.
const LONGEST_SLEEP: Duration = Duration::from_millis(50);
/// The shortest one: at high rates several requests are released together.
const SHORTEST_SLEEP: Duration = Duration::from_micros(50);

impl Pacer {
    /// Starts to add one permit to `released` per due request.
    pub(crate) fn start(
        schedule: Arc<Schedule>,
        start: Instant,
        released: Arc<Semaphore>,
    ) -> std::io::Result<Pacer> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("pacer".to_owned()).spawn(move || {
            let mut index = 0;
            while schedule.total().is_none_or(|total| index < total) {
                let Some(due) = schedule.due(index) else {
                    return;
                };
                let wait = due.saturating_sub(start.elapsed());
                if wait.is_zero() {
                    released.add_permits(1);
                    index += 1;
                    continue;
                }
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                std::thread::sleep(wait.clamp(SHORTEST_SLEEP, LONGEST_SLEEP));
            }
        })?;
        Ok(Pacer { stop, thread: Some(thread) })
    }
}

impl Drop for Pacer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It ends within LONGEST_SLEEP. A panic would be the only error, and
            // there is nothing left to do then.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    fn claimed(schedule: &Schedule, elapsed: Duration) -> u64 {
        std::iter::from_fn(|| schedule.claim(elapsed)).take(1_000).count() as u64
    }

    #[test]
    fn an_open_loop_is_due_at_even_moments() {
        let schedule = Schedule::new(Pace::Open { rate: 250.0 }, Amount::Requests(500));
        assert_eq!(schedule.due(0), Some(Duration::ZERO));
        assert_eq!(schedule.due(1), Some(Duration::from_millis(4)));
        assert_eq!(schedule.due(250), Some(Duration::from_secs(1)));
        assert_eq!(schedule.last_due(), Some(Duration::from_millis(1996)));
        assert_eq!(claimed(&schedule, NOW), 500);
    }

    #[test]
    fn a_time_becomes_a_number_of_requests_in_an_open_loop() {
        let second = Amount::Duration(Duration::from_secs(1));
        assert_eq!(Schedule::new(Pace::Open { rate: 10.0 }, second).total(), Some(10));
        assert_eq!(Schedule::new(Pace::Open { rate: 0.5 }, second).total(), Some(1));
    }

    #[test]
    fn a_closed_loop_ends_by_number_or_by_time() {
        let by_number = Schedule::new(Pace::Closed, Amount::Requests(3));
        assert_eq!((claimed(&by_number, NOW), by_number.due(0)), (3, None));
        let by_time = Schedule::new(Pace::Closed, Amount::Duration(Duration::from_secs(1)));
        assert_eq!(claimed(&by_time, Duration::from_millis(999)), 1_000);
        assert_eq!(claimed(&by_time, Duration::from_secs(1)), 0);
        assert_eq!(by_time.total(), None);
    }

    #[test]
    fn a_schedule_that_is_ended_hands_out_no_more() {
        let schedule = Schedule::new(Pace::Open { rate: 10.0 }, Amount::Requests(100));
        assert_eq!((schedule.claim(NOW), schedule.claim(NOW)), (Some(0), Some(1)));
        schedule.end();
        assert_eq!(schedule.claim(NOW), None);
    }

    #[tokio::test]
    async fn the_pacer_releases_each_request_when_it_is_due_and_no_more() {
        let schedule = Arc::new(Schedule::new(Pace::Open { rate: 500.0 }, Amount::Requests(50)));
        let released = Arc::new(Semaphore::new(0));
        let start = Instant::now();
        let pacer = Pacer::start(Arc::clone(&schedule), start, Arc::clone(&released)).unwrap();
        for index in 0..50 {
            released.acquire().await.unwrap().forget();
            assert!(start.elapsed() >= schedule.due(index).unwrap(), "{index} came early");
        }
        drop(pacer);
        assert_eq!(released.available_permits(), 0);
    }
}
