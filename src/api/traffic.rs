//! What the APIs have of the data plane: its counts, and a way through it.

use std::{net::SocketAddr, sync::Arc};

use axum::http::{HeaderMap, Response};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use ringmaster_proxy::OwnError;

pub use super::metrics::TotalsSource;
use super::{
    others::Others,
    statistics::{Snapshot, Statistics},
};

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
    /// What was counted since the last reset, by this process alone.
    pub statistics: Arc<Statistics>,
    /// The processes that count for the same fleet, if any.
    others: Option<Arc<Others>>,
    /// The way through.
    pub route: RouteByKey,
}

impl Traffic {
    /// Statistics of these totals begin with it.
    pub fn new(totals: TotalsSource, route: RouteByKey) -> Self {
        let statistics = Arc::new(Statistics::new(Arc::clone(&totals)));
        Self { statistics, others: None, totals, route }
    }

    /// The same where others carry traffic of the fleet as well.
    pub fn beside(self, others: Others) -> Self {
        Self { others: Some(Arc::new(others)), ..self }
    }

    /// What all processes of the fleet have counted since the last reset. An answer is in it before
    /// the client has its first byte.
    pub(super) async fn snapshot(&self) -> Snapshot {
        match &self.others {
            None => Snapshot::of(&self.statistics.since_reset(), Vec::new()),
            Some(others) => others.snapshot(&self.statistics).await,
        }
    }

    /// Has all processes of the fleet begin anew. It goes on when its client goes away.
    ///
    /// # Errors
    /// Which process does not, in a sentence.
    pub(super) async fn reset(&self) -> Result<(), String> {
        let Some(others) = self.others.clone() else {
            self.statistics.reset();
            return Ok(());
        };
        let own = Arc::clone(&self.statistics);
        let reset = tokio::spawn(async move { others.reset(&own).await });
        reset.await.unwrap_or_else(|_| Err("this process ends".to_owned()))
    }
}
