//! A server that does to each request what the test says, down to resetting
//! the connection. It speaks just enough HTTP for requests without a body; a
//! real HTTP library would not let it misbehave.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// One request as it arrived.
pub(crate) struct Seen {
    /// How many requests came before it, on all connections.
    pub(crate) index: u64,
    pub(crate) path: String,
    pub(crate) key: Option<u64>,
}

/// What to do with one request.
pub(crate) enum Act {
    /// 200 with this body.
    Answer(String),
    /// The same, after a while.
    Late(Duration, String),
    /// An empty answer with this status.
    Status(u16),
    /// Drop the connection with a reset.
    Reset,
    /// Close it after half of an answer.
    HalfAnswer,
    /// Say something that is not HTTP, and close.
    Nonsense,
    /// Say nothing, for ever.
    Silence,
    /// Answer, announce nothing, and close: the next request needs a new connection.
    AnswerAndClose(String),
}

/// The body of `/home`.
pub(crate) fn home(name: &str) -> String {
    format!(r#"{{"message":"Hello from Server: {name}","status":"successful"}}"#)
}

/// Starts a server; it ends with the test's runtime.
pub(crate) async fn start(act: impl Fn(Seen) -> Act + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let act = Arc::new(act);
    let count = Arc::new(AtomicU64::new(0));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (act, count) = (Arc::clone(&act), Arc::clone(&count));
            tokio::spawn(async move { serve(stream, &*act, &count).await });
        }
    });
    address
}

async fn serve(
    mut stream: TcpStream,
    act: &(dyn Fn(Seen) -> Act + Send + Sync),
    count: &AtomicU64,
) {
    let mut bytes = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            match stream.read_buf(&mut bytes).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        };
        let head = String::from_utf8(bytes.drain(..end).collect()).unwrap();
        let path = head.split(' ').nth(1).unwrap().to_owned();
        let key = head
            .lines()
            .find_map(|line| line.strip_prefix("x-request-id: "))
            .map(|key| key.parse().unwrap());
        let seen = Seen { index: count.fetch_add(1, Ordering::SeqCst), path, key };
        let answer = |status: u16, body: &str| {
            format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        };
        let (text, goes_on) = match act(seen) {
            Act::Answer(body) => (answer(200, &body), true),
            Act::Late(wait, body) => {
                tokio::time::sleep(wait).await;
                (answer(200, &body), true)
            }
            Act::Status(status) => (answer(status, ""), true),
            Act::Reset => {
                stream.set_zero_linger().unwrap();
                return;
            }
            Act::HalfAnswer => {
                ("HTTP/1.1 200 X\r\nContent-Length: 10\r\n\r\nhalf".to_owned(), false)
            }
            Act::Nonsense => ("what is this\r\n\r\n".to_owned(), false),
            Act::Silence => std::future::pending().await,
            Act::AnswerAndClose(body) => (answer(200, &body), false),
        };
        if stream.write_all(text.as_bytes()).await.is_err() || !goes_on {
            return;
        }
    }
}
