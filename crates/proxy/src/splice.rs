//! Large answers without a copy: their bodies go from the replica's socket to the client's inside the
//! kernel, through a pipe (splice(2), Linux).
//!
//! hyper reads the head of the answer and writes it. Where the body is long and its length is known,
//! both connections are then taken apart, the body passes below hyper, and both begin anew with what
//! had been read already. So hyper still decides where a message ends: we move exactly the bytes that
//! it has said are left, and nothing else that the replica may send.

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::{Future, poll_fn},
    io,
    os::fd::OwnedFd,
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::{io::Interest, net::TcpStream};

use super::{
    body::Streamed,
    converse,
    descriptors::{Descriptors, HeldPipe},
    downstream::{Downstream, Order},
    link::{Link, Wire},
    worker::Worker,
};

/// Bytes that a pipe is asked to hold. The kernel may allow less, which costs only more calls.
const PIPE_SIZE: usize = 256 * 1024;
/// Pipes of a worker. Each has two descriptors, which clients and replicas need more: bodies beyond
/// are copied.
const PIPES_MAX: usize = 256;
/// Unused ones that are kept.
const UNUSED_MAX: usize = 32;

/// The pipes of a worker.
#[derive(Debug, Default)]
pub(crate) struct Pipes {
    unused: RefCell<Vec<Ends>>,
    lent: Cell<usize>,
    descriptors: Arc<Descriptors>,
}

/// Where bytes come out of a pipe, and where they go in.
#[derive(Debug)]
struct Ends {
    out: OwnedFd,
    into: OwnedFd,
    _held: HeldPipe,
}

/// A pipe on loan. It is given back only if nothing is left in it.
#[derive(Debug)]
pub(crate) struct Pipe {
    /// `None` once it has been given back.
    ends: Option<Ends>,
    held: usize,
    home: Rc<Pipes>,
}

impl Pipes {
    pub(crate) fn new(descriptors: Arc<Descriptors>) -> Self {
        Self { descriptors, ..Self::default() }
    }

    /// Closes those that are not used.
    pub(crate) fn release_unused(&self) {
        self.unused.borrow_mut().clear();
    }

    /// An empty pipe; `None` when all are in use, or the process has no descriptors left.
    pub(crate) fn lend(self: &Rc<Self>) -> Option<Pipe> {
        if self.lent.get() >= PIPES_MAX {
            return None;
        }
        let kept = self.unused.borrow_mut().pop();
        let ends = kept.or_else(|| {
            let held = self.descriptors.take_pipe()?;
            let (out, into) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).ok()?;
            // An unprivileged user may have reached his share of larger pipes.
            let _ = fcntl_setpipe_size(&into, PIPE_SIZE);
            Some(Ends { out, into, _held: held })
        })?;
        self.lent.set(self.lent.get() + 1);
        Some(Pipe { ends: Some(ends), held: 0, home: Rc::clone(self) })
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.home.lent.set(self.home.lent.get() - 1);
        let mut unused = self.home.unused.borrow_mut();
        if self.held == 0 && unused.len() < UNUSED_MAX {
            unused.extend(self.ends.take());
        }
    }
}

impl Pipe {
    fn ends(&self) -> io::Result<&Ends> {
        self.ends.as_ref().ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }

    /// Takes up to `most` bytes from a socket; 0 at its end. The pipe must be empty, since a full one
    /// looks like a socket from which nothing has come.
    async fn fill(&mut self, from: &TcpStream, most: usize) -> io::Result<usize> {
        let into = &self.ends()?.into;
        let moved = from
            .async_io(Interest::READABLE, || Ok(splice(from, None, into, None, most, FLAGS)?))
            .await?;
        self.held = moved;
        Ok(moved)
    }

    /// Gives all that it holds to a socket. Says each time how much has gone.
    async fn empty(&mut self, to: &TcpStream, mut gone: impl FnMut(usize)) -> io::Result<()> {
        while self.held > 0 {
            let (out, held) = (&self.ends()?.out, self.held);
            let moved = to
                .async_io(Interest::WRITABLE, || Ok(splice(out, None, to, None, held, FLAGS)?))
                .await?;
            if moved == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.held -= moved;
            gone(moved);
        }
        Ok(())
    }
}

const FLAGS: SpliceFlags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);

/// Whether a body of this length is to be spliced; 0 bytes as the least mean that none is.
pub(crate) fn is_worth_it(length: u64, least: u64) -> bool {
    least > 0 && length >= least
}

/// What an answer needs so that its body may be spliced.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Bytes that hyper has not given us yet.
    left: u64,
    /// Fewer are not worth it.
    least: u64,
    pipe: Pipe,
}

impl Plan {
    /// For a body of this length, if there is a pipe for it.
    pub(crate) fn new(length: u64, least: u64, pipes: &Rc<Pipes>) -> Option<Box<Self>> {
        Some(Box::new(Self { left: length, least, pipe: pipes.lend()? }))
    }

    /// hyper has given us so many bytes. Returns whether splicing the rest is still worth it.
    pub(crate) fn passed(&mut self, length: u64) -> bool {
        self.left = self.left.saturating_sub(length);
        self.left >= self.least / 2
    }
}

/// An answer whose head hyper has written, and whose body it leaves to us.
pub(crate) struct Splice {
    answer: Streamed,
    /// The replica's socket.
    upstream: Wire,
    /// What hyper has read of the body and not given to anybody.
    read: Bytes,
    /// Bytes that are still to come from the socket.
    left: u64,
    pipe: Pipe,
    /// Whether the replica has sent nothing behind the body, which nobody would have asked for.
    is_clean: bool,
    /// Whether the client's connection ends with this answer.
    pub(crate) is_last: bool,
}

impl fmt::Debug for Splice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Splice of {} from {}", self.left, self.answer.in_flight.pool().instance())
    }
}

/// Who ended a body before its time.
enum Broken {
    Client,
    Replica,
}

impl Splice {
    /// Takes the replica's connection out of hyper's hands, which must still hold it.
    pub(crate) fn begin(mut answer: Streamed, plan: Plan, link: Link) -> Option<Box<Self>> {
        let (upstream, mut read) = link.into_wire()?;
        let whole = read.len();
        read.truncate(usize::try_from(plan.left).unwrap_or(usize::MAX));
        answer.passed(read.len() as u64);
        Some(Box::new(Self {
            is_clean: read.len() == whole,
            left: plan.left - read.len() as u64,
            answer,
            upstream,
            read,
            pipe: plan.pipe,
            is_last: false,
        }))
    }

    /// Passes the body. Returns the client's connection if it can serve another request.
    pub(crate) async fn run(
        mut self,
        client: converse::Wire,
        worker: &Worker,
        downstream: &Downstream,
    ) -> Option<converse::Wire> {
        worker.counters.spliced.bump();
        let mut is_last = self.is_last;
        let passed = {
            let mut passing = pin!(self.pass(client.stream(), downstream));
            poll_fn(|cx| {
                downstream.remember(cx.waker());
                match downstream.take_order() {
                    Some(Order::Close | Order::TooSlow) => return Poll::Ready(Err(Broken::Client)),
                    Some(Order::Finish) => is_last = true,
                    None => {}
                }
                passing.as_mut().poll(cx)
            })
            .await
        };
        match passed {
            Ok(()) => {}
            Err(Broken::Client) => {
                if downstream.is_closed() {
                    self.answer.broke_off();
                }
                return None;
            }
            Err(Broken::Replica) => {
                self.answer.broke_off();
                worker.counters.cut_short.bump();
                return None;
            }
        }
        let Self { mut answer, upstream, is_clean, .. } = self;
        answer.complete();
        if is_clean && let Ok(mut link) = Link::over(upstream, &worker.upstream_http).await {
            // It takes a request once it has begun to wait for one.
            link.drive(&mut Context::from_waker(Waker::noop()));
            answer.in_flight.pool().put(link);
        }
        (!is_last).then_some(client)
    }

    async fn pass(&mut self, client: &TcpStream, downstream: &Downstream) -> Result<(), Broken> {
        let Self { answer, upstream, read, left, pipe, .. } = self;
        while !read.is_empty() {
            let written = client.async_io(Interest::WRITABLE, || client.try_write(read)).await;
            let written = written.ok().filter(|written| *written > 0).ok_or(Broken::Client)?;
            let _ = read.split_to(written);
            downstream.progress();
        }
        while *left > 0 {
            let most = usize::try_from(*left).unwrap_or(usize::MAX).min(PIPE_SIZE);
            let came = pipe.fill(upstream.stream(), most).await.unwrap_or(0);
            if came == 0 {
                return Err(Broken::Replica);
            }
            *left -= came as u64;
            answer.passed(came as u64);
            downstream.progress();
            pipe.empty(client, |_| downstream.progress()).await.map_err(|_| Broken::Client)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail")]

    use super::*;

    #[test]
    fn pipes_are_bounded_and_only_empty_ones_are_used_again() {
        let pipes = Rc::<Pipes>::default();
        let lent: Vec<Pipe> = std::iter::from_fn(|| pipes.lend()).take(PIPES_MAX + 1).collect();
        assert_eq!(lent.len(), PIPES_MAX);
        drop(lent);
        assert_eq!((pipes.lent.get(), pipes.unused.borrow().len()), (0, UNUSED_MAX));
        let mut dirty = pipes.lend().unwrap();
        dirty.held = 1;
        drop(dirty);
        assert_eq!((pipes.lent.get(), pipes.unused.borrow().len()), (0, UNUSED_MAX - 1));
    }

    #[test]
    fn only_long_bodies_are_planned_for_and_given_up_when_little_is_left() {
        let pipes = Rc::<Pipes>::default();
        assert!(is_worth_it(100, 100) && !is_worth_it(99, 100));
        assert!(!is_worth_it(u64::MAX, 0), "it is off");
        let mut plan = Plan::new(100, 100, &pipes).unwrap();
        assert!(plan.passed(50));
        assert!(!plan.passed(1));
        assert!(!plan.passed(1_000), "more than there is");
    }
}
