//! How client connections come in: accepted as long as there is room, announced by whom they are for
//! where the PROXY protocol says it, else shed.

use std::{
    io,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    net::{TcpListener, TcpStream},
    task::spawn_local,
};

use super::{converse, descriptors::Held, errors::SHED, exchange, proxy_protocol, worker::Worker};

/// How long to wait when the system has no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// From one warning of that to the next.
const ACCEPT_WARNINGS: Duration = Duration::from_secs(10);

/// Accepts connections for ever.
pub(crate) async fn accept(
    worker: &Rc<Worker>,
    listener: &TcpListener,
) -> std::convert::Infallible {
    let mut warned: Option<Instant> = None;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => admit(worker, stream, peer),
            Err(error) => {
                worker.counters.accept_errors.bump();
                // A connection that was gone before we looked says nothing about the next.
                if error.kind() == io::ErrorKind::ConnectionAborted {
                    continue;
                }
                if warned.is_none_or(|at| at.elapsed() > ACCEPT_WARNINGS) {
                    tracing::warn!(%error, "cannot accept a connection");
                    warned = Some(Instant::now());
                }
                // Those that rest make room.
                worker.descriptors.miss();
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Accepts what the kernel has already accepted for us: these clients think that they are
/// connected. Only then the listener may close.
pub(crate) fn empty_queue(worker: &Rc<Worker>, listener: TcpListener) -> io::Result<()> {
    let listener = listener.into_std()?;
    loop {
        match listener.accept() {
            Ok((stream, peer)) => {
                stream.set_nonblocking(true)?;
                admit(worker, TcpStream::from_std(stream)?, peer);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => return Err(error),
        }
    }
}

/// For whom a connection comes: its peer, or whom the PROXY protocol names. `None`: nobody is
/// named, or by somebody who is not trusted to.
async fn announced(
    worker: &Worker,
    stream: &mut TcpStream,
    peer: SocketAddr,
) -> Option<SocketAddr> {
    if !worker.config.proxy_protocol {
        return Some(peer);
    }
    let trusted = &worker.config.trusted_proxies;
    if !trusted.is_empty() && !trusted.contains(peer.ip()) {
        return None;
    }
    let reading = Box::pin(proxy_protocol::read(stream));
    let said = tokio::time::timeout(worker.config.header_read, reading).await;
    said.ok()?.ok().map(|client| client.unwrap_or(peer))
}

/// Serves a connection, or sheds it.
fn admit(worker: &Rc<Worker>, stream: TcpStream, peer: SocketAddr) {
    let open = Open::new(&worker.open, worker.descriptors.enter());
    let most = worker.config.connections_max.min(worker.descriptors.clients_max());
    if open.number > most {
        worker.counters.connections_shed.bump();
        // Into the empty buffer of a new socket: it fits, or the client is gone.
        let _ = stream.try_write(SHED);
        return;
    }
    worker.counters.connections_accepted.bump();
    let worker = Rc::clone(worker);
    spawn_local(async move {
        let mut stream = stream;
        let Some(peer) = announced(&worker, &mut stream, peer).await else {
            worker.counters.connections_unannounced.bump();
            worker.counters.connections_closed.bump();
            return;
        };
        serve(&worker, stream, peer).await;
        worker.counters.connections_closed.bump();
        drop(open);
    });
}

/// Serves a connection with the codec that the configuration names, and what that one leaves with the
/// other.
async fn serve(worker: &Rc<Worker>, stream: TcpStream, peer: SocketAddr) {
    let mut left = (stream, Bytes::new());
    if worker.is_own {
        match exchange::converse(worker, left.0, peer).await {
            Some(rest) => left = rest,
            None => return,
        }
    }
    let (id, downstream) =
        worker.registry.open(peer, &worker.config.trusted_proxies, &worker.clock);
    // In a box: it is large, and most connections are not served like this where the other codec is.
    Box::pin(converse::converse(worker, left.0, left.1, &downstream)).await;
    worker.registry.close(id);
}

/// A place in the process's number of open connections.
struct Open {
    number: usize,
    count: Arc<AtomicUsize>,
    _held: Held,
}

impl Open {
    fn new(count: &Arc<AtomicUsize>, held: Held) -> Self {
        let number = count.fetch_add(1, Ordering::Relaxed) + 1;
        Self { number, count: Arc::clone(count), _held: held }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}
