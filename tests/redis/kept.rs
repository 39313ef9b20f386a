//! A balancer that starts while the Redis is away goes on with the table that it kept.

use std::fs;

use crate::{
    harness::{Balancer, Load, ask, eventually, get},
    shared::{Fleet, leads, metric, owners, serves},
};

#[test]
fn a_start_without_the_store_serves_by_the_last_table() {
    let Some(mut fleet) = Fleet::new(3) else { return };
    let supervisor = fleet.start("a", "supervisor");
    eventually("it supervises", || leads(&supervisor));
    let start = |fleet: &Fleet| fleet.start("b", "balancer");
    let balancer = start(&fleet);
    serves(&balancer, 3);
    let changed = ask(balancer.admin, "PUT", "/api/servers/s1/weight", r#"{"weight":3}"#);
    assert_eq!(changed.status, 200, "{}", changed.text());
    eventually("it has the new ring", || balancer.ring()["replicas"][0]["weight"] == 3);
    let (before, ring) = (owners(&balancer), balancer.ring());
    let file = fleet.state_dir("b").join(format!("table-{}.json", fleet.name()));
    eventually("the newest table is kept", || {
        fs::read_to_string(&file).is_ok_and(|text| text.contains(r#""weight":3"#))
    });
    fleet.redis.kill();
    balancer.kill();

    let balancer = start(&fleet);
    assert!(balancer.log().contains("going on with the table that was kept on the disk"));
    assert_eq!(metric(&balancer, "ringmaster_store_up"), Some(0.0));
    assert_eq!(get(balancer.admin, "/readyz").status, 200);
    assert_eq!((owners(&balancer), balancer.ring()), (before.clone(), ring.clone()));
    let said = ask(balancer.admin, "POST", "/rm", r#"{"n":1}"#).refusal(503);
    assert!(said.contains("the store does not answer"), "{said}");
    // It follows again as soon as there is something to follow.
    let load = Load::start(balancer.traffic, 1);
    fleet.redis.start_again();
    eventually("it follows the supervisor again", || {
        ask(balancer.admin, "PUT", "/api/servers/s1/weight", r#"{"weight":1}"#).status == 200
    });
    eventually("it has the next ring", || balancer.ring()["replicas"][0]["weight"] == 1);
    load.all_answered();
}

#[test]
fn a_kept_table_that_cannot_be_read_is_said_and_waited_for() {
    let Some(mut fleet) = Fleet::new(1) else { return };
    fleet.redis.kill();
    let directory = fleet.state_dir("b");
    fs::create_dir_all(&directory).unwrap();
    let name = format!("table-{}.json", fleet.name());
    fs::write(directory.join(name), r#"{"version":"#).unwrap();
    let mut balancer = Balancer::begin(fleet.command("b", "balancer", &fleet.redis.url()));
    eventually("the file is complained of", || {
        balancer.logged("the store's table in the state directory cannot be used: ").is_some()
    });
    eventually("it waits", || balancer.logged("no routing table has come yet").is_some());
    fleet.redis.start_again();
    let supervisor = fleet.start("a", "supervisor");
    balancer.listens();
    serves(&balancer, 1);
    assert!(leads(&supervisor));
}
