//! Connecting to a replica: how long it may take, what a failure means, and what to do when it is we
//! who have nothing left to connect with.

use std::{
    future::{Future, poll_fn},
    io::{self, ErrorKind},
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use rustix::io::Errno;
use tokio::net::TcpStream;

use super::{
    super::{descriptors::Descriptors, metrics::Counters, socket::Socket, watch::Watch},
    connection::Connection,
};

/// How long a request waits for a descriptor. Long enough for all workers to let go of theirs that
/// rest, which they do at each sweep.
const DESCRIPTOR_WAIT: Duration = Duration::from_millis(500);
const DESCRIPTOR_PAUSE: Duration = Duration::from_millis(10);

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DialError<Reason> {
    Refused,
    TimedOut,
    /// Our own side could not connect: no ports are left, or it may not.
    Local,
    /// Nothing is left to connect with.
    Exhausted,
    /// The request was cancelled meanwhile, for this reason.
    Cancelled(Reason),
}

/// What connecting needs of its worker.
pub(crate) struct Dialler<'a> {
    pub(crate) descriptors: &'a Arc<Descriptors>,
    pub(crate) counters: &'a Counters,
    /// Closes what rests and holds a descriptor.
    pub(crate) release_idle: &'a dyn Fn(),
    /// Wakes the task when the time below has passed.
    pub(crate) watch: &'a Watch,
    /// What a replica may take to accept a connection.
    pub(crate) time: Duration,
}

impl Dialler<'_> {
    /// A fresh connection. `cancelled` is asked whenever there may be a reason to give up. Where no
    /// descriptor is left, connections that rest are closed, and it is tried again for some time:
    /// that says nothing about the replica, whose own time begins with each connect.
    pub(crate) async fn connect<Reason>(
        &self,
        address: SocketAddr,
        mut cancelled: impl FnMut(&mut Context<'_>) -> Option<DialError<Reason>>,
    ) -> Result<Box<Connection>, DialError<Reason>> {
        self.counters.connects.bump();
        let mut since = None;
        loop {
            let dialled = self.once(address, &mut cancelled).await;
            let Err(DialError::Exhausted) = dialled else { return dialled };
            self.descriptors.miss();
            (self.release_idle)();
            let since = *since.get_or_insert_with(Instant::now);
            if since.elapsed() > DESCRIPTOR_WAIT {
                return dialled;
            }
            unless(tokio::time::sleep(DESCRIPTOR_PAUSE), &mut cancelled).await?;
        }
    }

    async fn once<Reason>(
        &self,
        address: SocketAddr,
        cancelled: &mut impl FnMut(&mut Context<'_>) -> Option<DialError<Reason>>,
    ) -> Result<Box<Connection>, DialError<Reason>> {
        let held = self.descriptors.take().ok_or(DialError::Exhausted)?;
        let connecting = async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            io::Result::Ok(stream)
        };
        let until = self.watch.time_after(self.time);
        let mut stopped = |cx: &mut Context<'_>| {
            self.watch.set_alarm(until);
            cancelled(cx).or_else(|| self.watch.has_come(until).then_some(DialError::TimedOut))
        };
        let result = match unless(connecting, &mut stopped).await {
            Ok(Ok(stream)) => Ok(Box::new(Connection::new(Socket::Tcp(stream), held))),
            Ok(Err(error)) => Err(meaning(&error)),
            Err(stopped) => Err(stopped),
        };
        if result.is_err() {
            self.counters.connects_failed.bump();
        }
        result
    }
}

async fn unless<T, Reason>(
    work: impl Future<Output = T>,
    cancelled: &mut impl FnMut(&mut Context<'_>) -> Option<DialError<Reason>>,
) -> Result<T, DialError<Reason>> {
    let mut work = pin!(work);
    poll_fn(|cx| match cancelled(cx) {
        Some(stopped) => Poll::Ready(Err(stopped)),
        None => work.as_mut().poll(cx).map(Ok),
    })
    .await
}

fn meaning<Reason>(error: &io::Error) -> DialError<Reason> {
    let is_exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()));
    match error.kind() {
        _ if is_exhausted => DialError::Exhausted,
        ErrorKind::TimedOut => DialError::TimedOut,
        ErrorKind::ConnectionRefused
        | ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable => DialError::Refused,
        _ => DialError::Local,
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::{downstream::Clock, watch::Watches};

    /// Connects to a port that is not answered while `limit` descriptors are left, as a replica that
    /// may take no time at all.
    async fn dial(limit: usize) -> Option<DialError<()>> {
        let full = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        rustix::net::listen(&full, 0).unwrap();
        let address = full.local_addr().unwrap();
        let mut filling = Vec::new();
        // Until the kernel lets further connections wait.
        while let Ok(stream) =
            tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(address)).await
        {
            filling.push(stream.unwrap());
        }
        let clock = Rc::new(Clock::start());
        let watch = Watches::default().open(address, false, &clock);
        let (descriptors, counters) = (Arc::new(Descriptors::new(limit)), Counters::default());
        let dialler = Dialler {
            descriptors: &descriptors,
            counters: &counters,
            release_idle: &|| (),
            watch: &watch,
            time: Duration::ZERO,
        };
        let connecting = dialler.connect(address, |_| None);
        let ticking = async {
            loop {
                tokio::time::sleep(Duration::from_millis(5)).await;
                clock.advance();
                watch.wake();
            }
        };
        tokio::select! {
            result = connecting => result.err(),
            () = ticking => None,
        }
    }

    #[tokio::test]
    async fn waiting_for_a_descriptor_takes_nothing_of_the_replicas_time() {
        assert_eq!(dial(0).await, Some(DialError::Exhausted));
        let timed_out = tokio::time::timeout(Duration::from_secs(10), dial(1_000)).await;
        assert_eq!(timed_out, Ok(Some(DialError::TimedOut)));
    }

    #[test]
    fn what_is_ours_is_not_the_replicas() {
        let meaning = |errno: Errno| meaning::<()>(&errno.into());
        for ours in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM] {
            assert_eq!(meaning(ours), DialError::Exhausted, "{ours}");
        }
        for own in [Errno::CONNREFUSED, Errno::CONNRESET, Errno::HOSTUNREACH, Errno::NETUNREACH] {
            assert_eq!(meaning(own), DialError::Refused, "{own}");
        }
        assert_eq!(meaning(Errno::TIMEDOUT), DialError::TimedOut);
        for local in [Errno::ADDRNOTAVAIL, Errno::ACCESS] {
            assert_eq!(meaning(local), DialError::Local, "{local}");
        }
    }
}
