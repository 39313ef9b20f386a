//! The settings from the environment and the flag `--delay`, checked once at the start.

use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::delay::{DELAY_MAX, Delay, NoDelay};

const DEFAULT_PORT: u16 = 5000;
const DEFAULT_DELAY_MS: u64 = 100;

/// The checked environment of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The replica's name (`SERVER_ID`, default `unknown`), part of most responses.
    pub server_id: String,
    /// Where to listen (`HOST`, default `0.0.0.0`; `PORT`, default 5000, 0 = any free one).
    pub listen: SocketAddr,
    /// Default delay of `/process` (`PROCESS_DELAY`, a time or a range;
    /// else `PROCESS_DELAY_MS`; default 100 ms, at most 60 s).
    pub process_delay: Delay,
    /// The process ends with status 3 after this time (`EXIT_AFTER_MS`), to simulate an image whose
    /// containers end by themselves.
    pub exit_after: Option<Duration>,
    /// The replica's id in the ring (`RINGMASTER_REPLICA`), if set.
    pub replica: Option<u64>,
    /// Which run of the replica this is (`RINGMASTER_INCARNATION`), if set.
    pub incarnation: Option<u64>,
}

/// An invalid variable, as one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError {
    variable: &'static str,
    value: String,
    expected: String,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {:?}, expected {}", self.variable, self.value, self.expected)
    }
}

impl std::error::Error for SettingsError {}

impl Settings {
    /// Reads the settings through `lookup`, which returns the value of a variable.
    ///
    /// An empty value counts as unset, since compose files produce those.
    ///
    /// # Errors
    /// The first invalid variable.
    pub fn from_lookup(
        lookup: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Settings, SettingsError> {
        let host = number(&lookup, "HOST", "an IP address to listen on")?
            .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let port =
            number(&lookup, "PORT", "a port number from 0 to 65535")?.unwrap_or(DEFAULT_PORT);
        Ok(Settings {
            server_id: text(&lookup, "SERVER_ID")?.unwrap_or_else(|| "unknown".to_owned()),
            listen: SocketAddr::new(host, port),
            process_delay: delay(&lookup)?,
            exit_after: number(&lookup, "EXIT_AFTER_MS", "a number of milliseconds")?
                .map(Duration::from_millis),
            replica: number(&lookup, "RINGMASTER_REPLICA", "a whole number")?,
            incarnation: number(&lookup, "RINGMASTER_INCARNATION", "a whole number")?,
        })
    }

    /// These settings with another delay of `/process`.
    ///
    /// # Errors
    /// The text is no delay.
    pub fn with_delay(self, text: &str) -> Result<Settings, SettingsError> {
        let process_delay = parse_delay("--delay", text.to_owned())?;
        Ok(Settings { process_delay, ..self })
    }

    /// Reads the settings from the process environment.
    ///
    /// # Errors
    /// The first invalid variable.
    pub fn from_env() -> Result<Settings, SettingsError> {
        Settings::from_lookup(|name| std::env::var_os(name))
    }
}

fn delay(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Delay, SettingsError> {
    if let Some(value) = text(&lookup, "PROCESS_DELAY")? {
        return parse_delay("PROCESS_DELAY", value);
    }
    let variable = "PROCESS_DELAY_MS";
    let asked = number(&lookup, variable, "a number of milliseconds")?.unwrap_or(DEFAULT_DELAY_MS);
    let delay = Duration::from_millis(asked);
    if delay > DELAY_MAX {
        let expected = format!("at most {} milliseconds", DELAY_MAX.as_millis());
        return Err(SettingsError { variable, value: asked.to_string(), expected });
    }
    Ok(Delay::fixed(delay))
}

fn parse_delay(variable: &'static str, value: String) -> Result<Delay, SettingsError> {
    let parsed = value.parse();
    parsed.map_err(|expected: NoDelay| SettingsError {
        variable,
        value,
        expected: expected.to_string(),
    })
}

fn text(
    lookup: impl Fn(&str) -> Option<OsString>,
    variable: &'static str,
) -> Result<Option<String>, SettingsError> {
    let Some(value) = lookup(variable).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    value.into_string().map(Some).map_err(|raw| SettingsError {
        variable,
        value: raw.to_string_lossy().into_owned(),
        expected: "UTF-8 text".to_owned(),
    })
}

fn number<T: std::str::FromStr>(
    lookup: impl Fn(&str) -> Option<OsString>,
    variable: &'static str,
    expected: &str,
) -> Result<Option<T>, SettingsError> {
    let Some(value) = text(lookup, variable)? else {
        return Ok(None);
    };
    match value.trim().parse() {
        Ok(parsed) => Ok(Some(parsed)),
        Err(_) => Err(SettingsError { variable, value, expected: expected.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        Settings::from_lookup(|name| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn an_empty_environment_gives_the_defaults() {
        let expected = Settings {
            server_id: "unknown".to_owned(),
            listen: "0.0.0.0:5000".parse().unwrap(),
            process_delay: Delay::fixed(Duration::from_millis(100)),
            exit_after: None,
            replica: None,
            incarnation: None,
        };
        assert_eq!(settings(&[]), Ok(expected.clone()));
        assert_eq!(settings(&[("PORT", ""), ("SERVER_ID", "")]), Ok(expected));
    }

    #[test]
    fn every_variable_is_read() {
        let read = settings(&[
            ("SERVER_ID", "server_1"),
            ("HOST", "::1"),
            ("PORT", "0"),
            ("PROCESS_DELAY_MS", "60000"),
            ("EXIT_AFTER_MS", "4000"),
            ("RINGMASTER_REPLICA", "4"),
            ("RINGMASTER_INCARNATION", "2"),
        ])
        .unwrap();
        assert_eq!(read.server_id, "server_1");
        assert_eq!(read.listen, "[::1]:0".parse().unwrap());
        assert_eq!(read.process_delay, Delay::fixed(Duration::from_secs(60)));
        assert_eq!(read.exit_after, Some(Duration::from_secs(4)));
        assert_eq!((read.replica, read.incarnation), (Some(4), Some(2)));
    }

    #[test]
    fn the_flag_beats_the_range_and_that_the_older_variable() {
        let range: Delay = "50ms..200ms".parse().unwrap();
        let both = [("PROCESS_DELAY", "50ms..200ms"), ("PROCESS_DELAY_MS", "7")];
        let read = settings(&both).unwrap();
        assert_eq!(read.process_delay, range);
        let read = read.with_delay("1s").unwrap();
        assert_eq!(read.process_delay, Delay::fixed(Duration::from_secs(1)));
        let sentence = read.with_delay("soon").unwrap_err().to_string();
        assert!(sentence.starts_with("--delay is \"soon\", expected a time like"), "{sentence}");
    }

    #[test]
    fn a_bad_value_is_named_with_its_variable() {
        for (variable, value) in [
            ("PORT", "65536"),
            ("PORT", "http"),
            ("HOST", "localhost"),
            ("PROCESS_DELAY_MS", "-1"),
            ("PROCESS_DELAY_MS", "60001"),
            ("PROCESS_DELAY", "200ms..50ms"),
            ("PROCESS_DELAY", "61s"),
            ("EXIT_AFTER_MS", "soon"),
            ("RINGMASTER_REPLICA", "one"),
            ("RINGMASTER_INCARNATION", "1.5"),
        ] {
            let sentence = settings(&[(variable, value)]).unwrap_err().to_string();
            assert!(sentence.starts_with(&format!("{variable} is \"{value}\"")), "{sentence}");
        }
    }
}
