//! What the APIs have of the data plane: its counts, and a way through it.

use std::{net::SocketAddr, sync::Arc};

use axum::http::{HeaderMap, Response};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use ringmaster_proxy::OwnError;

pub use super::metrics::TotalsSource;
use super::statistics::Statistics;

/// A GET that is to be routed by a key.
#[derive(Clone, Debug)]
pub struct KeyedGet {
    /// Whatever the sources of keys say.
    pub key: String,
    /// A path with or without a query.
    pub target: String,
    /// What the replica is told; those of a body and of a connection are left out.
    pub headers: HeaderMap,
    /// Who asks.
    pub peer: SocketAddr,
}

/// Sends a request through the data plane, with all that it does for requests of clients. Ends with
/// what a client would have got.
pub type RouteByKey =
    Arc<dyn Fn(KeyedGet) -> BoxFuture<'static, Result<Response<Bytes>, OwnError>> + Send + Sync>;

/// See the module. Cheap to clone; both ports share one.
#[derive(Clone)]
pub struct Traffic {
    /// What was counted since the start.
    pub totals: TotalsSource,
    /// What was counted since the last reset.
    pub statistics: Arc<Statistics>,
    /// The way through.
    pub route: RouteByKey,
}

impl Traffic {
    /// Statistics of these totals begin with it.
    pub fn new(totals: TotalsSource, route: RouteByKey) -> Self {
        Self { statistics: Arc::new(Statistics::new(Arc::clone(&totals))), totals, route }
    }
}
