//! Configuration: preset, file, environment and flags become one checked [`Config`], once at the start.
//! Flags take precedence over the environment, then come the file and the preset. It contains every
//! limit that can be set.

mod access;
mod docker;
mod file;
mod healing;
mod heartbeat;
mod json;
mod log;
mod machine;
mod mounts;
mod options;
mod ports;
mod preset;
mod proxy;
mod ring;
mod store;
mod upstreams;

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use ringmaster_core::{
    fleet::{limits::Limits, names::NameRule, server::Registration, victim::VictimRule},
    ring::RingSettings,
};
use ringmaster_proxy::ProxyConfig;

use crate::{control::prober::Prober, driver::docker::init::Init};

pub use access::{Access, Secret, token_from};
pub use file::FromFile;
pub use log::log_filter;
pub use machine::{check_machine, program, resolve};
pub use mounts::MountGroup;
pub use options::Options;
pub use store::{Role, StoreKind};

/// A setting that is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{key}`: {why}")]
pub struct ConfigError {
    /// The key, as in the file.
    pub key: &'static str,
    /// What is wrong with the setting.
    pub why: String,
}

/// Which driver runs the replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverKind {
    /// Containers of a Docker engine.
    Docker,
    /// Child processes.
    Process,
    /// None: all replicas are registered servers.
    Static,
}

impl DriverKind {
    /// The spelling in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Process => "process",
            Self::Static => "static",
        }
    }
}

/// Checked settings of `ringmaster serve`.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the fleet.
    pub fleet: String,
    /// The driver that runs the replicas.
    pub driver: DriverKind,
    /// Size of a fleet without state.
    pub replicas: usize,
    /// Image of the replicas.
    pub image: String,
    /// Port that the replicas listen on.
    pub port: u16,
    /// Environment of the replicas.
    pub env: Vec<(String, Secret)>,
    /// Program or arguments of the replicas.
    pub command: Option<Vec<String>>,
    /// Network of the replicas, if not the fleet's own.
    pub network: Option<String>,
    /// Whether containers start with an init.
    pub init: Init,
    /// Registered servers.
    pub upstreams: Vec<Registration>,
    /// Directory of the state file.
    pub state_dir: PathBuf,
    /// Where the state is kept.
    pub store: StoreKind,
    /// Timeout of a call to the store.
    pub store_timeout: Duration,
    /// Whether the backends that are listed in the store become registered servers.
    pub backends: bool,
    /// What this process does.
    pub role: Role,
    /// `HOST:PORT` where other processes reach the admin port; `None` for its address.
    pub advertise: Option<String>,
    /// Address of the admin port.
    pub admin: SocketAddr,
    /// Who may use the admin port and the scaling API.
    pub access: Access,
    /// The log file; `None` for standard error.
    pub log_file: Option<PathBuf>,
    /// Whether the replicas are stopped when the balancer ends.
    pub stop_replicas_on_exit: bool,
    /// Sends the heartbeats, as configured.
    pub prober: Prober,
    /// Settings of the ring.
    pub ring: RingSettings,
    /// Which replica is removed when a command names none.
    pub victim: VictimRule,
    /// Consequences of the settings that may surprise, each in a sentence.
    pub notices: Vec<String>,
    /// Limits of the supervisor.
    pub limits: Limits,
    /// The APIs on the traffic port.
    pub mounts: BTreeSet<MountGroup>,
    /// Settings of the data plane.
    pub proxy: ProxyConfig,
}

type Checked<T> = Result<T, ConfigError>;

impl Config {
    /// Checks settings and fills in the defaults. `docker_is_here`: whether a Docker socket exists,
    /// which decides the default of the driver.
    ///
    /// # Errors
    /// The first invalid setting.
    pub fn check(options: Options, docker_is_here: bool) -> Checked<Self> {
        let driver = driver_of(&options, docker_is_here)?;
        let limits = Limits { names: names_of(driver), ..limits_of(&options)? };
        let limits = healing::healing_of(&options, limits)?;
        // The driver `static` cannot start a replica.
        let starts = driver != DriverKind::Static;
        let replicas = if starts { options.replicas.unwrap_or(3) } else { 0 };
        let store = store::store_of(&options)?;
        let role = store::role_of(&options, &store, driver)?;
        // A balancer gets the upstreams with the table of the supervisor.
        let upstreams = match role.supervises() {
            true => upstreams::upstreams_of(&options)?,
            false => Vec::new(),
        };
        upstreams::differ_from_replicas(&upstreams, replicas)?;
        let (ring, mut notices) = ring::ring_of(&options, replicas, &upstreams)?;
        let most = limits.replicas_max.min(ring.replicas_max());
        if replicas > most {
            let advice = limits.advice(&ring);
            let why = format!("{replicas} are too many: at most {most} fit; {advice}");
            return wrong("replicas", why);
        }
        ring::room_for(&upstreams, replicas, &ring)?;
        if starts && limits.replicas_min > replicas {
            notices.push(format!(
                "`replicas_min` ({}) is more than `replicas` ({replicas}), with which a fleet begins",
                limits.replicas_min
            ));
        }
        let mounts = mounts::mounts_of(&options)?;
        let proxy = proxy::proxy_of(&options, &limits, mounts::paths_of(&mounts))?;
        let admin = address("admin", options.admin.as_deref(), Ipv4Addr::LOCALHOST.into(), 9090)?;
        ports::differ(proxy.listen, admin)?;
        let access = access::access_of(&options, admin)?;
        store::may_pass_on(role, admin, &access)?;
        let advertise = store::advertise_of(&options, &store, role, admin)?;
        store::may_stop_replicas(&options, &store)?;
        let backends = store::backends_of(&options, &store)?;
        notices.extend(access.notice(proxy.listen, &mounts));
        Ok(Self {
            fleet: fleet_of(&options)?,
            driver,
            replicas,
            image: image_of(&options)?,
            port: port_of(&options)?,
            env: env_of(&options)?,
            command: command_of(&options)?,
            network: network_of(&options)?,
            init: init_of(&options)?,
            upstreams,
            state_dir: options.state_dir.clone().unwrap_or_else(|| PathBuf::from(".ringmaster")),
            store,
            store_timeout: store::timeout_of(&options)?,
            backends,
            role,
            advertise,
            admin,
            access,
            mounts,
            log_file: options.log_file.clone().filter(|path| !path.as_os_str().is_empty()),
            stop_replicas_on_exit: options.stop_replicas_on_exit.unwrap_or(false),
            prober: heartbeat::prober_of(&options)?,
            proxy,
            victim: victim_of(&options)?,
            notices,
            ring,
            limits,
        })
    }
}

fn wrong<T>(key: &'static str, why: impl Into<String>) -> Checked<T> {
    Err(ConfigError { key, why: why.into() })
}

fn address(key: &'static str, text: Option<&str>, ip: IpAddr, port: u16) -> Checked<SocketAddr> {
    let Some(text) = text else { return Ok(SocketAddr::new(ip, port)) };
    text.parse().or_else(|_| wrong(key, format!("'{text}' is not an address like 0.0.0.0:5000")))
}

fn time(key: &'static str, text: Option<&String>, default: Duration) -> Checked<Duration> {
    let Some(text) = text else { return Ok(default) };
    match humantime::parse_duration(text) {
        Ok(time) if time.is_zero() => wrong(key, "must be longer than nothing"),
        Ok(time) if time > Duration::from_secs(86_400) => wrong(key, "must be a day at most"),
        Ok(time) => Ok(time),
        Err(error) => wrong(key, format!("'{text}' is not a time like 400ms or 5s: {error}")),
    }
}

fn count<T: PartialOrd + From<u8> + Copy>(
    key: &'static str,
    value: Option<T>,
    default: T,
) -> Checked<T> {
    match value {
        Some(value) if value < T::from(1) => wrong(key, "must be at least 1"),
        other => Ok(other.unwrap_or(default)),
    }
}

fn limits_of(options: &Options) -> Checked<Limits> {
    let limits = Limits::default();
    Ok(Limits {
        probe_interval: time(
            "heartbeat_interval",
            options.heartbeat_interval.as_ref(),
            limits.probe_interval,
        )?,
        probe_timeout: time(
            "heartbeat_timeout",
            options.heartbeat_timeout.as_ref(),
            limits.probe_timeout,
        )?,
        probe_misses: count("heartbeat_misses", options.heartbeat_misses, limits.probe_misses)?,
        probe_passes: count("heartbeat_passes", options.heartbeat_passes, limits.probe_passes)?,
        replace_after: time("replace_after", options.replace_after.as_ref(), limits.replace_after)?,
        start_deadline: time(
            "start_deadline",
            options.start_deadline.as_ref(),
            limits.start_deadline,
        )?,
        drain: time("drain", options.drain.as_ref(), limits.drain)?,
        stop_grace: time("stop_grace", options.stop_grace.as_ref(), limits.stop_grace)?,
        replicas_max: count("replicas_max", options.replicas_max, limits.replicas_max)?,
        replicas_min: options.replicas_min.unwrap_or(limits.replicas_min),
        ..limits
    })
}

fn init_of(options: &Options) -> Checked<Init> {
    let init = options.init.as_deref().map(str::parse).transpose();
    init.map_or_else(|why| wrong("init", why), |init| Ok(init.unwrap_or_default()))
}

fn victim_of(options: &Options) -> Checked<VictimRule> {
    let Some(name) = &options.victim else { return Ok(VictimRule::default()) };
    VictimRule::from_name(name).map_or_else(
        || {
            let allowed = VictimRule::ALL.map(VictimRule::name).join(", ");
            wrong("victim", format!("'{name}' is not one of {allowed}"))
        },
        Ok,
    )
}

fn driver_of(options: &Options, docker_is_here: bool) -> Checked<DriverKind> {
    Ok(match options.driver.as_deref() {
        Some("docker") => DriverKind::Docker,
        Some("process") => DriverKind::Process,
        Some("static") => DriverKind::Static,
        Some(other) => {
            return wrong("driver", format!("'{other}' is not one of docker, process, static"));
        }
        None if options.upstream.as_ref().is_some_and(|list| !list.is_empty()) => {
            DriverKind::Static
        }
        None if docker_is_here => DriverKind::Docker,
        None => DriverKind::Process,
    })
}

fn fleet_of(options: &Options) -> Checked<String> {
    let fleet = options.fleet.clone().unwrap_or_else(|| "default".to_owned());
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let first_fits = fleet.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if fleet.len() <= 40 && first_fits && fleet.bytes().all(inner) {
        return Ok(fleet);
    }
    wrong("fleet", format!("'{fleet}' must be 1 to 40 letters, digits, '_', '.' or '-'"))
}

fn image_of(options: &Options) -> Checked<String> {
    match options.image.as_deref().map(str::trim) {
        Some("") => wrong("image", "must not be empty"),
        Some(image) => docker::image(image).map(|()| image.to_owned()),
        None => Ok("ringmaster-server".to_owned()),
    }
}

fn network_of(options: &Options) -> Checked<Option<String>> {
    let network = options.network.as_deref().filter(|network| !network.is_empty());
    network.map(|name| docker::network(name).map(|()| name.to_owned())).transpose()
}

/// The rule for the names of replicas, which depends on what runs them.
fn names_of(driver: DriverKind) -> NameRule {
    match driver {
        DriverKind::Docker => NameRule::Docker,
        DriverKind::Process | DriverKind::Static => NameRule::Hostname,
    }
}

fn port_of(options: &Options) -> Checked<u16> {
    match options.port {
        Some(0) => wrong("port", "must be 1 to 65535"),
        other => Ok(other.unwrap_or(5000)),
    }
}

fn env_of(options: &Options) -> Checked<Vec<(String, Secret)>> {
    let pairs = options.env.iter().flatten().filter(|pair| !pair.0.is_empty());
    let split = pairs.enumerate().map(|(at, pair)| match pair.0.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), Secret(value.to_owned()))),
        // The message does not quote the entry, because it may be a secret.
        _ => wrong("env", format!("entry {} is not K=V", at + 1)),
    });
    split.collect()
}

fn command_of(options: &Options) -> Checked<Option<Vec<String>>> {
    let Some(text) = options.command.as_deref().filter(|text| !text.trim().is_empty()) else {
        return Ok(None);
    };
    match shlex::split(text) {
        Some(words) => Ok(Some(words)),
        None => wrong("command", format!("'{text}' has a quote that does not end")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Options {
        toml::from_str(text).unwrap()
    }

    fn refused(text: &str) -> String {
        Config::check(file(text), true).unwrap_err().to_string()
    }

    #[test]
    fn the_defaults_are_those_of_the_documentation() {
        let config = Config::check(Options::default(), true).unwrap();
        assert_eq!(config.proxy.listen, "0.0.0.0:5000".parse().unwrap());
        assert_eq!(config.admin, "127.0.0.1:9090".parse().unwrap());
        assert_eq!((config.driver, config.replicas, config.port), (DriverKind::Docker, 3, 5000));
        assert_eq!(config.fleet, "default");
        assert_eq!(config.limits, Limits::default());
        assert_eq!(config.mounts, [MountGroup::Scaling].into());
        assert_eq!(config.proxy.mounts, ringmaster_proxy::ProxyConfig::default().mounts);
        let process = Config::check(Options::default(), false).unwrap();
        assert_eq!(process.driver, DriverKind::Process);
    }

    #[test]
    fn flags_beat_the_file() {
        let flags = Options { port: Some(1), ..Options::default() };
        let merged = flags.or(file("port = 2\nreplicas = 5\nmounts = []"));
        let config = Config::check(merged, true).unwrap();
        assert_eq!((config.port, config.replicas), (1, 5));
        assert!(config.mounts.is_empty());
    }

    #[test]
    fn hedging_is_off_by_default() {
        let percent = |text| Config::check(file(text), true).unwrap().proxy.hedge_percent;
        assert_eq!(percent(""), None);
        assert_eq!(percent("hedge_percent = 5"), None);
        assert_eq!(percent("hedge = true"), Some(2));
        assert_eq!(percent("hedge = true\nhedge_percent = 5"), Some(5));
    }

    #[test]
    fn an_invalid_setting_is_named() {
        let cases = [
            ("listen = \"nowhere\"", "`listen`"),
            ("driver = \"podman\"", "`driver`: 'podman' is not one of"),
            ("placement = \"odd\"", "`placement`: 'odd' is not one of even, hash, polynomial"),
            ("replicas = 57", "`replicas`: 57 are too many: at most 56"),
            ("virtual_servers = 513", "`virtual_servers`"),
            ("slots = 0", "`slots`"),
            ("algorithm = \"odd\"", "`algorithm`: 'odd' is not one of ring, slots, ketama"),
            ("hash = \"odd\"", "`hash`: 'odd' is not one of xxh3, murmur3"),
            ("hash = \"siphash\"", "`hash_key`: the hash siphash needs a key"),
            ("collision = \"odd\"", "`collision`: 'odd' is not one of linear, quadratic"),
            ("upstream_protocol = \"h3\"", "`upstream_protocol`: 'h3' is not one of h1, h2c, auto"),
            ("request_timeout = \"soon\"", "`request_timeout`: 'soon' is not a time"),
            ("header_bytes_max = 100", "`header_bytes_max`: must be 8192 to 1048576 bytes"),
            ("headers_max = 0", "`headers_max`"),
            ("uri_max = 0", "`uri_max`"),
            ("streams_max = 0", "`streams_max`"),
            ("requests_per_connection = 0", "`requests_per_connection`"),
            ("body_rate_min = 0", "`body_rate_min`"),
            ("victim = \"odd\"", "`victim`: 'odd' is not one of newest, oldest, least_loaded"),
            ("drain = \"soon\"", "`drain`: 'soon' is not a time"),
            ("heartbeat_interval = \"0s\"", "`heartbeat_interval`"),
            ("heartbeat_misses = 0", "`heartbeat_misses`"),
            ("key = \"moon\"", "`key`: 'moon'"),
            ("key = \"path:0\"", "`key`: 'path:0'"),
            ("policy = \"fair\"", "`policy`: 'fair' is not one of ring, bounded, round_robin,"),
            ("hedge_percent = 0", "`hedge_percent`: must be 1 to 100"),
            ("hedge = true\nhedge_percent = 101", "`hedge_percent`: must be 1 to 100"),
            ("bounded_factor = 0.99", "`bounded_factor`: '0.99' must be"),
            ("bounded_factor = inf", "`bounded_factor`: 'inf' must be"),
            ("bounded_factor = nan", "`bounded_factor`: 'NaN' must be"),
            ("key_body_max = 0", "`key_body_max`"),
            ("key_body_max = 99999999", "`key_body_max`: must be 16777216"),
            ("trusted_proxies = [\"10.0.0.0/8\", \"lan\"]", "`trusted_proxies`: 'lan'"),
            ("env = [\"novalue\"]", "`env`"),
            ("init = \"yes\"", "`init`: 'yes' is not one of auto, on, off"),
            ("port = 0", "`port`"),
            ("image = \" \"", "`image`"),
            ("image = \"My-Image\"", "`image`: 'My-Image' is not an image"),
            ("network = \"a/b\"", "`network`: 'a/b'"),
            ("listen = \"0.0.0.0:9090\"", "`admin`: 127.0.0.1:9090 and `listen` (0.0.0.0:9090)"),
            ("upstream = [\"a1=h:1,weight=57\"]", "`upstream`: 1 upstreams with weights of 57"),
            ("fleet = \"a b\"", "`fleet`"),
            ("upstream = [\"a1=h:1\", \"a1=h:2\"]", "`upstream`: 'a1' is named twice"),
            ("mounts = [\"everything\"]", "`mounts`: 'everything'"),
            ("command = \"a 'b\"", "`command`"),
            ("heartbeat_path = \"x\"", "`heartbeat_path`"),
            ("heartbeat_method = \"PUT\"", "`heartbeat_method`: 'PUT' is not one of GET, HEAD"),
        ];
        for (text, expected) in cases {
            let message = refused(text);
            assert!(message.contains(expected), "{text}: {message}");
        }
    }
}
