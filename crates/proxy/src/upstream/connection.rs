//! One connection to an instance in HTTP/1.1.

use std::io;

use super::super::{buffers::Waiting, descriptors::Held, socket::Socket};

/// A connection; its holder reads and writes it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) socket: Socket,
    /// The beginning of a head that is not whole yet.
    pub(crate) input: Waiting,
    /// Whether it has served a request before: then the replica may have closed it meanwhile.
    pub(crate) is_reused: bool,
    idle_since: u64,
    _held: Held,
}

impl Connection {
    pub(crate) fn new(socket: Socket, held: Held) -> Self {
        Self { socket, input: Waiting::default(), is_reused: false, idle_since: 0, _held: held }
    }

    pub(super) fn idle_since(&self) -> u64 {
        self.idle_since
    }

    /// It rests from now on, a millisecond of the worker's clock.
    pub(super) fn rest(&mut self, now: u64) {
        self.idle_since = now;
        self.is_reused = true;
    }

    /// Whether nothing has come since the last response: neither its end, nor bytes that belong to
    /// no request. What has come in this moment is not seen.
    pub(super) fn is_quiet(&self) -> bool {
        let would_wait = |error: io::Error| error.kind() == io::ErrorKind::WouldBlock;
        self.input.is_empty() && self.socket.try_read(&mut [0]).is_err_and(would_wait)
    }
}
