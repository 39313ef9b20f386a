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
    super::{descriptors::Descriptors, metrics::Counters, socket::Socket},
    connection::Connection,
};

/// How long a request waits for a descriptor. Long enough for all workers to let go of theirs that
/// rest, which they do at each sweep.
const DESCRIPTOR_WAIT: Duration = Duration::from_millis(500);
const DESCRIPTOR_PAUSE: Duration = Duration::from_millis(10);

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DialError<Told> {
    Refused,
    TimedOut,
    /// Our own side could not connect: no ports are left, or it may not.
    Local,
    /// Nothing is left to connect with.
    Exhausted,
    /// The request was told something else meanwhile.
    Told(Told),
}

/// What connecting needs of its worker.
pub(crate) struct Dialler<'a> {
    pub(crate) descriptors: &'a Arc<Descriptors>,
    pub(crate) counters: &'a Counters,
    /// Closes what rests and holds a descriptor.
    pub(crate) release_idle: &'a dyn Fn(),
}

impl Dialler<'_> {
    /// A fresh connection. `told` is asked whenever there may be a reason to give up: that is where
    /// the deadline is. Where no descriptor is left, connections that rest are closed, and it is
    /// tried again for some time: that says nothing about the replica.
    pub(crate) async fn connect<Told>(
        &self,
        address: SocketAddr,
        mut told: impl FnMut(&mut Context<'_>) -> Option<DialError<Told>>,
    ) -> Result<Box<Connection>, DialError<Told>> {
        self.counters.connects.bump();
        let mut since = None;
        loop {
            let dialled = self.once(address, &mut told).await;
            let Err(DialError::Exhausted) = dialled else { return dialled };
            self.descriptors.miss();
            (self.release_idle)();
            let since = *since.get_or_insert_with(Instant::now);
            if since.elapsed() > DESCRIPTOR_WAIT {
                return dialled;
            }
            unless(tokio::time::sleep(DESCRIPTOR_PAUSE), &mut told).await?;
        }
    }

    async fn once<Told>(
        &self,
        address: SocketAddr,
        told: &mut impl FnMut(&mut Context<'_>) -> Option<DialError<Told>>,
    ) -> Result<Box<Connection>, DialError<Told>> {
        let held = self.descriptors.take().ok_or(DialError::Exhausted)?;
        let connecting = async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            io::Result::Ok(stream)
        };
        let result = match unless(connecting, told).await {
            Ok(Ok(stream)) => Ok(Box::new(Connection::new(Socket::Tcp(stream), held))),
            Ok(Err(error)) => Err(meaning(&error)),
            Err(told) => Err(told),
        };
        if result.is_err() {
            self.counters.connects_failed.bump();
        }
        result
    }
}

async fn unless<T, Told>(
    work: impl Future<Output = T>,
    told: &mut impl FnMut(&mut Context<'_>) -> Option<DialError<Told>>,
) -> Result<T, DialError<Told>> {
    let mut work = pin!(work);
    poll_fn(|cx| match told(cx) {
        Some(told) => Poll::Ready(Err(told)),
        None => work.as_mut().poll(cx).map(Ok),
    })
    .await
}

fn meaning<Told>(error: &io::Error) -> DialError<Told> {
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
    use super::*;

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
