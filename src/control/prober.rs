//! Heartbeats: one GET on a fresh connection, so that a pooled one cannot speak for a dead process.

use std::{net::SocketAddr, time::Duration};

use futures_util::future::Either;
use http::{Request, header};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::fleet::message::ProbeOutcome;

/// Sends heartbeats.
#[derive(Clone, Debug)]
pub struct Prober {
    /// `None`: a TCP connection is enough.
    path: Option<http::Uri>,
}

impl Prober {
    /// Heartbeats to a path, or by TCP connection if it is empty.
    ///
    /// # Errors
    /// A path that is not one.
    pub fn new(path: &str) -> Result<Self, String> {
        if path.is_empty() {
            return Ok(Self { path: None });
        }
        let uri = path.parse::<http::Uri>().ok().filter(|_| path.starts_with('/'));
        uri.map(|uri| Self { path: Some(uri) })
            .ok_or_else(|| format!("'{path}' is not a path; it must start with '/'"))
    }

    /// Asks once. Never takes longer than `timeout`.
    pub async fn probe(&self, address: SocketAddr, timeout: Duration) -> ProbeOutcome {
        let deadline = tokio::time::Instant::now() + timeout;
        let stream = match tokio::time::timeout_at(deadline, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return ProbeOutcome::NoAnswer(error.to_string().into()),
            Err(_) => {
                return ProbeOutcome::NoAnswer(format!("no connection within {timeout:?}").into());
            }
        };
        match tokio::time::timeout_at(deadline, self.ask(stream, address)).await {
            Ok(Ok(None)) => ProbeOutcome::Passed,
            Ok(Ok(Some(status))) => ProbeOutcome::BadAnswer(status.as_str().into()),
            Ok(Err(error)) => ProbeOutcome::NoAnswer(error.to_string().into()),
            Err(_) => ProbeOutcome::Silent(format!("no answer within {timeout:?}").into()),
        }
    }

    /// The status if it is a bad one.
    async fn ask(
        &self,
        stream: TcpStream,
        address: SocketAddr,
    ) -> anyhow::Result<Option<http::StatusCode>> {
        let Some(path) = &self.path else { return Ok(None) };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::get(path.clone())
            .header(header::HOST, address.to_string())
            .header(header::USER_AGENT, "ringmaster")
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())?;
        let answer = std::pin::pin!(sender.send_request(request));
        let mut connection = std::pin::pin!(connection);
        let response = match futures_util::future::select(answer, &mut connection).await {
            Either::Left((response, _)) => response?,
            // The connection may end in the same moment as the answer comes.
            Either::Right((_, answer)) => answer.await?,
        };
        let status = response.status();
        let well = status.is_success() || status.is_redirection();
        Ok((!well).then_some(status))
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    async fn outcome(path: &str, answer: &'static [u8]) -> ProbeOutcome {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            if !answer.is_empty() {
                let _ = stream.write_all(answer).await;
                return;
            }
            std::future::pending::<()>().await;
        });
        Prober::new(path).unwrap().probe(address, Duration::from_millis(300)).await
    }

    #[tokio::test]
    async fn good_bad_and_no_answers_are_told_apart() {
        let good = outcome("/heartbeat", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(good, ProbeOutcome::Passed);
        let moved = outcome("/", b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(moved, ProbeOutcome::Passed);
        let bad = outcome("/", b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(bad, ProbeOutcome::BadAnswer("500".into()));
        assert!(matches!(outcome("/", b"").await, ProbeOutcome::Silent(_)));
        assert!(matches!(outcome("/", b"nonsense\r\n\r\n").await, ProbeOutcome::NoAnswer(_)));
        assert_eq!(outcome("", b"").await, ProbeOutcome::Passed);
    }

    #[tokio::test]
    async fn a_refused_connection_is_no_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let outcome = Prober::new("/").unwrap().probe(address, Duration::from_secs(5)).await;
        assert!(matches!(outcome, ProbeOutcome::NoAnswer(_)), "{outcome:?}");
    }

    #[test]
    fn a_path_starts_with_a_slash() {
        assert!(Prober::new("heartbeat").is_err());
        assert!(Prober::new("/a b").is_err());
    }
}
