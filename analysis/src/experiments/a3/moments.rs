//! Finds the moments of a replacement in the responses of `/rep` and in the samples. Pure.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::load::{Outcome, Run};
use crate::report::csv;

/// The moments of one replacement, counted from the start of the load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Moments {
    /// The kill command was started.
    #[serde(rename = "killed_s", serialize_with = "seconds")]
    pub killed: Duration,
    /// The victim's last good answer.
    #[serde(rename = "last_answer_s", serialize_with = "maybe_seconds")]
    pub last_answer: Option<Duration>,
    /// `/rep` did not list the victim any more.
    #[serde(rename = "out_of_table_s", serialize_with = "maybe_seconds")]
    pub out_of_table: Option<Duration>,
    /// `/rep` listed as many replicas as before.
    pub replacement: Option<Replacement>,
}

/// The replacement and its moments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Replacement {
    /// Its name; the victim's own when it came back under it.
    pub name: String,
    /// `/rep` listed it.
    #[serde(rename = "in_service_s", serialize_with = "seconds")]
    pub in_service: Duration,
    /// Its first good answer.
    #[serde(rename = "first_answer_s", serialize_with = "maybe_seconds")]
    pub first_answer: Option<Duration>,
}

fn seconds<S: Serializer>(at: &Duration, out: S) -> Result<S::Ok, S::Error> {
    at.as_secs_f64().serialize(out)
}

fn maybe_seconds<S: Serializer>(at: &Option<Duration>, out: S) -> Result<S::Ok, S::Error> {
    at.map(|at| at.as_secs_f64()).serialize(out)
}

impl Moments {
    /// Finds the moments. `before` is the first list of `/rep`, `changes` every
    /// different list since then, in order.
    pub(crate) fn find(
        before: &[String],
        victim: &str,
        killed: Duration,
        changes: &[(Duration, Vec<String>)],
        run: &Run,
    ) -> Moments {
        let gone = |names: &[String]| !names.iter().any(|name| name == victim);
        let left = changes.iter().position(|(at, names)| *at >= killed && gone(names));
        let later = left.map(|place| &changes[place..]).unwrap_or_default();
        let full = later.iter().find(|(_, names)| names.len() >= before.len());
        let replacement = full.map(|(at, names)| {
            let newcomer = names.iter().find(|name| !before.contains(name));
            let name = newcomer.map_or_else(|| victim.to_owned(), String::clone);
            let first_answer = answers(run, &name).find(|answer| *answer >= left_at(later));
            Replacement { name, in_service: *at, first_answer }
        });
        let end = replacement.as_ref().map_or(Duration::MAX, |new| new.in_service);
        Moments {
            killed,
            last_answer: answers(run, victim).take_while(|answer| *answer < end).last(),
            out_of_table: left.map(|place| changes[place].0),
            replacement,
        }
    }

    fn rows(&self, victim: &str) -> Vec<(String, Option<Duration>)> {
        let new = self.replacement.as_ref();
        let name = new.map_or("the replacement", |new| new.name.as_str());
        vec![
            (format!("{victim} killed"), Some(self.killed)),
            (format!("{victim} answered for the last time"), self.last_answer),
            (format!("{victim} out of the table"), self.out_of_table),
            (format!("{name} in service"), new.map(|new| new.in_service)),
            (format!("{name} answered for the first time"), new.and_then(|new| new.first_answer)),
        ]
    }

    /// The moments as CSV.
    pub(crate) fn table(&self, victim: &str) -> String {
        let header = ["moment", "since_start_s", "since_kill_s"].map(str::to_owned);
        let killed = self.killed.as_secs_f64();
        let row = |(what, at): (String, Option<Duration>)| {
            let at = at.map(|at| at.as_secs_f64());
            let cell = |value: Option<f64>| value.map(|v| format!("{v:.3}")).unwrap_or_default();
            vec![what, cell(at), cell(at.map(|at| at - killed))]
        };
        csv(&header, &self.rows(victim).into_iter().map(row).collect::<Vec<_>>())
    }

    /// The moments as lines of text.
    pub(crate) fn describe(&self, victim: &str) -> String {
        let killed = self.killed.as_secs_f64();
        let line = |(what, at): (String, Option<Duration>)| match at.map(|at| at.as_secs_f64()) {
            None => format!("{what}: not seen within the run"),
            Some(at) => format!("{what}: {at:.3} s ({:+.0} ms)", 1000.0 * (at - killed)),
        };
        self.rows(victim).into_iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// The moment the victim was seen to be gone; `later` begins with it.
fn left_at(later: &[(Duration, Vec<String>)]) -> Duration {
    later.first().map_or(Duration::ZERO, |(at, _)| *at)
}

/// When `name` gave good answers, in order.
fn answers<'a>(run: &'a Run, name: &str) -> impl Iterator<Item = Duration> + use<'a> {
    let place = run.tally.names.iter().position(|known| known == name);
    let samples = run.tally.samples.as_deref().unwrap_or_default();
    samples
        .iter()
        .filter(move |sample| place.is_some_and(|place| sample.outcome == Outcome::Replica(place)))
        .map(|sample| sample.at)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::load::Tally;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn names(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn run(answers: &[(u64, &str)]) -> Run {
        let mut tally = Tally::new(true).unwrap();
        for (at, name) in answers {
            tally.answer(ms(*at), ms(1), Some(name));
        }
        Run { tally, started: Instant::now(), elapsed: ms(12_000) }
    }

    #[test]
    fn a_replacement_under_a_new_name_is_found() {
        let run = run(&[(10, "a"), (4_010, "a"), (4_020, "b"), (4_900, "d"), (5_000, "d")]);
        let changes =
            [(ms(0), names("a b c")), (ms(4_060), names("b c")), (ms(4_800), names("d b c"))];
        let found = Moments::find(&names("a b c"), "a", ms(4_000), &changes, &run);
        assert_eq!(found.last_answer, Some(ms(4_010)));
        assert_eq!(found.out_of_table, Some(ms(4_060)));
        let new = found.replacement.clone().unwrap();
        assert_eq!((new.name.as_str(), new.in_service), ("d", ms(4_800)));
        assert_eq!(new.first_answer, Some(ms(4_900)));
        assert!(found.table("a").contains("d in service,4.800,0.800\n"), "{}", found.table("a"));
        assert!(found.describe("a").contains("a out of the table: 4.060 s (+60 ms)"));
    }

    #[test]
    fn a_replacement_under_the_same_name_is_found() {
        let run = run(&[(3_990, "a"), (4_500, "a"), (4_600, "a")]);
        let changes = [(ms(0), names("a b")), (ms(4_100), names("b")), (ms(4_400), names("a b"))];
        let found = Moments::find(&names("a b"), "a", ms(4_000), &changes, &run);
        assert_eq!(found.last_answer, Some(ms(3_990)));
        let new = found.replacement.unwrap();
        assert_eq!((new.name.as_str(), new.first_answer), ("a", Some(ms(4_500))));
    }

    #[test]
    fn moments_that_were_not_seen_are_shown_as_missing() {
        let changes = [(ms(0), names("a b"))];
        let found = Moments::find(&names("a b"), "a", ms(4_000), &changes, &run(&[]));
        assert_eq!((found.out_of_table, found.replacement.clone()), (None, None));
        assert!(found.describe("a").contains("a out of the table: not seen within the run"));
        assert!(found.table("a").contains("a out of the table,,\n"));
    }
}
