//! A client with one keep-alive connection, and the classification of its errors.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use super::tally::RequestError;
use crate::target::Target;

/// What precedes the replica's name in the body of `/home`.
const GREETING: &[u8] = b"Hello from Server: ";
/// Bytes of a body that are searched for the name.
const SEARCHED_MAX: usize = 512;
/// The header that names the replica, if the balancer is configured to send it.
const SERVER: HeaderName = HeaderName::from_static("x-load-balancer-server");

/// The pause after a failed connect doubles from the first to the second.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// A complete response.
#[derive(Debug)]
pub(crate) struct LoadResponse {
    pub(crate) status: StatusCode,
    pub(crate) name: Option<String>,
    pub(crate) body_bytes: u64,
}

/// Sends one request after the other, and reopens its connection when it must.
#[derive(Debug)]
pub(crate) struct LoadClient {
    target: Target,
    deadline: Duration,
    connection: Option<OpenConnection>,
    pause: Duration,
    /// Connections opened so far.
    pub(crate) opened: u64,
}

#[derive(Debug)]
struct OpenConnection {
    sender: SendRequest<Full<Bytes>>,
    task: AbortHandle,
    used: bool,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl LoadClient {
    pub(crate) fn new(target: Target, deadline: Duration) -> LoadClient {
        LoadClient { target, deadline, connection: None, pause: Duration::ZERO, opened: 0 }
    }

    /// Sends `request` and reads the whole response, within the deadline.
    pub(crate) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<LoadResponse, RequestError> {
        let result = match tokio::time::timeout(self.deadline, self.exchange(request)).await {
            Ok(result) => result,
            Err(_) if self.connection.is_none() => Err(RequestError::ConnectTimeout),
            Err(_) => Err(RequestError::Timeout),
        };
        if result.is_err() {
            self.connection = None;
        }
        match result {
            Err(RequestError::Refused | RequestError::Connect | RequestError::ConnectTimeout) => {
                self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
            }
            _ => self.pause = Duration::ZERO,
        }
        result
    }

    /// How long to wait before the next request: zero unless connecting fails.
    pub(crate) fn pause(&self) -> Duration {
        self.pause
    }

    async fn exchange(
        &mut self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<LoadResponse, RequestError> {
        loop {
            let connection = self.ready().await?;
            let reused = std::mem::replace(&mut connection.used, true);
            match connection.sender.try_send_request(request).await {
                Ok(response) => return receive(response).await,
                Err(mut error) => match error.take_message() {
                    // An idle connection was closed before a byte of this request was
                    // written: that is no error of the server. A new one is tried once.
                    Some(unsent) if reused => {
                        self.connection = None;
                        request = unsent;
                    }
                    _ => return Err(classify(error.error())),
                },
            }
        }
    }

    /// The open connection, or a new one.
    async fn ready(&mut self) -> Result<&mut OpenConnection, RequestError> {
        let alive = match &mut self.connection {
            Some(connection) => connection.sender.ready().await.is_ok(),
            None => false,
        };
        if !alive {
            self.connection = None;
            let opened = open(&self.target).await?;
            self.opened += 1;
            return Ok(self.connection.insert(opened));
        }
        self.connection.as_mut().ok_or(RequestError::Connect)
    }
}

async fn open(target: &Target) -> Result<OpenConnection, RequestError> {
    let stream = TcpStream::connect(target.address).await.map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => RequestError::Refused,
        io::ErrorKind::TimedOut => RequestError::ConnectTimeout,
        _ => RequestError::Connect,
    })?;
    stream.set_nodelay(true).map_err(|_| RequestError::Connect)?;
    let (sender, connection) =
        handshake(TokioIo::new(stream)).await.map_err(|_| RequestError::Connect)?;
    let task = tokio::spawn(async move {
        // An error is also returned to the request in flight, if there is one.
        let _ = connection.await;
    });
    Ok(OpenConnection { sender, task: task.abort_handle(), used: false })
}

async fn receive(response: Response<Incoming>) -> Result<LoadResponse, RequestError> {
    let status = response.status();
    let said = response.headers().get(SERVER).and_then(|name| name.to_str().ok());
    let said = said.map(str::to_owned);
    let mut body = response.into_body();
    let mut start = Vec::new();
    let mut body_bytes = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| classify(&error))?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        body_bytes += data.len() as u64;
        let wanted = data.len().min(SEARCHED_MAX - start.len());
        start.extend_from_slice(&data[..wanted]);
    }
    Ok(LoadResponse { status, name: said.or_else(|| replica_name(&start)), body_bytes })
}

/// The name in `{"message":"Hello from Server: NAME",...}`.
fn replica_name(body: &[u8]) -> Option<String> {
    let at = body.windows(GREETING.len()).position(|window| window == GREETING)?;
    let rest = &body[at + GREETING.len()..];
    let end = rest.iter().position(|byte| *byte == b'"')?;
    let name = std::str::from_utf8(&rest[..end]).ok()?;
    (!name.is_empty()).then(|| name.to_owned())
}

fn classify(error: &hyper::Error) -> RequestError {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(error) = inner.downcast_ref::<io::Error>() {
            return match error.kind() {
                io::ErrorKind::UnexpectedEof => RequestError::Closed,
                _ => RequestError::Reset,
            };
        }
        source = inner.source();
    }
    if error.is_parse() { RequestError::Protocol } else { RequestError::Closed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_read_from_the_greeting() {
        for (body, name) in [
            (
                r#"{"message":"Hello from Server: server_1","status":"successful"}"#,
                Some("server_1"),
            ),
            (r#"{"message":"Hello from Server: ","status":"successful"}"#, None),
            (r#"{"message":"Hello from Server: cut of"#, None),
            ("", None),
            ("<html>", None),
        ] {
            assert_eq!(replica_name(body.as_bytes()).as_deref(), name, "{body}");
        }
    }
}
