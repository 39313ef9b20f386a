//! The settings as flags, environment variables and keys of the file.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::ConfigError;

/// Settings as they are written: each is a flag, an environment variable `RINGMASTER_<KEY>` and a
/// key of the file.
#[derive(clap::Args, Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Address and port for traffic [default: 0.0.0.0:5000]
    #[arg(long, env = "RINGMASTER_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Address and port for administration and metrics [default: 127.0.0.1:9090]
    #[arg(long, env = "RINGMASTER_ADMIN", value_name = "ADDRESS")]
    pub admin: Option<String>,
    /// Bearer token that the admin port asks for
    #[arg(long, env = "RINGMASTER_ADMIN_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub admin_token: Option<String>,
    /// What is reachable on the traffic port beside the replicas: `scaling`, or an empty list in the file [default: scaling]
    #[arg(long, env = "RINGMASTER_MOUNTS", value_name = "GROUP", value_delimiter = ',')]
    pub mounts: Option<Vec<String>>,
    /// docker, process or static [default: docker where a Docker socket exists, else process]
    #[arg(long, env = "RINGMASTER_DRIVER", value_name = "DRIVER")]
    pub driver: Option<String>,
    /// Name of the fleet; several fleets share an engine [default: default]
    #[arg(long, env = "RINGMASTER_FLEET", value_name = "NAME")]
    pub fleet: Option<String>,
    /// Size of a fleet without state [default: 3]
    #[arg(long, env = "RINGMASTER_REPLICAS", value_name = "N")]
    pub replicas: Option<usize>,
    /// Replicas at most [default: what the ring holds]
    #[arg(long, env = "RINGMASTER_REPLICAS_MAX", value_name = "N")]
    pub replicas_max: Option<usize>,
    /// Image of the replicas [default: ringmaster-server]
    #[arg(long, env = "RINGMASTER_IMAGE", value_name = "IMAGE")]
    pub image: Option<String>,
    /// Port that replicas listen on [default: 5000]
    #[arg(long, env = "RINGMASTER_PORT", value_name = "PORT")]
    pub port: Option<u16>,
    /// Path of the heartbeat; empty: a TCP connection is enough [default: /heartbeat]
    #[arg(long, env = "RINGMASTER_HEARTBEAT_PATH", value_name = "PATH")]
    pub heartbeat_path: Option<String>,
    /// Environment of the replicas, K=V; repeatable
    #[arg(long, env = "RINGMASTER_ENV", value_name = "K=V", value_delimiter = '\n')]
    pub env: Option<Vec<String>>,
    /// Program (or arguments of the image) of the replicas, with arguments
    #[arg(long, env = "RINGMASTER_COMMAND", value_name = "COMMAND")]
    pub command: Option<String>,
    /// Network of the replicas [default: net1, or <fleet>-net]
    #[arg(long, env = "RINGMASTER_NETWORK", value_name = "NETWORK")]
    pub network: Option<String>,
    /// An upstream of the static driver, NAME=HOST:PORT[,weight=W]; repeatable
    #[arg(long, env = "RINGMASTER_UPSTREAM", value_name = "UPSTREAM", value_delimiter = '\n')]
    pub upstream: Option<Vec<String>>,
    /// Where a request's key is found; the first that is present wins [default: header:X-Request-ID,query:id,random]
    #[arg(long, env = "RINGMASTER_KEY", value_name = "SOURCES")]
    pub key: Option<String>,
    /// Worker threads; 0: one per core [default: 0]
    #[arg(long, env = "RINGMASTER_WORKERS", value_name = "N")]
    pub workers: Option<usize>,
    /// Directory of the state file [default: .ringmaster]
    #[arg(long, env = "RINGMASTER_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Turn a replica's 404 into a 400 that names the path
    #[arg(long, env = "RINGMASTER_NOT_FOUND_AS_400", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub not_found_as_400: Option<bool>,
    /// Stop the replicas when the balancer ends
    #[arg(long, env = "RINGMASTER_STOP_REPLICAS_ON_EXIT", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub stop_replicas_on_exit: Option<bool>,
    /// Slots of the ring [default: 512]
    #[arg(long, env = "RINGMASTER_SLOTS", value_name = "N")]
    pub slots: Option<u32>,
    /// Virtual servers per replica and unit of weight [default: 9]
    #[arg(long, env = "RINGMASTER_VIRTUAL_SERVERS", value_name = "N")]
    pub virtual_servers: Option<u32>,
    /// Placement of virtual servers: hash or polynomial [default: hash]
    #[arg(long, env = "RINGMASTER_PLACEMENT", value_name = "PLACEMENT")]
    pub placement: Option<String>,
    /// From one heartbeat to the next [default: 400ms]
    #[arg(long, env = "RINGMASTER_HEARTBEAT_INTERVAL", value_name = "TIME")]
    pub heartbeat_interval: Option<String>,
    /// How long a heartbeat may take [default: 400ms]
    #[arg(long, env = "RINGMASTER_HEARTBEAT_TIMEOUT", value_name = "TIME")]
    pub heartbeat_timeout: Option<String>,
    /// Missed heartbeats until a replica is ejected [default: 2]
    #[arg(long, env = "RINGMASTER_HEARTBEAT_MISSES", value_name = "N")]
    pub heartbeat_misses: Option<u32>,
    /// Passed heartbeats until a replica is admitted [default: 1]
    #[arg(long, env = "RINGMASTER_HEARTBEAT_PASSES", value_name = "N")]
    pub heartbeat_passes: Option<u32>,
    /// How long a living but failing replica is left before it is replaced [default: 5s]
    #[arg(long, env = "RINGMASTER_REPLACE_AFTER", value_name = "TIME")]
    pub replace_after: Option<String>,
    /// How long a whole /add may take [default: 30s]
    #[arg(long, env = "RINGMASTER_START_DEADLINE", value_name = "TIME")]
    pub start_deadline: Option<String>,
    /// How long open requests may go on after a replica left, or the balancer was stopped [default: 5s]
    #[arg(long, env = "RINGMASTER_DRAIN", value_name = "TIME")]
    pub drain: Option<String>,
    /// From SIGTERM to SIGKILL of a replica [default: 10s]
    #[arg(long, env = "RINGMASTER_STOP_GRACE", value_name = "TIME")]
    pub stop_grace: Option<String>,
    /// How long a connection to a replica may take [default: 250ms]
    #[arg(long, env = "RINGMASTER_CONNECT", value_name = "TIME")]
    pub connect: Option<String>,
    /// How long a replica may take until its answer begins [default: 30s]
    #[arg(long, env = "RINGMASTER_FIRST_BYTE", value_name = "TIME")]
    pub first_byte: Option<String>,
    /// How long an unused connection to a replica is kept [default: 4s]
    #[arg(long, env = "RINGMASTER_UPSTREAM_IDLE", value_name = "TIME")]
    pub upstream_idle: Option<String>,
    /// Replicas that one request tries at most [default: 3]
    #[arg(long, env = "RINGMASTER_ATTEMPTS", value_name = "N")]
    pub attempts: Option<usize>,
    /// Client connections at most [default: 10000]
    #[arg(long, env = "RINGMASTER_CONNECTIONS_MAX", value_name = "N")]
    pub connections_max: Option<usize>,
}

impl Options {
    /// The settings of a file.
    ///
    /// # Errors
    /// One line that names the key.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let wrong = |why: String| ConfigError { key: "config", why };
        let text = std::fs::read_to_string(path)
            .map_err(|error| wrong(format!("'{}': {error}", path.display())))?;
        toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
            wrong(format!("'{}', line {line}: {}", path.display(), error.message()))
        })
    }

    /// These settings where they are set, else the others.
    pub fn or(self, other: Self) -> Self {
        macro_rules! first {
            ($($field:ident),* $(,)?) => { Self { $($field: self.$field.or(other.$field)),* } };
        }
        first!(
            listen,
            admin,
            admin_token,
            mounts,
            driver,
            fleet,
            replicas,
            replicas_max,
            image,
            port,
            heartbeat_path,
            env,
            command,
            network,
            upstream,
            key,
            workers,
            state_dir,
            not_found_as_400,
            stop_replicas_on_exit,
            slots,
            virtual_servers,
            placement,
            heartbeat_interval,
            heartbeat_timeout,
            heartbeat_misses,
            heartbeat_passes,
            replace_after,
            start_deadline,
            drain,
            stop_grace,
            connect,
            first_byte,
            upstream_idle,
            attempts,
            connections_max,
        )
    }
}
