//! A request on its way up: what is kept of it, then the rest of its body as the client sends it.

use std::{
    io,
    task::{Context, Poll, ready},
};

use ringmaster_http1::{Fault, Framing, chunk::Limits};

use super::{
    super::{
        buffers::{READ, Waiting},
        errors::Failure,
        metrics::InstanceCounters,
        socket::Socket,
        worker::Worker,
    },
    client::Client,
    limits::Turn,
    transfer::Transfer,
};

/// Why a request does not go on: for the client to be told, or not any more.
#[derive(Debug)]
pub(super) enum Stop {
    /// There is an answer of ours.
    Failure(Failure),
    /// The client has gone.
    Gone,
    /// The connection was told to end now.
    Closed,
    /// A response that has begun cannot be finished.
    Cut,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Upload {
    body: Transfer,
    /// Bytes of the message that this attempt has written.
    written: usize,
    /// What does not fit into the replica's socket.
    out: Waiting,
    /// Whether more than the message has been taken from the client.
    has_streamed: bool,
    /// Whether the replica takes nothing more.
    is_broken: bool,
}

/// Where an upload goes to.
pub(super) struct Onward<'a> {
    pub(super) message: &'a [u8],
    pub(super) socket: &'a mut Socket,
    /// Whether the body waits to be asked for.
    pub(super) is_held: bool,
    pub(super) replica: &'a InstanceCounters,
}

impl Upload {
    /// A body that begins. Refuses one whose length is beyond the limit.
    pub(super) fn new(framing: Framing, limits: Limits) -> Result<Self, Fault> {
        let body = Transfer::new(framing, framing, true, limits)?;
        let out = Waiting::default();
        Ok(Self { body, written: 0, out, has_streamed: false, is_broken: false })
    }

    /// Begins anew on another connection.
    pub(super) fn rewind(&mut self, worker: &Worker) {
        self.written = 0;
        self.is_broken = false;
        self.out.clear(&worker.buffers);
    }

    /// Whether all of the client's body has been taken.
    pub(super) fn has_ended(&self) -> bool {
        self.body.has_ended()
    }

    /// Whether all of it has been written.
    pub(super) fn is_done(&self, message: &[u8]) -> bool {
        self.has_ended() && self.out.is_empty() && self.written == message.len() && !self.is_broken
    }

    pub(super) fn has_written(&self) -> bool {
        self.written > 0
    }

    /// Whether all of the message has been written, if not all of the body.
    pub(super) fn has_written_all_of(&self, message: &[u8]) -> bool {
        self.written == message.len()
    }

    /// Whether a byte was sent that is not kept.
    pub(super) fn has_streamed(&self) -> bool {
        self.has_streamed
    }

    /// Takes what is here of the body into the message, so that it is written with the head.
    pub(super) fn take_here(
        &mut self,
        worker: &Worker,
        client: &mut Client,
        message: &mut Vec<u8>,
    ) -> Result<u64, Failure> {
        if self.has_ended() || client.input.is_empty() {
            return Ok(0);
        }
        let mut scratch = worker.buffers.scratch();
        let part = waiting_in(&mut scratch, client);
        let passed = self.body.pass(&mut scratch, part, message).map_err(failure_of)?;
        message.extend_from_slice(&scratch[passed.piece]);
        client.input.consume(passed.consumed, &worker.buffers);
        client.watch.body_came(passed.bytes);
        worker.counters.bytes_up.add(passed.bytes);
        Ok(passed.bytes)
    }

    /// Reads the body up to so many bytes, and a few more if there are.
    pub(super) fn poll_gather(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        client: &mut Client,
        (data, most): (&mut Vec<u8>, usize),
    ) -> Poll<Result<(), Stop>> {
        while !self.has_ended() && data.len() <= most {
            let mut scratch = worker.buffers.scratch();
            let (part, is_new) = ready!(poll_bytes(cx, client, &mut scratch))?;
            let before = data.len();
            let consumed = self
                .body
                .gather(&mut scratch[part.clone()], data, most)
                .map_err(|fault| Stop::Failure(failure_of(fault)))?;
            let count = (data.len() - before) as u64;
            client.watch.body_came(count);
            worker.counters.bytes_up.add(count);
            if is_new {
                let rest = &scratch[part.start + consumed..part.end];
                client.input.push(rest, &worker.buffers);
            } else {
                client.input.consume(consumed, &worker.buffers);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Appends to the message what was gathered.
    pub(super) fn keep(&mut self, data: &[u8], message: &mut Vec<u8>) {
        self.body.pass_gathered(data, message);
    }

    /// Moves bytes up, as far as it goes now. That the replica takes no more is no error: it may have
    /// answered.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        client: &mut Client,
        onward: &mut Onward<'_>,
    ) -> Result<(), Stop> {
        client.watch.set_starved(false);
        let mut turn = Turn::new();
        while !self.is_broken {
            if turn.is_over(cx) {
                return Ok(());
            }
            match self.poll_write(cx, worker, client, onward) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Err(_)) => self.is_broken = true,
                Poll::Ready(Ok(())) if self.has_ended() || onward.is_held => return Ok(()),
                Poll::Ready(Ok(())) => match self.poll_take(cx, worker, client, onward) {
                    Poll::Pending => {
                        client.watch.set_starved(true);
                        return Ok(());
                    }
                    Poll::Ready(taken) => turn.spend(taken?),
                },
            }
        }
        Ok(())
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        client: &Client,
        onward: &mut Onward<'_>,
    ) -> Poll<io::Result<()>> {
        while self.written < onward.message.len() {
            self.written += ready!(onward.socket.poll_write(cx, &onward.message[self.written..]))?;
            client.watch.progress();
        }
        while !self.out.is_empty() {
            let count = ready!(onward.socket.poll_write(cx, self.out.as_slice()))?;
            self.out.consume(count, &worker.buffers);
            client.watch.progress();
        }
        Poll::Ready(Ok(()))
    }

    /// Takes more of the body from the client, and writes what fits. Returns how many bytes.
    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        client: &mut Client,
        onward: &mut Onward<'_>,
    ) -> Poll<Result<usize, Stop>> {
        let mut scratch = worker.buffers.scratch();
        let (part, is_new) = ready!(poll_bytes(cx, client, &mut scratch))?;
        let end = part.end;
        let start = part.start;
        let out = self.out.end(&worker.buffers);
        let passed = self
            .body
            .pass(&mut scratch, part, out)
            .map_err(|fault| Stop::Failure(failure_of(fault)))?;
        self.has_streamed = true;
        client.watch.progress();
        client.watch.body_came(passed.bytes);
        worker.counters.bytes_up.add(passed.bytes);
        onward.replica.bytes_up.add(passed.bytes);
        if is_new {
            client.input.push(&scratch[start + passed.consumed..end], &worker.buffers);
        } else {
            client.input.consume(passed.consumed, &worker.buffers);
        }
        let piece = &scratch[passed.piece.clone()];
        match write_behind(cx, onward.socket, &mut self.out, piece, worker) {
            Ok(()) => {}
            Err(_) => self.is_broken = true,
        }
        Poll::Ready(Ok(passed.consumed))
    }
}

/// Writes a piece behind what waits; what does not fit waits, too.
pub(super) fn write_behind(
    cx: &mut Context<'_>,
    socket: &mut Socket,
    out: &mut Waiting,
    piece: &[u8],
    worker: &Worker,
) -> io::Result<()> {
    let written = match (out.is_empty(), piece.is_empty()) {
        (true, true) => 0,
        (true, false) => now(socket.poll_write(cx, piece))?,
        (false, true) => now(socket.poll_write(cx, out.as_slice()))?,
        (false, false) => now(socket.poll_write_both(cx, out.as_slice(), piece))?,
    };
    let before = out.len().min(written);
    out.consume(before, &worker.buffers);
    out.push(&piece[written - before..], &worker.buffers);
    Ok(())
}

fn now(polled: Poll<io::Result<usize>>) -> io::Result<usize> {
    match polled {
        Poll::Ready(result) => result,
        Poll::Pending => Ok(0),
    }
}

/// What waits of the client's bytes, in the buffer.
fn waiting_in(scratch: &mut [u8], client: &Client) -> std::ops::Range<usize> {
    let count = client.input.len().min(READ.len());
    let part = READ.start..READ.start + count;
    scratch[part.clone()].copy_from_slice(&client.input.as_slice()[..count]);
    part
}

/// The client's next bytes, in the buffer: those that wait, which are not consumed, or new ones.
fn poll_bytes(
    cx: &mut Context<'_>,
    client: &mut Client,
    scratch: &mut [u8],
) -> Poll<Result<(std::ops::Range<usize>, bool), Stop>> {
    if !client.input.is_empty() {
        return Poll::Ready(Ok((waiting_in(scratch, client), false)));
    }
    Poll::Ready(match ready!(client.socket.poll_read(cx, &mut scratch[READ])) {
        Ok(0) => Err(Stop::Failure(Failure::BrokenBody)),
        Ok(count) => Ok((READ.start..READ.start + count, true)),
        Err(_) => Err(Stop::Gone),
    })
}

fn failure_of(fault: Fault) -> Failure {
    match fault {
        Fault::BodyTooLarge => Failure::LargeBody,
        _ => Failure::BrokenBody,
    }
}
