//! `ringmaster check`: checks a configuration, also against this machine, and shows all settings.

use std::{ffi::OsStr, fmt::Write};

use serde_json::{Map, Value, json};

use super::{
    Serve,
    settings::{Setting, settings},
};
use crate::{
    config::{self, Config, ConfigError, DriverKind},
    driver::docker,
};

/// The first setting of each group with the title, in the order of [`Options`].
const GROUPS: [(&str, &str); 7] = [
    ("preset", "Ports"),
    ("driver", "Replicas"),
    ("key", "Keys and policy"),
    ("workers", "Balancer"),
    ("slots", "Ring"),
    ("heartbeat_interval", "Health and scaling"),
    ("replica_in_flight_max", "Traffic"),
];

/// The settings, notices and warnings of a valid configuration.
#[derive(Debug)]
pub struct Report {
    settings: Vec<Setting>,
    notices: Vec<String>,
    warnings: Vec<String>,
}

/// Checks everything that `serve` would refuse, as far as that is possible without changing anything.
/// `log` is the variable `RINGMASTER_LOG`, `warning` a warning about the command line itself.
///
/// # Errors
/// The first invalid setting.
pub async fn check(
    arguments: Serve,
    warning: Option<String>,
    log: Option<&OsStr>,
) -> Result<Report, ConfigError> {
    config::log_filter(log)?;
    let given = arguments.given()?;
    let config = Config::check(given.options.clone(), docker::is_here())?;
    let mut warnings = given.warnings;
    warnings.extend(config::check_machine(&config).await?);
    warnings.extend(warning);
    let starts = config.role.supervises() && config.driver == DriverKind::Docker;
    if starts && !docker::is_here() {
        warnings.push("there is no Docker socket yet; `serve` waits for it".to_owned());
    }
    Ok(Report { settings: settings(&given.options, &config), notices: config.notices, warnings })
}

impl Report {
    /// The report for people: groups of `key = value`, then notices and warnings.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let width = self.settings.iter().map(|setting| setting.key.len()).max().unwrap_or(0);
        for Setting { key, value, is_default, .. } in &self.settings {
            if let Some((first, title)) = GROUPS.iter().find(|(first, _)| first == key) {
                let lead = if *first == GROUPS[0].0 { "" } else { "\n" };
                let _ = writeln!(text, "{lead}{title}");
            }
            let mark = if *is_default { "  (default)" } else { "" };
            let _ = writeln!(text, "  {key:<width$} = {}{mark}", plain(value));
        }
        let remarks = [("notice", &self.notices), ("warning", &self.warnings)];
        for (index, (kind, line)) in remarks
            .iter()
            .flat_map(|(kind, lines)| lines.iter().map(move |l| (kind, l)))
            .enumerate()
        {
            let lead = if index == 0 { "\n" } else { "" };
            let _ = writeln!(text, "{lead}{kind}: {line}");
        }
        text
    }

    /// The report as JSON: `{"ok":true,"settings":{KEY:{"value":..,"default":..}},"notices":[..],"warnings":[..]}`.
    pub fn json(&self) -> String {
        let settings: Map<String, Value> = self
            .settings
            .iter()
            .map(|one| (one.key.clone(), json!({ "value": one.value, "default": one.is_default })))
            .collect();
        pretty(&json!({
            "ok": true,
            "settings": settings,
            "notices": self.notices,
            "warnings": self.warnings,
        }))
    }
}

/// The report as JSON for an invalid configuration: `{"ok":false,"error":{"key":..,"why":..}}`.
pub fn refusal_json(error: &ConfigError) -> String {
    pretty(&json!({ "ok": false, "error": { "key": error.key, "why": error.why } }))
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) if text.is_empty() => "(empty)".to_owned(),
        Value::String(text) => {
            text.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'")
        }
        Value::Array(list) if list.is_empty() => "none".to_owned(),
        Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command, Parser};

    use super::*;
    use crate::{
        cli::{Cli, Command as Subcommand, settings::default_of},
        config::Options,
    };

    /// Options as parsed from a command line.
    fn options(arguments: &[&str]) -> Options {
        let words = [&["ringmaster", "check"], arguments].concat();
        let Subcommand::Check(arguments) = Cli::try_parse_from(words).unwrap().command else {
            panic!("it is `check`")
        };
        arguments.given().unwrap().options
    }

    fn report(arguments: &[&str]) -> Report {
        let options = options(arguments);
        let config = Config::check(options.clone(), true).unwrap();
        Report {
            settings: settings(&options, &config),
            notices: config.notices,
            warnings: vec!["a warning".into()],
        }
    }

    fn line(text: &str, key: &str) -> String {
        let is_it = |line: &&str| line.trim_start().split(' ').next() == Some(key);
        let line = text.lines().find(is_it).unwrap_or_else(|| panic!("no {key}: {text}"));
        line.trim_start().split_once('=').unwrap().1.trim().to_owned()
    }

    #[test]
    fn given_settings_and_defaults_are_distinguished() {
        let text = report(&["--drain", "3s", "--trusted-proxies", "::1,10.0.0.0/8"]).text();
        assert!(text.starts_with("Ports\n  preset "), "{text}");
        for (key, shown) in [
            ("listen", "0.0.0.0:5000  (default)"),
            ("drain", "3s"),
            ("trusted_proxies", "::1, 10.0.0.0/8"),
            ("env", "none  (default)"),
            ("driver", "docker  (default)"),
            ("replicas_max", "56  (default)"),
            ("hedge", "false  (default)"),
            ("network", "net1  (default)"),
        ] {
            assert_eq!(line(&text, key), shown, "{text}");
        }
        assert!(text.ends_with("\nwarning: a warning\n"), "{text}");
        for (_, title) in GROUPS {
            assert!(text.lines().any(|line| line == title), "{title}: {text}");
        }
        let text = report(&["--slots", "4096", "--replicas", "65", "--fleet", "b"]).text();
        assert_eq!(line(&text, "algorithm"), "slots  (default)");
        assert_eq!(line(&text, "network"), "b-net  (default)");
        assert!(text.contains("\n\nnotice: 65 replicas of weight 65"), "{text}");
    }

    #[test]
    fn secrets_are_hidden() {
        let key = "00112233445566778899aabbccddeeff";
        let secret = ["--env", "PASSWORD=s3cret=x", "--admin-token", "s3cret"];
        let report = report(&[&secret[..], &["--hash", "siphash", "--hash-key", key]].concat());
        for shown in [report.text(), report.json(), format!("{:?}", report.settings)] {
            assert!(!shown.contains("s3cret") && !shown.contains(key), "{shown}");
        }
        let text = self::report(&["--store", "redis://:s3cret@h:1/2", "--driver", "static"]).text();
        assert!(!text.contains("s3cret"), "{text}");
        assert_eq!(line(&text, "store"), "redis at h:1/2");
        assert_eq!(line(&report.text(), "env"), "PASSWORD=(hidden)");
        assert_eq!(line(&report.text(), "admin_token"), "(hidden)");
    }

    #[test]
    fn json_has_each_setting_under_its_key() {
        let read: Value = serde_json::from_str(&report(&["--attempts", "2"]).json()).unwrap();
        let settings = read["settings"].as_object().unwrap();
        let all = serde_json::to_value(Options::default()).unwrap();
        let keys = |object: &Map<String, Value>| object.keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(settings), keys(all.as_object().unwrap()));
        assert_eq!(settings["attempts"], json!({"value": 2, "default": false}));
        assert_eq!(settings["queue_max"], json!({"value": 128, "default": true}));
        assert_eq!((&read["ok"], &read["warnings"]), (&json!(true), &json!(["a warning"])));
    }

    /// The shown defaults are read from the help texts, so giving one explicitly must change nothing.
    #[test]
    fn the_defaults_in_the_help_are_the_effective_ones() {
        // Defaults described in words, and those that are an error beside other defaults.
        let in_words = [
            "driver",
            "replicas_max",
            "network",
            "key",
            "algorithm",
            "queue_max",
            "queue_timeout",
            "mounts",
        ];
        let shown = |config: Result<Config, ConfigError>| format!("{:?}", config.unwrap());
        let usual = shown(Config::check(Options::default(), true));
        let command = Options::augment_args(Command::new("settings"));
        let mut tried = 0;
        for argument in command.get_arguments() {
            let key = argument.get_id().as_str();
            let default = match default_of(argument) {
                Value::String(text) if !text.contains(' ') => text,
                Value::Number(number) => number.to_string(),
                Value::Bool(is_on) => is_on.to_string(),
                _ => continue,
            };
            if in_words.contains(&key) {
                continue;
            }
            tried += 1;
            let flag = format!("--{}={default}", key.replace('_', "-"));
            let same = shown(Config::check(options(&[&flag]), true));
            assert_eq!(same, usual, "{flag}");
        }
        assert!(tried > 45, "only {tried} defaults were found");
    }
}
