//! A client's connection: its socket, what waits on it, and whether the client is still there.

use std::{
    future::poll_fn,
    io,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use super::super::{
    buffers::{READ, Waiting},
    socket::Socket,
    watch::{Order, Phase, Watch},
    worker::Worker,
};

/// How long a client that has closed its half may wait without a byte from us: whether it has gone or
/// only has nothing more to say looks the same.
const HALF_CLOSED: Duration = Duration::from_secs(2);
/// How long, and for how many bytes, we listen to a client after the final response: closed at once,
/// the kernel would take that response back if more comes.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 16 << 20;

/// The client has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone;

/// See the module.
pub(super) struct Client {
    pub(super) socket: Socket,
    pub(super) watch: Rc<Watch>,
    /// Read, and not looked at.
    pub(super) input: Waiting,
    /// To be written.
    pub(super) output: Waiting,
    /// Since when it has said all that it will, until when that is no reason to give up.
    half_closed: Option<u64>,
    /// Whether all that it has said before has been read.
    has_read_end: bool,
    /// The key of its requests, where it is one of our own.
    pub(super) key: Option<Box<[u8]>>,
}

impl Client {
    pub(super) fn new(socket: Socket, watch: Rc<Watch>, key: Option<Box<[u8]>>) -> Self {
        let (input, output) = (Waiting::default(), Waiting::default());
        Self { socket, watch, input, output, half_closed: None, has_read_end: false, key }
    }

    /// Its half of the connection has ended.
    fn half_close(&mut self) {
        let until = self.watch.time_after(HALF_CLOSED);
        self.half_closed.get_or_insert(until);
    }

    pub(super) fn is_half_closed(&self) -> bool {
        self.half_closed.is_some()
    }

    /// Whether no other request can come: it has closed its half, all before that has been read, and
    /// nothing of it waits.
    pub(super) fn has_finished(&self) -> bool {
        self.has_read_end && self.input.is_empty()
    }

    /// Whether it has taken a byte too long ago since it closed its half.
    pub(super) fn is_gone(&self) -> bool {
        let Some(until) = self.half_closed else { return false };
        self.watch.set_alarm(until);
        self.watch.has_come(until)
    }

    /// It has taken bytes.
    pub(super) fn took(&mut self) {
        self.watch.progress();
        if let Some(until) = &mut self.half_closed {
            *until = self.watch.time_after(HALF_CLOSED);
        }
    }

    /// Ready once nothing is left to be written.
    pub(super) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
    ) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let written = ready!(self.socket.poll_write(cx, self.output.as_slice()))?;
            self.output.consume(written, &worker.buffers);
            self.took();
        }
        Poll::Ready(Ok(()))
    }

    /// Listens while something else is waited for: what comes is kept, as much as one head may have,
    /// and that the client goes is noticed.
    pub(super) fn poll_ahead(&mut self, cx: &mut Context<'_>, worker: &Worker) -> Result<(), Gone> {
        let most = worker.config.header_bytes_max;
        while !self.has_read_end && self.input.len() < most {
            let mut scratch = worker.buffers.scratch();
            let room = READ.start..READ.start + (most - self.input.len());
            match self.socket.poll_read(cx, &mut scratch[room]) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => {
                    self.has_read_end = true;
                    self.half_close();
                }
                Poll::Ready(Ok(count)) => {
                    let came = &scratch[READ.start..READ.start + count];
                    self.input.push(came, &worker.buffers);
                }
                Poll::Ready(Err(_)) => return Err(Gone),
            }
        }
        if self.half_closed.is_none() && self.input.len() >= most {
            // There is no room to read up to its end: that is looked for at each sweep.
            self.watch.set_alarm(0);
            if self.socket.is_read_closed() {
                self.half_close();
            }
        }
        if self.is_gone() { Err(Gone) } else { Ok(()) }
    }

    /// Waits until all is written that waits, as long as the deadlines allow.
    pub(super) async fn flush(&mut self, worker: &Worker) -> Result<(), Gone> {
        poll_fn(|cx| {
            self.watch.remember(cx.waker());
            match self.poll_flush(cx, worker) {
                Poll::Ready(result) => Poll::Ready(result.map_err(|_| Gone)),
                Poll::Pending if self.watch.order() == Some(Order::Close) => Poll::Ready(Err(Gone)),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Says that nothing more comes, and lets the client read it: reads what it still sends, for
    /// some time, until it closes, too.
    pub(super) async fn linger(&mut self, worker: &Worker) {
        let Some(_place) = worker.watches.linger() else { return };
        self.watch.enter(Phase::Lingering);
        self.input.clear(&worker.buffers);
        let until = self.watch.time_after(LINGER);
        let mut left = LINGER_BYTES_MAX;
        poll_fn(|cx| {
            self.watch.remember(cx.waker());
            self.watch.set_alarm(until);
            let is_over = self.watch.has_come(until) || self.watch.order() == Some(Order::Close);
            if is_over || ready!(self.socket.poll_shutdown(cx)).is_err() {
                return Poll::Ready(());
            }
            loop {
                let mut scratch = worker.buffers.scratch();
                match ready!(self.socket.poll_read(cx, &mut scratch[READ])) {
                    Ok(0) | Err(_) => return Poll::Ready(()),
                    Ok(count) => match left.checked_sub(count) {
                        Some(rest) => left = rest,
                        None => return Poll::Ready(()),
                    },
                }
            }
        })
        .await;
    }
}
