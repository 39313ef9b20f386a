//! The process and its environment: its log, its signals, its pipes, its limits.

use std::{
    fs::File,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Home, LONG, Load, Run, ask, eventually, get, try_ask};

/// A balancer whose log may be unreadable, so it gets ports that were free before.
struct Silent {
    child: Child,
    traffic: SocketAddr,
    admin: SocketAddr,
}

impl Silent {
    fn spawn(home: &Home, arguments: &[&str], err: impl Into<Stdio>) -> Self {
        let [traffic, admin] = [free_address(), free_address()];
        let mut command = home.program();
        command.args(["serve", "--listen", &traffic.to_string(), "--admin", &admin.to_string()]);
        command.args(["--fleet", home.fleet(), "--state-dir"]).arg(home.state_dir());
        command.args(["--workers", "2"]).args(arguments);
        let child = command.stdout(Stdio::null()).stderr(err).spawn().unwrap();
        Self { child, traffic, admin }
    }

    /// A balancer with this many child processes in service.
    fn full(home: &Home, replicas: usize, arguments: &[&str], err: impl Into<Stdio>) -> Self {
        crate::harness::companion::program();
        let count = replicas.to_string();
        let driver = ["--driver", "process", "--replicas", &count];
        let silent = Self::spawn(home, &[&driver, arguments].concat(), err);
        eventually("all are in service", || {
            try_ask(silent.traffic, "GET", "/rep", &[], "")
                .is_ok_and(|answer| answer.message()["N"] == replicas)
        });
        silent
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.id() as i32).unwrap(), signal).unwrap();
    }

    fn metric(&self, name: &str) -> f64 {
        let text = get(self.admin, "/metrics").text().to_owned();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
    }

    fn terminate(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begin.elapsed() < LONG, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Scales while requests are sent, none of which may fail.
fn scales_under_load(balancer: &Silent) {
    let load = Load::start(balancer.traffic, 4);
    for _ in 0..4 {
        ask(balancer.traffic, "POST", "/add", r#"{"n":2}"#).message();
        ask(balancer.traffic, "POST", "/rm", r#"{"n":2}"#).message();
    }
    load.all_answered();
}

const DROPPED: &str = "ringmaster_log_lines_dropped_total";

#[test]
fn a_full_log_device_has_no_effect_on_requests() {
    let home = Home::new();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let balancer = Silent::full(&home, 2, &[], full);
    scales_under_load(&balancer);
    assert!(balancer.metric(DROPPED) > 10.0);
    assert!(balancer.terminate().success());
}

#[test]
fn a_closed_log_pipe_has_no_effect_on_requests() {
    let home = Home::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let balancer = Silent::full(&home, 2, &[], writer);
    scales_under_load(&balancer);
    assert!(balancer.metric(DROPPED) > 10.0);
    assert!(balancer.terminate().success());
}

#[test]
fn a_log_pipe_that_is_not_read_has_no_effect_on_requests() {
    let home = Home::new();
    let (reader, writer) = std::io::pipe().unwrap();
    // The pipe is full after some thirty lines.
    rustix::pipe::fcntl_setpipe_size(&writer, 4096).unwrap();
    let balancer = Silent::full(&home, 2, &[], writer);
    scales_under_load(&balancer);
    assert!(balancer.terminate().success());
    drop(reader);
}

/// Runs a command with a standard output that its reader has closed.
fn run_closed(command: &mut Command) -> (i32, String) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut child = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    (child.wait().unwrap().code().unwrap_or(-1), err)
}

#[test]
fn output_to_a_closed_pipe_is_no_error() {
    let home = Home::new();
    let balancer = home.start_full(1, &[]);
    let url = balancer.url();
    let clients: [&[&str]; 8] = [
        &["check", "--driver", "process"],
        &["--help"],
        &["serve", "--help"],
        &["simulate"],
        &["status", "--url", &url],
        &["ring", "--url", &url],
        &["replicas", "--url", &url, "--json"],
        &["add", "S5", "--dry-run", "--url", &url],
    ];
    for arguments in clients {
        let ended = run_closed(home.program().args(arguments));
        assert_eq!(ended, (0, String::new()), "{arguments:?}");
    }
}

#[test]
fn an_error_to_a_closed_pipe_keeps_its_exit_code() {
    let home = Home::new();
    let cases: [(&[&str], i32); 4] =
        [(&["serve", "--listen", "x"], 2), (&["frobnicate"], 2), (&[], 2), (&["status"], 1)];
    for (arguments, code) in cases {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = home.program();
        command.args(arguments).env("RINGMASTER_URL", "http://127.0.0.1:1");
        let status = command.stdout(Stdio::null()).stderr(writer).status().unwrap();
        assert_eq!(status.code(), Some(code), "{arguments:?}");
    }
}

#[test]
fn output_to_a_full_device_is_an_error() {
    let home = Home::new();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut command = home.program();
    let child = command.args(["check", "--driver", "process"]).stdout(full).stderr(Stdio::piped());
    let output = child.spawn().unwrap().wait_with_output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.starts_with("error: the answer cannot be written: No space left"), "{err}");
}

#[test]
fn sighup_reopens_the_log_file_and_other_signals_end_nothing() {
    let home = Home::new();
    let (path, old) = (home.path("log"), home.path("log.1"));
    let balancer = Silent::full(&home, 2, &["--log-file", path.to_str().unwrap()], Stdio::null());
    let logged = |path: &std::path::Path, text: &str| {
        std::fs::read_to_string(path).is_ok_and(|log| log.contains(text))
    };
    assert!(logged(&path, "listening traffic="));
    let load = Load::start(balancer.traffic, 4);
    for (signal, said) in [(Signal::USR1, "SIGUSR1"), (Signal::USR2, "SIGUSR2")] {
        balancer.signal(signal);
        eventually(said, || logged(&path, said));
    }
    std::fs::rename(&path, &old).unwrap();
    ask(balancer.traffic, "POST", "/add", r#"{"n":1,"hostnames":["early"]}"#).message();
    eventually("it writes to the old file", || logged(&old, "early"));
    assert!(!path.exists());
    balancer.signal(Signal::HUP);
    eventually("it has a new file", || logged(&path, "SIGHUP"));
    ask(balancer.traffic, "POST", "/add", r#"{"n":1,"hostnames":["late"]}"#).message();
    eventually("it writes to the new file", || logged(&path, "late"));
    assert!(!logged(&old, "late"));
    load.all_answered();
    assert!(balancer.terminate().success());
}

#[test]
fn a_log_file_that_cannot_be_opened_is_an_error() {
    let home = Home::new();
    let run = Home::run(home.serve(&["--log-file", "/no/such/folder/log"]).arg("--replicas=0"));
    let Run { code, err, .. } = &run;
    assert_eq!(*code, 1, "{run:?}");
    assert!(err.starts_with("error: cannot write to '/no/such/folder/log': "), "{run:?}");
}

/// A replica whose responses the test controls.
struct Upstream {
    address: SocketAddr,
    answers: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

impl Upstream {
    fn start() -> Self {
        use std::sync::atomic::Ordering::Relaxed;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answers = std::sync::Arc::<std::sync::atomic::AtomicBool>::default();
        let may_answer = std::sync::Arc::clone(&answers);
        // The thread ends with the test's process; each connection is closed after its response.
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let _ = stream.read(&mut [0; 4096]);
                let status = if may_answer.load(Relaxed) { "200 OK" } else { "500 No" };
                let head = "content-length: 0\r\nconnection: close";
                let _ = write!(stream, "HTTP/1.1 {status}\r\n{head}\r\n\r\n");
            }
        });
        Self { address, answers }
    }

    fn serve(&self, home: &Home) -> (Silent, Instant) {
        let upstream = format!("up1={}", self.address);
        let arguments = ["--driver", "static", "--upstream", &upstream];
        let begin = Instant::now();
        (Silent::spawn(home, &arguments, Stdio::null()), begin)
    }
}

fn is_booted(balancer: &Silent) -> bool {
    let status = try_ask(balancer.admin, "GET", "/api/status", &[], "");
    status.is_ok_and(|status| status.json()["booted"] == true)
}

#[test]
fn the_traffic_port_opens_when_an_adopted_replica_passes() {
    let (home, upstream) = (Home::new(), Upstream::start());
    let (balancer, begin) = upstream.serve(&home);
    eventually("it supervises", || is_booted(&balancer));
    let early = try_ask(balancer.traffic, "GET", "/", &[], "");
    assert!(
        early.is_err() || begin.elapsed() > Duration::from_secs(2),
        "nothing could answer it: {early:?}"
    );
    upstream.answers.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut first = None;
    eventually("it listens", || {
        first = try_ask(balancer.traffic, "GET", "/", &[], "").ok();
        first.is_some()
    });
    assert_eq!(first.unwrap().status, 200);
    assert!(balancer.terminate().success());
}

#[test]
fn the_traffic_port_opens_after_two_seconds_in_any_case() {
    let (home, upstream) = (Home::new(), Upstream::start());
    let (balancer, begin) = upstream.serve(&home);
    let mut first = None;
    eventually("it listens", || {
        first = try_ask(balancer.traffic, "GET", "/", &[], "").ok();
        first.is_some()
    });
    // The balancer counts from its own start, which is later than the test's.
    assert!(begin.elapsed() >= Duration::from_secs(2), "{:?}", begin.elapsed());
    first.unwrap().refusal(503);
    // A signal while it waits ends it.
    drop(balancer);
    let (balancer, _) = upstream.serve(&home);
    eventually("it supervises", || is_booted(&balancer));
    assert!(balancer.terminate().success());
}

#[test]
fn a_full_state_disk_has_no_effect_on_requests() {
    let home = Home::new();
    let balancer = home.start_full(3, &[]);
    // The temporary file of the state, before it is renamed.
    let temporary = home.state_dir().join("state.json.tmp");
    eventually("no write is under way", || {
        std::os::unix::fs::symlink("/dev/full", &temporary).is_ok()
    });
    let load = Load::start(balancer.traffic, 4);
    let why = balancer.command("/add", r#"{"n":1}"#).refusal(503);
    assert!(why.contains("No space left"), "{why}");
    let before = balancer.wait_for(3);
    balancer.child(&before[0]).kill();
    eventually("it is replaced", || !balancer.wait_for(3).contains(&before[0]));
    std::fs::remove_file(&temporary).unwrap();
    balancer.add(r#"{"n":1}"#);
    load.all_answered();
    let (status, _) = balancer.terminate();
    assert!(status.success());
}
