//! Heartbeats: a TCP connection, or one HTTP request on a new connection. A pooled connection could
//! outlive the process that listens.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::future::Either;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use ringmaster_core::fleet::message::ProbeOutcome;
use tokio::net::TcpStream;

use super::statuses::Statuses;

/// The longest text of a failed heartbeat, in characters.
const TEXT_MAX: usize = 300;
/// Most bytes of a response body that are searched.
const BODY_MAX: usize = 64 << 10;
/// The longest expected text in a response body, in bytes.
pub const EXPECTED_MAX: usize = 1_024;

/// Sends heartbeats over TCP or HTTP.
#[derive(Clone, Debug)]
pub struct Prober {
    /// `None`: a TCP connection is enough.
    request: Option<Arc<HttpCheck>>,
}

/// A heartbeat over HTTP, and the responses that pass.
#[derive(Clone, Debug)]
pub struct HttpCheck {
    /// GET, HEAD, POST or OPTIONS; the request has no body.
    pub method: Method,
    /// Path and query.
    pub path: Uri,
    /// The statuses that pass.
    pub statuses: Statuses,
    /// What the first 64 KiB of the response body must contain.
    pub body: Option<Box<str>>,
}

impl HttpCheck {
    /// A GET of a path that passes with 2xx and 3xx, whatever the body.
    ///
    /// # Errors
    /// The path is invalid.
    pub fn get(path: &str) -> Result<Self, String> {
        let uri = path.parse::<Uri>().ok().filter(|_| path.starts_with('/'));
        let path = uri.ok_or_else(|| format!("'{path}' is not a path; it must start with '/'"))?;
        Ok(Self { method: Method::GET, path, statuses: Statuses::default(), body: None })
    }

    /// Method and path as in a message, like `GET /heartbeat`.
    fn what(&self) -> String {
        let text = format!("{} {}", self.method, self.path.path());
        text.chars().take(TEXT_MAX / 2).collect()
    }
}

/// Why a heartbeat failed, as a message for people.
enum Problem {
    /// The response is not one that passes.
    BadResponse(String),
    NoResponse(String),
}

impl Prober {
    /// Heartbeats that are TCP connections.
    pub fn tcp() -> Self {
        Self { request: None }
    }

    /// Heartbeats over HTTP.
    pub fn http(check: HttpCheck) -> Self {
        Self { request: Some(Arc::new(check)) }
    }

    /// Sends one heartbeat, which takes no longer than `timeout`. A failure has a message for people.
    pub async fn probe(&self, address: SocketAddr, timeout: Duration) -> ProbeOutcome {
        let deadline = tokio::time::Instant::now() + timeout;
        let stream = match tokio::time::timeout_at(deadline, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                return ProbeOutcome::NoAnswer(cut(&format!(
                    "no connection to {address}: {error}"
                )));
            }
            Err(_) => {
                let text = format!("no connection to {address} within {timeout:?}");
                return ProbeOutcome::NoAnswer(cut(&text));
            }
        };
        let Some(check) = &self.request else { return ProbeOutcome::Passed };
        match tokio::time::timeout_at(deadline, ask(check, stream, address)).await {
            Ok(Ok(())) => ProbeOutcome::Passed,
            Ok(Err(Problem::BadResponse(why))) => ProbeOutcome::BadAnswer(cut(&why)),
            Ok(Err(Problem::NoResponse(why))) => ProbeOutcome::NoAnswer(cut(&why)),
            Err(_) => {
                let text = format!("no answer to {} at {address} within {timeout:?}", check.what());
                ProbeOutcome::Silent(cut(&text))
            }
        }
    }
}

/// Sends the request, drives its connection, and checks the response.
async fn ask(check: &HttpCheck, stream: TcpStream, address: SocketAddr) -> Result<(), Problem> {
    let no_response = |error: &dyn std::fmt::Display| {
        Problem::NoResponse(format!("no answer to {} at {address}: {error}", check.what()))
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| no_response(&error))?;
    let request = Request::builder()
        .method(check.method.clone())
        .uri(check.path.clone())
        .header(header::HOST, address.to_string())
        .header(header::USER_AGENT, "ringmaster")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| no_response(&error))?;
    let checked = std::pin::pin!(async {
        let response = sender.send_request(request).await.map_err(|error| no_response(&error))?;
        check_response(check, response.status(), response.into_body()).await
    });
    let mut connection = std::pin::pin!(connection);
    match futures_util::future::select(checked, &mut connection).await {
        Either::Left((checked, _)) => checked,
        // The connection may end at the same moment as the response arrives.
        Either::Right((_, checked)) => checked.await,
    }
}

async fn check_response(
    check: &HttpCheck,
    status: StatusCode,
    body: Incoming,
) -> Result<(), Problem> {
    let (what, code) = (check.what(), status.as_u16());
    if !check.statuses.contains(status) {
        return Err(Problem::BadResponse(format!("{code} to {what}")));
    }
    let Some(expected) = check.body.as_deref() else { return Ok(()) };
    match contains(body, expected.as_bytes()).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(Problem::BadResponse(format!(
            "{code} to {what}, without the expected text in its body"
        ))),
        Err(error) => {
            Err(Problem::BadResponse(format!("{code} to {what}, whose body broke off: {error}")))
        }
    }
}

/// Whether the first [`BODY_MAX`] bytes of a body contain a text; it is read no further than needed.
async fn contains(mut body: Incoming, expected: &[u8]) -> Result<bool, hyper::Error> {
    let mut read: Vec<u8> = Vec::new();
    loop {
        // A match may begin in the last bytes that were searched before.
        let searched = read.len().saturating_sub(expected.len().saturating_sub(1));
        let Some(frame) = body.frame().await else { return Ok(false) };
        let Ok(data) = frame?.into_data() else { continue };
        let room = BODY_MAX - read.len();
        read.extend_from_slice(&data[..data.len().min(room)]);
        if read[searched..].windows(expected.len()).any(|part| part == expected) {
            return Ok(true);
        }
        if read.len() == BODY_MAX {
            return Ok(false);
        }
    }
}

fn cut(text: &str) -> Arc<str> {
    text.chars().take(TEXT_MAX).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(300);

    /// Probes a server that responds with these pieces, or not at all if there are none. Returns the
    /// request line as well.
    async fn probe_server(prober: &Prober, answer: &[&[u8]]) -> (ProbeOutcome, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer: Vec<Vec<u8>> = answer.iter().map(|piece| piece.to_vec()).collect();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4_096];
            let length = stream.read(&mut request).await.unwrap_or(0);
            for piece in &answer {
                if stream.write_all(piece).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            if answer.is_empty() {
                // Keeps the connection open until the prober closes it.
                let _ = stream.read(&mut [0]).await;
            }
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            request.lines().next().unwrap_or_default().to_owned()
        });
        let outcome = prober.probe(address, TIMEOUT).await;
        (outcome, server.await.unwrap())
    }

    async fn outcome(path: &str, answer: &[u8]) -> ProbeOutcome {
        let pieces: &[&[u8]] = if answer.is_empty() { &[] } else { &[answer] };
        probe_server(&Prober::http(HttpCheck::get(path).unwrap()), pieces).await.0
    }

    #[tokio::test]
    async fn passing_bad_and_missing_responses_are_distinguished() {
        let good = outcome("/heartbeat", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(good, ProbeOutcome::Passed);
        let moved = outcome("/", b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(moved, ProbeOutcome::Passed);
        let bad = outcome("/", b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(bad, ProbeOutcome::BadAnswer("500 to GET /".into()));
        let ProbeOutcome::Silent(silent) = outcome("/heartbeat", b"").await else { panic!() };
        assert!(silent.starts_with("no answer to GET /heartbeat at 127.0.0.1:"), "{silent}");
        assert!(silent.ends_with("within 300ms"), "{silent}");
        let nonsense = outcome("/", b"nonsense\r\n\r\n").await;
        let ProbeOutcome::NoAnswer(nonsense) = nonsense else { panic!("{nonsense:?}") };
        assert!(nonsense.starts_with("no answer to GET / at 127.0.0.1:"), "{nonsense}");
        assert_eq!(probe_server(&Prober::tcp(), &[]).await.0, ProbeOutcome::Passed);
    }

    #[tokio::test]
    async fn the_configured_method_and_statuses_are_used() {
        for method in [Method::GET, Method::HEAD, Method::POST, Method::OPTIONS] {
            let statuses = "204,503".parse().unwrap();
            let path = "/status?full=1".parse().unwrap();
            let line = format!("{method} /status?full=1 HTTP/1.1");
            let what = format!("200 to {method} /status");
            let prober = Prober::http(HttpCheck { method, path, statuses, body: None });
            let well: &[u8] = b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n";
            assert_eq!(probe_server(&prober, &[well]).await, (ProbeOutcome::Passed, line.clone()));
            let other: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            let bad = ProbeOutcome::BadAnswer(what.into());
            assert_eq!(probe_server(&prober, &[other]).await, (bad, line));
        }
    }

    #[tokio::test]
    async fn the_body_must_contain_the_expected_text() {
        let check = HttpCheck { body: Some("ready".into()), ..HttpCheck::get("/").unwrap() };
        let prober = Prober::http(check);
        let sized = |body: &[u8]| {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            [head.as_bytes(), body].concat()
        };
        let without = "200 to GET /, without the expected text in its body";
        let without = ProbeOutcome::BadAnswer(without.into());
        let full = |before: usize| [vec![b'x'; before], b"ready".to_vec()].concat();
        for (body, expected) in [
            (b"{\"state\":\"ready\"}".to_vec(), ProbeOutcome::Passed),
            (b"ready".to_vec(), ProbeOutcome::Passed),
            (b"readi".to_vec(), without.clone()),
            (Vec::new(), without.clone()),
            (full(BODY_MAX - 5), ProbeOutcome::Passed),
            (full(BODY_MAX - 4), without.clone()),
            (full(10 * BODY_MAX), without),
        ] {
            let length = body.len();
            assert_eq!(probe_server(&prober, &[&sized(&body)]).await.0, expected, "{length} bytes");
        }
        // A text in several pieces, and a body that ends with its connection.
        let pieces: [&[u8]; 3] = [b"HTTP/1.1 200 OK\r\n\r\nre", b"ad", b"y!"];
        assert_eq!(probe_server(&prober, &pieces).await.0, ProbeOutcome::Passed);
        let short: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nrea";
        let ProbeOutcome::BadAnswer(why) = probe_server(&prober, &[short]).await.0 else {
            panic!()
        };
        assert!(why.starts_with("200 to GET /, whose body broke off: "), "{why}");
        // The status is checked before the body.
        let bad: &[u8] = b"HTTP/1.1 500 Oh\r\ncontent-length: 5\r\n\r\nready";
        assert_eq!(
            probe_server(&prober, &[bad]).await.0,
            ProbeOutcome::BadAnswer("500 to GET /".into())
        );
    }

    #[tokio::test]
    async fn a_body_that_does_not_end_meets_the_timeout() {
        let check = HttpCheck { body: Some("ready".into()), ..HttpCheck::get("/").unwrap() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nrea").await.unwrap();
            std::future::pending::<()>().await;
        });
        let begun = tokio::time::Instant::now();
        let outcome = Prober::http(check).probe(address, TIMEOUT).await;
        assert!(matches!(outcome, ProbeOutcome::Silent(_)), "{outcome:?}");
        assert!(begun.elapsed() < TIMEOUT * 10, "{:?}", begun.elapsed());
        server.abort();
    }

    #[tokio::test]
    async fn a_refused_connection_is_no_response() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        for prober in [Prober::tcp(), Prober::http(HttpCheck::get("/").unwrap())] {
            let outcome = prober.probe(address, Duration::from_secs(5)).await;
            let ProbeOutcome::NoAnswer(why) = &outcome else { panic!("{outcome:?}") };
            let expected = format!("no connection to {address}: Connection refused");
            assert!(why.starts_with(&expected), "{why}");
        }
    }

    #[test]
    fn a_path_starts_with_a_slash() {
        assert!(HttpCheck::get("heartbeat").is_err());
        assert!(HttpCheck::get("/a b").is_err());
    }
}
