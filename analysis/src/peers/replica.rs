//! The replicas behind the proxies: one process with a listener for each of them.
//!
//! It responds at once with the number of bytes in the path, and reads uploads to their end. So the
//! replicas cost little, and the same behind every proxy.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// Most bytes of a response.
const LARGEST: usize = 16 << 20;
/// Bytes of a response if the path has no number.
const SMALL: usize = 64;
/// Pause of accepting when the process has no more descriptors.
const REST: Duration = Duration::from_millis(10);

/// The address of the replica with this number, from 0: they share a port, not an address.
pub(crate) fn address(number: usize, port: u16) -> SocketAddr {
    // 250 a network, so that no address ends with 0 or 255.
    let part = |value: usize| u8::try_from(value % 250).unwrap_or_default();
    SocketAddr::from((Ipv4Addr::new(127, 1, part(number / 250), 1 + part(number)), port))
}

/// Answers on the addresses of `replicas` replicas until the process ends.
///
/// # Errors
/// When an address is taken.
pub async fn serve(replicas: usize, port: u16) -> Result<()> {
    let payload = Bytes::from(vec![b'x'; LARGEST]);
    for number in 0..replicas {
        let address = address(number, port);
        let listener =
            TcpListener::bind(address).await.with_context(|| format!("cannot bind {address}"))?;
        tokio::spawn(accept(listener, payload.clone()));
    }
    std::future::pending().await
}

async fn accept(listener: TcpListener, payload: Bytes) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(REST).await;
            continue;
        };
        // Otherwise the kernel would delay the second part of a response.
        let _ = stream.set_nodelay(true);
        let payload = payload.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, payload.clone()));
            // An error means that the proxy has closed the connection.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    payload: Bytes,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let wanted = wanted(request.uri().path());
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        if frame.is_err() {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::BAD_REQUEST;
            return Ok(response);
        }
    }
    Ok(Response::new(Full::new(payload.slice(..wanted))))
}

/// `/bytes/N` asks for N bytes.
fn wanted(path: &str) -> usize {
    let number = path.strip_prefix("/bytes/").and_then(|number| number.parse().ok());
    number.unwrap_or(SMALL).min(LARGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_differ_and_paths_say_how_much() {
        let all: std::collections::BTreeSet<_> = (0..1_000).map(|n| address(n, 80)).collect();
        assert_eq!(all.len(), 1_000);
        assert!(all.iter().all(|address| address.ip().is_loopback()));
        assert_eq!(address(251, 80), "127.1.1.2:80".parse().unwrap());
        assert_eq!(["/bytes/7", "/home", "/bytes/x"].map(wanted), [7, SMALL, SMALL]);
        assert_eq!(wanted("/bytes/99999999999"), LARGEST);
    }
}
