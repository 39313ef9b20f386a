//! The delay of `/process`: fixed, or drawn for each request.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

/// The longest simulated delay.
pub(crate) const DELAY_MAX: Duration = Duration::from_secs(60);

/// The range of delays, with both ends; all are equally likely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delay {
    least: Duration,
    most: Duration,
}

impl Delay {
    /// A fixed delay, at most the longest.
    pub(crate) fn fixed(delay: Duration) -> Delay {
        let delay = delay.min(DELAY_MAX);
        Delay { least: delay, most: delay }
    }

    pub(crate) fn draw(&self, random: &mut StdRng) -> Duration {
        random.random_range(self.least..=self.most)
    }
}

/// The error of a text that is no delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoDelay;

impl fmt::Display for NoDelay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a time like 100ms, or a range like 50ms..200ms, of {DELAY_MAX:?} at most")
    }
}

impl FromStr for Delay {
    type Err = NoDelay;

    fn from_str(text: &str) -> Result<Delay, NoDelay> {
        let time = |text: &str| {
            let time = humantime::parse_duration(text.trim()).ok();
            time.filter(|time| *time <= DELAY_MAX).ok_or(NoDelay)
        };
        let (least, most) = text.split_once("..").unwrap_or((text, text));
        let delay = Delay { least: time(least)?, most: time(most)? };
        if delay.least <= delay.most { Ok(delay) } else { Err(NoDelay) }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn times_and_ranges_are_read() {
        let ms = Duration::from_millis;
        for (text, least, most) in [
            ("100ms", 100, 100),
            ("0s", 0, 0),
            ("50ms..200ms", 50, 200),
            (" 50ms .. 1s ", 50, 1_000),
            ("1m", 60_000, 60_000),
        ] {
            assert_eq!(text.parse(), Ok(Delay { least: ms(least), most: ms(most) }), "{text}");
        }
        for text in
            ["", "100", "soon", "..", "50ms..", "..50ms", "2s..1s", "61s", "1ms..61s", "-1s"]
        {
            assert_eq!(text.parse::<Delay>(), Err(NoDelay), "{text}");
        }
    }

    #[test]
    fn draws_cover_the_range_and_nothing_else() {
        let mut random = StdRng::seed_from_u64(1);
        let delay: Delay = "50ms..200ms".parse().unwrap();
        let draws: Vec<u128> = (0..2_000).map(|_| delay.draw(&mut random).as_millis()).collect();
        assert!(draws.iter().all(|draw| (50..=200).contains(draw)), "{draws:?}");
        for (from, to) in [(50, 75), (75, 100), (100, 125), (125, 150), (150, 175), (175, 200)] {
            let within = draws.iter().filter(|draw| (from..to).contains(*draw)).count();
            // A sixth of them, within six standard deviations.
            assert!((233..=433).contains(&within), "{from} to {to}: {within}");
        }
        let fixed: Delay = "100ms".parse().unwrap();
        assert_eq!(fixed.draw(&mut random), Duration::from_millis(100));
    }
}
