//! Reads the `config.json` of a balancer in Python with registered servers on a hash ring: its servers
//! become upstreams, and the rest becomes settings on top of the preset `servers`.
//!
//! That balancer serves its API and the requests on one port. If it is 8080, it becomes the traffic
//! port, on which the preset serves the API as well; any other becomes the admin port.

use std::time::Duration;

use ringmaster_core::fleet::{
    ids::ReplicaName,
    server::{Server, Source},
};
use serde_json::{Map, Value};

use super::{Options, preset};

type Read<T> = Result<T, String>;

/// The settings, and the paths of unused keys, in the order of the text.
///
/// # Errors
/// The path of the first invalid value, and what it must be.
pub(super) fn read(text: &str) -> Read<(Options, Vec<String>)> {
    let value: Value =
        serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"))?;
    let Value::Object(object) = value else {
        return Err("it must be a JSON object like {\"servers\": [..]}".to_owned());
    };
    let mut file = Reader { unused: Vec::new() };
    let mut options = Options { preset: Some(preset::SERVERS.to_owned()), ..Options::default() };
    for (key, value) in &object {
        match key.as_str() {
            "servers" => options.upstream = Some(file.servers(value)?),
            "health_check" => file.health_check(value, &mut options)?,
            "api" => file.api(value, &mut options)?,
            "hash_function" => options.hash = Some(hash("hash_function", value)?),
            "virtual_nodes" | "virtual_nodes_per_weight" => {
                options.virtual_servers = Some(count(key, value)?);
            }
            _ => file.unused.push(format!("`{key}`")),
        }
    }
    Ok((options, file.unused))
}

struct Reader {
    unused: Vec<String>,
}

impl Reader {
    /// The servers in the format of the option `upstream`.
    fn servers(&mut self, value: &Value) -> Read<Vec<String>> {
        let Value::Array(servers) = value else { return Err(wanted("servers", "a list", value)) };
        let servers = servers.iter().enumerate();
        servers.map(|(index, server)| self.server(&format!("servers[{index}]"), server)).collect()
    }

    fn server(&mut self, path: &str, value: &Value) -> Read<String> {
        let (mut name, mut host, mut port, mut weight) = (None, None, None, 1);
        for (key, value) in object(path, value)? {
            let path = format!("{path}.{key}");
            match key.as_str() {
                "name" => name = Some(text(&path, value)?),
                "address" => host = Some(text(&path, value)?),
                "port" => port = Some(self::port(&path, value)?),
                "weight" => weight = count(&path, value)?,
                _ => self.unused.push(format!("`{path}`")),
            }
        }
        let missing = |key: &str| format!("`{path}.{key}` is missing");
        let name = name.ok_or_else(|| missing("name"))?;
        let host = host.ok_or_else(|| missing("address"))?;
        let port = port.ok_or_else(|| missing("port"))?;
        // Checked here, because a name with '=' or ',' would change the meaning of the text below.
        let name = ReplicaName::new(name).map_err(|error| format!("`{path}.name`: {error}"))?;
        let server = Server::new(loopback(host), port, Source::Operator)
            .map_err(|error| format!("`{path}.address` ('{host}'): {error}"))?;
        Ok(format!("{name}={},weight={weight}", server.place()))
    }

    fn health_check(&mut self, value: &Value, options: &mut Options) -> Read<()> {
        for (key, value) in object("health_check", value)? {
            let path = format!("health_check.{key}");
            match key.as_str() {
                "interval" => options.heartbeat_interval = Some(seconds(&path, value)?),
                "timeout" => options.heartbeat_timeout = Some(seconds(&path, value)?),
                "path" => options.heartbeat_path = Some(text(&path, value)?.to_owned()),
                "healthy_threshold" => options.heartbeat_passes = Some(count(&path, value)?),
                "unhealthy_threshold" => options.heartbeat_misses = Some(count(&path, value)?),
                _ => self.unused.push(format!("`{path}`")),
            }
        }
        Ok(())
    }

    fn api(&mut self, value: &Value, options: &mut Options) -> Read<()> {
        let (mut host, mut port) = ("localhost", None);
        let object = object("api", value)?;
        for (key, value) in object {
            let path = format!("api.{key}");
            match key.as_str() {
                "host" => host = text(&path, value)?,
                "port" => port = Some(self::port(&path, value)?),
                _ => self.unused.push(format!("`{path}`")),
            }
        }
        if port.is_none() && !object.contains_key("host") {
            return Ok(());
        }
        let ip = loopback(host).parse::<std::net::IpAddr>().map_err(|_| {
            format!("`api.host` must be an address like 127.0.0.1, or localhost, and is '{host}'")
        })?;
        let address = std::net::SocketAddr::new(ip, port.unwrap_or(API_PORT));
        match address.port() == preset::SERVERS_PORT {
            true => options.listen = Some(address.to_string()),
            false => options.admin = Some(address.to_string()),
        }
        Ok(())
    }
}

/// The default port of that balancer.
const API_PORT: u16 = 9090;

/// That balancer resolves `localhost` to IPv4 only.
fn loopback(host: &str) -> &str {
    if host.eq_ignore_ascii_case("localhost") { "127.0.0.1" } else { host }
}

/// The hash functions of that balancer, also with hyphens, underscores and capital letters.
fn hash(path: &str, value: &Value) -> Read<String> {
    const HASHES: [&str; 7] = ["djb2", "fnv1a", "md5", "sha1", "crc32", "murmur3", "simple"];
    let given = text(path, value)?;
    let plain: String = given.chars().filter(|c| !matches!(c, '-' | '_')).collect();
    let found = HASHES.into_iter().find(|name| plain.eq_ignore_ascii_case(name));
    let allowed = HASHES.join(", ");
    found
        .map(str::to_owned)
        .ok_or_else(|| format!("`{path}` must be one of {allowed}, and is '{given}'"))
}

fn wanted(path: &str, what: &str, value: &Value) -> String {
    let shown: String = value.to_string().chars().take(60).collect();
    format!("`{path}` must be {what}, and is {shown}")
}

fn object<'a>(path: &str, value: &'a Value) -> Read<&'a Map<String, Value>> {
    value.as_object().ok_or_else(|| wanted(path, "an object", value))
}

fn text<'a>(path: &str, value: &'a Value) -> Read<&'a str> {
    value.as_str().ok_or_else(|| wanted(path, "a text", value))
}

fn port(path: &str, value: &Value) -> Read<u16> {
    let port = value.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    port.ok_or_else(|| wanted(path, "a whole number from 1 to 65535", value))
}

fn count(path: &str, value: &Value) -> Read<u32> {
    let count = value.as_u64().and_then(|count| u32::try_from(count).ok());
    let count = count.filter(|count| *count > 0);
    count.ok_or_else(|| wanted(path, "a whole number of at least 1", value))
}

/// A time in seconds, in the format of the options.
fn seconds(path: &str, value: &Value) -> Read<String> {
    let time = value.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let is_usable =
        |time: &Duration| (Duration::from_millis(1)..=Duration::from_secs(86_400)).contains(time);
    time.filter(is_usable)
        .map(|time| format!("{}ms", time.as_millis()))
        .ok_or_else(|| wanted(path, "a number of seconds from 0.001 to 86400", value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::{Config, DriverKind};

    /// The example in the documentation of that balancer.
    const DOCUMENTED: &str = r#"{
  "servers": [
    {"name": "server1", "address": "192.168.1.10", "port": 8080, "weight": 1},
    {"name": "server2", "address": "192.168.1.11", "port": 8080, "weight": 2}
  ],
  "health_check": {
    "interval": 30,
    "timeout": 5,
    "path": "/health"
  },
  "api": {
    "host": "localhost",
    "port": 9090
  }
}"#;

    fn options(text: &str) -> Options {
        let (options, unused) = read(text).unwrap();
        assert_eq!(unused, Vec::<String>::new());
        options
    }

    fn config(text: &str) -> Config {
        Config::check(options(text).with_preset().unwrap(), true).unwrap()
    }

    #[test]
    fn the_documented_file_is_read() {
        let config = config(DOCUMENTED);
        assert_eq!(config.driver, DriverKind::Static);
        let upstreams: Vec<String> = config
            .upstreams
            .iter()
            .map(|one| format!("{} {} {}", one.name, one.server.place(), one.weight))
            .collect();
        assert_eq!(upstreams, ["server1 192.168.1.10:8080 1", "server2 192.168.1.11:8080 2"]);
        assert_eq!(config.limits.probe_interval, Duration::from_secs(30));
        assert_eq!(config.limits.probe_timeout, Duration::from_secs(5));
        assert!(format!("{:?}", config.prober).contains("/health"), "{:?}", config.prober);
        assert_eq!(config.admin, "127.0.0.1:9090".parse().unwrap());
        assert_eq!(config.proxy.listen, "0.0.0.0:8080".parse().unwrap());
        assert_eq!((config.ring.virtual_servers, config.ring.hash.name()), (100, "md5"));
    }

    #[test]
    fn port_8080_becomes_the_traffic_port() {
        let with = |api: &str| {
            let options = options(&format!("{{\"api\": {api}}}"));
            (options.listen, options.admin)
        };
        let at = |address: &str| Some(address.to_owned());
        assert_eq!(with("{\"host\": \"0.0.0.0\", \"port\": 8080}"), (at("0.0.0.0:8080"), None));
        assert_eq!(with("{\"host\": \"::1\", \"port\": 9000}"), (None, at("[::1]:9000")));
        assert_eq!(with("{\"port\": 9000}"), (None, at("127.0.0.1:9000")));
        assert_eq!(with("{\"host\": \"10.0.0.1\"}"), (None, at("10.0.0.1:9090")));
        assert_eq!(with("{}"), (None, None));
    }

    #[test]
    fn all_other_keys_are_read() {
        let options = options(
            r#"{"hash_function": "FNV-1a", "virtual_nodes": 150,
                "servers": [{"name": "a", "address": "LocalHost", "port": 1},
                            {"name": "b", "address": "::1", "port": 2, "weight": 3}],
                "health_check": {"interval": 2.5, "timeout": 0.5,
                                 "healthy_threshold": 2, "unhealthy_threshold": 3}}"#,
        );
        assert_eq!(options.hash.as_deref(), Some("fnv1a"));
        assert_eq!(options.virtual_servers, Some(150));
        assert_eq!(
            options.upstream,
            Some(vec!["a=127.0.0.1:1,weight=1".into(), "b=[::1]:2,weight=3".into()])
        );
        assert_eq!(options.heartbeat_interval.as_deref(), Some("2500ms"));
        assert_eq!(options.heartbeat_timeout.as_deref(), Some("500ms"));
        assert_eq!((options.heartbeat_passes, options.heartbeat_misses), (Some(2), Some(3)));
        for name in ["djb2", "MD5", "SHA-1", "crc_32", "Murmur3", "simple"] {
            let text = format!("{{\"hash_function\": \"{name}\"}}");
            let options = self::options(&text).with_preset().unwrap();
            Config::check(options, true).unwrap();
        }
    }

    #[test]
    fn wrong_values_are_refused_with_their_path() {
        for (text, why) in [
            ("[]", "it must be a JSON object"),
            ("{\"servers\": ", "it is not JSON: "),
            ("{\"servers\": {}}", "`servers` must be a list, and is {}"),
            ("{\"servers\": [1]}", "`servers[0]` must be an object, and is 1"),
            ("{\"servers\": [{\"name\": \"a\"}]}", "`servers[0].address` is missing"),
            ("{\"servers\": [{\"address\": \"a\", \"port\": 1}]}", "`servers[0].name` is missing"),
            ("{\"servers\": [{\"name\": \"a\", \"address\": \"a\"}]}", "`servers[0].port` is miss"),
            ("{\"servers\": [{\"name\": 1}]}", "`servers[0].name` must be a text, and is 1"),
            ("{\"servers\": [{\"port\": \"80\"}]}", "`servers[0].port` must be a whole number"),
            ("{\"servers\": [{\"port\": 65536}]}", "`servers[0].port` must be a whole number"),
            ("{\"servers\": [{\"weight\": 0}]}", "`servers[0].weight` must be a whole number of"),
            ("{\"servers\": [{\"weight\": 1.5}]}", "`servers[0].weight` must be a whole number"),
            (
                "{\"servers\": [{\"name\": \"a=b\", \"address\": \"a\", \"port\": 1}]}",
                "`servers[0].name`: ",
            ),
            (
                "{\"servers\": [{\"name\": \"a\", \"address\": \"h,weight=9\", \"port\": 1}]}",
                "`servers[0].address` ('h,weight=9'): ",
            ),
            ("{\"health_check\": 1}", "`health_check` must be an object"),
            ("{\"health_check\": {\"interval\": \"30\"}}", "`health_check.interval` must be a num"),
            ("{\"health_check\": {\"timeout\": 0}}", "`health_check.timeout` must be a number of"),
            ("{\"health_check\": {\"timeout\": 1e300}}", "`health_check.timeout` must be a number"),
            ("{\"health_check\": {\"path\": null}}", "`health_check.path` must be a text"),
            (
                "{\"health_check\": {\"healthy_threshold\": -1}}",
                "`health_check.healthy_threshold` must be a whole number of at least 1, and is -1",
            ),
            ("{\"api\": {\"host\": \"ring.example\"}}", "`api.host` must be an address"),
            ("{\"api\": {\"port\": true}}", "`api.port` must be a whole number"),
            ("{\"hash_function\": \"sha3\"}", "`hash_function` must be one of djb2, fnv1a, md5"),
            ("{\"virtual_nodes\": \"many\"}", "`virtual_nodes` must be a whole number"),
        ] {
            let refused = read(text).unwrap_err();
            assert!(refused.starts_with(why), "{text}: {refused}");
        }
    }

    proptest! {
        #[test]
        fn servers_become_upstreams_or_are_refused(
            name in ".{0,8}", address in ".{0,12}", port: u64, weight: u32,
        ) {
            let server = serde_json::json!({
                "name": name, "address": address, "port": port % 70_000, "weight": weight,
            });
            let text = serde_json::json!({ "servers": [server] }).to_string();
            if let Ok((options, _)) = read(&text) {
                let upstreams = crate::config::upstreams::upstreams_of(&options).unwrap();
                let [upstream] = &upstreams[..] else { panic!("{upstreams:?}") };
                prop_assert_eq!(upstream.name.as_str(), name);
                prop_assert_eq!(u64::from(upstream.server.port), port % 70_000);
                prop_assert_eq!(upstream.weight, weight);
            }
        }

        #[test]
        fn no_text_panics(text in "[\\[\\]{}\":, a-z0-9._-]{0,80}") {
            let _ = read(&text);
        }
    }
}
