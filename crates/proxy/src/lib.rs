//! The data plane: what happens to a request between a client and a replica.
//!
//! Every worker is one thread with its own runtime, listener, upstream connections and counters,
//! so a request meets no lock and no other thread. What the workers share is little: the current
//! routing table (`routes`), read once per table and not per request, and one in-flight number per
//! instance.
//!
//! A client connection is one task, and the upstream connection that serves it is polled inside
//! that task: there is nothing to wake and nothing to hand over between the two halves. All that
//! happens *to* a connection from outside (deadlines, an ejected instance, a shutdown) goes through
//! its `Downstream` cell, which costs the requests nothing until it is used.
//!
//! Never sees a supervisor, a driver or a container: a [`RoutingTable`](ringmaster_core::fleet::table) comes
//! in, failures of instances go out.
//!
//! Start with [`Workers::start`]; then `worker` (deadlines, tables), `accept`, `converse` (one client
//! connection: HTTP/1.1, HTTP/2, or a `tunnel` after an upgrade) and `forward` (one request). Where
//! a request goes is found in two steps: `key` says which slot it has, `pick` who of the admitted
//! gets it. `call` then asks one after the other, over the connections of `pool` or, in HTTP/2, of
//! `h2`; `queue` is where it waits if the replica has enough to do; `hedge` says
//! when one that is slow is worth a second try, and `race` makes it. `mounts` says which paths are ours
//! and not for replicas, and `own` puts requests of our own through the same exchange.
//!
//! A second way through is being built beside this one: `exchange`, on the codec of `ringmaster-http1`
//! and not on hyper, over the connections of `upstream`; `watch` is there what `Downstream` is here.
//! Which of the two carries connections is a switch that only tests use so far (`Engine`).

mod accept;
mod access_log;
mod body;
mod budget;
mod buffers;
mod call;
mod claims;
mod config;
mod converse;
mod count;
mod descriptors;
mod dial;
mod downstream;
mod errors;
mod exchange;
mod forward;
mod frames;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod h2;
mod headers;
mod hedge;
mod histogram;
mod interim;
mod key;
mod link;
mod log_writer;
mod metrics;
mod mounts;
mod own;
mod owner;
mod pick;
mod pool;
mod proxy_protocol;
mod queue;
mod race;
mod routes;
mod socket;
mod splice;
mod trusted;
mod tunnel;
mod upload;
mod upstream;
mod watch;
mod worker;
mod workers;

pub use self::{
    access_log::{AccessLogSettings, FormatError, LogFormat},
    config::{Engine, ProxyConfig},
    h2::{ProtocolError, UpstreamProtocol},
    histogram::{BOUNDS_MICROS, HistogramTotals},
    key::{KeyError, KeySources},
    metrics::{Family, InstanceTotals, ReplicaTotals, Totals},
    mounts::Mounts,
    own::{OwnError, OwnRequests},
    queue::Concurrency,
    routes::Routes,
    trusted::{TrustedError, TrustedProxies},
    workers::Workers,
};
