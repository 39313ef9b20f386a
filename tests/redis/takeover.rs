//! A supervisor dies or ends, and another one takes over; commands work on any process.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::{
    harness::{Load, ask, eventually, get, within},
    shared::{Fleet, leads, metric, owners, serves, status},
};

#[test]
fn a_standby_takes_over_in_three_seconds_and_no_key_moves() {
    let Some(fleet) = Fleet::new(3) else { return };
    let first = fleet.start("a", "both");
    eventually("the first one supervises", || leads(&first));
    let second = fleet.start("b", "both");
    let balancer = fleet.start("c", "balancer");
    for process in [&first, &second, &balancer] {
        serves(process, 3);
    }
    assert!(!leads(&second) && !leads(&balancer));
    let before = owners(&first);
    assert_eq!(owners(&second), before);
    assert_eq!(owners(&balancer), before);
    let digest = first.ring()["digest"].clone();
    let fence = status(&first).unwrap()["lease"]["fence"].as_u64().unwrap();

    let loads = [Load::start(second.traffic, 2), Load::start(balancer.traffic, 2)];
    let begin = Instant::now();
    first.kill();
    within(Duration::from_secs(3), "the standby supervises", || leads(&second));
    let took = begin.elapsed();
    println!("takeover after kill -9: {took:?}");
    eventually("the other balancer reports to the new one", || {
        let status = status(&second).unwrap();
        status["balancers"].as_array().unwrap().len() == 2
    });
    eventually("it follows the new term", || {
        metric(&balancer, "ringmaster_table_fence").is_some_and(|now| now > fence as f64)
    });
    for load in loads {
        load.all_answered();
    }
    assert_eq!(owners(&second), before);
    assert_eq!(owners(&balancer), before);
    for process in [&second, &balancer] {
        assert_eq!(process.ring()["digest"], digest);
    }
    assert!(status(&second).unwrap()["lease"]["fence"].as_u64().unwrap() > fence);
}

#[test]
fn a_supervisor_that_ends_hands_over_at_once() {
    let Some(fleet) = Fleet::new(2) else { return };
    let first = fleet.start("a", "supervisor");
    eventually("the first one supervises", || leads(&first));
    let second = fleet.start("b", "supervisor");
    let balancer = fleet.start("c", "balancer");
    serves(&balancer, 2);
    let load = Load::start(balancer.traffic, 2);
    first.signal(Signal::TERM);
    let begin = Instant::now();
    within(Duration::from_millis(1_500), "the standby supervises", || leads(&second));
    println!("takeover after SIGTERM: {:?}", begin.elapsed());
    let (code, log) = first.terminate();
    assert!(code.success(), "{log}");
    load.all_answered();
}

#[test]
fn commands_are_answered_by_the_supervisor_on_every_process() {
    let Some(fleet) = Fleet::new(3) else { return };
    let supervisor = fleet.start("a", "supervisor");
    eventually("it supervises", || leads(&supervisor));
    let standby = fleet.start("b", "supervisor");
    let balancer = fleet.start("c", "balancer");
    serves(&balancer, 3);
    for (process, weight) in [(&supervisor, 2), (&standby, 3), (&balancer, 1)] {
        let body = format!("{{\"weight\":{weight}}}");
        let answer = ask(process.admin, "PUT", "/api/servers/s1/weight", &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        eventually("all have the new ring", || {
            [&supervisor, &standby, &balancer]
                .iter()
                .all(|one| one.ring()["replicas"][0]["weight"] == weight)
        });
    }
    // What the supervisor refuses is refused in its words.
    let refused = ask(balancer.admin, "PUT", "/api/servers/nobody/weight", "{\"weight\":2}");
    assert!((400..500).contains(&refused.status), "{}", refused.text());
    assert!(refused.text().contains("nobody"), "{}", refused.text());
    let refused = ask(balancer.traffic, "POST", "/add", "{\"n\":1}");
    let said = refused.refusal(400);
    assert!(said.contains("static"), "{said}");
    // On the traffic port only what is mounted there; the rest goes to replicas.
    assert_eq!(get(balancer.traffic, "/api/status").status, 404);
    assert_eq!(get(standby.admin, "/api/status").json()["desired"], 3);
    for process in [&supervisor, &standby, &balancer] {
        assert_eq!(get(process.admin, "/livez").status, 200);
        assert_eq!(get(process.admin, "/readyz").status, 200);
    }
    let told = Fleet::ringmaster(&["status", "--url", &balancer.url()]);
    assert!(told.contains("supervised at") && told.contains("balancer 127.0.0.1:"), "{told}");
    // There is no supervisor to relay to.
    supervisor.kill();
    let gone = ask(balancer.admin, "POST", "/rm", "{\"n\":1}");
    let said = gone.refusal(503);
    assert!(said.contains("supervis"), "{said}");
    assert_eq!(get(balancer.traffic, "/rep").json()["message"]["N"], 3);
}
