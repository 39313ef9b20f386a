//! Accepts connections, with limits, and ends them at shutdown.

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

/// The limits on connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most open connections; further ones wait in the kernel's accept queue.
    pub connections: usize,
    /// How long a request head may take, and how long an idle connection is kept.
    pub head: Duration,
    /// How long requests in flight may take after a signal to stop.
    pub stop: Duration,
}

impl Default for Limits {
    /// Idle connections are kept longer than the balancer keeps them (4 s), so that
    /// the balancer closes first and no request meets a closing connection.
    fn default() -> Limits {
        Limits { connections: 4096, head: Duration::from_secs(30), stop: Duration::from_secs(2) }
    }
}

/// A pause after a failed accept: without descriptors, an immediate retry would
/// only use CPU time that could free one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Serves `listener` until `stop` is ready, then closes it at once and returns
/// when the requests in flight have ended, after [`Limits::stop`] at the latest.
pub async fn serve(
    listener: TcpListener,
    settings: &Settings,
    limits: Limits,
    stop: impl Future<Output = ()>,
) {
    // A weak generator is enough, because delays are no secret.
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
    // Requests that are still open at the deadline are dropped.
    let _ = tokio::time::timeout(limits.stop, graceful.shutdown()).await;
}

async fn accept_forever(
    listener: &TcpListener,
    app: &Arc<App>,
    open: &Arc<Semaphore>,
    graceful: &GracefulShutdown,
    head_deadline: Duration,
) {
    // Never fails, because the semaphore is never closed.
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
            // An error is the client's: it has closed the connection or broken the protocol.
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
