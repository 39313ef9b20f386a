//! `RINGMASTER_LOG`: which lines are logged.

use std::ffi::OsStr;

use tracing_subscriber::EnvFilter;

use super::{Checked, wrong};

const KEY: &str = "RINGMASTER_LOG";
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// The filter that the variable describes; `info` if it is not set.
///
/// # Errors
/// A text that is neither a level nor a list of `TARGET=LEVEL`.
pub fn log_filter(variable: Option<&OsStr>) -> Checked<EnvFilter> {
    let text = variable.unwrap_or_default();
    let Some(text) = text.to_str() else {
        return wrong(KEY, format!("{text:?} is not text"));
    };
    let text = if text.trim().is_empty() { "info" } else { text };
    // The filter would take an unknown word for the name of a module, and log nothing else.
    let unknown = text.split(',').map(str::trim).find(|part| {
        let (target, level) = part.rsplit_once('=').unwrap_or(("", part));
        let is_level = LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level.trim()));
        // The fields of a span, in brackets, are left to the filter.
        let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ':');
        let is_target = target.contains('[') || (!target.is_empty() && target.chars().all(inner));
        !is_level || (part.contains('=') && !is_target)
    });
    let parsed = EnvFilter::try_new(text);
    match (unknown, parsed) {
        (None, Ok(filter)) => Ok(filter),
        (part, _) => wrong(
            KEY,
            format!(
                "'{}' is not one of {}, nor a list like info,hyper=debug",
                part.unwrap_or(text),
                LEVELS.join(", ")
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> Result<String, String> {
        let filter = log_filter(Some(OsStr::new(text)));
        filter.map(|filter| filter.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn levels_are_accepted_and_other_words_refused() {
        assert_eq!(log_filter(None).unwrap().to_string(), "info");
        assert_eq!(filter(""), Ok("info".into()));
        assert_eq!(filter("WARN"), Ok("warn".into()));
        assert_eq!(filter("off"), Ok("off".into()));
        assert_eq!(filter("info,hyper=debug"), Ok("hyper=debug,info".into()));
        for (text, named) in [
            ("loud", "'loud'"),
            ("info,loud", "'loud'"),
            ("hyper=loud", "'hyper=loud'"),
            ("=info", "'=info'"),
            ("info,", "''"),
            ("7", "'7'"),
            ("a b=info", "'a b=info'"),
        ] {
            let message = filter(text).unwrap_err();
            assert!(
                message.starts_with(&format!("`RINGMASTER_LOG`: {named} is not one of")),
                "{message}"
            );
        }
    }
}
