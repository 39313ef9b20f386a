//! A response on its way down.

use std::{
    ops::Range,
    task::{Context, Poll, ready},
};

use ringmaster_http1::{Framing, chunk::Limits, write::Connection as Persistence};

use super::{
    super::{buffers::READ, upstream::Connection, worker::Worker},
    client::Client,
    limits::Turn,
    transfer::Transfer,
    upload::{Stop, write_behind},
};

/// A response whose head has come.
#[derive(Debug)]
pub(super) struct Download {
    body: Transfer,
    /// Whether its connection may serve another request, as far as is known.
    pub(super) is_reusable: bool,
    /// What the client was told of its connection.
    pub(super) connection: Persistence,
    /// Whether it would become an error by breaking off.
    pub(super) can_fail: bool,
    /// Whether only the end of the connection tells the client where it ends.
    pub(super) is_open_ended: bool,
    /// Bytes of the body so far.
    pub(super) bytes: u64,
    /// Whether it ends before its end.
    is_broken: bool,
}

impl Download {
    pub(super) fn new(
        framing: Framing,
        (onward, keeps_trailers): (Framing, bool),
        connection: Persistence,
        is_error: bool,
    ) -> Result<Self, ringmaster_http1::Fault> {
        let limits = Limits { body_max: u64::MAX, ..Limits::default() };
        Ok(Self {
            body: Transfer::new(framing, onward, keeps_trailers, limits)?,
            is_reusable: true,
            connection,
            can_fail: !is_error,
            is_open_ended: onward == Framing::UntilClose,
            bytes: 0,
            is_broken: false,
        })
    }

    pub(super) fn has_ended(&self) -> bool {
        self.body.has_ended()
    }

    /// Reads more of the body once the client has taken what was read before, and writes as much as
    /// fits. `came` is told of it before the client can see it, and is given the connection back with
    /// the end.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        (worker, client): (&Worker, &mut Client),
        link: &mut Option<Box<Connection>>,
        mut came: impl FnMut(u64, Option<(Box<Connection>, bool)>),
    ) -> Poll<Result<(), Stop>> {
        let mut turn = Turn::new();
        loop {
            ready!(client.poll_flush(cx, worker)).map_err(|_| Stop::Gone)?;
            if self.is_broken {
                return Poll::Ready(Err(Stop::Cut));
            }
            if self.has_ended() {
                return Poll::Ready(Ok(()));
            }
            if turn.is_over(cx) {
                return Poll::Pending;
            }
            let Some(open) = link else { return Poll::Ready(Err(Stop::Cut)) };
            let mut scratch = worker.buffers.scratch();
            let Ok(count) = ready!(open.socket.poll_read(cx, &mut scratch[READ])) else {
                // A connection that breaks does not end, also where its end would be the body's.
                self.is_broken = true;
                continue;
            };
            turn.spend(count);
            let before = self.bytes;
            let piece = self.take(&mut scratch, READ.start..READ.start + count, (client, worker));
            let ended = link.take_if(|_| self.has_ended());
            came(self.bytes - before, ended.map(|link| (link, self.is_reusable)));
            client.watch.progress();
            let waited = client.output.len() + piece.len();
            write_behind(cx, &mut client.socket, &mut client.output, &scratch[piece], worker)
                .map_err(|_| Stop::Gone)?;
            if client.output.len() < waited {
                client.took();
            }
        }
    }

    /// Takes in what came, nothing at the end of the connection. All but the last piece of it is in
    /// the output.
    fn take(
        &mut self,
        scratch: &mut [u8],
        part: Range<usize>,
        (client, worker): (&mut Client, &Worker),
    ) -> Range<usize> {
        let out = client.output.end(&worker.buffers);
        if part.is_empty() {
            self.is_reusable = false;
            self.is_broken = self.body.end_of_input(out).is_err();
            return 0..0;
        }
        let length = part.len();
        let Ok(passed) = self.body.pass(scratch, part, out) else {
            self.is_broken = true;
            return 0..0;
        };
        self.bytes += passed.bytes;
        // What belongs to no response may be anything.
        self.is_reusable &= passed.consumed == length;
        passed.piece
    }

    /// Takes what came with the head into the output, behind that.
    pub(super) fn take_here(
        &mut self,
        scratch: &mut [u8],
        part: Range<usize>,
        (client, worker): (&mut Client, &Worker),
    ) {
        if part.is_empty() {
            return;
        }
        if self.has_ended() {
            self.is_reusable = false;
            return;
        }
        let piece = self.take(scratch, part, (client, worker));
        client.output.push(&scratch[piece], &worker.buffers);
    }

    /// Takes what came with the head, which is discarded.
    pub(super) fn drop_here(&mut self, scratch: &mut [u8], part: Range<usize>) {
        let length = part.len();
        match self.body.pass(scratch, part, &mut Vec::new()) {
            Ok(passed) => {
                self.bytes += passed.bytes;
                self.is_reusable &= passed.consumed == length;
            }
            Err(_) => self.is_broken = true,
        }
    }

    /// Reads the body and discards it, up to so many bytes, so that its connection can be used again.
    /// Whether it can be.
    pub(super) fn poll_discard(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        link: &mut Connection,
        most: u64,
    ) -> Poll<bool> {
        while !self.has_ended() && self.is_reusable && !self.is_broken && self.bytes <= most {
            let mut scratch = worker.buffers.scratch();
            let count = ready!(link.socket.poll_read(cx, &mut scratch[READ])).unwrap_or(0);
            self.is_broken |= count == 0;
            self.drop_here(&mut scratch, READ.start..READ.start + count);
        }
        Poll::Ready(self.has_ended() && self.is_reusable && !self.is_broken)
    }
}
