//! One request on a connection of its own.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

/// Timeout of a request: longer than any command may take.
const DEADLINE: Duration = Duration::from_secs(90);

/// The response to a request.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Response {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// The text of a failure, or of a greeting.
    pub(crate) fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_default().to_owned()
    }

    /// A list of names inside `message`.
    pub(crate) fn names(&self, list: &str) -> Vec<String> {
        let json = self.json();
        let names = json["message"][list].as_array();
        let names = names.unwrap_or_else(|| panic!("no '{list}': {self:?}"));
        names.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    }

    /// Checks the status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }
}

/// Sends one request and reads the whole response.
pub(crate) fn call(to: SocketAddr, method: &str, path: &str, body: &str) -> io::Result<Response> {
    call_with(to, method, path, "", body)
}

/// The same with more header lines, each ended by CR LF.
pub(crate) fn call_with(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> io::Result<Response> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_nodelay(true)?;
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes())?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    let cut = || io::Error::new(io::ErrorKind::UnexpectedEof, format!("half an answer: {text:?}"));
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(cut)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(cut)?;
    Ok(Response { status, body: body.to_owned() })
}
