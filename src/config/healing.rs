//! The settings on failing replicas and rolls.

use std::time::Duration;

use ringmaster_core::fleet::limits::{Limits, OnUnhealthy};

use super::{Checked, Options, time, wrong};

/// The limits with the options on failing replicas and rolls.
pub(super) fn healing_of(options: &Options, limits: Limits) -> Checked<Limits> {
    let on_unhealthy = match options.on_unhealthy.as_deref() {
        None => limits.on_unhealthy,
        Some(name) => OnUnhealthy::from_name(name).map_or_else(
            || {
                let allowed = OnUnhealthy::ALL.map(OnUnhealthy::name).join(", ");
                wrong("on_unhealthy", format!("'{name}' is not one of {allowed}"))
            },
            Ok,
        )?,
    };
    let replace_max = match options.replace_max.as_deref() {
        None => limits.replace_max,
        Some(text) => text.parse().or_else(|why: String| wrong("replace_max", why))?,
    };
    let bake = match options.bake.as_deref() {
        // Zero is allowed here: the next replacement starts as soon as the last one passes.
        Some(text) if humantime::parse_duration(text).is_ok_and(|bake| bake.is_zero()) => {
            Duration::ZERO
        }
        _ => time("bake", options.bake.as_ref(), limits.bake)?,
    };
    let panic_hold = time("panic_hold", options.panic_hold.as_ref(), limits.panic_hold)?;
    Ok(Limits { on_unhealthy, replace_max, bake, panic_hold, ..limits })
}

#[cfg(test)]
mod tests {
    use ringmaster_core::fleet::limits::ReplaceMax;

    use super::*;

    fn read(text: &str) -> Result<Limits, String> {
        let options: Options = toml::from_str(text).map_err(|error| error.to_string())?;
        healing_of(&options, Limits::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn options_on_failing_replicas_are_read() {
        assert_eq!(read("").unwrap(), Limits::default());
        let limits = read(
            "on_unhealthy = \"eject\"\nreplace_max = \"2\"\nbake = \"0s\"\npanic_hold = \"10s\"",
        );
        let limits = limits.unwrap();
        assert_eq!(limits.on_unhealthy, OnUnhealthy::Eject);
        assert_eq!(limits.replace_max, ReplaceMax::Count(2));
        assert_eq!((limits.bake, limits.panic_hold), (Duration::ZERO, Duration::from_secs(10)));
    }

    #[test]
    fn an_invalid_setting_is_named() {
        for (text, expected) in [
            ("on_unhealthy = \"panic\"", "`on_unhealthy`: 'panic' is not one of replace, eject"),
            ("replace_max = \"0%\"", "`replace_max`: '0%' is neither a number of at least 1"),
            ("bake = \"soon\"", "`bake`: 'soon' is not a time"),
            ("panic_hold = \"0s\"", "`panic_hold`: must be longer than nothing"),
        ] {
            let why = read(text).unwrap_err();
            assert!(why.starts_with(expected), "{why}");
        }
    }
}
