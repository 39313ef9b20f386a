//! One client connection from its first byte to its last: one exchange after the other.

use std::{net::SocketAddr, rc::Rc, time::SystemTime};

use bytes::Bytes;
use http::StatusCode;
use ringmaster_http1::{Fault, Kind, refusal};
use tokio::net::TcpStream;

use super::{
    super::{errors::TOO_SLOW, socket::Socket, watch::Phase, worker::Worker},
    begin::{self, Begun, Refused},
    client::Client,
    control, run,
    state::Next,
};

/// Serves one client connection. Gives back what is not served here, with the bytes that were read
/// of it: HTTP/2, and a connection from the first request for another protocol on.
pub(crate) async fn converse(
    worker: &Rc<Worker>,
    stream: TcpStream,
    peer: SocketAddr,
) -> Option<(TcpStream, Bytes)> {
    let is_trusted = worker.config.trusted_proxies.contains(peer.ip());
    let watch = worker.watches.open(peer, is_trusted, &worker.clock);
    let mut client = Client::new(Socket::Tcp(stream), Rc::clone(&watch), None);
    let is_left = serve(worker, &mut client).await;
    worker.watches.close(&watch);
    let Client { socket, input, .. } = client;
    let read = Bytes::copy_from_slice(input.as_slice());
    socket.into_tcp().filter(|_| is_left).map(|stream| (stream, read))
}

/// Serves a connection to its end. Whether the rest of it is for others.
pub(super) async fn serve(worker: &Rc<Worker>, client: &mut Client) -> bool {
    loop {
        // In boxes: an exchange's state is large, and a connection that rests must not hold it.
        let next = match begin::next(worker, client).await {
            Begun::Ended => return false,
            Begun::Other => return true,
            Begun::Forward(request) => Box::pin(run::run(worker, client, request)).await,
            Begun::Control(request) => Box::pin(control::serve(worker, client, *request)).await,
            Begun::Refused(refused) => {
                refuse(worker, client, *refused);
                final_response(worker, client).await
            }
            Begun::TooSlow => {
                worker.counters.header_timeouts.bump();
                client.output.push(TOO_SLOW, &worker.buffers);
                final_response(worker, client).await
            }
        };
        match next {
            Next::Again => client.watch.enter(Phase::Idle),
            Next::Close => return false,
            Next::Linger => {
                Box::pin(client.linger(worker)).await;
                return false;
            }
        }
    }
}

async fn final_response(worker: &Worker, client: &mut Client) -> Next {
    client.watch.enter(Phase::Response);
    match Box::pin(client.flush(worker)).await {
        Ok(()) => Next::Linger,
        Err(_) => Next::Close,
    }
}

/// Answers what is no request, and counts it: what could not be read at all is no request.
fn refuse(worker: &Worker, client: &mut Client, refused: Refused) {
    let Refused { fault, entry, is_counted } = refused;
    let counters = &worker.counters;
    match fault {
        Fault::HeadTooLarge | Fault::TooManyFields => counters.heads_too_large.bump(),
        Fault::TargetTooLong => counters.uris_too_long.bump(),
        fault if begin::is_request(fault) => counters.refused_requests.bump(),
        _ => counters.heads_malformed.bump(),
    }
    let before = client.output.len();
    let out = client.output.end(&worker.buffers);
    let date = httpdate::fmt_http_date(SystemTime::now());
    refusal::write(fault, Some(date.as_bytes()), out);
    if !is_counted && !begin::is_request(fault) {
        return;
    }
    let status = StatusCode::from_u16(fault.status(Kind::Request)).unwrap_or_default();
    if !is_counted {
        counters.requests.bump();
    }
    counters.answered(status);
    if let Some(mut entry) = entry {
        let text = &client.output.as_slice()[before..];
        let body = text.windows(4).position(|four| four == b"\r\n\r\n");
        entry.status = status;
        entry.bytes = body.map_or(0, |at| (text.len() - at - 4) as u64);
    }
}
