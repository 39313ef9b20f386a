//! Who a connection and a request say that they come for.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncRead, ReadBuf};

use super::{header_map, lines_and_rest};
use crate::{
    proxy_protocol::{self, PAYLOAD_MAX},
    trusted::{FORWARDED_FOR, TrustedProxies},
};

/// The most that a header of version 2 may have: signature, four bytes more, what it says.
const HEADER_MAX: usize = 16 + PAYLOAD_MAX;

/// The beginning of a connection with the PROXY protocol. It is the same however it arrives, no
/// byte is taken that belongs to what follows, and nobody is named who is not in it.
pub fn proxy_protocol(data: &[u8]) {
    let (said, taken) = announced(data, usize::MAX);
    for size in [1, 3, 16] {
        assert_eq!(announced(data, size), (said, taken), "in pieces of {size}");
    }
    assert!(taken <= HEADER_MAX.min(data.len()));
    let Ok(client) = said else { return };
    let follows = [&data[..taken], b"GET / HTTP/1.1\r\n"].concat();
    assert_eq!(announced(&follows, usize::MAX), (said, taken), "followed by a request");
    for end in (0..taken).step_by(taken / 128 + 1) {
        let (cut, _) = announced(&data[..end], usize::MAX);
        assert_eq!(cut, Err(io::ErrorKind::UnexpectedEof), "cut at {end}");
    }
    if let Some(client) = client {
        let (family, other) = match client {
            SocketAddr::V4(_) => ("TCP4", "127.0.0.1"),
            SocketAddr::V6(_) => ("TCP6", "::1"),
        };
        let line = format!("PROXY {family} {} {other} {} 1\r\n", client.ip(), client.port());
        assert_eq!(announced(line.as_bytes(), usize::MAX).0, Ok(Some(client)), "{line}");
    }
}

type Said = (Result<Option<SocketAddr>, io::ErrorKind>, usize);

/// What is read, and how many bytes that takes.
fn announced(bytes: &[u8], size: usize) -> Said {
    let mut pieces = Pieces { left: bytes, size };
    let polled = {
        let reading = pin!(proxy_protocol::read(&mut pieces));
        reading.poll(&mut Context::from_waker(Waker::noop()))
    };
    let Poll::Ready(said) = polled else { panic!("it waits although all is there") };
    (said.map_err(|error| error.kind()), bytes.len() - pieces.left.len())
}

/// Bytes that arrive so many at a time.
struct Pieces<'a> {
    left: &'a [u8],
    size: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let length = self.left.len().min(self.size).min(buf.remaining());
        let (piece, left) = self.left.split_at(length);
        buf.put_slice(piece);
        self.left = left;
        Poll::Ready(Ok(()))
    }
}

/// Trusted networks, the peer, then lines of `X-Forwarded-For`. The client is the one that a simple
/// walk finds, and nothing that it claims itself changes who it is.
pub fn forwarded_for(data: &[u8]) {
    let (lines, _) = lines_and_rest(data);
    let [networks, peer, lists @ ..] = &lines[..] else { return };
    let (Ok(networks), Ok(peer)) = (std::str::from_utf8(networks), std::str::from_utf8(peer))
    else {
        return;
    };
    let Ok(trusted) = TrustedProxies::parse(networks.split(',')) else { return };
    let text = trusted.to_string();
    assert_eq!(TrustedProxies::parse(text.split(',')).as_ref(), Ok(&trusted), "{text}");
    let Ok(peer) = peer.parse::<IpAddr>() else { return };
    if let IpAddr::V4(four) = peer {
        let mapped = IpAddr::V6(four.to_ipv6_mapped());
        assert_eq!(trusted.contains(peer), trusted.contains(mapped), "{peer}");
    }
    let claim = |before: Option<&'static [u8]>| {
        let named = before.iter().copied().chain(lists.iter().copied());
        let fields: Vec<Vec<u8>> = named.map(|list| [b"x-forwarded-for:", list].concat()).collect();
        header_map(&fields.iter().map(Vec::as_slice).collect::<Vec<_>>())
    };
    let headers = claim(None);
    let values: Vec<&[u8]> = lines_of(&headers);
    let client = trusted.client_of(peer, &values);
    assert_eq!(client, client.to_canonical());
    let joined = values.join(&b',');
    let list: Vec<&[u8]> = joined.split(|byte| *byte == b',').collect();
    assert_eq!(client, walked(&trusted, peer, &list));
    if !trusted.contains(client) && client != peer.to_canonical() {
        for claimed in [&b"6.6.6.6"[..], b"10.0.0.1, ::1", b"unknown", b","] {
            assert_eq!(
                trusted.client_of(peer, &lines_of(&claim(Some(claimed)))),
                client,
                "its own claim"
            );
        }
    }
}

fn lines_of(headers: &http::HeaderMap) -> Vec<&[u8]> {
    headers.get_all(FORWARDED_FOR).iter().map(http::HeaderValue::as_bytes).collect()
}

/// From the last entry on, as long as each is an address and trusted.
fn walked(trusted: &TrustedProxies, peer: IpAddr, list: &[&[u8]]) -> IpAddr {
    let Some((last, before)) = list.split_last() else { return peer.to_canonical() };
    let text = String::from_utf8_lossy(last.trim_ascii());
    if text.is_empty() {
        return walked(trusted, peer, before);
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = text
        .parse::<SocketAddr>()
        .map(|address| address.ip())
        .or_else(|_| bare.unwrap_or(&text).parse::<IpAddr>());
    match address {
        Err(_) => peer.to_canonical(),
        Ok(address) if trusted.contains(address) => walked(trusted, address, before),
        Ok(address) => address.to_canonical(),
    }
}
