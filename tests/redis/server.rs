//! A Redis of a test's own: Debian's `redis-server` on a free port, without anything on the disk.

#![allow(dead_code, clippy::unwrap_used)]

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// Far more than anything takes on a busy machine.
const LONG: Duration = Duration::from_secs(20);

/// A running server; it ends when this is dropped.
pub(crate) struct RedisServer {
    child: Child,
    pub(crate) address: SocketAddr,
    password: Option<String>,
}

/// Whether these tests must run, whatever is missing here.
pub(crate) fn is_required() -> bool {
    std::env::var("RINGMASTER_TEST_REDIS").as_deref() == Ok("required")
}

impl RedisServer {
    /// `None`: there is no `redis-server` here, and `RINGMASTER_TEST_REDIS=required` is not set.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(None)
    }

    pub(crate) fn start_with(password: Option<&str>) -> Option<Self> {
        // Another process may take the port between the two steps: then the next one is tried.
        for _ in 0..20 {
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let Some(child) = spawn(address, password) else {
                assert!(!is_required(), "there is no `redis-server`, and it is required");
                eprintln!("SKIPPED: there is no `redis-server` here");
                return None;
            };
            let mut server = Self { child, address, password: password.map(str::to_owned) };
            if server.answers() {
                return Some(server);
            }
        }
        panic!("no `redis-server` could listen");
    }

    /// Starts an empty one at the same address, after [`RedisServer::kill`].
    pub(crate) fn start_again(&mut self) {
        let begin = Instant::now();
        loop {
            self.child = spawn(self.address, self.password.as_deref()).unwrap();
            if self.answers() {
                return;
            }
            assert!(begin.elapsed() < LONG, "it does not start again at {}", self.address);
        }
    }

    fn answers(&mut self) -> bool {
        let begin = Instant::now();
        while begin.elapsed() < LONG && self.child.try_wait().unwrap().is_none() {
            // Another one at this address is not meant.
            let own = format!("process_id:{}\r\n", self.pid());
            if self.try_command(&["INFO", "server"]).is_some_and(|text| text.contains(&own)) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    pub(crate) fn url(&self) -> String {
        match &self.password {
            Some(password) => format!("redis://:{password}@{}", self.address),
            None => format!("redis://{}", self.address),
        }
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// SIGKILL: all that it had is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// What the server answers, as it is on the wire.
    pub(crate) fn command(&self, words: &[&str]) -> String {
        self.try_command(words).unwrap_or_else(|| panic!("no answer to {words:?}"))
    }

    /// Publishes on a channel of a server without a password.
    pub(crate) fn publish(address: SocketAddr, channel: &str, text: &str) {
        let mut stream = TcpStream::connect(address).unwrap();
        let words = encoded(&["PUBLISH", channel, text]) + &encoded(&["QUIT"]);
        stream.write_all(words.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(':'), "{answer}");
    }

    /// Collects what is published on a channel, as it is on the wire.
    pub(crate) fn subscribe(&self, channel: &str) -> Arc<Mutex<String>> {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.write_all(encoded(&["SUBSCRIBE", channel]).as_bytes()).unwrap();
        let heard = Arc::new(Mutex::new(String::new()));
        let text = Arc::clone(&heard);
        std::thread::spawn(move || {
            let mut buffer = [0; 4_096];
            // Ends with the server.
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                text.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        });
        let begin = Instant::now();
        while !heard.lock().unwrap().contains("subscribe") {
            assert!(begin.elapsed() < LONG, "no subscription");
            std::thread::sleep(Duration::from_millis(1));
        }
        heard
    }

    fn try_command(&self, words: &[&str]) -> Option<String> {
        Self::ask(self.address, self.password.as_deref(), words)
    }

    /// What any server or Sentinel answers, as it is on the wire; `None`: nothing.
    pub(crate) fn ask(
        address: SocketAddr,
        password: Option<&str>,
        words: &[&str],
    ) -> Option<String> {
        let mut stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(LONG)).ok()?;
        let mut text = String::new();
        if let Some(password) = password {
            text += &encoded(&["AUTH", password]);
        }
        text += &encoded(words);
        text += &encoded(&["QUIT"]);
        stream.write_all(text.as_bytes()).ok()?;
        // A Sentinel knows no QUIT.
        stream.shutdown(Shutdown::Write).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        (!answer.is_empty()).then_some(answer)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn encoded(words: &[&str]) -> String {
    let words: String = words.iter().map(|w| format!("${}\r\n{w}\r\n", w.len())).collect();
    format!("*{}\r\n{words}", words.matches("\r\n").count() / 2)
}

fn spawn(address: SocketAddr, password: Option<&str>) -> Option<Child> {
    let mut command = Command::new("redis-server");
    command.args(["--port", &address.port().to_string(), "--bind", "127.0.0.1"]);
    command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(std::env::temp_dir());
    if let Some(password) = password {
        command.args(["--requirepass", password]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()
}
