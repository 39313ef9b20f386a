//! One process alone reaches the Redis no more, slowly, or without an answer.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{
    harness::{Balancer, Home, Load, ask, eventually, get, try_ask, within},
    line::{Line, through},
    shared::{Fleet, leads, metric, owners, serves},
};

#[test]
fn a_supervisor_that_is_cut_off_stops_before_another_begins() {
    let Some(fleet) = Fleet::new(3) else { return };
    let (line, first) = through(&fleet, "a");
    eventually("it supervises", || leads(&first));
    let second = fleet.start("b", "both");
    for process in [&first, &second] {
        serves(process, 3);
    }
    let before = owners(&first);
    let loads = [Load::start(first.traffic, 1), Load::start(second.traffic, 1)];
    line.cut();
    let begin = Instant::now();
    within(Duration::from_secs(4), "another one supervises", || {
        let other_leads = leads(&second);
        // Asked later: the last holder must have stopped by then.
        assert!(!(other_leads && leads(&first)), "two supervise");
        other_leads
    });
    println!("takeover of one that is cut off: {:?}", begin.elapsed());
    assert_eq!(get(first.admin, "/readyz").status, 200);
    let said = ask(first.admin, "POST", "/rm", r#"{"n":1}"#).refusal(503);
    assert!(said.contains("the store does not answer"), "{said}");
    // A change of the new one reaches the old one when the line is mended.
    let changed = ask(second.admin, "PUT", "/api/servers/s1/weight", r#"{"weight":2}"#);
    assert_eq!(changed.status, 200, "{}", changed.text());
    line.mend();
    eventually("it follows", || first.ring()["digest"] == second.ring()["digest"]);
    assert!(!leads(&first) && leads(&second));
    for load in loads {
        load.all_answered();
    }
    let after = owners(&first);
    assert_eq!(after, owners(&second));
    let elsewhere = before.iter().zip(&after).filter(|(was, is)| was != is);
    assert!(elsewhere.clone().all(|(_, is)| is == "s1"), "more moved than the weight asks for");
}

/// By the clock of the store, which is what the next supervisor goes by.
#[test]
fn a_supervisor_that_is_not_heard_stops_before_its_lease_has_expired() {
    let Some(fleet) = Fleet::new(2) else { return };
    let (line, process) = through(&fleet, "a");
    eventually("it supervises", || leads(&process));
    serves(&process, 2);
    let weigh = || ask(process.admin, "PUT", "/api/servers/s1/weight", r#"{"weight":2}"#);
    let lease = fleet.key("lease");
    for break_line in [Line::cut, Line::freeze] {
        break_line(&line);
        within(Duration::from_secs(4), "the lease expires", || {
            let is_held = fleet.redis.command(&["EXISTS", &lease]).starts_with(":1");
            // Asked later than the store.
            assert!(is_held || !leads(&process), "it supervises longer than its lease lives");
            !is_held
        });
        let said = weigh().refusal(503);
        assert!(said.contains("the store does not answer"), "{said}");
        let told = Home::new().ringmaster(&["status", "--url", &process.url()]);
        assert_eq!(told.code, 1, "{told:?}");
        assert!(told.err.contains("the store does not answer"), "{told:?}");
        assert_eq!(process.ring()["replicas"][0]["weight"], 1);
        assert_eq!((get(process.admin, "/readyz").status, process.rep().len()), (200, 2));
        line.mend();
        eventually("it supervises again", || leads(&process));
    }
    eventually("it is asked again", || weigh().status == 200);
}

#[test]
fn a_slow_store_deposes_no_one() {
    let Some(fleet) = Fleet::new(2) else { return };
    let (line, first) = through(&fleet, "a");
    eventually("it supervises", || leads(&first));
    let second = fleet.start("b", "both");
    for process in [&first, &second] {
        serves(process, 2);
    }
    let fence = metric(&first, "ringmaster_table_fence");
    // There and back; the deadline of a call is 500 ms.
    line.slow_down(Duration::from_millis(80));
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(4) {
        assert!(leads(&first) && !leads(&second), "{}", first.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    let changed = ask(second.admin, "PUT", "/api/servers/s1/weight", r#"{"weight":2}"#);
    assert_eq!(changed.status, 200, "{}", changed.text());
    eventually("both have the new ring", || first.ring()["digest"] == second.ring()["digest"]);
    assert_eq!(metric(&second, "ringmaster_table_fence"), fence);
}

#[test]
fn a_takeover_is_ready_all_the_time_and_empties_no_table() {
    let Some(fleet) = Fleet::new(2) else { return };
    let first = fleet.start("a", "both");
    eventually("it supervises", || leads(&first));
    let (second, third) = (fleet.start("b", "both"), fleet.start("c", "balancer"));
    for process in [&second, &third] {
        serves(process, 2);
    }
    let replicas = |signal| {
        for replica in &fleet.replicas {
            replica.signal(signal);
        }
    };
    let routes_on = || {
        for process in [&second, &third] {
            assert_eq!(get(process.admin, "/readyz").status, 200);
            assert_eq!(process.rep(), ["s1", "s2"]);
        }
    };
    let fence = metric(&third, "ringmaster_table_fence");
    first.kill();
    // The next supervisor reaches none of them, as if it were cut off from their network.
    replicas(Signal::STOP);
    within(Duration::from_secs(6), "the standby supervises", || {
        routes_on();
        leads(&second)
    });
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(4) {
        routes_on();
        std::thread::sleep(Duration::from_millis(20));
    }
    replicas(Signal::CONT);
    // Its own table comes into force with the first that passes; none is ever empty.
    let both = [&second, &third];
    within(Duration::from_secs(15), "the new supervisor's table is in force", || {
        for process in both {
            assert_eq!(get(process.admin, "/readyz").status, 200);
            assert!(!process.rep().is_empty());
        }
        let fences = both.map(|process| metric(process, "ringmaster_table_fence"));
        fences[0] > fence && fences[1] == fences[0]
    });
    for process in both {
        eventually("both serve again", || process.rep() == ["s1", "s2"]);
    }
}

#[test]
fn the_token_goes_to_no_address_that_was_not_proven() {
    let Some(fleet) = Fleet::new(2) else { return };
    let start = |process: &str, role: &str| {
        let mut command = fleet.command(process, role, &fleet.redis.url());
        command.env("RINGMASTER_ADMIN_TOKEN", "s3cret");
        Balancer::spawn(command)
    };
    let headers = [("authorization", "Bearer s3cret")];
    let first = start("a", "both");
    let balancer = start("c", "balancer");
    let weigh = |weight: u32| {
        let body = format!(r#"{{"weight":{weight}}}"#);
        try_ask(balancer.admin, "PUT", "/api/servers/s1/weight", &headers, &body).unwrap()
    };
    eventually("a command is passed on with the token", || weigh(2).status == 200);
    let evil = TcpListener::bind("127.0.0.1:0").unwrap();
    evil.set_nonblocking(true).unwrap();
    let lease = format!("ringmaster:{{{}}}:lease", fleet.name());
    let address = evil.local_addr().unwrap().to_string();
    // The record is right again with the next renewal.
    eventually("another address is refused", || {
        fleet.redis.command(&["HSET", &lease, "admin", &address]);
        let answer = weigh(3);
        assert!(evil.accept().is_err(), "the token was sent to another address");
        answer.status == 503 && answer.text().contains("was not written with")
    });
    eventually("the supervisor's own word counts", || weigh(4).status == 200);
    drop(first);
}
