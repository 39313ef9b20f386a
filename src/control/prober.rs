//! Heartbeats: one GET on a fresh connection, so that a pooled one cannot speak for a dead process.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::future::Either;
use http::{Request, header};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::fleet::message::ProbeOutcome;

/// The longest of the texts that say what was not well, in characters.
const TEXT_MAX: usize = 300;

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

    /// Asks once. Never takes longer than `timeout`. What is not well is said in words, for people.
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
        match tokio::time::timeout_at(deadline, self.ask(stream, address)).await {
            Ok(Ok(None)) => ProbeOutcome::Passed,
            Ok(Ok(Some(status))) => {
                ProbeOutcome::BadAnswer(format!("{} to {}", status.as_u16(), self.what()).into())
            }
            Ok(Err(why)) => ProbeOutcome::NoAnswer(cut(&why)),
            Err(_) => {
                let what = self.what();
                let text = format!("no answer to {what} at {address} within {timeout:?}");
                ProbeOutcome::Silent(cut(&text))
            }
        }
    }

    /// What is asked: `GET /heartbeat`.
    fn what(&self) -> String {
        match &self.path {
            Some(path) => format!("GET {}", path.path()).chars().take(TEXT_MAX / 2).collect(),
            None => "a connection".to_owned(),
        }
    }

    /// The status if it is a bad one; an error in words.
    async fn ask(
        &self,
        stream: TcpStream,
        address: SocketAddr,
    ) -> Result<Option<http::StatusCode>, String> {
        let Some(path) = &self.path else { return Ok(None) };
        let unanswered = |error: &dyn std::fmt::Display| {
            format!("no answer to {} at {address}: {error}", self.what())
        };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| unanswered(&error))?;
        let request = Request::get(path.clone())
            .header(header::HOST, address.to_string())
            .header(header::USER_AGENT, "ringmaster")
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(|error| unanswered(&error))?;
        let answer = std::pin::pin!(sender.send_request(request));
        let mut connection = std::pin::pin!(connection);
        let response = match futures_util::future::select(answer, &mut connection).await {
            Either::Left((response, _)) => response,
            // The connection may end in the same moment as the answer comes.
            Either::Right((_, answer)) => answer.await,
        };
        let status = response.map_err(|error| unanswered(&error))?.status();
        let well = status.is_success() || status.is_redirection();
        Ok((!well).then_some(status))
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
        assert_eq!(bad, ProbeOutcome::BadAnswer("500 to GET /".into()));
        let ProbeOutcome::Silent(silent) = outcome("/heartbeat", b"").await else { panic!() };
        assert!(silent.starts_with("no answer to GET /heartbeat at 127.0.0.1:"), "{silent}");
        assert!(silent.ends_with("within 300ms"), "{silent}");
        let nonsense = outcome("/", b"nonsense\r\n\r\n").await;
        let ProbeOutcome::NoAnswer(nonsense) = nonsense else { panic!("{nonsense:?}") };
        assert!(nonsense.starts_with("no answer to GET / at 127.0.0.1:"), "{nonsense}");
        assert_eq!(outcome("", b"").await, ProbeOutcome::Passed);
    }

    #[tokio::test]
    async fn a_refused_connection_is_no_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let outcome = Prober::new("/").unwrap().probe(address, Duration::from_secs(5)).await;
        let ProbeOutcome::NoAnswer(why) = &outcome else { panic!("{outcome:?}") };
        assert!(
            why.starts_with(&format!("no connection to {address}: Connection refused")),
            "{why}"
        );
    }

    #[test]
    fn a_path_starts_with_a_slash() {
        assert!(Prober::new("heartbeat").is_err());
        assert!(Prober::new("/a b").is_err());
    }
}
