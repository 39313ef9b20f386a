//! hyper, over a connection in memory.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::{HeaderMap, Request, Response, body::Incoming, client, server, service::service_fn};
use hyper_util::rt::TokioIo;
use ringmaster_http1::Method;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
    time::timeout,
};

use crate::{Seen, settle};

const DEADLINE: Duration = Duration::from_secs(20);

fn fields(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let mut fields: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .collect();
    settle(&mut fields);
    fields
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { timeout(DEADLINE, future).await.expect("hyper comes to an end") })
}

/// All requests of these bytes.
pub(crate) fn requests(bytes: &[u8]) -> Vec<Seen> {
    let seen = Arc::<Mutex<Vec<Seen>>>::default();
    let note = Arc::clone(&seen);
    let service = service_fn(move |request: Request<Incoming>| {
        let note = Arc::clone(&note);
        async move {
            let (head, body) = request.into_parts();
            // One that breaks off is no message.
            if let Ok(body) = body.collect().await {
                let body = body.to_bytes().to_vec();
                let start = format!("{} {}", head.method, head.uri);
                note.lock().unwrap().push(Seen { start, fields: fields(&head.headers), body });
            }
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        }
    });
    run(async {
        let (mut client, server) = duplex(1 << 20);
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let mut http = server::conn::http1::Builder::new();
        http.half_close(true).max_headers(200);
        // How it ends says nothing: the sender has closed.
        let _ended = http.serve_connection(TokioIo::new(server), service).await;
    });
    let mut seen = seen.lock().unwrap();
    std::mem::take(&mut *seen)
}

/// A response, which must be all of these bytes.
pub(crate) fn response(bytes: &[u8], asked: Method) -> Seen {
    run(async {
        let (mut replica, client) = duplex(1 << 20);
        let (mut sender, connection) =
            client::conn::http1::handshake(TokioIo::new(client)).await.unwrap();
        let method = if asked == Method::Head { "HEAD" } else { "GET" };
        let request = Request::builder().method(method).uri("/").header("host", "h");
        let asking = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap());
        let answering = async {
            let mut asked = [0; 8];
            replica.read_exact(&mut asked).await.unwrap();
            replica.write_all(bytes).await.unwrap();
            replica.shutdown().await.unwrap();
        };
        let reading = async {
            let (response, ()) = tokio::join!(asking, answering);
            let (head, body) = response.expect("a response").into_parts();
            let body = body.collect().await.expect("a whole body").to_bytes().to_vec();
            let start = head.status.as_u16().to_string();
            Seen { start, fields: fields(&head.headers), body }
        };
        let (seen, _ended) = tokio::join!(reading, connection);
        seen
    })
}
