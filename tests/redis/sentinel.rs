//! A Redis with a replica, and the Sentinels that say which of the two is the master.

use std::{
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    harness::{Balancer, Home, Load, ask, eventually, get, within},
    server::RedisServer,
    shared::{Fleet, leads, owners, serves, status},
};

/// One Sentinel, which decides alone; it ends when this is dropped.
struct Sentinel {
    child: Child,
    address: SocketAddr,
    _home: Home,
}

impl Sentinel {
    fn of(master: SocketAddr) -> Self {
        let home = Home::new();
        // Another process may take the port between the two steps: then the next one is tried.
        for _ in 0..20 {
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let settings = format!(
                "port {}\nbind 127.0.0.1\ndir {}\n\
                 sentinel monitor m {} {} 1\n\
                 sentinel down-after-milliseconds m 1000\n\
                 sentinel failover-timeout m 10000\n",
                address.port(),
                home.path("").display(),
                master.ip(),
                master.port(),
            );
            // It writes there what it learns.
            let file = home.write("sentinel.conf", &settings);
            let mut child = Command::new("redis-server")
                .arg(file)
                .arg("--sentinel")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let own = format!("process_id:{}\r\n", child.id());
            let mut listens = false;
            eventually("a Sentinel listens or ends", || {
                let said = RedisServer::ask(address, None, &["INFO", "server"]);
                listens = said.is_some_and(|text| text.contains(&own));
                listens || child.try_wait().unwrap().is_some()
            });
            if listens {
                return Self { child, address, _home: home };
            }
        }
        panic!("no Sentinel could listen");
    }

    fn says(&self, words: &[&str]) -> String {
        RedisServer::ask(self.address, None, words).unwrap()
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Two servers, the second of which copies the first.
fn master_and_replica() -> Option<(RedisServer, RedisServer)> {
    let (master, replica) = (RedisServer::start()?, RedisServer::start()?);
    let port = master.address.port().to_string();
    replica.command(&["REPLICAOF", "127.0.0.1", &port]);
    eventually("the replica copies", || replica.command(&["ROLE"]).contains("connected"));
    Some((master, replica))
}

#[test]
fn a_fleet_goes_on_with_the_next_master() {
    let Some((master, replica)) = master_and_replica() else { return };
    let sentinel = Sentinel::of(master.address);
    eventually("the Sentinel knows the replica", || {
        sentinel.says(&["SENTINEL", "REPLICAS", "m"]).contains(&replica.address.port().to_string())
    });
    // The machine of another Sentinel is away: it takes connections, and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().map(|address| (address, silent)).unwrap();
    let store = format!("redis+sentinel://{},{}/m", silent.0, sentinel.address);
    let mut fleet = Fleet::with(master, 3);
    let start = |process: &str, role: &str| Balancer::spawn(fleet.command(process, role, &store));
    let first = start("a", "both");
    eventually("it supervises", || leads(&first));
    let (second, balancer) = (start("b", "both"), start("c", "balancer"));
    let all = [&first, &second, &balancer];
    all.iter().for_each(|process| serves(process, 3));
    let weigh = |process: &Balancer, weight: u32| {
        let body = format!(r#"{{"weight":{weight}}}"#);
        ask(process.admin, "PUT", "/api/servers/s1/weight", &body)
    };
    let changed = weigh(&balancer, 2);
    assert_eq!(changed.status, 200, "{}", changed.text());
    let agree = || all.iter().all(|process| process.ring()["digest"] == first.ring()["digest"]);
    eventually("all have the new ring", || agree() && first.ring()["replicas"][0]["weight"] == 2);
    let (before, digest, names) = (owners(&first), first.ring()["digest"].clone(), first.rep());
    // What is not copied to the replica before the master dies is lost.
    let keys = [fleet.key("state"), fleet.key("table")];
    let versions = |redis: &RedisServer| {
        keys.clone().map(|key| redis.command(&["HMGET", &key, "fence", "number"]))
    };
    eventually("the replica has it too", || versions(&replica) == versions(&fleet.redis));

    let loads: Vec<Load> = all.iter().map(|process| Load::start(process.traffic, 1)).collect();
    let begin = Instant::now();
    fleet.redis.kill();
    within(Duration::from_secs(15), "the replica is the master", || {
        replica.command(&["ROLE"]).contains("master")
    });
    within(Duration::from_secs(10), "one supervises", || {
        [&first, &second].iter().filter(|process| leads(process)).count() == 1
    });
    println!("from the death of the master to a supervisor: {:?}", begin.elapsed());
    eventually("all are heard", || {
        status(&balancer).is_some_and(|status| status["balancers"].as_array().unwrap().len() == 3)
    });
    for process in all {
        assert_eq!(get(process.admin, "/readyz").status, 200);
        assert_eq!(process.ring()["digest"], digest);
        assert_eq!((owners(process), process.rep()), (before.clone(), names.clone()));
    }
    let changed = weigh(&balancer, 1);
    assert_eq!(changed.status, 200, "{}", changed.text());
    eventually("all have the next ring", || {
        all.iter().all(|process| process.ring()["replicas"][0]["weight"] == 1)
    });
    for load in loads {
        load.all_answered();
    }
    assert!(replica.command(&["EXISTS", &fleet.key("lease")]).starts_with(":1"));
}
