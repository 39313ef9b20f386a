//! `--print-config`: the whole configuration as a file with the same meaning.

use std::fmt::Write;

use serde_json::Value;

use super::{
    Given, Serve,
    settings::{Setting, settings},
};
use crate::{
    config::{Config, ConfigError, Options},
    driver::docker,
};

/// Settings whose default depends on others, or that others forbid. They are printed as comments, so
/// that the file stays valid when another setting is changed.
const DEPENDENT: [&str; 8] = [
    "replicas_max",
    "network",
    "algorithm",
    "placement",
    "queue_max",
    "queue_timeout",
    "heartbeat_method",
    "heartbeat_status",
];

/// Settings that need a `store`. They become comments where its URL is hidden.
const WITH_STORE: [&str; 4] = ["role", "advertise", "store_ca", "backends"];

/// The text of the file, with every setting. Those that are not at their default are marked.
///
/// # Errors
/// The first invalid setting.
pub fn print(arguments: Serve) -> Result<String, ConfigError> {
    let Given { options, warnings } = arguments.given()?;
    let config = Config::check(options.clone(), docker::is_here())?;
    Ok(file(&options, &config, &warnings))
}

fn file(options: &Options, config: &Config, warnings: &[String]) -> String {
    let mut text = "# Keys marked `changed` are not at their default.\n".to_owned();
    for warning in warnings {
        let _ = writeln!(text, "# warning: {}", warning.escape_debug());
    }
    let settings = settings(options, config);
    let has_no_store = settings.iter().any(|one| one.key == "store" && one.is_hidden);
    for setting in settings {
        if has_no_store && WITH_STORE.contains(&setting.key.as_str()) {
            text += "# with the `store`: ";
        }
        text += &line(&setting);
        text.push('\n');
    }
    text
}

fn line(setting: &Setting) -> String {
    let Setting { key, value, is_default, is_changed, is_hidden } = setting;
    // TOML has no null.
    let Some(value) = toml_of(value) else { return format!("# {key}: none") };
    let mark = if *is_changed { "  # changed" } else { "" };
    match is_default {
        true if value == "[]" => format!("# {key}: none"),
        // The help describes these defaults in words.
        true if value.contains(' ') => format!("# {key}: {}", value.trim_matches('"')),
        true if DEPENDENT.contains(&key.as_str()) => format!("# {key} = {value}"),
        false if *is_hidden => format!("# {key} = {value}{mark}; secrets are not shown"),
        // The settings of the preset are printed one by one below.
        false if key == "preset" => format!("# {key} = {value}{mark}"),
        true | false => format!("{key} = {value}{mark}"),
    }
}

fn toml_of(value: &Value) -> Option<String> {
    let value = toml::Value::try_from(value).ok()?;
    Some(value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(options: &Options) -> String {
        let config = Config::check(options.clone(), true).unwrap();
        file(options, &config, &[])
    }

    /// The configuration without its notices, which depend on how it was given.
    fn meaning(options: &Options) -> String {
        format!("{:?}", Config::check(options.clone(), true).unwrap())
    }

    fn options(text: &str) -> Options {
        toml::from_str::<Options>(text).unwrap().with_preset().unwrap()
    }

    #[test]
    fn the_printed_file_has_the_same_meaning() {
        for text in [
            "",
            "preset = \"course\"",
            "preset = \"key-value\"\npolicy = \"round_robin\"",
            "preset = \"servers\"\nupstream = [\"a=h:1\", \"b=[::1]:2,weight=3\"]",
            "preset = \"redis\"",
            "mounts = []\nheartbeat_path = \"\"\nbounded_factor = 2\naccess_log_sample = 0.5",
            "slots = 4096\nreplicas = 65\nfleet = \"b\"\nadmin_hosts = [\"a.lan\", \"b.lan\"]",
            "replica_in_flight_max = 4\nqueue_max = 7\nhedge = true\nbody_max = 9000000000",
            "heartbeat_body = \"it's \\\"ok\\\"\\n\\u0001\\u007f\"\ncommand = \"a 'b c'\"",
        ] {
            let options = options(text);
            let printed = printed(&options);
            let again: Options =
                toml::from_str(&printed).unwrap_or_else(|e| panic!("{e}: {printed}"));
            assert_eq!(meaning(&again), meaning(&options), "{text}:\n{printed}");
        }
    }

    #[test]
    fn each_setting_has_a_line_and_changed_ones_are_marked() {
        let options = options("preset = \"key-value\"\ndrain = \"3s\"");
        let printed = printed(&options);
        for line in [
            "# preset = \"key-value\"  # changed",
            "listen = \"0.0.0.0:8081\"  # changed",
            "drain = \"3s\"  # changed",
            "replicas = 3",
            "admin = \"127.0.0.1:9090\"",
            "driver = \"docker\"",
            "attempts = 3",
            "# body_max: no limit",
            "# env: none",
            "# algorithm = \"ring\"",
        ] {
            assert!(printed.lines().any(|one| one == line), "{line}: {printed}");
        }
        let all = serde_json::to_value(Options::default()).unwrap();
        for key in all.as_object().unwrap().keys() {
            let is_it = |line: &str| {
                let line = line.strip_prefix("# ").unwrap_or(line);
                let rest = line.strip_prefix(key.as_str());
                rest.is_some_and(|rest| rest.starts_with(" = ") || rest.starts_with(": "))
            };
            assert_eq!(printed.lines().filter(|line| is_it(line)).count(), 1, "{key}: {printed}");
        }
    }

    #[test]
    fn secrets_are_neither_shown_nor_replaced() {
        let store = "store = \"redis://:hush@h\"\nbackends = true";
        let without = printed(&options(store));
        assert!(!without.contains("hush") && without.contains("# store = "), "{without}");
        assert!(without.contains("# with the `store`: backends = true"), "{without}");
        let key = "00112233445566778899aabbccddeeff";
        let text = format!(
            "admin_token = \"s3cret\"\nmetrics_token = \"s3cret\"\nenv = [\"A=s3cret\"]\nhash = \"siphash\"\nhash_key = \"{key}\""
        );
        let printed = printed(&options(&text));
        assert!(!printed.contains("s3cret") && !printed.contains(key), "{printed}");
        let again = toml::from_str::<Options>(&printed).unwrap();
        assert_eq!(again.admin_token, None);
        assert!(again.metrics_token.is_none() && again.env.is_none() && again.hash_key.is_none());
        let line = "# admin_token = \"(hidden)\"  # changed; secrets are not shown";
        assert!(printed.lines().any(|one| one == line), "{printed}");
        assert!(printed.contains("\n# env = [\"A=(hidden)\"]  # changed; secrets"), "{printed}");
    }
}
