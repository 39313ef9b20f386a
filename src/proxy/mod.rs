//! The data plane: what happens to a request between a client and a replica.
//!
//! Every worker is one thread with its own runtime, listener, upstream connections and counters,
//! so a request meets no lock and no other thread. What the workers share is little: the current
//! [routing table](routes), read once per table and not per request, and one in-flight number per
//! instance.
//!
//! A client connection is one task, and the upstream connection that serves it is polled inside
//! that task: there is nothing to wake and nothing to hand over between the two halves. All that
//! happens *to* a connection from outside (deadlines, an ejected instance, a shutdown) goes through
//! its [`Downstream`](downstream) cell, which costs the requests nothing until it is used.
//!
//! Never sees a supervisor, a driver or a container: a [`RoutingTable`](crate::fleet::table) comes
//! in, failures of instances go out.
//!
//! Start with [`Workers::start`]; then `worker` (accept, deadlines, tables) and `forward` (one
//! request).

mod body;
mod budget;
mod config;
mod downstream;
mod errors;
mod forward;
mod headers;
mod key;
mod metrics;
mod pool;
mod routes;
mod worker;
mod workers;

pub use self::{
    config::ProxyConfig,
    key::{KeyError, KeySources},
    metrics::{Field, InstanceTotals, Totals},
    routes::Routes,
    workers::Workers,
};
