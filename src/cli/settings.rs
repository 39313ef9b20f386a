//! Settings for display: the given value or the default, without secrets.

use clap::{Arg, Args, Command};
use serde_json::{Value, json};

use crate::config::{Config, Options};

const HIDDEN: &str = "(hidden)";

/// One setting for display.
#[derive(Debug)]
pub(super) struct Setting {
    /// The key, as in the file.
    pub(super) key: String,
    /// The value, or [`HIDDEN`].
    pub(super) value: Value,
    /// Whether the setting was not given.
    pub(super) is_default: bool,
    /// Whether the given value differs from the default.
    pub(super) is_changed: bool,
    /// Whether the value is hidden.
    pub(super) is_hidden: bool,
}

/// All settings, in the order of [`Options`].
pub(super) fn settings(options: &Options, config: &Config) -> Vec<Setting> {
    let given = serde_json::to_value(options).unwrap_or_default();
    let command = Options::augment_args(Command::new("settings"));
    let setting = |argument: &Arg| {
        let key = argument.get_id().to_string();
        let is_default = given[&key].is_null();
        let value = match is_default {
            true => effective(&key, config).unwrap_or_else(|| default_of(argument)),
            // The values may be secrets, the names are not.
            false if key == "env" => {
                config.env.iter().map(|(name, _)| format!("{name}={HIDDEN}")).collect()
            }
            // The address is no secret, the user and password are.
            false if key == "store" && is_secret(options) => config.store.describe().into(),
            false if key == "store" => {
                options.store.as_ref().map_or(Value::Null, |url| url.0.as_str().into())
            }
            false => without_secrets(argument, &given[&key]),
        };
        let is_open = key == "store" && !is_secret(options);
        let is_hidden = !is_default && argument.is_hide_env_values_set() && !is_open;
        let is_changed = !is_default && !is_same(&value, &default_of(argument));
        Setting { key, value, is_default, is_changed, is_hidden }
    };
    command.get_arguments().map(setting).collect()
}

/// Whether the URL of the store contains a user or password.
fn is_secret(options: &Options) -> bool {
    options.store.as_ref().is_some_and(|url| url.0.contains('@'))
}

/// Whether two values are equal. The help shows a number without its decimal point.
fn is_same(one: &Value, other: &Value) -> bool {
    one == other || one.as_f64().is_some_and(|number| other.as_f64() == Some(number))
}

/// Defaults that depend on other settings or on the machine.
fn effective(key: &str, config: &Config) -> Option<Value> {
    Some(match key {
        "driver" => config.driver.name().into(),
        "algorithm" => config.ring.algorithm.name().into(),
        "replicas_max" => config.limits.replicas_max.min(config.ring.replicas_max()).into(),
        "network" => match config.fleet.as_str() {
            "default" => "net1".into(),
            fleet => format!("{fleet}-net").into(),
        },
        _ => return None,
    })
}

/// The default, read from the help text.
pub(super) fn default_of(argument: &Arg) -> Value {
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let shown = help.rsplit_once("[default: ").and_then(|(_, rest)| rest.strip_suffix(']'));
    let is_list = argument.get_value_delimiter().is_some();
    let is_switch = argument.get_num_args().is_some_and(|count| count.min_values() == 0);
    match shown {
        None | Some("none") if is_list => json!([]),
        Some(shown) if is_list => json!([shown]),
        Some("none") => Value::Null,
        Some(shown) => {
            let number = shown.parse::<u64>().map(Value::from);
            number
                .or_else(|_| shown.parse::<f64>().map(Value::from))
                .unwrap_or_else(|_| shown.into())
        }
        None if is_switch => false.into(),
        None => Value::Null,
    }
}

/// A value as it was given, unless the help hides it.
fn without_secrets(argument: &Arg, value: &Value) -> Value {
    if argument.is_hide_env_values_set() {
        return HIDDEN.into();
    }
    let Value::Array(list) = value else { return value.clone() };
    let texts = list.iter().filter_map(Value::as_str).filter(|text| !text.is_empty());
    texts.collect()
}
