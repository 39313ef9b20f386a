//! The settings of heartbeats, against a server in the test.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex},
};

use crate::harness::{Home, LONG, eventually};

/// A server that responds to heartbeats with a given text and keeps the last request line. It listens
/// until the test ends.
struct Checked {
    address: SocketAddr,
    answer: Arc<Mutex<&'static str>>,
    asked: Arc<Mutex<String>>,
}

impl Checked {
    fn start(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (answer, asked) = (Arc::new(Mutex::new(answer)), Arc::<Mutex<String>>::default());
        let (answered, last) = (Arc::clone(&answer), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let _ = stream.set_read_timeout(Some(LONG));
                let mut request = [0; 2_048];
                let length = stream.read(&mut request).unwrap_or(0);
                let text = String::from_utf8_lossy(&request[..length]).into_owned();
                *last.lock().unwrap() = text.lines().next().unwrap_or_default().to_owned();
                let answer = *answered.lock().unwrap();
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Self { address, answer, asked }
    }

    fn answer_with(&self, answer: &'static str) {
        *self.answer.lock().unwrap() = answer;
    }
}

const BUSY: &str = "HTTP/1.1 503 Busy\r\nContent-Length: 5\r\nConnection: close\r\n\r\nready";
const WELL: &str = "HTTP/1.1 204 Well\r\nConnection: close\r\n\r\n";
const READY: &str =
    "HTTP/1.1 200 OK\r\nContent-Length: 17\r\nConnection: close\r\n\r\n{\"state\":\"ready\"}";
const STARTING: &str = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\nConnection: close\r\n\r\nstarting";

#[test]
fn method_status_and_body_decide() {
    for (arguments, line, well, badly, why) in [
        (&["--heartbeat-method", "HEAD"] as &[&str], "HEAD", WELL, BUSY, "503 to HEAD /check"),
        (&["--heartbeat-status", "204,5xx"], "GET", BUSY, READY, "200 to GET /check"),
        (
            &["--heartbeat-body", "\"ready\"", "--heartbeat-method", "POST"],
            "POST",
            READY,
            STARTING,
            "200 to POST /check, without the expected text in its body",
        ),
    ] {
        let home = Home::new();
        let server = Checked::start(well);
        let upstream = format!("a={}", server.address);
        let given = ["--driver", "static", "--upstream", &upstream, "--heartbeat-path", "/check"];
        let balancer =
            home.start(&[&given[..], &["--heartbeat-interval", "50ms"], arguments].concat());
        eventually("it passes", || balancer.status()["health"] == "ok");
        assert_eq!(*server.asked.lock().unwrap(), format!("{line} /check HTTP/1.1"));
        server.answer_with(badly);
        eventually("it does not pass", || balancer.status()["health"] == "down");
        eventually("the bad response is shown", || {
            balancer.status()["replicas"][0]["instances"][0]["last_probe"] == why
        });
        server.answer_with(well);
        eventually("it passes again", || balancer.status()["health"] == "ok");
    }
}
