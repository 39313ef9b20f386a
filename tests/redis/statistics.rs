//! What all processes of a fleet have counted is one sum, whichever of them is asked; a reset is one,
//! too; and a process that does not answer is named.

use std::{
    collections::BTreeMap,
    net::TcpListener,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    harness::{Balancer, LONG, Response, ask, eventually, get, try_ask, within},
    reports::Pretended,
    shared::{Fleet, leads, owner, serves, status},
};

/// What a client has seen since the last reset.
#[derive(Clone, Default, PartialEq, Debug)]
struct Tally {
    servers: BTreeMap<String, u64>,
    errors: u64,
}

impl Tally {
    fn total(&self) -> u64 {
        self.servers.values().sum()
    }

    /// So many requests, each with a key of its own.
    fn send(&mut self, process: &Balancer, count: usize) {
        for key in 0..count {
            *self.servers.entry(owner(process, key)).or_default() += 1;
        }
    }

    /// The same where each server answers 503.
    fn fail(&mut self, process: &Balancer, count: usize) {
        for key in 0..count {
            let name = owner(process, key);
            let answer = get(process.traffic, &format!("/health?id={key}"));
            assert_eq!(answer.status, 503, "{}", answer.text());
            *self.servers.entry(name).or_default() += 2;
            self.errors += 1;
        }
    }

    fn is_of(&self, figures: &Value) -> bool {
        let servers = figures["servers"].as_array().unwrap().iter();
        let shown: BTreeMap<String, u64> = servers
            .map(|one| {
                (one["name"].as_str().unwrap().into(), one["request_count"].as_u64().unwrap())
            })
            .filter(|(_, count)| *count > 0)
            .collect();
        let errors = figures["servers"].as_array().unwrap().iter();
        let errors: u64 = errors.map(|one| one["error_count"].as_u64().unwrap()).sum();
        shown == self.servers && errors == self.errors
    }
}

/// Figures in which no process is missing. On a busy machine one may be late now and then.
fn whole(process: &Balancer, path: &str) -> Value {
    let mut figures = Value::Null;
    eventually("all processes answer", || {
        let answer = get(process.admin, path);
        assert_eq!(answer.status, 200, "{}", answer.text());
        figures = answer.json();
        figures.get("incomplete").is_none()
    });
    figures
}

/// All that shows statistics shows these, whichever process is asked.
fn agree(processes: &[&Balancer], tally: &Tally) {
    for process in processes {
        for path in ["/api/stats", "/api/metrics", "/api/servers"] {
            let figures = whole(process, path);
            assert!(tally.is_of(&figures), "{path}: {figures} is not {tally:?}");
            if path != "/api/servers" {
                let sums = ["total_requests", "total_errors", "unanswered"];
                let sums = sums.map(|key| figures[key].as_u64().unwrap());
                assert_eq!(sums, [tally.total(), tally.errors, 0], "{path}: {figures}");
            }
        }
        for (name, count) in &tally.servers {
            let one = whole(process, &format!("/api/servers/{name}"));
            assert_eq!(one["request_count"], *count, "{one}");
        }
    }
}

/// The supervisor hears so many balancers, and knows that there are no others.
fn knows(process: &Balancer, balancers: usize) {
    eventually("all balancers are known", || {
        let known = status(process).map(|status| status["balancers"].as_array().unwrap().len());
        let stats = get(process.admin, "/api/stats");
        known == Some(balancers) && stats.status == 200 && stats.json().get("incomplete").is_none()
    });
}

/// Stops a process, and waits until the last of its threads stands still.
fn pause(process: &Balancer) {
    process.signal(Signal::STOP);
    let threads = format!("/proc/{}/task", process.pid());
    within(LONG, "it stands still", || {
        std::fs::read_dir(&threads).unwrap().all(|thread| {
            let stat = std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap();
            // Behind its name in parentheses.
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
        })
    });
}

/// Resets, whichever process is asked.
fn reset(process: &Balancer) {
    let done = r#"{"message":"Statistics reset successfully"}"#;
    eventually("all processes begin anew", || {
        let answer = ask(process.admin, "POST", "/manage/reset", "");
        assert!([200, 503].contains(&answer.status), "{}", answer.text());
        answer.status == 200 && answer.text() == done
    });
}

#[test]
fn all_processes_count_as_one_and_begin_anew_as_one() {
    let Some(fleet) = Fleet::new(3) else { return };
    let first = fleet.start("a", "supervisor");
    eventually("it supervises", || leads(&first));
    let balancers = [fleet.start("b", "balancer"), fleet.start("c", "balancer")];
    let [b, c] = &balancers;
    serves(b, 3);
    serves(c, 3);
    knows(&first, 2);
    let mut tally = Tally::default();
    agree(&[&first, b, c], &tally);
    tally.send(b, 40);
    tally.send(c, 25);
    agree(&[&first, b, c], &tally);
    for replica in &fleet.replicas {
        assert_eq!(get(replica.address, "/toggle-health").status, 200);
    }
    tally.fail(c, 7);
    agree(&[&first, b, c], &tally);
    let metrics = whole(&first, "/api/metrics");
    let times =
        ["average", "p50", "p99"].map(|key| metrics["response_time"][key].as_f64().unwrap());
    assert!(
        times.iter().all(|seconds| (0.0..1.0).contains(seconds) && *seconds > 0.0),
        "{metrics}"
    );

    reset(b);
    tally = Tally::default();
    agree(&[&first, b, c], &tally);
    tally.send(c, 11);
    tally.send(b, 3);
    agree(&[&first, b, c], &tally);

    // Each process keeps its own part: another supervisor finds all of it.
    let second = fleet.start("d", "supervisor");
    first.kill();
    eventually("the standby supervises", || leads(&second));
    knows(&second, 2);
    tally.send(b, 2);
    agree(&[&second, b, c], &tally);
    reset(&second);
    agree(&[&second, b, c], &Tally::default());
    drop(balancers);
}

#[test]
fn a_balancer_that_does_not_answer_is_named_and_nothing_is_reset_without_it() {
    let Some(fleet) = Fleet::new(2) else { return };
    let supervisor = fleet.start("a", "both");
    eventually("it supervises", || leads(&supervisor));
    let (b, c) = (fleet.start("b", "balancer"), fleet.start("c", "balancer"));
    serves(&b, 2);
    serves(&c, 2);
    knows(&supervisor, 3);
    let mut tally = Tally::default();
    for (process, count) in [(&supervisor, 9), (&b, 12), (&c, 5)] {
        tally.send(process, count);
    }
    agree(&[&supervisor, &b, &c], &tally);

    pause(&c);
    let begin = Instant::now();
    let (to, through) = (supervisor.admin, b.admin);
    let refused = std::thread::spawn(move || ask(through, "POST", "/manage/reset", ""));
    let partial = get(to, "/api/stats");
    let took = begin.elapsed();
    let named = c.admin.to_string();
    assert_eq!(partial.status, 200, "{}", partial.text());
    let said = missing(&partial);
    assert!(said.contains(&named) && said.contains("no answer"), "{}", partial.text());
    assert_eq!(partial.json()["total_requests"], 21, "{}", partial.text());
    println!("a paused balancer is named after {took:?}");
    assert!(took < Duration::from_secs(3), "{took:?}");
    let refused = refused.join().unwrap();
    assert_eq!(refused.status, 503, "{}", refused.text());
    let said = refused.json()["error"].as_str().unwrap().to_owned();
    assert!(said.starts_with("nothing was reset: ") && said.contains(&named), "{said}");

    // Silent for so long it counts as ended, until it is heard again. Its part was kept.
    within(LONG, "it is not waited for", || {
        get(to, "/api/stats").json().get("incomplete").is_none()
    });
    assert_eq!(whole(&supervisor, "/api/stats")["total_requests"], 21);
    c.signal(Signal::CONT);
    eventually("it is back", || get(to, "/api/stats").json()["total_requests"] == 26);
    agree(&[&supervisor, &b, &c], &tally);
    // One that ends takes its part along.
    drop(c.terminate());
    eventually("its part is gone", || whole(&supervisor, "/api/stats")["total_requests"] == 21);
}

/// The sentences about what is missing.
fn missing(answer: &Response) -> String {
    answer.json()["incomplete"].to_string()
}

#[test]
fn a_report_leads_to_no_other_place_than_its_process() {
    let Some(fleet) = Fleet::new(1) else { return };
    let supervisor = fleet.start("a", "supervisor");
    eventually("it supervises", || leads(&supervisor));
    let balancer = fleet.start("b", "balancer");
    serves(&balancer, 1);
    knows(&supervisor, 1);
    let mut tally = Tally::default();
    tally.send(&balancer, 4);
    let fence = status(&supervisor).unwrap()["lease"]["fence"].as_u64().unwrap();
    let table = format!(r#""acknowledged":[{fence},1],"digest":"00000000000000ff""#);
    let its = |admin: &str| format!(r#"{table},"admin":"{admin}""#);
    for (says, why) in [
        // As a program says it that is older than this.
        (table.clone(), "names no address"),
        (its("127.0.0.1:80/x"), "names no address"),
        (its(&format!("{}.example:80", "x".repeat(300))), "names no address"),
        (its("192.0.2.1:80"), "only this machine is asked"),
        // What another process has counted is not counted twice.
        (its(&balancer.admin.to_string()), "another process is here"),
        (its(&supervisor.admin.to_string()), "another process is here"),
    ] {
        let pretended = Pretended::start(&fleet.redis, fleet.name(), says);
        let mut said = String::new();
        eventually("the stranger is named", || {
            let stats = get(supervisor.admin, "/api/stats");
            said = missing(&stats);
            said.contains("the balancer pretended: ") && stats.json()["total_requests"] == 4
        });
        assert!(said.contains(why), "{why}: {said}");
        pretended.stop();
        eventually("it is over", || missing(&get(supervisor.admin, "/api/stats")) == "null");
    }
    // Without the name of the process nothing is told or reset.
    for (method, path) in
        [("GET", "/api/process/statistics"), ("POST", "/api/process/statistics/reset")]
    {
        let refused = ask(balancer.admin, method, path, "").refusal(400);
        assert!(refused.contains("ringmaster-process"), "{refused}");
    }
    agree(&[&supervisor, &balancer], &tally);
}

#[test]
fn the_token_goes_to_no_balancer_that_did_not_prove_to_have_it() {
    let Some(fleet) = Fleet::new(1) else { return };
    let start = |process: &str, role: &str| {
        let mut command = fleet.command(process, role, &fleet.redis.url());
        command.env("RINGMASTER_ADMIN_TOKEN", "s3cret");
        Balancer::spawn(command)
    };
    let headers = [("authorization", "Bearer s3cret")];
    let (supervisor, balancer) = (start("a", "supervisor"), start("b", "balancer"));
    let stats = || try_ask(balancer.admin, "GET", "/api/stats", &headers, "").unwrap();
    eventually("the balancer is asked with the token", || {
        let stats = stats();
        stats.status == 200 && missing(&stats) == "null"
    });
    assert_eq!(get(balancer.traffic, "/home").status, 200);
    assert_eq!(stats().json()["total_requests"], 1);
    assert_eq!(get(balancer.admin, "/api/process/statistics").status, 401);
    let evil = TcpListener::bind("127.0.0.1:0").unwrap();
    evil.set_nonblocking(true).unwrap();
    let admin = evil.local_addr().unwrap();
    for proof in ["", &format!(r#","authenticator":"{}""#, "0f".repeat(32))] {
        let says = format!(r#""acknowledged":[1,1],"digest":"00","admin":"{admin}"{proof}"#);
        let pretended = Pretended::start(&fleet.redis, fleet.name(), says);
        eventually("the stranger is named", || {
            let said = missing(&stats());
            said.contains("pretended") && said.contains("was not written with the `admin_token`")
        });
        let reset = try_ask(balancer.admin, "POST", "/manage/reset", &headers, "").unwrap();
        assert_eq!(reset.status, 503, "{}", reset.text());
        assert!(evil.accept().is_err(), "the token was sent to another address");
        pretended.stop();
        eventually("it is over", || missing(&stats()) == "null");
    }
    drop(supervisor);
}

#[test]
fn a_key_is_routed_by_the_balancer_that_is_asked() {
    let Some(fleet) = Fleet::new(3) else { return };
    let supervisor = fleet.start("a", "supervisor");
    eventually("it supervises", || leads(&supervisor));
    let balancer = fleet.start("b", "balancer");
    serves(&balancer, 3);
    knows(&supervisor, 1);
    let routes = || {
        for key in 0..12 {
            let expected = owner(&balancer, key);
            let body = format!(r#"{{"key":"{key}","path":"/home"}}"#);
            let routed = ask(balancer.admin, "POST", "/api/route", &body);
            assert_eq!(routed.status, 200, "{}", routed.text());
            let message = routed.json()["message"].as_str().unwrap().to_owned();
            assert!(message.ends_with(&format!(" {expected}")), "{key}: {message}");
        }
    };
    routes();
    assert_eq!(whole(&supervisor, "/api/stats")["total_requests"], 24);
    // A process without a data plane has one ask that has none of its own, either.
    let nowhere = ask(supervisor.admin, "POST", "/api/route", r#"{"key":"1","path":"/home"}"#);
    assert_eq!(nowhere.status, 503, "{}", nowhere.text());
    // Nothing of it needs a supervisor.
    supervisor.kill();
    routes();
}
