//! The response statuses that a heartbeat accepts.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use http::StatusCode;

/// Statuses, as a list of numbers and ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statuses(Vec<RangeInclusive<u16>>);

/// Most parts of a list.
const PARTS_MAX: usize = 32;
/// The range of HTTP statuses.
const ALL: RangeInclusive<u16> = 100..=599;

impl Statuses {
    /// Whether the list contains a status.
    pub fn contains(&self, status: StatusCode) -> bool {
        self.0.iter().any(|range| range.contains(&status.as_u16()))
    }
}

impl Default for Statuses {
    /// 2xx and 3xx.
    fn default() -> Self {
        Self(vec![200..=399])
    }
}

/// Why a text is not a list of statuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{part}' is not a status like 200, a range like 200-399, or 2xx; several are separated by commas"
)]
pub struct StatusesError {
    part: String,
}

impl FromStr for Statuses {
    type Err = StatusesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = |part: &str| StatusesError { part: part.chars().take(60).collect() };
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        if parts.len() > PARTS_MAX {
            return Err(refused(text));
        }
        let ranges = parts.into_iter().map(|part| range_of(part).ok_or_else(|| refused(part)));
        ranges.collect::<Result<_, _>>().map(Self)
    }
}

fn range_of(part: &str) -> Option<RangeInclusive<u16>> {
    // Exactly three digits: `parse` would also accept a sign and leading zeros.
    let status = |text: &str| {
        let is_plain = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|status| is_plain && ALL.contains(status))
    };
    if let Some(class) = part.strip_suffix("xx").or_else(|| part.strip_suffix("XX")) {
        let first = status(&format!("{class}00"))?;
        return Some(first..=first + 99);
    }
    match part.split_once('-') {
        Some((first, last)) => {
            let range = status(first.trim_end())?..=status(last.trim_start())?;
            Some(range).filter(|range| !range.is_empty())
        }
        None => status(part).map(|only| only..=only),
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            let lead = if index == 0 { "" } else { "," };
            match (range.start(), range.end()) {
                (first, last) if first == last => write!(f, "{lead}{first}")?,
                (first, last) => write!(f, "{lead}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_ranges_and_classes_are_read() {
        for (text, within, beyond) in [
            ("200", &[200][..], &[199, 201][..]),
            ("200-399", &[200, 302, 399], &[199, 400]),
            ("200,204, 300-399", &[200, 204, 300, 399], &[201, 299, 400]),
            ("2xx", &[200, 299], &[199, 300]),
            ("2XX,503", &[204, 503], &[500, 502, 504]),
            ("500 - 503", &[500, 503], &[499, 504]),
        ] {
            let statuses: Statuses = text.parse().unwrap();
            let contains = |status: &u16| statuses.contains(StatusCode::from_u16(*status).unwrap());
            assert!(within.iter().all(contains), "{text}");
            assert!(!beyond.iter().any(contains), "{text}");
        }
        assert_eq!("200-399".parse(), Ok(Statuses::default()));
    }

    #[test]
    fn an_error_names_the_invalid_part() {
        for (text, part) in [
            ("", ""),
            ("20", "20"),
            ("+200", "+200"),
            ("0200", "0200"),
            ("099", "099"),
            ("600", "600"),
            ("200,", ""),
            ("200,ok", "ok"),
            ("399-200", "399-200"),
            ("200-", "200-"),
            ("xx", "xx"),
            ("6xx", "6xx"),
            ("2x", "2x"),
        ] {
            let error = text.parse::<Statuses>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("'{part}' is not a status like 200")), "{error}");
        }
        assert!(["200"; 33].join(",").parse::<Statuses>().is_err());
    }

    proptest! {
        #[test]
        fn displayed_statuses_are_read_back(parts in prop::collection::vec((100u16..600, 0u16..500), 1..9)) {
            let ranges = parts.iter().map(|(first, more)| *first..=(first + more).min(599));
            let statuses = Statuses(ranges.collect());
            prop_assert_eq!(statuses.to_string().parse(), Ok(statuses));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = text.parse::<Statuses>();
        }
    }
}
