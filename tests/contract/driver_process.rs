//! The process driver with real children.

use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use ringmaster_core::fleet::{
    ids::{Handle, Incarnation, InstanceId, ReplicaId, ReplicaName},
    message::{FoundState, Sighting, StartError, StartRequest, StopManner},
};

use ringmaster::driver::{
    Driver, Signal,
    process::{ProcessConfig, ProcessDriver},
};
use rustix::process::{Pid, Signal as Kill, kill_process};
use tokio::{sync::mpsc, time};

/// Timeout of every wait, long enough for a busy machine.
const LONG: Duration = Duration::from_secs(20);

/// The variable with the role of this test program when a test starts it again.
const ROLE: &str = "RMDRV_TEST_ROLE";

/// This program as a replica: [`plays_a_replica`].
fn replica(role: &str) -> ProcessConfig {
    let exe = env::current_exe().unwrap().to_str().unwrap().to_owned();
    let arguments = ["--exact", "driver_process::plays_a_replica", "--nocapture"];
    let command = [exe].into_iter().chain(arguments.map(Into::into)).collect();
    ProcessConfig {
        env: vec![(ROLE.into(), role.into()), ("PORT".into(), "1".into())],
        settle: Duration::from_secs(5),
        ..ProcessConfig::new(command)
    }
}

fn driver(config: ProcessConfig) -> Arc<ProcessDriver> {
    Arc::new(ProcessDriver::new(config).unwrap())
}

fn request(name: &str, replica: u32) -> StartRequest {
    StartRequest {
        instance: InstanceId { replica: ReplicaId(replica), incarnation: Incarnation(4) },
        name: ReplicaName::new(name).unwrap(),
        ordinal: 3,
        weight: 2,
        image: None,
        positions: vec![9, 511],
    }
}

/// Does nothing, unless it is started as a replica.
#[test]
fn plays_a_replica() {
    match env::var(ROLE).as_deref() {
        Ok("replica") => serve(),
        Ok("failure") => {
            eprintln!("no such file: config.toml");
            std::process::exit(7);
        }
        _ => {}
    }
}

/// Responds on every connection with the environment of the replica.
fn serve() {
    let value = |key: &str| env::var(key).unwrap_or_default();
    let address = format!("{}:{}", value("HOST"), value("PORT"));
    let listener = TcpListener::bind(address).unwrap();
    for stream in listener.incoming().flatten() {
        let mut stream = stream;
        let given = ["SERVER_ID", "RINGMASTER_REPLICA", "RINGMASTER_INCARNATION"].map(value);
        let answer = format!("{} {}", std::process::id(), given.join(" "));
        let _ = stream.write_all(answer.as_bytes());
    }
}

/// The process at an address, and its environment.
fn ask(address: SocketAddr) -> (Pid, String) {
    let mut answer = String::new();
    let mut stream = TcpStream::connect_timeout(&address, LONG).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.read_to_string(&mut answer).unwrap();
    let (number, given) = answer.split_once(' ').unwrap();
    let process = Pid::from_raw(number.parse().unwrap()).unwrap();
    (process, given.to_owned())
}

/// Whether a process exists and has not ended.
fn lives(process: Pid) -> bool {
    state(process).is_some_and(|state| state != 'Z' && state != 'X')
}

/// The letter of the kernel for the state of a process.
fn state(process: Pid) -> Option<char> {
    let stat = format!("/proc/{}/stat", process.as_raw_nonzero());
    let stat = std::fs::read_to_string(Path::new(&stat)).unwrap_or_default();
    stat.rsplit(") ").next()?.chars().next()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < LONG, "not within {LONG:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_is_started_listed_and_stopped() {
    let driver = driver(replica("replica"));
    let started = driver.start(request("S5", 7)).await.unwrap();
    assert!(started.address.ip().is_loopback());
    let (process, given) = ask(started.address);
    assert_eq!(given, "S5 7 4");

    let listing = driver.list().await.unwrap();
    let found = listing.found;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].handle, started.handle);
    assert_eq!(found[0].state, FoundState::Running(Some(started.address)));
    let identity = found[0].identity.clone().unwrap();
    assert_eq!(identity.instance, request("S5", 7).instance);
    assert_eq!((identity.ordinal, identity.weight), (3, 2));
    assert_eq!(identity.positions, [9, 511]);
    assert_eq!(Some(identity.spec), listing.wanted.map(|wanted| wanted.spec));

    driver.stop(started.handle.clone(), StopManner::Graceful).await.unwrap();
    assert!(!lives(process));
    assert_eq!(driver.list().await.unwrap().found, []);
    driver.stop(started.handle, StopManner::Kill).await.unwrap();
    let unknown = Handle("anything".into());
    driver.stop(unknown, StopManner::Kill).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_is_seen_at_once_and_listed_until_it_is_stopped() {
    let driver = driver(replica("replica"));
    let (sender, mut signals) = mpsc::channel(8);
    let watcher = driver.clone();
    tokio::spawn(async move { watcher.watch(sender).await });
    let started = driver.start(request("S5", 7)).await.unwrap();
    let (process, _) = ask(started.address);
    let begin = Instant::now();
    kill_process(process, Kill::KILL).unwrap();
    let signal = time::timeout(LONG, signals.recv()).await.unwrap();
    eprintln!("seen after {:?}", begin.elapsed());
    let exit_code = Some(137);
    let died = Sighting::Died { exit_code };
    let handle = started.handle.clone();
    assert_eq!(signal, Some(Signal::Saw(request("S5", 7).instance, handle, died)));
    let found = driver.list().await.unwrap().found;
    assert_eq!(found[0].state, FoundState::Exited { exit_code });
    driver.stop(started.handle, StopManner::Kill).await.unwrap();
    assert_eq!(driver.list().await.unwrap().found, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_lines_and_the_end_of_a_child_are_reported() {
    let lines = r#"i=0; while [ $i -lt 200 ]; do i=$((i+1)); echo "line $i"; done
        printf '\033[31mred\033[0m\n'; echo "pid $$"; exec sleep 600"#;
    let config = ProcessConfig::new(["sh", "-c", lines].map(str::to_owned).to_vec());
    let driver = driver(config);
    let handle = driver.start(request("S5", 7)).await.unwrap().handle;
    let begin = Instant::now();
    let shown = loop {
        let shown = driver.logs(handle.clone(), 3).await.unwrap();
        if shown.iter().any(|line| line.starts_with("pid ")) {
            break shown;
        }
        assert!(begin.elapsed() < LONG, "{shown:?}");
        time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(shown[..2], ["line 200", "red"]);
    assert_eq!(driver.last_words(handle.clone()).await, None, "it runs");
    let pid = shown.iter().find_map(|line| line.strip_prefix("pid ")?.parse().ok()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Kill::KILL).unwrap();
    let begin = Instant::now();
    while driver.last_words(handle.clone()).await.is_none() {
        assert!(begin.elapsed() < LONG);
        time::sleep(Duration::from_millis(5)).await;
    }
    let words = driver.last_words(handle.clone()).await.unwrap();
    assert_eq!((words.exit_code, words.out_of_memory), (Some(137), false));
    assert_eq!(words.lines.len(), 50);
    driver.stop(handle.clone(), StopManner::Collect).await.unwrap();
    assert_eq!(driver.last_words(handle.clone()).await, None);
    assert!(driver.logs(handle, 3).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_child_is_not_noticed_and_ends_by_force() {
    for manner in [StopManner::Kill, StopManner::Graceful] {
        let grace = Duration::from_millis(300);
        let config = replica("replica");
        let driver = driver(ProcessConfig { grace, ..config });
        let started = driver.start(request("S5", 7)).await.unwrap();
        let (process, _) = ask(started.address);
        kill_process(process, Kill::STOP).unwrap();
        eventually("the child hangs", || state(process) == Some('T'));
        let listed = driver.list().await.unwrap().found[0].state;
        assert_eq!(listed, FoundState::Running(Some(started.address)));
        let begin = Instant::now();
        driver.stop(started.handle, manner).await.unwrap();
        assert!(!lives(process));
        let waited = begin.elapsed() >= grace;
        assert_eq!(waited, manner == StopManner::Graceful);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_with_the_same_name_is_stopped_first() {
    let driver = driver(replica("replica"));
    let first = driver.start(request("S5", 7)).await.unwrap();
    let (process, _) = ask(first.address);
    let second = driver.start(request("S5", 8)).await.unwrap();
    assert!(!lives(process));
    let found = driver.list().await.unwrap().found;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].handle, second.handle);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_start_gives_a_reason_and_leaves_nothing() {
    let refusal = async |config: ProcessConfig| {
        let driver = driver(config);
        let (sender, mut signals) = mpsc::channel(8);
        let watcher = driver.clone();
        tokio::spawn(async move { watcher.watch(sender).await });
        let error = driver.start(request("S5", 7)).await.unwrap_err();
        assert_eq!(driver.list().await.unwrap().found, []);
        assert!(signals.try_recv().is_err(), "the result says it all");
        match error {
            StartError::Ended { why, last_words } => {
                assert_eq!(last_words.exit_code, Some(7));
                let last = last_words.lines.last().map(String::as_str);
                assert_eq!(last, Some("no such file: config.toml"));
                why.to_string()
            }
            StartError::Refused(text) => text.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let text = refusal(replica("failure")).await;
    assert!(text.starts_with("it exited at once with status 7: "), "{text}");
    assert!(text.ends_with("no such file: config.toml"), "{text}");
    let text = refusal(ProcessConfig::new(vec!["/no/such/program".into()])).await;
    assert!(text.starts_with("'/no/such/program' cannot be started: No such file"));
    let text = refusal(ProcessConfig::new(Vec::new())).await;
    assert!(text.contains("--command"));
}

#[tokio::test(flavor = "multi_thread")]
async fn children_end_with_their_driver() {
    let driver = driver(replica("replica"));
    let started = driver.start(request("S5", 7)).await.unwrap();
    let (process, _) = ask(started.address);
    drop(driver);
    eventually("the child has ended", || !lives(process));
}

/// Does nothing, unless it is started as a balancer: then it starts a child and waits.
#[tokio::test]
async fn plays_a_balancer() {
    if env::var(ROLE).as_deref() != Ok("balancer") {
        return;
    }
    let driver = driver(replica("replica"));
    let started = driver.start(request("S5", 7)).await.unwrap();
    println!("child at {}", started.address);
    time::sleep(Duration::from_secs(600)).await;
}

#[test]
fn children_end_with_a_balancer_that_is_killed() {
    let mut balancer = Command::new(env::current_exe().unwrap())
        .args(["--exact", "driver_process::plays_a_balancer", "--nocapture"])
        .env(ROLE, "balancer")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let output = BufReader::new(balancer.stdout.take().unwrap());
    let address = output
        .lines()
        .map_while(Result::ok)
        .find_map(|line| Some(line.split_once("child at ")?.1.to_owned()));
    let (process, _) = ask(address.unwrap().parse().unwrap());
    assert!(lives(process));
    balancer.kill().unwrap();
    balancer.wait().unwrap();
    eventually("the child has ended", || !lives(process));
}
