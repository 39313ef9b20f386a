//! One client connection from its first byte to its last: HTTP/1.1, HTTP/2 if the client begins with
//! its preface, or a tunnel once a replica has agreed to another protocol.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    task::spawn_local,
};

use super::{
    body::Answer,
    downstream::{Downstream, Order},
    errors::TOO_SLOW,
    forward,
    splice::Splice,
    worker::Worker,
};

/// How a conversation in HTTP/1.1 ended.
enum End {
    /// With the connection.
    Over,
    /// The client speaks HTTP/2.
    Preface(Wire),
    /// An upgrade was agreed upon.
    Upgraded(Wire),
    /// A body follows that does not pass through hyper; behind it another request may come.
    Splice(Wire, Box<Splice>),
}

/// Serves one client connection.
/// `read` is what was already read of it.
pub(crate) async fn converse(
    worker: &Rc<Worker>,
    stream: TcpStream,
    read: Bytes,
    downstream: &Rc<Downstream>,
) {
    let mut wire = Wire { stream, downstream: Rc::clone(downstream), read };
    loop {
        wire = match http1(worker, wire, downstream).await {
            End::Over => return,
            End::Preface(wire) => return Box::pin(http2(worker, wire, downstream)).await,
            End::Upgraded(wire) => {
                if let Some(tunnel) = downstream.take_tunnel() {
                    Box::pin(tunnel.run(wire, worker, downstream)).await;
                }
                return;
            }
            End::Splice(wire, splice) => {
                match Box::pin(splice.run(wire, worker, downstream)).await {
                    Some(wire) => wire,
                    None => return,
                }
            }
        };
    }
}

async fn http1(worker: &Rc<Worker>, wire: Wire, downstream: &Rc<Downstream>) -> End {
    let service = service_fn(|request| {
        // In a box: a request's state is large, and a connection that rests must not hold it.
        let answer = Box::pin(forward::answer(Rc::clone(worker), Rc::clone(downstream), request));
        async move { Ok::<_, std::convert::Infallible>(answer.await) }
    });
    let mut connection = worker.downstream_http.serve_connection(TokioIo::new(wire), service);
    let (mut is_too_slow, mut is_last, mut splice) = (false, false, None);
    let ended = poll_fn(|cx| {
        downstream.remember(cx.waker());
        match downstream.take_order() {
            Some(Order::Close) => return Poll::Ready(Ok(())),
            Some(Order::TooSlow) => {
                is_too_slow = true;
                return Poll::Ready(Ok(()));
            }
            Some(Order::Finish) => {
                is_last = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            None => {}
        }
        // How it ended concerns mostly the client, who knows it.
        let polled = Pin::new(&mut connection).poll(cx);
        splice = downstream.take_splice();
        if splice.is_some() { Poll::Ready(Ok(())) } else { polled }
    })
    .await;
    let is_preface = ended.as_ref().is_err_and(hyper::Error::is_parse_version_h2);
    match &ended {
        Err(error) if error.is_parse_too_large() => worker.counters.heads_too_large.bump(),
        Err(error) if error.is_parse() && !is_preface => worker.counters.heads_malformed.bump(),
        _ => {}
    }
    if !downstream.is_closed()
        && !is_too_slow
        && !is_preface
        && splice.is_none()
        && !downstream.has_tunnel()
    {
        return End::Over;
    }
    // An answer that is not finished is dropped here, and so counted, before its socket.
    let parts = connection.into_parts();
    if downstream.is_closed() {
        return End::Over;
    }
    // What hyper has read and not understood is for whoever goes on, and what it has not read yet.
    let mut wire = parts.io.into_inner();
    wire.read = match wire.read.is_empty() {
        true => parts.read_buf,
        false => [parts.read_buf, wire.read].concat().into(),
    };
    if is_too_slow {
        worker.counters.header_timeouts.bump();
        let _ = wire.stream.try_write(TOO_SLOW);
        return End::Over;
    }
    if let Some(mut splice) = splice {
        splice.is_last |= is_last;
        return End::Splice(wire, splice);
    }
    if is_preface {
        return End::Preface(wire);
    }
    End::Upgraded(wire)
}

async fn http2(worker: &Rc<Worker>, wire: Wire, downstream: &Rc<Downstream>) {
    worker.counters.connections_h2.bump();
    downstream.begin_streams();
    let service = service_fn(|request| {
        let worker = Rc::clone(worker);
        let stream = Stream::open(&worker, downstream);
        async move {
            let cell = Rc::clone(&stream.cell);
            // In a box, so that the task is small when it is handed on.
            let mut response = Box::pin(forward::answer(worker, cell, request)).await;
            if let Answer::Streamed(streamed) = response.body_mut() {
                streamed.stream = Some(stream.with_answer());
            }
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let connection = worker.downstream_http2.serve_connection(TokioIo::new(wire), service);
    let mut connection = pin!(connection);
    poll_fn(|cx| {
        downstream.remember(cx.waker());
        match downstream.take_order() {
            Some(Order::Close | Order::TooSlow) => return Poll::Ready(()),
            Some(Order::Finish) => connection.as_mut().graceful_shutdown(),
            None => {}
        }
        connection.as_mut().poll(cx).map(drop)
    })
    .await;
}

/// One stream of an HTTP/2 connection: in the registry for as long as it lasts.
pub(crate) struct Stream {
    worker: Rc<Worker>,
    connection: Rc<Downstream>,
    id: u64,
    cell: Rc<Downstream>,
    /// Whether its answer is on its way.
    has_answer: bool,
}

impl Stream {
    fn open(worker: &Rc<Worker>, connection: &Rc<Downstream>) -> Self {
        let (id, cell) = worker.registry.open_stream(connection);
        worker.executor.0.replace(Some(Rc::clone(&cell)));
        worker.wear(connection);
        Self {
            worker: Rc::clone(worker),
            connection: Rc::clone(connection),
            id,
            cell,
            has_answer: false,
        }
    }

    fn with_answer(mut self) -> Self {
        self.connection.count_answer(1);
        self.has_answer = true;
        self
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.has_answer {
            self.connection.count_answer(-1);
        }
        self.worker.registry.close_stream(self.id, &self.connection);
    }
}

/// Runs the streams of HTTP/2 connections on the worker's own thread. Holds the cell of the stream
/// that was opened last: hyper hands its task over right after that.
///
/// A stream that is told to end is dropped with its task. Its body would not do, since a client that
/// does not read keeps hyper from asking the body for more.
#[derive(Clone, Debug, Default)]
pub(crate) struct LocalExecutor(Rc<RefCell<Option<Rc<Downstream>>>>);

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, task: F) {
        let cell = self.0.take();
        spawn_local(async move {
            let mut task = pin!(task);
            poll_fn(|cx| {
                if let Some(cell) = &cell {
                    cell.remember(cx.waker());
                    if matches!(cell.take_order(), Some(Order::Close)) {
                        return Poll::Ready(());
                    }
                }
                task.as_mut().poll(cx).map(drop)
            })
            .await;
        });
    }
}

/// A client's socket; tells when bytes come.
pub(crate) struct Wire {
    stream: TcpStream,
    downstream: Rc<Downstream>,
    /// What another protocol has read of it already; comes first.
    read: Bytes,
}

impl Wire {
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    fn poll_ping(&mut self, cx: &mut Context<'_>, torn: bool) -> Poll<io::Result<()>> {
        let stream = &mut self.stream;
        self.downstream.write_ping(torn, |bytes| Pin::new(&mut *stream).poll_write(cx, bytes))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        if !this.read.is_empty() {
            let length = this.read.len().min(buf.remaining());
            buf.put_slice(&this.read.split_to(length));
            this.downstream.bytes_came(&mut buf.filled_mut()[before..]);
            return Poll::Ready(Ok(()));
        }
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            this.downstream.bytes_came(&mut buf.filled_mut()[before..]);
        }
        polled
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_ping(cx, true))?;
        Pin::new(&mut this.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_ping(cx, true))?;
        Pin::new(&mut this.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.downstream.has_interim() {
            // hyper flushes only when it has written all that it has: here one message ends, and
            // the next waits for us.
            let write = |bytes: &[u8]| Pin::new(&mut this.stream).poll_write(cx, bytes);
            ready!(this.downstream.write_interim(write))?;
        }
        // Here one frame ends, and the next has not begun.
        ready!(this.poll_ping(cx, false))?;
        this.downstream.flushed();
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
