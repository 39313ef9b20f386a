//! Whether a replica's container gets an init: a small first process that forwards signals.
//!
//! The kernel ignores a SIGTERM to the first process of a container unless that has a handler, and
//! most programs have none. Behind an init their program ends at the first SIGTERM, as it would
//! outside a container; without one every stop takes the whole grace.

use std::{
    str::FromStr,
    sync::atomic::{AtomicBool, Ordering},
};

use super::client::CallError;

/// The setting `init`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Init {
    /// On, unless the image's program is an init itself, or the engine has none.
    #[default]
    Auto,
    /// Always; a start fails where the engine has none.
    On,
    /// Never.
    Off,
}

impl Init {
    /// The spelling in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

impl FromStr for Init {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Auto, Self::On, Self::Off];
        let found = all.into_iter().find(|one| one.name() == text);
        found.ok_or_else(|| format!("'{text}' is not one of auto, on, off"))
    }
}

/// Programs that are an init themselves, by base name. Some of them refuse to run as another
/// process than the first.
const INITS: [&str; 4] = ["init", "tini", "tini-static", "dumb-init"];

/// Whether the program that a container runs is an init itself: the first word of the entrypoint,
/// or of the command where there is no entrypoint.
pub(super) fn is_init(entrypoint: &[String], command: &[String]) -> bool {
    let Some(program) = entrypoint.first().or(command.first()) else { return false };
    let name = program.rsplit('/').next().unwrap_or_default();
    INITS.contains(&name) || name.starts_with("s6-")
}

/// Whether the engine is known to have no init.
#[derive(Debug, Default)]
pub(super) struct InitSupport {
    engine_has_none: AtomicBool,
}

impl InitSupport {
    /// Whether the next container gets an init.
    pub(super) fn is_wanted(&self, setting: Init, image_has_one: bool) -> bool {
        match setting {
            Init::On => true,
            Init::Off => false,
            Init::Auto => !image_has_one && !self.engine_has_none.load(Ordering::Relaxed),
        }
    }

    /// Whether a start failed because the engine has no init, so that another attempt without one
    /// can succeed. Logged once.
    pub(super) fn is_for_missing_init(&self, setting: Init, error: &CallError) -> bool {
        if !self.is_wanted(setting, false) || setting != Init::Auto || !is_missing(error) {
            return false;
        }
        if !self.engine_has_none.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "this engine has no init ({}): replicas start without one, and those that ignore SIGTERM take the whole grace to stop",
                error.text()
            );
        }
        true
    }
}

/// Whether an error says that the engine has no init. Docker looks for `docker-init`, Podman for
/// `catatonit`, and both name it in the message.
fn is_missing(error: &CallError) -> bool {
    let words = error.text();
    let names_it = ["docker-init", "container-init", "catatonit"].iter().any(|n| words.contains(n));
    matches!(error, CallError::Refused { .. }) && names_it
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn an_image_that_starts_an_init_is_known_by_the_name_of_its_program() {
        let table = [
            ("/init", "", true),
            ("/sbin/init", "", true),
            ("", "/sbin/init --log", true),
            ("/package/admin/s6-overlay/bin/s6-svscan", "", true),
            ("s6-svscan /services", "", true),
            ("/usr/bin/tini -- python app.py", "", true),
            ("tini", "-- node server.js", true),
            ("/tini-static", "", true),
            ("/usr/local/bin/dumb-init", "gunicorn app", true),
            ("", "", false),
            ("python app.py", "", false),
            ("/ringmaster-server", "", false),
            // Only the program counts, not its arguments.
            ("python", "/sbin/init", false),
            ("", "python /sbin/init", false),
            ("/app/tini/server", "", false),
            ("/bin/initialize", "", false),
            ("/usr/bin/my-tini", "", false),
            ("/bin/sh -c /init", "", false),
            ("/s6", "", false),
        ];
        for (entrypoint, command, expected) in table {
            let is = is_init(&words(entrypoint), &words(command));
            assert_eq!(is, expected, "entrypoint '{entrypoint}', command '{command}'");
        }
    }

    fn refused(words: &str) -> CallError {
        CallError::Refused { status: 400, message: words.into() }
    }

    const MISSING: &str = "exec: \"docker-init\": executable file not found in $PATH";

    #[test]
    fn auto_leaves_it_to_the_image_and_to_the_engine() {
        let known = InitSupport::default();
        for (setting, wanted) in [(Init::Auto, true), (Init::On, true), (Init::Off, false)] {
            assert_eq!(known.is_wanted(setting, false), wanted, "{setting:?}");
        }
        assert!(!known.is_wanted(Init::Auto, true) && known.is_wanted(Init::On, true));
    }

    #[test]
    fn an_engine_without_an_init_is_not_asked_for_one_again() {
        for words in [MISSING, "container-init binary not found on the host: stat catatonit"] {
            let known = InitSupport::default();
            assert!(
                !known.is_for_missing_init(Init::Auto, &refused("exec: \"/app\": no such file"))
            );
            assert!(!known.is_for_missing_init(Init::Auto, &CallError::Away(words.into())));
            assert!(!known.is_for_missing_init(Init::On, &refused(words)));
            assert!(known.is_wanted(Init::Auto, false));
            assert!(known.is_for_missing_init(Init::Auto, &refused(words)));
            assert!(!known.is_wanted(Init::Auto, false), "{words}");
            assert!(known.is_wanted(Init::On, false));
        }
    }

    #[test]
    fn the_setting_is_one_of_three() {
        for setting in [Init::Auto, Init::On, Init::Off] {
            assert_eq!(setting.name().parse(), Ok(setting));
        }
        assert_eq!("yes".parse::<Init>().unwrap_err(), "'yes' is not one of auto, on, off");
    }
}
