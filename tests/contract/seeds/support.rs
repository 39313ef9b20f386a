//! Servers that others keep, and a client that keeps its connection.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::harness::{Balancer, LONG, Response, ask, companion, get};

/// A companion server that runs on its own; it ends when this is dropped.
pub(crate) struct Companion {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Companion {
    pub(crate) fn start(name: &str) -> Self {
        Self::start_at(name, ([127, 0, 0, 1], 0).into())
    }

    pub(crate) fn start_at(name: &str, address: SocketAddr) -> Self {
        let mut child = Command::new(companion::program())
            .env("SERVER_ID", name)
            .env("HOST", address.ip().to_string())
            .env("PORT", address.port().to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let address = companion::listens(&mut child);
        Self { child, address }
    }

    /// `http://HOST:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The body that registers it.
    pub(crate) fn registration(&self, name: &str, weight: u32) -> String {
        registration(name, self.address, weight)
    }

    /// Ends it at once, and returns when it is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn registration(name: &str, at: SocketAddr, weight: u32) -> String {
    serde_json::json!({
        "name": name, "address": at.ip().to_string(), "port": at.port(), "weight": weight,
    })
    .to_string()
}

/// An address where nothing listens now.
pub(crate) fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Some servers, registered at the admin port under the names `s0`, `s1` …
pub(crate) fn register(balancer: &Balancer, count: usize) -> Vec<Companion> {
    let one = |number: usize| {
        let name = format!("s{number}");
        let companion = Companion::start(&name);
        let body = companion.registration(&name, 1);
        let answer = ask(balancer.admin, "POST", "/api/servers", &body);
        assert_eq!(answer.status, 201, "{}", answer.text());
        companion
    };
    (0..count).map(one).collect()
}

/// The servers that the API lists, by name.
pub(crate) fn server(balancer: &Balancer, name: &str) -> Value {
    let answer = get(balancer.admin, &format!("/api/servers/{name}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// The text under `error`, of an answer with this status.
pub(crate) fn error(answer: &Response, status: u16) -> String {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let value = answer.json();
    assert_eq!(value.as_object().unwrap().len(), 1, "{value}");
    value["error"].as_str().unwrap_or_else(|| panic!("{value}")).to_owned()
}

/// A client whose connection carries many requests.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    to: SocketAddr,
}

impl Client {
    pub(crate) fn connect(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream), to }
    }

    /// Sends exactly these bytes, and reads one answer.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Response {
        self.stream.get_mut().write_all(bytes).unwrap();
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("not an answer: {line:?}"));
        let mut headers = Vec::new();
        loop {
            line.clear();
            self.stream.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            headers.push((name.to_owned(), value.to_owned()));
        }
        let mut answer = Response { status, headers, body: Vec::new() };
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        answer.body.resize(length, 0);
        self.stream.read_exact(&mut answer.body).unwrap();
        if answer.header("connection") == Some("close") {
            *self = Self::connect(self.to);
        }
        answer
    }

    pub(crate) fn get(&mut self, target: &str) -> Response {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n", self.to).as_bytes())
    }
}
