//! The settings as flags, environment variables and keys of the file.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Secret, access::hidden};

/// The settings before they are checked. Each is a flag, an environment variable `RINGMASTER_<KEY>` and
/// a key of the file.
#[derive(clap::Args, Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
#[allow(
    rustdoc::broken_intra_doc_links,
    rustdoc::invalid_html_tags,
    reason = "the text is that of `--help`, where it stands as it is written"
)]
pub struct Options {
    /// Settings for a purpose, behind all others: course, key-value, servers or redis [default: none]
    #[arg(long, env = "RINGMASTER_PRESET", value_name = "NAME")]
    pub preset: Option<String>,
    /// Address and port for traffic [default: 0.0.0.0:5000]
    #[arg(long, env = "RINGMASTER_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Address and port for administration and metrics [default: 127.0.0.1:9090]
    #[arg(long, env = "RINGMASTER_ADMIN", value_name = "ADDRESS")]
    pub admin: Option<String>,
    /// Bearer token that the admin port and the scaling API ask for; others can read it here (`ps`)
    #[arg(long, env = "RINGMASTER_ADMIN_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    #[serde(deserialize_with = "hidden")]
    pub admin_token: Option<Secret>,
    /// File that holds the token
    #[arg(long, env = "RINGMASTER_ADMIN_TOKEN_FILE", value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,
    /// Bearer token that is enough for /metrics [default: the admin port's]
    #[arg(long, env = "RINGMASTER_METRICS_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    #[serde(deserialize_with = "hidden")]
    pub metrics_token: Option<Secret>,
    /// Names of this machine that the admin port answers to, beside addresses and localhost
    #[arg(long, env = "RINGMASTER_ADMIN_HOSTS", value_name = "NAME", value_delimiter = ',')]
    pub admin_hosts: Option<Vec<String>>,
    /// The same for pages in a browser that change something on the traffic port
    #[arg(long, env = "RINGMASTER_CONTROL_HOSTS", value_name = "NAME", value_delimiter = ',')]
    pub control_hosts: Option<Vec<String>>,
    /// Serve an admin port without a token on an address that is not loopback
    #[arg(long, env = "RINGMASTER_ADMIN_OPEN", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub admin_open: Option<bool>,
    /// Show /rep on the traffic port without the token
    #[arg(long, env = "RINGMASTER_PUBLIC_REP", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub public_rep: Option<bool>,
    /// What is reachable on the traffic port beside the replicas: scaling, servers, nodes, or an empty list in the file [default: scaling]
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
    /// Replicas that /rm leaves at least [default: 0]
    #[arg(long, env = "RINGMASTER_REPLICAS_MIN", value_name = "N")]
    pub replicas_min: Option<usize>,
    /// Image of the replicas [default: ringmaster-server]
    #[arg(long, env = "RINGMASTER_IMAGE", value_name = "IMAGE")]
    pub image: Option<String>,
    /// Port that replicas listen on [default: 5000]
    #[arg(long, env = "RINGMASTER_PORT", value_name = "PORT")]
    pub port: Option<u16>,
    /// Path of the heartbeat; empty: a TCP connection is enough [default: /heartbeat]
    #[arg(long, env = "RINGMASTER_HEARTBEAT_PATH", value_name = "PATH")]
    pub heartbeat_path: Option<String>,
    /// Method of the heartbeat: GET, HEAD, POST or OPTIONS [default: GET]
    #[arg(long, env = "RINGMASTER_HEARTBEAT_METHOD", value_name = "METHOD")]
    pub heartbeat_method: Option<String>,
    /// Statuses with which it passes, like 200,204,300-399 or 2xx [default: 200-399]
    #[arg(long, env = "RINGMASTER_HEARTBEAT_STATUS", value_name = "STATUSES")]
    pub heartbeat_status: Option<String>,
    /// Text that the first 64 KiB of its answer's body must contain [default: none]
    #[arg(long, env = "RINGMASTER_HEARTBEAT_BODY", value_name = "TEXT")]
    pub heartbeat_body: Option<String>,
    /// Environment of the replicas, K=V; repeatable
    #[arg(
        long,
        env = "RINGMASTER_ENV",
        value_name = "K=V",
        value_delimiter = '\n',
        hide_env_values = true
    )]
    #[serde(deserialize_with = "hidden")]
    pub env: Option<Vec<Secret>>,
    /// Program (or arguments of the image) of the replicas, with arguments
    #[arg(long, env = "RINGMASTER_COMMAND", value_name = "COMMAND")]
    pub command: Option<String>,
    /// Network of the replicas [default: net1, or <fleet>-net]
    #[arg(long, env = "RINGMASTER_NETWORK", value_name = "NETWORK")]
    pub network: Option<String>,
    /// Whether containers start with an init, so that programs without a SIGTERM handler end at once: auto (unless the image has its own), on or off [default: auto]
    #[arg(long, env = "RINGMASTER_INIT", value_name = "INIT")]
    pub init: Option<String>,
    /// An upstream of the static driver, NAME=HOST:PORT[,weight=W]; repeatable
    #[arg(long, env = "RINGMASTER_UPSTREAM", value_name = "UPSTREAM", value_delimiter = '\n')]
    pub upstream: Option<Vec<String>>,
    /// Where a request's key is found; the first that is present wins: header:NAME, cookie:NAME, query:NAME, path, path:N, host, client_ip, body:/JSON/POINTER, random [default: header:X-Request-ID,query:id,random]
    #[arg(long, env = "RINGMASTER_KEY", value_name = "SOURCES")]
    pub key: Option<String>,
    /// Bytes of a body that are read at most to find a key in it [default: 65536]
    #[arg(long, env = "RINGMASTER_KEY_BODY_MAX", value_name = "BYTES")]
    pub key_body_max: Option<usize>,
    /// Addresses and networks of proxies whose X-Forwarded-* headers are believed and added to [default: none]
    #[arg(long, env = "RINGMASTER_TRUSTED_PROXIES", value_name = "ADDRESS", value_delimiter = ',')]
    pub trusted_proxies: Option<Vec<String>>,
    /// How the replica of a request is picked: ring, bounded, round_robin, weighted_round_robin, least_in_flight, p2c, peak_ewma or random [default: ring]
    #[arg(long, env = "RINGMASTER_POLICY", value_name = "POLICY")]
    pub policy: Option<String>,
    /// Under the policy bounded: what a replica may have in flight, as a multiple of the average [default: 1.25]
    #[arg(long, env = "RINGMASTER_BOUNDED_FACTOR", value_name = "FACTOR")]
    pub bounded_factor: Option<f64>,
    /// Worker threads; 0: one per core [default: 0]
    #[arg(long, env = "RINGMASTER_WORKERS", value_name = "N")]
    pub workers: Option<usize>,
    /// Directory of the state file [default: .ringmaster]
    #[arg(long, env = "RINGMASTER_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Where the fleet's state is kept: file, or redis://[USER:PASSWORD@]HOST[:PORT][/DB] (rediss:// with TLS, redis+sentinel://HOST,HOST/MASTER by Sentinel), which several supervisors and balancers share [default: file]
    #[arg(long, env = "RINGMASTER_STORE", value_name = "URL", hide_env_values = true)]
    #[serde(deserialize_with = "hidden")]
    pub store: Option<Secret>,
    /// File with the certificates (PEM) that vouch for a store with TLS [default: those of the system]
    #[arg(long, env = "RINGMASTER_STORE_CA", value_name = "FILE")]
    pub store_ca: Option<PathBuf>,
    /// How long a call of the store may take [default: 500ms]
    #[arg(long, env = "RINGMASTER_STORE_TIMEOUT", value_name = "TIME")]
    pub store_timeout: Option<String>,
    /// Backends that others list in the store (set `backends`, hashes `backend:<id>`) are registered servers, and our checks are written back there
    #[arg(long, env = "RINGMASTER_BACKENDS", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub backends: Option<bool>,
    /// What this process does: supervisor (keeps the replicas, no traffic), balancer (traffic only, follows the store) or both [default: both]
    #[arg(long, env = "RINGMASTER_ROLE", value_name = "ROLE")]
    pub role: Option<String>,
    /// Where the other processes of the fleet reach our admin port, HOST:PORT [default: the admin address]
    #[arg(long, env = "RINGMASTER_ADVERTISE", value_name = "ADDRESS")]
    pub advertise: Option<String>,
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
    /// Placement of virtual servers: even, hash or polynomial [default: even]
    #[arg(long, env = "RINGMASTER_PLACEMENT", value_name = "PLACEMENT")]
    pub placement: Option<String>,
    /// How a slot finds its owner: ring, slots, ketama, maglev, rendezvous or jump [default: ring, or slots for more than 64 replicas]
    #[arg(long, env = "RINGMASTER_ALGORITHM", value_name = "ALGORITHM")]
    pub algorithm: Option<String>,
    /// What a virtual server does whose slot is taken: linear or quadratic [default: linear]
    #[arg(long, env = "RINGMASTER_COLLISION", value_name = "RULE")]
    pub collision: Option<String>,
    /// What keys are hashed with: xxh3, murmur3, fnv1a, djb2, crc32, md5, sha1, siphash, simple or polynomial [default: xxh3]
    #[arg(long, env = "RINGMASTER_HASH", value_name = "HASH")]
    pub hash: Option<String>,
    /// The secret of siphash, 32 hexadecimal digits
    #[arg(long, env = "RINGMASTER_HASH_KEY", value_name = "HEX", hide_env_values = true)]
    #[serde(deserialize_with = "hidden")]
    pub hash_key: Option<Secret>,
    /// Who leaves when /rm names nobody: newest, oldest, least_loaded, most_even_after or random [default: newest]
    #[arg(long, env = "RINGMASTER_VICTIM", value_name = "RULE")]
    pub victim: Option<String>,
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
    /// Answers of 500 and above in a row after which a replica is probed at once; 0: never [default: 5]
    #[arg(long, env = "RINGMASTER_SUSPECT_AFTER_ERRORS", value_name = "N")]
    pub suspect_after_errors: Option<u32>,
    /// How long a living but failing replica is left before it is replaced [default: 5s]
    #[arg(long, env = "RINGMASTER_REPLACE_AFTER", value_name = "TIME")]
    pub replace_after: Option<String>,
    /// What is done about a living replica that fails: replace, eject or ignore [default: replace]
    #[arg(long, env = "RINGMASTER_ON_UNHEALTHY", value_name = "RULE")]
    pub on_unhealthy: Option<String>,
    /// Living replicas that are replaced at a time: a number, or a part of the fleet [default: 25%]
    #[arg(long, env = "RINGMASTER_REPLACE_MAX", value_name = "N|PERCENT%")]
    pub replace_max: Option<String>,
    /// How long no living replica is replaced after more than half of four or more have failed [default: 2m]
    #[arg(long, env = "RINGMASTER_PANIC_HOLD", value_name = "TIME")]
    pub panic_hold: Option<String>,
    /// How long a replacement of a roll must pass before the next [default: 10s]
    #[arg(long, env = "RINGMASTER_BAKE", value_name = "TIME")]
    pub bake: Option<String>,
    /// How long a whole /add may take [default: 30s]
    #[arg(long, env = "RINGMASTER_START_DEADLINE", value_name = "TIME")]
    pub start_deadline: Option<String>,
    /// How long open requests may go on after a replica left, or the balancer was stopped [default: 5s]
    #[arg(long, env = "RINGMASTER_DRAIN", value_name = "TIME")]
    pub drain: Option<String>,
    /// From SIGTERM to SIGKILL of a replica [default: 10s]
    #[arg(long, env = "RINGMASTER_STOP_GRACE", value_name = "TIME")]
    pub stop_grace: Option<String>,
    /// Requests that a replica may have in flight; others wait [default: no limit]
    #[arg(long, env = "RINGMASTER_REPLICA_IN_FLIGHT_MAX", value_name = "N")]
    pub replica_in_flight_max: Option<u64>,
    /// Requests that may wait for each replica, in each worker [default: 128]
    #[arg(long, env = "RINGMASTER_QUEUE_MAX", value_name = "N")]
    pub queue_max: Option<usize>,
    /// How long each may wait [default: 1s]
    #[arg(long, env = "RINGMASTER_QUEUE_TIMEOUT", value_name = "TIME")]
    pub queue_timeout: Option<String>,
    /// Where the log goes [default: standard error]
    #[arg(long, env = "RINGMASTER_LOG_FILE", value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// One line for each request: off, json or common [default: off]
    #[arg(long, env = "RINGMASTER_ACCESS_LOG", value_name = "FORMAT")]
    pub access_log: Option<String>,
    /// Where the access log goes [default: standard output]
    #[arg(long, env = "RINGMASTER_ACCESS_LOG_FILE", value_name = "FILE")]
    pub access_log_file: Option<PathBuf>,
    /// Part of the requests that are logged, 0 to 1 [default: 1]
    #[arg(long, env = "RINGMASTER_ACCESS_LOG_SAMPLE", value_name = "PART")]
    pub access_log_sample: Option<f64>,
    /// Each connection begins with a header of the PROXY protocol, version 1 or 2
    #[arg(long, env = "RINGMASTER_PROXY_PROTOCOL", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub proxy_protocol: Option<bool>,
    /// Send Forwarded (RFC 7239) beside X-Forwarded-*
    #[arg(long, env = "RINGMASTER_FORWARDED", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub forwarded: Option<bool>,
    /// The Host that replicas see [default: the client's]
    #[arg(long, env = "RINGMASTER_UPSTREAM_HOST", value_name = "HOST")]
    pub upstream_host: Option<String>,
    /// Tell clients in X-Ringmaster-Attempts how many replicas were asked
    #[arg(long, env = "RINGMASTER_ATTEMPTS_HEADER", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub attempts_header: Option<bool>,
    /// Tell clients in X-Load-Balancer-Server whose answer it is, and in X-Load-Balancer-Response-Time how many seconds its first byte took
    #[arg(long, env = "RINGMASTER_SERVER_HEADERS", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub server_headers: Option<bool>,
    /// What a 503 says, as plain text, when no replica is in service [default: an answer in JSON]
    #[arg(long, env = "RINGMASTER_NO_REPLICA_TEXT", value_name = "TEXT")]
    pub no_replica_text: Option<String>,
    /// What replicas are spoken to in: h1, h2c (HTTP/2 without TLS) or auto [default: h1]
    #[arg(long, env = "RINGMASTER_UPSTREAM_PROTOCOL", value_name = "PROTOCOL")]
    pub upstream_protocol: Option<String>,
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
    /// Send a request that is slower than 19 of 20 to a second replica as well; GET, HEAD, OPTIONS, PUT and DELETE only
    #[arg(long, env = "RINGMASTER_HEDGE", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub hedge: Option<bool>,
    /// Requests that are hedged at most, in percent [default: 2]
    #[arg(long, env = "RINGMASTER_HEDGE_PERCENT", value_name = "PERCENT")]
    pub hedge_percent: Option<u32>,
    /// Client connections at most [default: 10000]
    #[arg(long, env = "RINGMASTER_CONNECTIONS_MAX", value_name = "N")]
    pub connections_max: Option<usize>,
    /// How long a client may take to send the head of a request [default: 10s]
    #[arg(long, env = "RINGMASTER_HEADER_READ", value_name = "TIME")]
    pub header_read: Option<String>,
    /// How long a client connection may rest between two requests [default: 75s]
    #[arg(long, env = "RINGMASTER_CLIENT_IDLE", value_name = "TIME")]
    pub client_idle: Option<String>,
    /// How long a body may stand still, in either direction [default: 5m]
    #[arg(long, env = "RINGMASTER_BODY_IDLE", value_name = "TIME")]
    pub body_idle: Option<String>,
    /// Bytes per second at which the body of a request comes at least, over five seconds [default: no limit]
    #[arg(long, env = "RINGMASTER_BODY_RATE_MIN", value_name = "BYTES")]
    pub body_rate_min: Option<u64>,
    /// How long nothing may pass through an upgraded connection [default: 1h]
    #[arg(long, env = "RINGMASTER_UPGRADE_IDLE", value_name = "TIME")]
    pub upgrade_idle: Option<String>,
    /// How long a whole request may take, its answer included [default: no limit]
    #[arg(long, env = "RINGMASTER_REQUEST_TIMEOUT", value_name = "TIME")]
    pub request_timeout: Option<String>,
    /// The longest request target [default: 8192]
    #[arg(long, env = "RINGMASTER_URI_MAX", value_name = "BYTES")]
    pub uri_max: Option<usize>,
    /// The largest head of a message, at least 8192 [default: 32768]
    #[arg(long, env = "RINGMASTER_HEADER_BYTES_MAX", value_name = "BYTES")]
    pub header_bytes_max: Option<usize>,
    /// Header fields of a message [default: 100]
    #[arg(long, env = "RINGMASTER_HEADERS_MAX", value_name = "N")]
    pub headers_max: Option<usize>,
    /// The largest body of a request [default: no limit]
    #[arg(long, env = "RINGMASTER_BODY_MAX", value_name = "BYTES")]
    pub body_max: Option<u64>,
    /// The smallest body of an answer that passes inside the kernel; 0: none does [default: 65536]
    #[arg(long, env = "RINGMASTER_SPLICE_MIN", value_name = "BYTES")]
    pub splice_min: Option<u64>,
    /// Requests that a client may send on one connection [default: no limit]
    #[arg(long, env = "RINGMASTER_REQUESTS_PER_CONNECTION", value_name = "N")]
    pub requests_per_connection: Option<u64>,
    /// Requests that a client may have open on one HTTP/2 connection [default: 128]
    #[arg(long, env = "RINGMASTER_STREAMS_MAX", value_name = "N")]
    pub streams_max: Option<u32>,
}

/// Calls a macro with the name of every option. An option that is missing here does not compile.
macro_rules! every_option {
    ($do_what:ident $one:expr, $other:expr) => {
        $do_what!(
            $one,
            $other,
            preset,
            listen,
            admin,
            admin_token,
            admin_token_file,
            metrics_token,
            admin_hosts,
            control_hosts,
            admin_open,
            public_rep,
            mounts,
            driver,
            fleet,
            replicas,
            replicas_max,
            replicas_min,
            image,
            port,
            heartbeat_path,
            heartbeat_method,
            heartbeat_status,
            heartbeat_body,
            env,
            command,
            network,
            init,
            upstream,
            key,
            key_body_max,
            trusted_proxies,
            policy,
            bounded_factor,
            workers,
            state_dir,
            store,
            store_ca,
            store_timeout,
            backends,
            role,
            advertise,
            not_found_as_400,
            stop_replicas_on_exit,
            slots,
            virtual_servers,
            placement,
            algorithm,
            collision,
            hash,
            hash_key,
            victim,
            heartbeat_interval,
            heartbeat_timeout,
            heartbeat_misses,
            heartbeat_passes,
            suspect_after_errors,
            replace_after,
            on_unhealthy,
            replace_max,
            panic_hold,
            bake,
            start_deadline,
            drain,
            stop_grace,
            replica_in_flight_max,
            queue_max,
            queue_timeout,
            log_file,
            access_log,
            access_log_file,
            access_log_sample,
            proxy_protocol,
            forwarded,
            upstream_host,
            attempts_header,
            server_headers,
            no_replica_text,
            upstream_protocol,
            connect,
            first_byte,
            upstream_idle,
            attempts,
            hedge,
            hedge_percent,
            connections_max,
            header_read,
            client_idle,
            body_idle,
            body_rate_min,
            upgrade_idle,
            request_timeout,
            uri_max,
            header_bytes_max,
            headers_max,
            body_max,
            splice_min,
            requests_per_connection,
            streams_max,
        )
    };
}

/// Each option of the first argument, else of the second.
macro_rules! first_of {
    ($one:expr, $other:expr, $($field:ident),* $(,)?) => {{
        let (one, other) = ($one, $other);
        Options { $($field: one.$field.or(other.$field)),* }
    }};
}

impl Options {
    /// These settings, with those of `other` where they are not set.
    pub fn or(self, other: Self) -> Self {
        every_option!(first_of self, other)
    }
}
