//! Presets: sets of options for a purpose. Any other source of an option takes precedence.

use super::{Checked, Options, Secret, wrong};

/// The preset that goes with the `config.json` of a balancer with registered servers.
pub(super) const SERVERS: &str = "servers";
/// The traffic port of the preset `servers`.
pub(super) const SERVERS_PORT: u16 = 8080;

/// A name and its options.
type Preset = (&'static str, fn() -> Options);

/// All presets, in the order of the documentation.
const PRESETS: [Preset; 4] =
    [("course", course), ("key-value", key_value), (SERVERS, servers), ("redis", redis)];

impl Options {
    /// The settings, with those of the preset that they name where they are not set.
    ///
    /// # Errors
    /// There is no such preset.
    pub fn with_preset(self) -> Checked<Self> {
        let Some(name) = self.preset.as_deref().filter(|name| !name.is_empty()) else {
            return Ok(self);
        };
        match PRESETS.iter().find(|(known, _)| *known == name) {
            Some((_, options)) => Ok(self.or(options())),
            None => {
                let allowed = PRESETS.map(|(known, _)| known).join(", ");
                wrong("preset", format!("'{name}' is not one of {allowed}"))
            }
        }
    }
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn groups(groups: &[&str]) -> Option<Vec<String>> {
    Some(groups.iter().map(|group| (*group).to_owned()).collect())
}

/// Replicas that are started and scaled, as in a course on distributed systems.
fn course() -> Options {
    Options { mounts: groups(&["scaling"]), not_found_as_400: Some(true), ..Options::default() }
}

/// For a key-value store, whose nodes are registered or started here.
fn key_value() -> Options {
    Options {
        listen: text("0.0.0.0:8081"),
        mounts: groups(&["nodes"]),
        replicas: Some(3),
        key: text("body:/key,query:key,random"),
        policy: text("ring"),
        no_replica_text: text("No available nodes"),
        heartbeat_path: text("/health"),
        heartbeat_interval: text("5s"),
        heartbeat_timeout: text("2s"),
        // A node is also probed right after a failed request, so one missed heartbeat is enough.
        heartbeat_misses: Some(1),
        first_byte: text("10s"),
        ..Options::default()
    }
}

/// Registered servers on a hash ring, each with 100 virtual servers per unit of weight.
fn servers() -> Options {
    Options {
        listen: Some(format!("0.0.0.0:{SERVERS_PORT}")),
        admin: text("127.0.0.1:9090"),
        mounts: groups(&["servers"]),
        driver: text("static"),
        key: text("path"),
        server_headers: Some(true),
        algorithm: text("ring"),
        slots: Some(65_536),
        virtual_servers: Some(100),
        placement: text("hash"),
        hash: text("md5"),
        heartbeat_path: text("/health"),
        heartbeat_interval: text("30s"),
        heartbeat_timeout: text("5s"),
        ..Options::default()
    }
}

/// Backends that others register in Redis.
fn redis() -> Options {
    Options {
        listen: text("0.0.0.0:8080"),
        driver: text("static"),
        store: Some(Secret("redis://127.0.0.1:6379".to_owned())),
        backends: Some(true),
        policy: text("round_robin"),
        heartbeat_path: text("/health"),
        heartbeat_interval: text("5s"),
        heartbeat_timeout: text("2s"),
        ..Options::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, DriverKind};

    fn with(text: &str) -> Checked<Options> {
        toml::from_str::<Options>(text).unwrap().with_preset()
    }

    #[test]
    fn each_preset_can_be_used_alone() {
        for (name, _) in PRESETS {
            let options = with(&format!("preset = \"{name}\"")).unwrap();
            let config = Config::check(options, true).unwrap_or_else(|e| panic!("{name}: {e}"));
            let is_static = config.driver == DriverKind::Static;
            assert_eq!(is_static, ["servers", "redis"].contains(&name), "{name}");
        }
    }

    #[test]
    fn a_preset_comes_after_all_options_and_before_the_defaults() {
        let options = with("preset = \"key-value\"\nlisten = \"127.0.0.1:1\"\nreplicas = 0");
        let config = Config::check(options.unwrap(), true).unwrap();
        assert_eq!(config.proxy.listen, "127.0.0.1:1".parse().unwrap());
        assert_eq!(config.replicas, 0);
        assert_eq!(config.limits.probe_misses, 1);
        let none = with("preset = \"\"\nport = 7").unwrap();
        assert_eq!((none.listen, none.port), (None, Some(7)));
    }

    #[test]
    fn an_unknown_preset_is_named() {
        let error = with("preset = \"odd\"").unwrap_err().to_string();
        assert_eq!(error, "`preset`: 'odd' is not one of course, key-value, servers, redis");
    }
}
