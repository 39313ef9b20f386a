//! Requests of our own: a GET that is routed by a key that is given, through the same exchange as the
//! requests of clients, with its limits, retries, deadlines and counters.

use std::{
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap, Request, Response, Uri,
    header::{CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING, UPGRADE},
    uri::PathAndQuery,
};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    task::spawn_local,
};

use super::{
    downstream::{Downstream, Order},
    exchange::{OwnFault, exchange_own},
    forward,
    trusted::TrustedProxies,
    worker::Worker,
};

/// Requests that may wait for each worker to begin with them.
pub(crate) const ASKS_MAX: usize = 64;
/// Requests that each worker carries out at a time; each may hold a whole body.
const AT_ONCE: usize = 8;
/// Bytes of an answer's body.
const BODY_MAX: usize = 16 << 20;
/// How long a request may take, its answer included, where `request_timeout` does not say less.
const DEADLINE: Duration = Duration::from_secs(60);

/// Why there is no answer, neither of a replica nor of the data plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OwnError {
    /// It is not a path, with or without a query.
    #[error("the path must begin with '/' and hold only what a URL may hold")]
    Target,
    /// The answer's body is larger than `BODY_MAX` bytes.
    #[error("the replica's answer is larger than 16 MiB")]
    TooLarge,
    /// The answer ended before its end.
    #[error("the replica's answer broke off")]
    BrokeOff,
    /// The whole took too long.
    #[error("the replica's answer did not end in time")]
    TimedOut,
    /// So many wait already.
    #[error("too many requests wait to be routed")]
    Busy,
    /// The workers do not run yet, or not any more.
    #[error("no traffic is served now")]
    Stopped,
}

/// A way to the workers for requests of our own. Cheap to clone.
#[derive(Clone, Debug)]
pub struct OwnRequests(Arc<Ways>);

#[derive(Debug)]
struct Ways {
    workers: Vec<mpsc::Sender<Ask>>,
    next: AtomicUsize,
}

/// One request, and where its answer is waited for.
#[derive(Debug)]
pub(crate) struct Ask {
    request: Request<()>,
    key: Vec<u8>,
    peer: SocketAddr,
    answer: oneshot::Sender<Result<Response<Bytes>, OwnError>>,
}

impl OwnRequests {
    pub(super) fn new(workers: Vec<mpsc::Sender<Ask>>) -> Self {
        Self(Arc::new(Ways { workers, next: AtomicUsize::new(0) }))
    }

    /// Routes a GET of `target` (a path with or without a query) by `key`, and returns what a client
    /// would have got: a replica's answer, or the data plane's own 502, 503 or 504. `headers` go with
    /// it, but for those of a body and of a connection. `peer` is said to be the client.
    ///
    /// # Errors
    /// The target is none, the answer is too large, broke off or took too long, or no worker takes
    /// the request.
    pub async fn get(
        &self,
        key: &str,
        target: &str,
        mut headers: HeaderMap,
        peer: SocketAddr,
    ) -> Result<Response<Bytes>, OwnError> {
        let target = Some(target).filter(|target| target.starts_with('/'));
        let target = target.and_then(|target| PathAndQuery::try_from(target).ok());
        let target = target.ok_or(OwnError::Target)?;
        for name in [CONTENT_LENGTH, TRANSFER_ENCODING, EXPECT, UPGRADE] {
            headers.remove(name);
        }
        let mut request = Request::new(());
        *request.uri_mut() = Uri::from(target);
        *request.headers_mut() = headers;
        let (answer, answered) = oneshot::channel();
        let ask = Ask { request, key: key.as_bytes().to_vec(), peer, answer };
        let Ways { workers, next } = &*self.0;
        let turn = next.fetch_add(1, Ordering::Relaxed);
        let worker = workers.get(turn % workers.len().max(1)).ok_or(OwnError::Stopped)?;
        worker.try_send(ask).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => OwnError::Busy,
            mpsc::error::TrySendError::Closed(_) => OwnError::Stopped,
        })?;
        // The worker has the deadlines; it lets go of the answer when it ends.
        answered.await.unwrap_or(Err(OwnError::Stopped))
    }
}

/// Answers requests of our own in this worker, until there is no way to it any more.
pub(crate) async fn serve(worker: Rc<Worker>, mut asks: mpsc::Receiver<Ask>) {
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    while let Some(ask) = asks.recv().await {
        // It is never closed. Those behind it wait in the queue, which is bounded.
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let worker = Rc::clone(&worker);
        spawn_local(async move {
            serve_one(worker, ask).await;
            drop(slot);
        });
    }
}

async fn serve_one(worker: Rc<Worker>, ask: Ask) {
    if worker.is_own {
        return serve_own(worker, ask).await;
    }
    let Ask { request, key, peer, mut answer } = ask;
    let trusted = TrustedProxies::default();
    let (id, downstream) = worker.registry.open(peer, &trusted, &worker.clock);
    let deadline = worker.config.request_timeout.map_or(DEADLINE, |most| most.min(DEADLINE));
    let got = {
        let exchange = obeying(&downstream, exchange(&worker, &downstream, request, &key));
        tokio::select! {
            got = tokio::time::timeout(deadline, exchange) => {
                Some(got.unwrap_or(Err(OwnError::TimedOut)))
            }
            () = answer.closed() => None,
        }
    };
    worker.registry.close(id);
    if let Some(got) = got {
        // Its receiver may have gone in this moment.
        let _ = answer.send(got);
    }
}

/// The same, carried by our own codec.
async fn serve_own(worker: Rc<Worker>, ask: Ask) {
    let Ask { request, key, peer, mut answer } = ask;
    let deadline = worker.config.request_timeout.map_or(DEADLINE, |most| most.min(DEADLINE));
    let exchange = exchange_own(&worker, peer, (request, key), BODY_MAX);
    let got = tokio::select! {
        got = tokio::time::timeout(deadline, exchange) => got,
        () = answer.closed() => return,
    };
    let got = match got {
        Err(_) => Err(OwnError::TimedOut),
        Ok(Err(OwnFault::TooLarge)) => Err(OwnError::TooLarge),
        Ok(Err(OwnFault::BrokeOff)) => Err(OwnError::BrokeOff),
        Ok(Ok(response)) => Ok(response),
    };
    // Its receiver may have gone in this moment.
    let _ = answer.send(got);
}

async fn exchange(
    worker: &Rc<Worker>,
    downstream: &Rc<Downstream>,
    request: Request<()>,
    key: &[u8],
) -> Result<Response<Bytes>, OwnError> {
    let response = Box::pin(forward::answer_own(worker, downstream, request, key)).await;
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, BODY_MAX).collect().await.map_err(|error| match error
        .is::<LengthLimitError>(
    ) {
        true => OwnError::TooLarge,
        false => OwnError::BrokeOff,
    })?;
    Ok(Response::from_parts(parts, body.to_bytes()))
}

/// Lets a request hear what its cell is told, as a connection does.
async fn obeying<T>(
    downstream: &Downstream,
    work: impl Future<Output = Result<T, OwnError>>,
) -> Result<T, OwnError> {
    let mut work = pin!(work);
    poll_fn(|cx| {
        downstream.remember(cx.waker());
        match downstream.take_order() {
            Some(Order::Close | Order::TooSlow) => Poll::Ready(Err(OwnError::TimedOut)),
            // It ends after this request anyway.
            Some(Order::Finish) | None => work.as_mut().poll(cx),
        }
    })
    .await
}
