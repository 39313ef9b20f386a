//! What follows an upgrade: bytes both ways, until an end closes or nothing moves for too long.

use std::{
    fmt,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Version,
    header::{CONNECTION, UPGRADE},
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf, copy_bidirectional};

use super::{
    converse,
    count::Count,
    downstream::{Downstream, Order, State},
    headers, link,
    pool::InFlight,
    worker::Worker,
};

/// The protocol that a client asks to change to, if that is to be passed on.
///
/// `h2c` is not: a replica that changed to it would take requests that nobody has looked at. Nor is
/// an upgrade with a body, which few servers expect.
pub(crate) fn asked_for(
    version: Version,
    headers: &HeaderMap,
    has_body: bool,
) -> Option<HeaderValue> {
    let protocol = headers.get(UPGRADE)?;
    let is_meant = headers.get_all(CONNECTION).iter().any(|value| headers::names(value, "upgrade"));
    let is_h2c = headers.get_all(UPGRADE).iter().any(|value| headers::names(value, "h2c"));
    (version == Version::HTTP_11 && is_meant && !is_h2c && !has_body).then(|| protocol.clone())
}

/// Says in a head, of either direction, that the connection changes to a protocol.
pub(crate) fn announce(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(UPGRADE, protocol);
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
}

/// The replica's end of an upgraded connection.
pub(crate) struct Tunnel {
    pub(crate) upstream: link::Wire,
    /// What the replica has sent behind its answer.
    pub(crate) read: Bytes,
    pub(crate) in_flight: InFlight,
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tunnel to {}", self.in_flight.pool().instance())
    }
}

impl Tunnel {
    /// Passes bytes both ways until either end closes, the instance is ejected, or nothing has moved
    /// for the deadline.
    pub(crate) async fn run(
        self,
        client: converse::Wire,
        worker: &Worker,
        downstream: &Downstream,
    ) {
        worker.counters.upgrades.bump();
        downstream.enter(State::Tunnel);
        downstream.wait_for(self.in_flight.pool().instance());
        let (all, replica) = (&worker.counters, &self.in_flight.pool().counters);
        let up = [&all.bytes_up, &replica.bytes_up];
        let down = [&all.bytes_down, &replica.bytes_down];
        down.iter().for_each(|count| count.add(self.read.len() as u64));
        let mut client = Watched { inner: client, downstream, read: up };
        let mut upstream = Watched { inner: self.upstream, downstream, read: down };
        let mut passing = pin!(async {
            client.write_all(&self.read).await?;
            copy_bidirectional(&mut client, &mut upstream).await
        });
        // How it ends concerns the two ends only, and they know it.
        poll_fn(|cx| {
            downstream.remember(cx.waker());
            let is_told = matches!(downstream.take_order(), Some(Order::Close));
            if is_told || downstream.verdict().is_some() {
                return Poll::Ready(());
            }
            passing.as_mut().poll(cx).map(drop)
        })
        .await;
    }
}

/// An end of a tunnel; tells when something comes from it.
struct Watched<'a, T> {
    inner: T,
    downstream: &'a Downstream,
    read: [&'a Count; 2],
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<'_, T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.inner).poll_read(cx, buf);
        let came = buf.filled().len() - before;
        if came > 0 {
            this.read.iter().for_each(|count| count.add(came as u64));
            this.downstream.progress();
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<'_, T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(lines: &[(&'static str, &'static str)]) -> Option<HeaderValue> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        asked_for(Version::HTTP_11, &headers, false)
    }

    #[test]
    fn only_an_upgrade_that_is_meant_goes_on() {
        let meant = ("connection", "keep-alive, Upgrade");
        assert_eq!(asked(&[meant, ("upgrade", "websocket")]).unwrap(), "websocket");
        assert_eq!(asked(&[("upgrade", "websocket")]), None);
        assert_eq!(asked(&[meant]), None);
        assert_eq!(asked(&[meant, ("upgrade", "h2c")]), None);
        assert_eq!(asked(&[meant, ("upgrade", "websocket, H2C")]), None);
        let mut headers = HeaderMap::new();
        announce(&mut headers, HeaderValue::from_static("websocket"));
        assert!(asked_for(Version::HTTP_11, &headers, false).is_some());
        assert!(asked_for(Version::HTTP_11, &headers, true).is_none());
        assert!(asked_for(Version::HTTP_10, &headers, false).is_none());
    }
}
