//! What balancers report counts: a drain waits for all who are heard, and another ring is told.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::{
    harness::{ask, eventually, within},
    server::RedisServer,
    shared::{Fleet, leads, metric, serves, status},
};

/// A balancer that only says that it is one.
pub(crate) struct Pretended {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pretended {
    /// `says`: its table, ring and open requests, as on the wire.
    pub(crate) fn start(redis: &RedisServer, fleet: &str, says: String) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (is_over, address) = (Arc::clone(&stop), redis.address);
        let channel = format!("ringmaster:{{{fleet}}}:reports");
        let thread = std::thread::spawn(move || {
            let mut number = 0;
            while !is_over.load(Ordering::SeqCst) {
                number += 1;
                let report =
                    format!(r#"{{"report":{{"balancer":"pretended","number":{number},{says}}}}}"#);
                RedisServer::publish(address, &channel, &report);
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        Self { stop, thread: Some(thread) }
    }

    pub(crate) fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Pretended {
    fn drop(&mut self) {
        self.end();
    }
}

#[test]
fn a_drain_waits_for_every_balancer_that_is_heard_and_for_no_silent_one() {
    let Some(fleet) = Fleet::new(2) else { return };
    let mut command = fleet.command("a", "both", &fleet.redis.url());
    // Far beyond what is waited for here.
    command.args(["--drain", "60s"]);
    let process = crate::harness::Balancer::spawn(command);
    eventually("it supervises", || leads(&process));
    serves(&process, 2);
    let fence = status(&process).unwrap()["lease"]["fence"].as_u64().unwrap();
    let digest = process.ring()["digest"].as_str().unwrap().to_owned();
    let says = format!(r#""acknowledged":[{fence},1],"digest":"{digest}","in_flight":[[1,1,1]]"#);
    let pretended = Pretended::start(&fleet.redis, fleet.name(), says);
    eventually("it is known", || {
        status(&process).unwrap()["balancers"].as_array().unwrap().len() == 2
    });
    let admin = process.admin;
    let removal =
        std::thread::spawn(move || ask(admin, "POST", "/rm", r#"{"n":1,"hostnames":["s1"]}"#));
    eventually("it is out of service", || process.rep() == ["s2"]);
    std::thread::sleep(Duration::from_millis(3_000));
    assert!(!removal.is_finished(), "a balancer that still routes to it was not waited for");
    pretended.stop();
    let begin = Instant::now();
    within(Duration::from_secs(6), "a silent one is not waited for", || removal.is_finished());
    println!("from silence to the end of the drain: {:?}", begin.elapsed());
    assert_eq!(removal.join().unwrap().status, 200);
}

#[test]
fn another_ring_is_told_after_a_second_and_when_it_is_over() {
    let Some(fleet) = Fleet::new(2) else { return };
    let process = fleet.start("a", "both");
    eventually("it supervises", || leads(&process));
    serves(&process, 2);
    let disagree = || metric(&process, "ringmaster_balancers_disagreeing");
    assert_eq!(disagree(), Some(0.0));
    let fence = status(&process).unwrap()["lease"]["fence"].as_u64().unwrap();
    let says = format!(r#""acknowledged":[{fence},1],"digest":"00000000000000ff""#);
    let pretended = Pretended::start(&fleet.redis, fleet.name(), says);
    within(Duration::from_secs(5), "it is counted", || disagree() == Some(1.0));
    assert!(
        process.log().contains("balancers with another ring than the published one: pretended")
    );
    pretended.stop();
    within(Duration::from_secs(5), "it is over", || disagree() == Some(0.0));
}

#[test]
fn no_drain_is_over_while_the_supervisor_hears_no_balancer() {
    let Some(fleet) = Fleet::new(2) else { return };
    let mut command = fleet.command("a", "both", &fleet.redis.url());
    command.args(["--drain", "60s"]);
    let process = crate::harness::Balancer::spawn(command);
    eventually("it supervises", || leads(&process));
    serves(&process, 2);
    let fence = status(&process).unwrap()["lease"]["fence"].as_u64().unwrap();
    let digest = process.ring()["digest"].as_str().unwrap().to_owned();
    let says = format!(r#""acknowledged":[{fence},1],"digest":"{digest}","in_flight":[[1,1,1]]"#);
    let pretended = Pretended::start(&fleet.redis, fleet.name(), says);
    eventually("it is known", || {
        status(&process).unwrap()["balancers"].as_array().unwrap().len() == 2
    });
    let admin = process.admin;
    let removal =
        std::thread::spawn(move || ask(admin, "POST", "/rm", r#"{"n":1,"hostnames":["s1"]}"#));
    eventually("it is out of service", || process.rep() == ["s2"]);
    pretended.stop();
    // It goes on with the lease, and must not take its own deafness for the silence of the others.
    fleet.redis.command(&["ACL", "SETUSER", "default", "resetchannels"]);
    std::thread::sleep(Duration::from_millis(4_000));
    assert!(leads(&process), "{}", process.log());
    assert!(!removal.is_finished(), "what could not be heard was taken for silence");
    fleet.redis.command(&["ACL", "SETUSER", "default", "allchannels"]);
    within(Duration::from_secs(10), "it listens again, and the drain ends", || {
        removal.is_finished()
    });
    assert_eq!(removal.join().unwrap().status, 200);
}
