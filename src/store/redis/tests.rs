//! Against a real Redis; skipped where there is none.

#[path = "../../../tests/redis/server.rs"]
mod server;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use redis::cmd;
use ringmaster_core::{
    fleet::{
        desired::{Desired, Newcomer},
        ids::{Incarnation, InstanceId, Moment, ReplicaId, ReplicaName},
        message::FailureKind,
        server::{Server, Source},
        table::{RoutingTable, Target},
    },
    ring::RingSettings,
    roles::{
        acknowledgements::Report,
        arbiter::Arbiter,
        ids::{Fence, Holder, ProcessId, RequestId, Version},
        lease::{Ask, Reply, Request, Stored},
        publication::{Publication, delta},
    },
};
use server::RedisServer;

use super::{Address, FileStore, Heard, Loaded, RedisStore, Store, StoreError, Times};

const LONG: Duration = Duration::from_secs(20);

fn store_with(server: &RedisServer, ttl: Duration) -> RedisStore {
    let address = Address::parse(&server.url(), None).unwrap();
    RedisStore::new(
        Arc::new(address),
        Times { timeout: Duration::from_secs(2), ttl },
        "t",
        None,
        None,
    )
}

/// With a copy in a directory, which must be dropped last.
fn store_with_copy(server: &RedisServer, directory: &Path) -> RedisStore {
    let address = Arc::new(Address::parse(&server.url(), None).unwrap());
    let times = Times { timeout: Duration::from_secs(2), ttl: Duration::from_secs(600) };
    let copy = FileStore::open(directory, "t").unwrap();
    RedisStore::new(address, times, "t", Some(copy), None)
}

struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let unique = format!("ringmaster-redis-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(unique);
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn store(server: &RedisServer) -> RedisStore {
    // Longer than any test: what expires is tried on purpose.
    store_with(server, Duration::from_secs(600))
}

fn holder(name: &str) -> Holder {
    let authenticator = Some(format!("proof of {name}").into());
    Holder { id: ProcessId(name.into()), admin: format!("{name}:1").into(), authenticator }
}

fn request(id: u64, ask: Ask) -> Request {
    Request { id: RequestId(id), ask, deadline: Moment(0) }
}

async fn acquire(store: &RedisStore, who: &str, id: u64, at_least: u64) -> Reply {
    store.ask(&holder(who), &request(id, Ask::Acquire { at_least: Fence(at_least) })).await
}

/// An empty store gives nothing out for a while; this takes that as passed.
async fn won(server: &RedisServer, store: &RedisStore) -> Fence {
    assert!(matches!(acquire(store, "a", 1, 0).await, Reply::Refused { by: None, .. }));
    server.command(&["DEL", "ringmaster:{t}:quiet"]);
    let Reply::Granted { fence } = acquire(store, "a", 2, 0).await else { panic!("not granted") };
    fence
}

/// A fleet that was as large before, and so on.
fn grown(generation: u32) -> Desired {
    (0..generation).fold(desired(0), |before, _| before.with(&[]).unwrap())
}

fn desired(replicas: u32) -> Desired {
    let newcomers: Vec<Newcomer> = (1..=replicas)
        .map(|id| Newcomer {
            id: ReplicaId(id),
            weight: 1,
            name: ReplicaName::numbered(id),
            incarnation: Incarnation(1),
            server: None,
        })
        .collect();
    Desired::empty(RingSettings::default()).unwrap().with(&newcomers).unwrap()
}

fn publication(version: Version, replicas: u32, dead: Option<u32>) -> Publication {
    let desired = desired(replicas);
    let target = |id: u32| Target {
        instance: InstanceId { replica: ReplicaId(id), incarnation: Incarnation(1) },
        name: ReplicaName::numbered(id),
        address: ([127, 0, 0, 1], 1_000 + id as u16).into(),
    };
    let table = RoutingTable {
        generation: desired.generation(),
        ring: Arc::clone(desired.ring()),
        targets: (1..=replicas).map(|id| (Some(id) != dead).then(|| target(id))).collect(),
        finishing: dead.map(|id| target(id).instance).into_iter().collect(),
    };
    Publication::new(version, table).unwrap()
}

fn version(fence: Fence, number: u64) -> Version {
    Version { fence, number }
}

fn any_ask(chance: &mut StdRng, fence: Fence) -> Ask {
    match chance.random_range(0..5) {
        0 | 1 => Ask::Acquire { at_least: fence },
        2 | 3 => Ask::Renew { fence },
        _ => Ask::Release { fence },
    }
}

/// The scripts and the pure arbiter say the same to the same requests, whatever comes.
#[tokio::test]
async fn the_scripts_decide_as_the_arbiter() {
    const TTL: Duration = Duration::from_secs(600);
    let Some(server) = RedisServer::start() else { return };
    let store = store(&server);
    let mut chance = StdRng::seed_from_u64(7);
    let (mut kinds, mut written) = ([0; 3], [0; 2]);
    for _ in 0..160 {
        server.command(&["FLUSHALL"]);
        let (mut arbiter, mut next) = (Arbiter::new(TTL), 0);
        let (mut now, mut is_empty) = (Moment(1_000), true);
        for _ in 0..40 {
            next += 1;
            let who = ["a", "b", "c"][chance.random_range(0..3)];
            // Some as they are given out after this time, some as if from long ago.
            let fence = Fence(chance.random_range(0..6) + chance.random_range(0..3).min(1) * 1_000);
            // Sometimes one that is late.
            let id = if chance.random_bool(0.2) { next / 2 } else { next };
            match chance.random_range(0..12) {
                0..7 => {
                    let ask = any_ask(&mut chance, fence);
                    let asked = request(id, ask);
                    let expected = arbiter.ask(&holder(who), &asked, now);
                    let reply = store.ask(&holder(who), &asked).await;
                    assert_eq!(reply, expected, "{asked:?} of {who}");
                    if std::mem::take(&mut is_empty) {
                        // Its fences go on from the time there.
                        let begins = match ask {
                            Ask::Renew { fence } => fence.0.max(now.0),
                            _ => now.0,
                        };
                        let begins = begins.to_string();
                        server.command(&["SET", "ringmaster:{t}:fence", &begins]);
                    }
                    kinds[match reply {
                        Reply::Granted { .. } => 0,
                        Reply::Renewed { .. } => 1,
                        _ => 2,
                    }] += 1;
                }
                7 | 8 => {
                    let version = version(fence, chance.random_range(0..4));
                    let desired = grown(chance.random_range(0..3));
                    let expected = arbiter.write(version, desired.generation(), now);
                    let saved = store.save(version, desired).await;
                    assert_eq!(saved.is_ok(), expected.is_ok(), "{saved:?} {expected:?}");
                    written[usize::from(saved.is_ok())] += 1;
                }
                9 => {
                    let version = version(fence, chance.random_range(0..4));
                    let expected = arbiter.publish(version, now);
                    let published = store.publish(&publication(version, 1, None), None).await;
                    assert_eq!(published.is_ok(), expected.is_ok(), "{published:?} {expected:?}");
                }
                10 => {
                    // Much time passes: the lease of its last holder has ended.
                    now = now + TTL;
                    server.command(&["DEL", "ringmaster:{t}:lease", "ringmaster:{t}:quiet"]);
                }
                _ if chance.random_bool(0.2) => {
                    server.command(&["FLUSHALL"]);
                    arbiter.empty();
                    (now, is_empty) = (Moment(1_000), true);
                }
                _ => {}
            }
        }
    }
    let is_met = |count: &u32| *count > 20;
    assert!(kinds.iter().chain(&written).all(is_met), "{kinds:?} {written:?}");
}

#[tokio::test]
async fn a_lease_that_is_not_renewed_ends_and_one_given_back_is_free_at_once() {
    let Some(server) = RedisServer::start() else { return };
    let store = store_with(&server, Duration::from_millis(300));
    let mut heard = store.watch(false);
    assert_eq!(tokio::time::timeout(LONG, heard.recv()).await.unwrap(), Some(Heard::Listening));
    let fence = won(&server, &store).await;
    let Reply::Refused { by, .. } = acquire(&store, "b", 1, 0).await else { panic!("given twice") };
    assert_eq!(by, Some(holder("a")));
    let begin = std::time::Instant::now();
    let mut number = 1;
    let next = loop {
        number += 1;
        match acquire(&store, "b", number, 0).await {
            Reply::Granted { fence } => break fence,
            _ => assert!(begin.elapsed() < LONG),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert!(next > fence && begin.elapsed() >= Duration::from_millis(250), "{:?}", begin.elapsed());
    // The first one comes too late.
    let late = store.ask(&holder("a"), &request(9, Ask::Renew { fence })).await;
    assert!(matches!(late, Reply::Refused { .. }), "{late:?}");
    store.ask(&holder("b"), &request(90, Ask::Release { fence: next })).await;
    assert_eq!(tokio::time::timeout(LONG, heard.recv()).await.unwrap(), Some(Heard::LeaseFree));
    assert!(matches!(acquire(&store, "a", 10, 0).await, Reply::Granted { .. }));
}

#[tokio::test]
async fn what_was_written_is_read_and_what_was_lost_is_written_again() {
    let Some(server) = RedisServer::start_with(Some("s3cret")) else { return };
    let store = store(&server);
    assert!(matches!(store.load().await.unwrap(), Loaded::Nothing));
    let fence = won(&server, &store).await;
    store.save(version(fence, 1), grown(3)).await.unwrap();
    // What is written late does not count, and no generation goes back in a later term.
    let late = store.save(version(fence, 0), grown(3)).await.unwrap_err();
    assert!(late.to_string().contains("a later write is there"), "{late}");
    store.ask(&holder("a"), &request(3, Ask::Release { fence })).await;
    let ended = store.save(version(fence, 2), grown(3)).await.unwrap_err();
    assert!(ended.to_string().contains("the lease has ended"), "{ended}");
    let Reply::Granted { fence } = acquire(&store, "a", 4, 0).await else { panic!("not free") };
    let back = store.save(version(fence, 1), grown(2)).await.unwrap_err();
    assert!(back.to_string().contains("is committed there already"), "{back}");
    store.save(version(fence, 1), grown(3)).await.unwrap();

    let first = publication(version(fence, 1), 3, None);
    store.publish(&first, None).await.unwrap();
    assert_eq!(store.table(Version::default()).await.unwrap(), Some(first.clone()));
    assert_eq!(store.table(first.version()).await.unwrap(), None);
    server.command(&["FLUSHALL"]);
    let renewed = store.ask(&holder("a"), &request(5, Ask::Renew { fence })).await;
    let Reply::Renewed { stored } = renewed else { panic!("{renewed:?}") };
    assert_eq!(stored, Stored::default());
    store.refill(stored).await;
    let Loaded::State(read) = store.load().await.unwrap() else { panic!("no state") };
    assert_eq!(*read, grown(3));
    assert_eq!(store.table(Version::default()).await.unwrap(), Some(first));
}

#[tokio::test]
async fn changes_and_reports_are_heard_as_they_were_told() {
    let Some(server) = RedisServer::start() else { return };
    let store = store(&server);
    let fence = won(&server, &store).await;
    let mut heard = store.watch(true);
    let mut next = async || tokio::time::timeout(LONG, heard.recv()).await.unwrap().unwrap();
    assert_eq!(next().await, Heard::Listening);
    let first = publication(version(fence, 1), 40, None);
    let second = publication(version(fence, 2), 40, Some(7));
    store.publish(&first, None).await.unwrap();
    assert_eq!(next().await, Heard::Newer);
    let change = delta(&first, &second).unwrap();
    store.publish(&second, Some(&change)).await.unwrap();
    assert_eq!(next().await, Heard::Changed(Box::new(change)));
    let instance = InstanceId { replica: ReplicaId(7), incarnation: Incarnation(2) };
    let report = Report {
        balancer: ProcessId("b".into()),
        number: 5,
        acknowledged: version(fence, 2),
        digest: u64::MAX - 1,
        in_flight: [(instance, 3)].into(),
        admin: Some("b:9090".into()),
        authenticator: Some("00ff".into()),
    };
    let failed = vec![(instance, FailureKind::Reset), (instance, FailureKind::Refused)];
    store.report(&report, &failed).await.unwrap();
    assert_eq!(next().await, Heard::Reported(Box::new(report), failed));
    store.leave(&ProcessId("b".into())).await.unwrap();
    assert_eq!(next().await, Heard::Gone(ProcessId("b".into())));
    // A program of an older version does not say where it is; what is too long is no place.
    let older = r#""balancer":"o","number":1,"acknowledged":[1,1],"digest":"0a""#;
    let long = "x".repeat(301);
    for more in [String::new(), format!(r#","admin":"{long}","authenticator":"{long}""#)] {
        let text = format!(r#"{{"report":{{{older}{more}}}}}"#);
        server.command(&["PUBLISH", "ringmaster:{t}:reports", &text]);
        let Heard::Reported(report, _) = next().await else { panic!("it is no report") };
        assert_eq!((report.admin.clone(), report.authenticator.clone()), (None, None));
        assert_eq!((report.process(), report.digest), (None, 10));
    }
    // What is no message of ours is skipped, and the next one is heard.
    server.command(&["PUBLISH", "ringmaster:{t}:reports", "nonsense"]);
    server.command(&["PUBLISH", "ringmaster:{t}:tables", "nonsense"]);
    assert_eq!(next().await, Heard::Newer);
}

#[tokio::test]
async fn keys_of_a_wrong_type_are_replaced_by_what_belongs_there() {
    let Some(server) = RedisServer::start() else { return };
    let store = store(&server);
    for key in ["state", "table", "lease", "fence"] {
        server.command(&["LPUSH", &format!("ringmaster:{{t}}:{key}"), "x"]);
    }
    // A state that is there and cannot be read is not taken for none.
    let unread = store.load().await.unwrap_err();
    assert!(unread.to_string().contains("repair or delete it"), "{unread}");
    assert!(matches!(store.table(Version::default()).await, Err(StoreError::Refused(_))));
    let fence = won(&server, &store).await;
    store.save(version(fence, 1), desired(2)).await.unwrap();
    store.publish(&publication(version(fence, 1), 2, None), None).await.unwrap();
    assert!(matches!(store.load().await.unwrap(), Loaded::State(_)));
    // One of a newer program is left alone.
    let state = "ringmaster:{t}:state";
    server.command(&["HSET", state, "version", "99", "text", r#"{"version":99}"#]);
    let refused = store.save(version(fence, 2), desired(2)).await.unwrap_err();
    assert!(refused.to_string().contains("newer program"), "{refused}");
    assert!(matches!(store.load().await, Err(StoreError::Newer { version: 99, .. })));
}

#[tokio::test]
async fn a_server_that_hangs_or_is_gone_is_an_error_in_time_and_is_found_again() {
    let Some(mut server) = RedisServer::start() else { return };
    let address = Arc::new(Address::parse(&server.url(), None).unwrap());
    let timeout = Duration::from_millis(200);
    let store = RedisStore::new(address, Times { timeout, ttl: LONG }, "t", None, None);
    let ask = async || store.call("test", cmd("GET").arg("x")).await;
    ask().await.unwrap();
    let signal = |name: &str| {
        let pid = rustix::process::Pid::from_raw(server.pid()).unwrap();
        let signal = match name {
            "stop" => rustix::process::Signal::STOP,
            _ => rustix::process::Signal::CONT,
        };
        rustix::process::kill_process(pid, signal).unwrap();
    };
    signal("stop");
    let begin = std::time::Instant::now();
    assert!(matches!(ask().await, Err(StoreError::Away(_))));
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    assert!(store.trouble().is_some());
    signal("continue");
    let found = async || {
        let begin = std::time::Instant::now();
        while ask().await.is_err() {
            assert!(begin.elapsed() < LONG, "it is not found again");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    found().await;
    assert_eq!(store.trouble(), None);
    server.kill();
    assert!(matches!(ask().await, Err(StoreError::Away(_))));
    server.start_again();
    found().await;
}

/// A store that answers with errors has lost nothing: none of them is taken for an empty one.
#[tokio::test]
async fn an_answer_that_is_an_error_is_no_store_without_a_state() {
    let Some(server) = RedisServer::start() else { return };
    let store = store(&server);
    let fence = won(&server, &store).await;
    store.save(version(fence, 1), grown(3)).await.unwrap();
    let is_loaded = async || {
        let begin = std::time::Instant::now();
        loop {
            match store.load().await {
                Ok(Loaded::State(read)) => return assert_eq!(*read, grown(3)),
                Ok(other) => panic!("{other:?}"),
                Err(_) => assert!(begin.elapsed() < LONG, "it is not loaded again"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };

    server.command(&["ACL", "SETUSER", "default", "-hmget"]);
    let denied = store.load().await.unwrap_err();
    assert!(matches!(denied, StoreError::Away(_)), "{denied:?}");
    assert!(store.trouble().is_some_and(|why| why.contains("NOPERM")), "{:?}", store.trouble());
    // Nor is what a script may not read taken for missing.
    let asked = store.ask(&holder("a"), &request(7, Ask::Renew { fence })).await;
    assert_eq!(asked, Reply::Failed);
    server.command(&["ACL", "SETUSER", "default", "+hmget"]);
    is_loaded().await;
    let renewed = store.ask(&holder("a"), &request(8, Ask::Renew { fence })).await;
    assert!(matches!(renewed, Reply::Renewed { .. }), "{renewed:?}");
    assert_eq!(store.trouble(), None);

    server.command(&["CONFIG", "SET", "replica-serve-stale-data", "no"]);
    server.command(&["REPLICAOF", "127.0.0.1", "1"]);
    let down = store.load().await.unwrap_err();
    assert!(matches!(down, StoreError::Away(_)), "{down:?}");
    assert!(down.to_string().contains("MASTERDOWN"), "{down}");
    server.command(&["REPLICAOF", "NO", "ONE"]);
    is_loaded().await;
}

#[tokio::test]
async fn an_older_store_never_replaces_a_newer_copy() {
    let Some(server) = RedisServer::start() else { return };
    let directory = Directory::new("older");
    {
        let store = store_with_copy(&server, &directory.0);
        let fence = won(&server, &store).await;
        store.save(version(fence, 1), grown(3)).await.unwrap();
        server.command(&["DEL", "ringmaster:{t}:state"]);
        store_with(&server, LONG).save(version(fence, 1), grown(2)).await.unwrap();
    }
    let store = store_with_copy(&server, &directory.0);
    // As a process does that only follows at first.
    store.copy().await.unwrap();
    let Loaded::State(read) = store.load().await.unwrap() else { panic!("no state") };
    assert_eq!(*read, grown(3));
    // One that goes on is followed again.
    server.command(&["DEL", "ringmaster:{t}:state"]);
    let Ok(Some(who)) = store.holder().await else { panic!("no holder") };
    assert_eq!(who, holder("a"));
    let fence = server.command(&["GET", "ringmaster:{t}:fence"]);
    let fence = Fence(fence.lines().nth(1).unwrap().parse().unwrap());
    store_with(&server, LONG).save(version(fence, 2), grown(4)).await.unwrap();
    store.copy().await.unwrap();
    server.command(&["DEL", "ringmaster:{t}:state"]);
    let Loaded::State(read) = store.load().await.unwrap() else { panic!("no state") };
    assert_eq!(*read, grown(4));
}

#[tokio::test]
async fn what_is_said_of_backends_counts_only_under_the_lease() {
    let Some(server) = RedisServer::start() else { return };
    let store = store(&server);
    let fence = won(&server, &store).await;
    let name = |text: &str| ReplicaName::new(text).unwrap();
    let place = Server::new("10.0.0.1", 80, Source::Store).unwrap();
    let held = [(name("a"), place.clone()), (name("b"), place)].into();
    let mark = async |fence| store.mark_backend(fence, &name("a"), true, SystemTime::now()).await;
    let stale = Fence(fence.0 - 1);
    assert!(matches!(mark(stale).await, Err(StoreError::Refused(_))));
    assert!(matches!(store.restore_backends(stale, &held).await, Err(StoreError::Refused(_))));
    assert!(server.command(&["EXISTS", "backend:a", "backends"]).starts_with(":0"));
    assert!(store.backends().await.unwrap().is_emptied);

    // One of another type stays what it is, and stops no other.
    server.command(&["LPUSH", "backend:b", "x"]);
    store.restore_backends(fence, &held).await.unwrap();
    mark(fence).await.unwrap();
    let wrong = store.mark_backend(fence, &name("b"), true, SystemTime::now()).await;
    assert!(matches!(wrong, Err(StoreError::Refused(_))), "{wrong:?}");
    let found = store.backends().await.unwrap();
    assert_eq!(found.listed[&name("a")].is_healthy, Some(true));
    assert_eq!((found.unusable, found.is_emptied), (vec![name("b")], false));
    server.command(&["FLUSHALL"]);
    assert!(matches!(mark(fence).await, Err(StoreError::Refused(_))));
}

#[tokio::test]
async fn a_subscription_that_ends_is_told_and_made_anew() {
    let Some(server) = RedisServer::start() else { return };
    let store = store(&server);
    let mut heard = store.watch(true);
    let mut next = async || tokio::time::timeout(LONG, heard.recv()).await.unwrap().unwrap();
    assert_eq!(next().await, Heard::Listening);
    for _ in 0..3 {
        server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        assert_eq!(next().await, Heard::Lost);
        assert_eq!(next().await, Heard::Listening);
    }
    // The commands have a connection of their own.
    assert!(matches!(store.load().await, Ok(Loaded::Nothing)));
}

#[tokio::test]
async fn a_fence_that_no_script_can_have_written_does_not_count() {
    let Some(server) = RedisServer::start() else { return };
    let store = store(&server);
    let huge = "9007199254740992";
    server.command(&["SET", "ringmaster:{t}:fence", huge]);
    for key in ["state", "table", "lease"] {
        let key = format!("ringmaster:{{t}}:{key}");
        server.command(&["HSET", &key, "fence", huge, "number", "1"]);
    }
    server.command(&["DEL", "ringmaster:{t}:lease"]);
    let fence = won(&server, &store).await;
    assert!(fence.0 < 1 << 52, "{fence:?}");
    assert_eq!(store.table(Version::default()).await.unwrap(), None);
    store.save(version(fence, 1), grown(1)).await.unwrap();
    let first = publication(version(fence, 1), 1, None);
    store.publish(&first, None).await.unwrap();
    assert_eq!(store.table(Version::default()).await.unwrap(), Some(first));
}

#[tokio::test]
async fn a_write_that_ends_late_takes_nothing_back() {
    let Some(server) = RedisServer::start() else { return };
    let store = store(&server);
    let fence = won(&server, &store).await;
    for number in [1, 3] {
        store.publish(&publication(version(fence, number), 2, None), None).await.unwrap();
    }
    // As if the answer to an earlier one came after that to a later one.
    server.command(&["DEL", "ringmaster:{t}:table"]);
    store.publish(&publication(version(fence, 2), 1, None), None).await.unwrap();
    let memory = store.memory();
    assert_eq!(memory.table.as_ref().map(Publication::version), Some(version(fence, 3)));
}
