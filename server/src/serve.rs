//! Connections: how many, how long, and how they end.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use rand::{SeedableRng, rngs::StdRng};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::routes::{App, answer};
use crate::settings::Settings;

/// How many connections, and how long they may do nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Open connections at most; further ones wait in the kernel's accept queue.
    pub connections: usize,
    /// How long a request head may take, and how long an idle connection is kept.
    pub head: Duration,
    /// How long requests in flight may take once we were told to stop.
    pub stop: Duration,
}

impl Default for Limits {
    /// Idle connections are kept longer than the balancer keeps them (4 s), so that
    /// it is the balancer that closes and no request meets a closing connection.
    fn default() -> Limits {
        Limits { connections: 4096, head: Duration::from_secs(30), stop: Duration::from_secs(2) }
    }
}

/// A pause after a failed accept: when descriptors run out, trying again at
/// once would only burn the processor that could free one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Serves `listener` until `stop` is ready, then closes it at once and returns
/// when the requests in flight are answered, after [`Limits::stop`] at the latest.
pub async fn serve(
    listener: TcpListener,
    settings: &Settings,
    limits: Limits,
    stop: impl Future<Output = ()>,
) {
    // Which delays are drawn is no secret, so chance that is not of the best will do.
    let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), std::process::id());
    let app = Arc::new(App::new(settings, StdRng::seed_from_u64(seed)));
    let open = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    tokio::select! {
        biased;
        () = stop => {}
        () = accept_forever(&listener, &app, &open, &graceful, limits.head) => {}
    }
    drop(listener);
    // Passing the deadline is no failure: whoever is still waiting was told so.
    let _ = tokio::time::timeout(limits.stop, graceful.shutdown()).await;
}

async fn accept_forever(
    listener: &TcpListener,
    app: &Arc<App>,
    open: &Arc<Semaphore>,
    graceful: &GracefulShutdown,
    head_deadline: Duration,
) {
    // The semaphore is never closed, so acquiring fails never.
    while let Ok(permit) = Arc::clone(open).acquire_owned().await {
        let stream = match accept(listener).await {
            Ok(stream) => stream,
            Err(_) => {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let app = Arc::clone(app);
        let service = service_fn(move |request| {
            let app = Arc::clone(&app);
            async move { Ok::<_, std::convert::Infallible>(answer(&app, request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(head_deadline)
            .serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watcher().watch(connection);
        tokio::spawn(async move {
            // A client that went away or spoke nonsense is its own affair.
            let _ = connection.await;
            drop(permit);
        });
    }
}

async fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
