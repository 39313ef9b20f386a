//! Connecting to a replica: how long it may take, what a failure means, and what to do when it is we
//! who have nothing left to connect with.

use std::{
    future::{Future, poll_fn},
    io::{self, ErrorKind},
    pin::pin,
    task::Poll,
    time::{Duration, Instant},
};

use rustix::io::Errno;

use super::{
    call::{Call, Cause},
    descriptors::Held,
    downstream::Verdict,
    h2::{self, UpstreamProtocol},
    link::Link,
    pool::{InFlight, Pool},
};

/// How long a request waits for a descriptor. Long enough for all workers to let go of theirs that
/// rest, which they do at each sweep.
const DESCRIPTOR_WAIT: Duration = Duration::from_millis(500);
const DESCRIPTOR_PAUSE: Duration = Duration::from_millis(10);

impl Call<'_> {
    /// Whether an instance is spoken to in HTTP/2.
    pub(crate) async fn speaks_h2(&self, in_flight: &InFlight) -> Result<bool, Cause> {
        let pool = in_flight.pool();
        if self.worker.config.upstream_protocol == UpstreamProtocol::H2c {
            return Ok(true);
        }
        if let Some(known) = pool.speaks_h2() {
            return Ok(known);
        }
        let address = pool.address();
        let speaks = self.dial(|held| async move {
            let _held = held;
            h2::is_spoken_at(address).await
        });
        let speaks = speaks.await?;
        pool.set_speaks_h2(speaks);
        Ok(speaks)
    }

    /// A fresh connection.
    pub(crate) async fn connect(&self, in_flight: &InFlight) -> Result<Box<Link>, Cause> {
        self.worker.counters.connects.bump();
        let address = in_flight.pool().address();
        self.dial(|held| Link::connect(address, &self.worker.upstream_http, held)).await
    }

    /// A fresh connection of HTTP/2.
    pub(crate) async fn connect_h2(
        &self,
        pool: &Pool,
    ) -> Result<std::rc::Rc<h2::Connection>, Cause> {
        self.worker.counters.connects.bump();
        let http = &self.worker.upstream_http2;
        self.dial(|held| pool.h2.connect(pool.address(), http, held)).await
    }

    /// What connecting leads to. Where no descriptor is left, connections that rest are closed, and it
    /// is tried again for some time: that says nothing about the replica.
    async fn dial<T, F>(&self, connecting: impl Fn(Held) -> F) -> Result<T, Cause>
    where
        F: Future<Output = io::Result<T>>,
    {
        let mut since = None;
        loop {
            let dialled = match self.worker.descriptors.take() {
                Some(held) => self.in_time(connecting(held)).await,
                None => Err(Cause::Exhausted),
            };
            let Err(Cause::Exhausted) = dialled else { return dialled };
            self.worker.descriptors.miss();
            self.worker.release_idle();
            let since = *since.get_or_insert_with(Instant::now);
            if since.elapsed() > DESCRIPTOR_WAIT {
                return dialled;
            }
            self.unless_told(tokio::time::sleep(DESCRIPTOR_PAUSE)).await?;
        }
    }

    /// What connecting leads to within its deadline, and unless the request is told otherwise.
    async fn in_time<T>(
        &self,
        connecting: impl Future<Output = io::Result<T>>,
    ) -> Result<T, Cause> {
        let limited = tokio::time::timeout(self.worker.config.connect, connecting);
        let result = match self.unless_told(limited).await {
            Ok(Ok(Ok(connected))) => Ok(connected),
            Ok(Ok(Err(error))) => Err(connect_cause(&error)),
            Ok(Err(_)) => Err(Cause::ConnectTimeout),
            Err(told) => Err(told),
        };
        if result.is_err() {
            self.worker.counters.connects_failed.bump();
        }
        result
    }

    async fn unless_told<T>(&self, waiting: impl Future<Output = T>) -> Result<T, Cause> {
        let mut waiting = pin!(waiting);
        poll_fn(|cx| match self.downstream.verdict() {
            Some(Verdict::Ejected) => Poll::Ready(Err(Cause::Ejected)),
            Some(Verdict::TimedOut) => Poll::Ready(Err(Cause::TimedOut)),
            None => waiting.as_mut().poll(cx).map(Ok),
        })
        .await
    }
}

fn connect_cause(error: &io::Error) -> Cause {
    let is_exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()));
    match error.kind() {
        _ if is_exhausted => Cause::Exhausted,
        ErrorKind::TimedOut => Cause::ConnectTimeout,
        ErrorKind::ConnectionRefused
        | ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable => Cause::Refused,
        _ => Cause::Local,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_is_not_the_replicas() {
        let cause = |errno: Errno| connect_cause(&errno.into());
        for ours in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM] {
            assert_eq!(cause(ours), Cause::Exhausted, "{ours}");
        }
        for own in [Errno::CONNREFUSED, Errno::CONNRESET, Errno::HOSTUNREACH, Errno::NETUNREACH] {
            assert_eq!(cause(own), Cause::Refused, "{own}");
        }
        assert_eq!(cause(Errno::TIMEDOUT), Cause::ConnectTimeout);
        for local in [Errno::ADDRNOTAVAIL, Errno::ACCESS] {
            assert_eq!(cause(local), Cause::Local, "{local}");
        }
    }
}
