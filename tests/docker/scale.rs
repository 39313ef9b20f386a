//! Start and scale commands: the real program, the real engine.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use crate::docker::{engine, eventually};
use crate::docker_support::{
    Fleet, SOON, alone, beside_others,
    http::call,
    image,
    load::{Load, Shape},
    print,
};

const GENTLE: Shape = Shape { connections: 20, rate: 100 };

#[test]
fn a_fleet_starts_as_the_contract_requires() {
    let Some(host) = engine() else { return };
    let _turn = beside_others();
    let fleet = Fleet::of(&host, 3, &["--env", "COLOUR=blue"]);
    assert_eq!(fleet.replicas(), ["server_1", "server_2", "server_3"]);

    let ring = fleet.ring();
    for (index, name) in fleet.replicas().iter().enumerate() {
        let container = fleet.container(name);
        let inspect = |template: &str| fleet.world.inspect(&container, template);
        let label =
            |key: &str| inspect(&format!("{{{{index .Config.Labels \"ringmaster.{key}\"}}}}"));
        let id = (index + 1).to_string();
        assert_eq!(label("fleet"), fleet.world.fleet);
        assert_eq!((label("replica"), label("incarnation")), (id.clone(), "1".to_owned()));
        assert!(!label("spec").is_empty());
        let slots: Vec<u64> = label("slots").split(',').map(|slot| slot.parse().unwrap()).collect();
        let replica = &ring["replicas"][index];
        assert_eq!(replica["name"], **name);
        let positions = replica["slots"].as_array().unwrap();
        assert_eq!(positions.iter().map(|p| p.as_u64().unwrap()).collect::<Vec<_>>(), slots);

        let env = inspect("{{range .Config.Env}}{{.}}\n{{end}}");
        let env: BTreeSet<&str> = env.lines().collect();
        let server_id = format!("SERVER_ID={name}");
        let replica = format!("RINGMASTER_REPLICA={id}");
        for expected in
            [&*server_id, "PORT=5000", &*replica, "RINGMASTER_INCARNATION=1", "COLOUR=blue"]
        {
            assert!(env.contains(expected), "{expected} in {env:?}");
        }
        assert_eq!(inspect("{{.Config.Hostname}}"), *name);
        let aliases = inspect("{{range .NetworkSettings.Networks}}{{.Aliases}}{{end}}");
        let aliases: Vec<&str> = aliases.trim_matches(['[', ']']).split(' ').collect();
        assert_eq!(aliases[0], name);
        assert!(aliases.contains(&&*format!("replica-{id}")), "{aliases:?}");
    }
    let network = format!("{}-net", fleet.world.fleet);
    let label = fleet.world.inspect(&network, "{{index .Labels \"ringmaster.fleet\"}}");
    assert_eq!(label, fleet.world.fleet);

    let owners = fleet.owners();
    assert_eq!(owners, fleet.owners(), "the same key, the same replica");
    assert_eq!(owners.iter().collect::<BTreeSet<_>>().len(), 3, "{owners:?}");
    assert_eq!(call(fleet.admin(), "GET", "/rep", "").unwrap().names("replicas").len(), 3);
}

#[test]
fn commands_add_and_remove() {
    let Some(host) = engine() else { return };
    let _turn = alone();
    let fleet = Fleet::of(&host, 3, &[]);
    let load = Load::start(fleet.traffic(), GENTLE);
    let before = fleet.owners();

    // Four at once, two of them by name.
    let begin = Instant::now();
    let added = fleet.add(r#"{"n":4,"hostnames":["S5","S4"]}"#).expect(200);
    let took = begin.elapsed();
    print(&format!("/add of 4: {took:.2?} (goal 2 s)"));
    assert!(took < Duration::from_secs(8), "{took:?}");
    assert_eq!(added.json()["status"], "successful");
    assert_eq!(added.json()["message"]["N"], 7);
    let names = added.names("replicas");
    assert_eq!(names[..5], ["server_1", "server_2", "server_3", "S5", "S4"]);
    assert_eq!(added.names("added"), names[3..]);
    for drawn in &names[5..] {
        let digits = drawn.strip_prefix("server_").unwrap();
        assert!(digits.len() == 6 && digits.bytes().all(|b| b.is_ascii_digit()), "{drawn}");
    }
    // Keys moved to new replicas only.
    for (old, new) in before.iter().zip(fleet.owners()) {
        assert!(*old == new || names[3..].contains(&new), "{old} -> {new}");
    }

    // The named one and the newest.
    let begin = Instant::now();
    let removed = fleet.rm(r#"{"n":2,"hostnames":["S5"]}"#).expect(200);
    print(&format!("/rm of 2: {:.2?}", begin.elapsed()));
    assert_eq!(removed.names("removed"), ["S5", &names[6]]);
    assert!(!fleet.world.exists(&fleet.container("S5")), "the answer comes when it is gone");
    assert!(!fleet.world.exists(&fleet.container(&names[6])));
    // Once more, by POST and with the aliases of the keys.
    let again = fleet.add(r#"{"N":1,"names":["S5"]}"#).expect(200);
    assert_eq!(again.names("added"), ["S5"]);
    let removed = call(fleet.traffic(), "POST", "/rm", r#"{"n":100}"#).unwrap().expect(200);
    assert_eq!(removed.json()["message"]["N"], 0);
    fleet.get("/home").expect(503);
    assert!(fleet.containers().is_empty());

    let report = load.end();
    // Only requests after the removal of all replicas may have failed.
    assert!(report.failures.iter().all(|why| why.contains("503")), "{:#?}", report.failures);
    assert_eq!(fleet.add(r#"{"n":1,"hostnames":["S5"]}"#).expect(200).names("replicas"), ["S5"]);
    fleet.assert_no_strays();
}

/// The same fleet, containers and ring as before, and no failed request.
#[track_caller]
fn assert_unchanged<T>(fleet: &Fleet, what: impl FnOnce() -> T) -> T {
    let before = (fleet.replicas(), fleet.digest(), fleet.containers());
    let result = what();
    assert_eq!(before.0, fleet.replicas());
    assert_eq!(before.1, fleet.digest());
    eventually("the same containers", SOON, || fleet.containers() == before.2);
    result
}

#[test]
fn an_impossible_command_is_refused_and_changes_nothing() {
    let Some(host) = engine() else { return };
    let _turn = beside_others();
    let mut fleet = Fleet::new(&host);
    // A foreign container has the name of a replica, but not the fleet's label.
    let foreign = fleet.world.run(&fleet.container("server_1"), &[]);
    fleet.start(&["--replicas", "3"]);
    fleet.until_in_service(3);
    assert_eq!(fleet.replicas(), ["server_2", "server_3", "server_4"]);
    let load = Load::start(fleet.traffic(), GENTLE);

    let other = "<Error> Length of hostname list is more than";
    let cases = [
        ("/add", r#"{"n":1,"hostnames":["a1","a2"]}"#, &*format!("{other} newly added instances")),
        ("/rm", r#"{"n":1,"hostnames":["a1","a2"]}"#, &*format!("{other} removable instances")),
        ("/add", r#"{"n":1,"hostnames":["server_1"]}"#, "is the name of another container"),
        ("/add", r#"{"n":1,"hostnames":["server_2"]}"#, "already exists"),
        ("/add", r#"{"n":2,"hostnames":["a1","a1"]}"#, "duplicate"),
        ("/add", r#"{"n":1,"hostnames":["-a"]}"#, "not a valid name"),
        ("/add", r#"{"n":1,"hostnames":["a"]}"#, "Docker's rule for names is 2 to 63"),
        ("/add", r#"{"n":1,"hostnames":["replica-1"]}"#, "is the network alias of the replica"),
        ("/add", r#"{"n":60}"#, "raise `slots`"),
        ("/rm", r#"{"n":1,"hostnames":["server_1"]}"#, "not a replica"),
        ("/add", r#"{"n":0}"#, "at least 1"),
        ("/add", "{}", "missing"),
    ];
    for (path, body, words) in cases {
        let refused =
            assert_unchanged(&fleet, || call(fleet.traffic(), "POST", path, body).unwrap());
        assert_eq!(refused.status, 400, "{body}: {refused:?}");
        assert_eq!(refused.json()["status"], "failure");
        let message = refused.message();
        assert!(message.starts_with("<Error> ") && message.contains(words), "{body}: {message}");
    }
    // A container that has just been created, which no list has shown yet.
    let late = fleet.world.run(&fleet.container("late"), &[]);
    let refused = assert_unchanged(&fleet, || fleet.add(r#"{"n":2,"hostnames":["late"]}"#));
    assert!(refused.clone().expect(400).message().contains("'late' is the name of another"));
    for container in [&foreign, &late] {
        assert_eq!(fleet.world.inspect(container, "{{.State.Running}}"), "true");
    }
    load.end().assert_all_answered();
}

#[test]
fn an_addition_that_cannot_start_leaves_the_fleet_as_it_was() {
    let Some(host) = engine() else { return };
    let _turn = beside_others();
    // A fleet without replicas takes the image of the tag; others add the image that they run.
    let fleet = Fleet::of(&host, 0, &["--start-deadline", "3s"]);
    let image = fleet.world.image.clone();
    let good = format!("{}:good", fleet.world.fleet);
    fleet.world.docker(&["tag", &image, &good]);
    fleet.world.owns_image(good.clone());

    // No image with the name.
    fleet.world.docker(&["rmi", "--force", &image]);
    let refused = assert_unchanged(&fleet, || fleet.add(r#"{"n":2}"#)).expect(503).message();
    assert!(refused.contains(&format!("docker pull {image}")), "{refused}");

    // A container that exits at once, with a reason.
    fleet.world.docker(&["tag", &good, &image]);
    fleet.world.owns_image(image::rebuild(&host, &image, "PROCESS_DELAY_MS=soon"));
    let refused = assert_unchanged(&fleet, || fleet.add(r#"{"n":2,"hostnames":["bad1"]}"#));
    let refused = refused.expect(503).message();
    // Reported at once with its last lines; on a busy machine a little later, without them.
    let has_code = refused.contains("status 2") || refused.contains("code 2");
    assert!(has_code && refused.contains("replica '"), "{refused}");

    // A container that runs, but listens only on its own loopback.
    fleet.world.docker(&["tag", &good, &image]);
    fleet.world.owns_image(image::rebuild(&host, &image, "HOST=127.0.0.1"));
    let begin = Instant::now();
    let refused = fleet.add(r#"{"n":2,"hostnames":["deaf"]}"#).expect(503).message();
    assert!(refused.contains("'deaf'") && refused.contains("within 3s"), "{refused}");
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    assert!(!fleet.world.exists(&fleet.container("deaf")));
    assert!(fleet.replicas().is_empty());

    // The good image again: the fleet works, and the failed containers are removed.
    fleet.world.docker(&["tag", &good, &image]);
    fleet.add(r#"{"n":1,"hostnames":["fine"]}"#).expect(200);
    fleet.assert_no_strays();

    // With a bad image under the tag, and then with none, additions use the running image.
    let load = Load::start(fleet.traffic(), GENTLE);
    fleet.world.owns_image(image::rebuild(&host, &image, "PROCESS_DELAY_MS=soon"));
    fleet.add(r#"{"n":1,"hostnames":["like_fine"]}"#).expect(200);
    fleet.world.docker(&["rmi", "--force", &image]);
    fleet.add(r#"{"n":1,"hostnames":["like_both"]}"#).expect(200);
    load.end().assert_all_answered();
    let image_of = |name: &str| fleet.world.inspect(&fleet.container(name), "{{.Image}}");
    assert_eq!(image_of("like_fine"), image_of("fine"));
    assert_eq!(image_of("like_both"), image_of("fine"));
}

/// Most programs have no handler for SIGTERM, and the kernel ignores it for a first process that has
/// none: without an init every removal would take the whole grace.
#[test]
fn two_replicas_without_a_handler_of_sigterm_are_removed_within_two_seconds() {
    let Some(host) = engine() else { return };
    let _turn = alone();
    let mut fleet = Fleet::of_test_replicas(&host);
    fleet.start(&["--replicas", "4", "--command", "stubborn"]);
    fleet.until_in_service(4);
    let begin = Instant::now();
    let removed = fleet.rm(r#"{"n":2}"#).expect(200).names("removed");
    let took = begin.elapsed();
    print(&format!("two replicas without a handler of SIGTERM removed in {took:?}"));
    assert_eq!(removed.len(), 2);
    assert!(took <= Duration::from_secs(2), "{took:?}");
    fleet.assert_no_strays();
}
