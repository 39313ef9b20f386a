//! A connection's socket, of whichever kind: what both sides of the proxy read and write.

use std::{
    future::Future as _,
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll, Waker, ready},
};

use tokio::{
    io::{AsyncRead as _, AsyncWrite as _, Interest, ReadBuf},
    net::{TcpStream, UnixStream},
};

/// A stream of bytes to a client or to a replica.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// The same call on whichever stream it is.
macro_rules! on_stream {
    ($socket:expr, $stream:ident => $call:expr) => {
        match $socket {
            Socket::Tcp($stream) => $call,
            Socket::Unix($stream) => $call,
        }
    };
}

impl Socket {
    /// Reads what is there; 0 at the end. After fewer bytes than there was room for, the next call
    /// waits without asking the kernel: the buffer was drained.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut into = ReadBuf::new(into);
        ready!(on_stream!(self, stream => Pin::new(stream).poll_read(cx, &mut into)))?;
        Poll::Ready(Ok(into.filled().len()))
    }

    /// Reads what is there without waiting for more, also where the task should let others go on
    /// first: what it says is true.
    pub(crate) fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        on_stream!(self, stream => stream.try_read(into))
    }

    /// Writes as much as there is room for; never nothing of something.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(on_stream!(self, stream => Pin::new(stream).poll_write(cx, bytes)))?;
        Poll::Ready(at_least_one(written, bytes.len()))
    }

    /// The same of two pieces that lie apart.
    pub(crate) fn poll_write_both(
        &mut self,
        cx: &mut Context<'_>,
        first: &[u8],
        second: &[u8],
    ) -> Poll<io::Result<usize>> {
        let both = [IoSlice::new(first), IoSlice::new(second)];
        let written =
            ready!(on_stream!(self, stream => Pin::new(stream).poll_write_vectored(cx, &both)))?;
        Poll::Ready(at_least_one(written, first.len() + second.len()))
    }

    /// Whether the other side is known to have closed its half, read to there or not.
    pub(crate) fn is_read_closed(&self) -> bool {
        let mut unheard = Context::from_waker(Waker::noop());
        let polled = on_stream!(self, stream => {
            pin!(stream.ready(Interest::READABLE)).poll(&mut unheard)
        });
        matches!(polled, Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }

    /// Says that nothing more will be written.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }

    /// Lets its end be a reset, which cannot be taken for the end of a message.
    pub(crate) fn end_in_reset(&self) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.set_zero_linger(),
            // It has no such end, and its only reader is ourselves.
            Socket::Unix(_) => Ok(()),
        }
    }

    /// The stream, where it is one of TCP.
    pub(crate) fn into_tcp(self) -> Option<TcpStream> {
        match self {
            Socket::Tcp(stream) => Some(stream),
            Socket::Unix(_) => None,
        }
    }
}

fn at_least_one(written: usize, of: usize) -> io::Result<usize> {
    if written == 0 && of > 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(written) }
}
