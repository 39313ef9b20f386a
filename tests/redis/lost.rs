//! The Redis goes away, hangs, or loses all that it had: traffic goes on, and no key moves.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    harness::{Balancer, Load, eventually, get},
    shared::{Fleet, leads, metric, owners, serves, status},
};

fn one_leads(processes: &[&Balancer]) -> bool {
    processes.iter().filter(|process| leads(process)).count() == 1
}

fn all_stop(processes: &[&Balancer]) {
    eventually("no one supervises without the store", || {
        processes.iter().all(|process| !leads(process))
    });
    for process in processes {
        assert_eq!(get(process.admin, "/readyz").status, 200);
        let said = get(process.admin, "/api/status").refusal(503);
        assert!(said.contains("the store does not answer"), "{said}");
        assert_eq!(metric(process, "ringmaster_store_up"), Some(0.0));
    }
}

#[test]
fn a_redis_that_is_killed_comes_back_empty_or_hangs_moves_no_key() {
    let Some(mut fleet) = Fleet::new(3) else { return };
    let first = fleet.start("a", "both");
    eventually("it supervises", || leads(&first));
    let second = fleet.start("b", "both");
    let balancer = fleet.start("c", "balancer");
    let all = [&first, &second, &balancer];
    all.iter().for_each(|process| serves(process, 3));
    let before = owners(&first);
    let digest = first.ring()["digest"].clone();
    let loads: Vec<Load> = all.iter().map(|process| Load::start(process.traffic, 1)).collect();
    let as_before = || {
        eventually("one supervises", || one_leads(&[&first, &second]));
        for process in all {
            assert_eq!(owners(process), before);
            assert_eq!(process.ring()["digest"], digest);
        }
        eventually("the balancers report again", || {
            status(&balancer)
                .is_some_and(|status| status["balancers"].as_array().unwrap().len() >= 2)
        });
    };

    fleet.redis.command(&["FLUSHALL"]);
    let key = |name: &str| format!("ringmaster:{{{}}}:{name}", fleet.name());
    eventually("what was lost is written again", || {
        let has = |name: &str| fleet.redis.command(&["EXISTS", &key(name)]).starts_with(":1");
        ["state", "table", "lease", "fence"].iter().all(|name| has(name))
    });
    as_before();

    fleet.redis.kill();
    all_stop(&all);
    // A replica may die meanwhile: requests go to the next of its list.
    fleet.redis.start_again();
    as_before();

    let redis = Pid::from_raw(fleet.redis.pid()).unwrap();
    kill_process(redis, Signal::STOP).unwrap();
    all_stop(&all);
    std::thread::sleep(Duration::from_millis(500));
    kill_process(redis, Signal::CONT).unwrap();
    as_before();

    for load in loads {
        load.all_answered();
    }
    // Each of it was said once in each process, not again and again.
    let said = second.log().matches("the store does not answer").count();
    assert!(said <= 4, "{said}: {}", second.log());
}
