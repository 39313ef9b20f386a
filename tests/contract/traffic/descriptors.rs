//! A balancer with few descriptors: new clients may be refused, without any other effect.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::harness::{Balancer, Home, LONG, eventually, get};

/// The same program with a hard limit of open files.
fn limited(command: &Command, files: u32) -> Command {
    let mut limited = Command::new("/bin/sh");
    limited.args(["-c", &format!("ulimit -n {files} && exec \"$0\" \"$@\"")]);
    limited.arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(key, value),
            None => limited.env_remove(key),
        };
    }
    limited.current_dir(command.get_current_dir().unwrap()).stdin(Stdio::null());
    limited
}

/// A client whose connection stays open.
struct OpenClient(BufReader<TcpStream>);

impl OpenClient {
    fn connect(to: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect(to).ok()?;
        stream.set_read_timeout(Some(LONG)).unwrap();
        Some(Self(BufReader::new(stream)))
    }

    /// The status and body of a response; `None` if the connection is gone.
    fn get(&mut self, target: &str) -> Option<(u16, String)> {
        let request = format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
        self.0.get_mut().write_all(request.as_bytes()).ok()?;
        let (mut line, mut status, mut length) = (String::new(), 0, 0);
        while line != "\r\n" {
            line.clear();
            if self.0.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
                status = rest[..3].parse().unwrap();
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).ok()?;
        Some((status, String::from_utf8(body).unwrap()))
    }
}

/// CPU time of a process so far.
fn worked(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// Clients beyond the limit, each with its response; their connections stay open.
fn clients_beyond_the_limit(
    balancer: &Balancer,
    count: usize,
) -> Vec<(OpenClient, Option<(u16, String)>)> {
    (0..count)
        .filter_map(|number| {
            let mut client = OpenClient::connect(balancer.traffic)?;
            let answer = client.get(&format!("/home?id=stranger-{number}"));
            Some((client, answer))
        })
        .collect()
}

#[test]
fn without_descriptors_new_clients_are_refused_and_no_replica_is_ejected() {
    let home = Home::new();
    let command = home.serve(&["--replicas", "2", "--access-log", "json", "--key", "query:id"]);
    let balancer = Balancer::spawn(limited(&command, 64));
    balancer.wait_for(2);
    let mut friends: Vec<OpenClient> =
        (0..5).map(|_| OpenClient::connect(balancer.traffic).unwrap()).collect();
    for (number, friend) in friends.iter_mut().enumerate() {
        assert_eq!(friend.get(&format!("/home?id={number}")).unwrap().0, 200);
    }
    for round in 0..2 {
        let extra = clients_beyond_the_limit(&balancer, 120);
        for (_, answer) in &extra {
            if let Some((status, body)) = answer {
                let refused = *status == 503 && body.contains("Too many connections are open");
                assert!(*status == 200 || refused, "{status}: {body}");
            }
        }
        let served = extra
            .iter()
            .filter(|(_, answer)| answer.as_ref().is_some_and(|(status, _)| *status == 200));
        assert!((1..100).contains(&served.count()), "the limit does not press");
        let (before, began) = (worked(balancer.pid()), Instant::now());
        for number in 0..400 {
            for friend in &mut friends {
                let answer = friend.get(&format!("/home?id={round}-{number}"));
                assert_eq!(answer.map(|(status, _)| status), Some(200), "round {round}");
            }
            if began.elapsed() > Duration::from_secs(3) {
                break;
            }
        }
        // The requests need some CPU time; an accept that is retried at once would use all of it.
        std::thread::sleep(Duration::from_millis(500));
        let rested = worked(balancer.pid());
        std::thread::sleep(Duration::from_secs(1));
        let idle = worked(balancer.pid()) - rested;
        assert!(idle < Duration::from_millis(500), "{idle:?} of a second, after {before:?}");
        assert_eq!(get(balancer.admin, "/rep").message()["N"], 2, "no replica is ejected");
        drop(extra);
        eventually("new clients are served again", || {
            let answer = OpenClient::connect(balancer.traffic).and_then(|mut one| one.get("/home"));
            answer.is_some_and(|(status, _)| status == 200)
        });
    }
    let metrics = get(balancer.admin, "/metrics");
    for (series, none) in [
        ("requests_failed_total{reason=\"no_response\"}", true),
        ("requests_failed_total{reason=\"no_descriptor\"}", true),
        ("client_connections_refused_total{reason=\"limit\"}", false),
    ] {
        let zero = metrics.text().contains(&format!("\nringmaster_{series} 0\n"));
        assert_eq!(zero, none, "{series}: {}", metrics.text());
    }
    for word in ["suspect", "eject", "refused"] {
        assert!(balancer.logged(word).is_none(), "{}", balancer.log());
    }
    assert!(balancer.terminate().0.success());
}
