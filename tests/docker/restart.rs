//! A balancer that ends, in order or not: the next one takes over the fleet as it was.

mod rolls;

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use crate::docker::{engine, eventually};
use crate::docker_support::{
    Fleet, SOON, alone, beside_others,
    http::{Response, call},
    print, spread,
};

/// The part of a fleet that must survive the balancer.
#[derive(Debug, PartialEq)]
struct Whole {
    replicas: Vec<String>,
    containers: BTreeMap<String, String>,
    digest: String,
    owners: Vec<String>,
}

impl Whole {
    fn of(fleet: &Fleet) -> Self {
        Self {
            replicas: fleet.replicas(),
            containers: fleet.containers(),
            digest: fleet.digest(),
            owners: fleet.owners(),
        }
    }
}

/// Foreign containers: with the name of a replica, and with the labels of another fleet.
fn strangers(fleet: &Fleet) -> [String; 2] {
    let name = &fleet.world.fleet;
    let label = format!("ringmaster.fleet={name}x");
    let labels = ["--label", &label, "--label", "ringmaster.replica=1"];
    let more = [&labels[..], &["--label", "ringmaster.incarnation=1"]].concat();
    [
        fleet.world.run(&fleet.container("server_11"), &[]),
        fleet.world.run(&format!("{name}x-server_1"), &more),
    ]
}

#[track_caller]
fn assert_untouched(fleet: &Fleet, strangers: &[String]) {
    for stranger in strangers {
        let state = "{{.State.Running}} {{.RestartCount}}";
        assert_eq!(fleet.world.inspect(stranger, state), "true 0");
    }
}

/// From the start of the program to the first answer of a replica, in milliseconds.
fn until_served(fleet: &Fleet) -> f64 {
    let began = fleet.balancer.as_ref().unwrap().began;
    loop {
        if call(fleet.traffic(), "GET", "/home", "").is_ok_and(|answer| answer.status == 200) {
            return began.elapsed().as_secs_f64() * 1000.0;
        }
        assert!(began.elapsed() < SOON, "no replica serves");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn the_next_balancer_takes_over_the_fleet_as_it_was() {
    let Some(host) = engine() else { return };
    let _turn = alone();
    let mut fleet = Fleet::of(&host, 3, &[]);
    let strangers = strangers(&fleet);
    fleet.add(r#"{"n":2,"hostnames":["S5"]}"#).expect(200);
    fleet.rm(r#"{"n":1,"hostnames":["server_2"]}"#).expect(200);
    let before = Whole::of(&fleet);
    let mut times = Vec::new();
    for round in 0..6 {
        if round % 3 == 2 {
            assert_eq!(fleet.terminate().code(), Some(0));
        } else {
            fleet.kill();
        }
        fleet.start(&["--replicas", "3"]);
        times.push(until_served(&fleet));
        fleet.until_in_service(4);
        assert_eq!(Whole::of(&fleet), before);
        let decisions = fleet.decisions(0);
        let booted = decisions.iter().find(|decision| decision.event == "booted").unwrap();
        assert!(booted.detail.contains("4 instances adopted, 0 strays"), "{booted:?}");
        assert!(decisions.iter().all(|decision| decision.event != "starting"), "{decisions:#?}");
    }
    let (least, middle, most) = spread(&mut times);
    print(&format!(
        "start to first answer of a replica: {least:.0} / {middle:.0} / {most:.0} ms (goal 500 ms)"
    ));
    assert!(middle < 2_000.0, "{times:?}");
    assert!(fleet.has_said("stored size 4 wins"));

    // An empty fleet is taken over too.
    fleet.rm(r#"{"n":9}"#).expect(200);
    fleet.kill();
    fleet.start(&["--replicas", "3"]);
    eventually("it has booted", SOON, || fleet.status()["booted"] == true);
    assert_eq!(fleet.replicas(), [""; 0]);
    fleet.add(r#"{"n":1,"hostnames":["server_2"]}"#).expect(200);
    assert_eq!(fleet.containers().len(), 1);
    assert_untouched(&fleet, &strangers);
}

#[test]
fn the_state_is_rebuilt_from_labels_when_the_file_is_lost() {
    let Some(host) = engine() else { return };
    let _turn = beside_others();
    let mut fleet = Fleet::of(&host, 3, &[]);
    let strangers = strangers(&fleet);
    fleet.add(r#"{"n":1,"hostnames":["S5"]}"#).expect(200);
    let before = Whole::of(&fleet);

    fleet.kill();
    fs::remove_file(fleet.state_file()).unwrap();
    fleet.start(&["--replicas", "7"]);
    fleet.until_in_service(4);
    assert_eq!(Whole::of(&fleet), before);

    // Damaged, and two replicas have ended meanwhile: one as an exited container, one removed.
    fleet.kill();
    fs::write(fleet.state_file(), "{\"version\":1,").unwrap();
    fleet.world.docker(&["kill", &fleet.container("server_2")]);
    fleet.start(&["--replicas", "7"]);
    fleet.until_in_service(4);
    assert!(fleet.has_said("the state file is corrupt"));
    assert!(fleet.state_dir().join("state.json.corrupt-1").exists());
    assert_eq!(fleet.digest(), before.digest);
    let replicas = fleet.replicas();
    assert_ne!(replicas[1], "server_2");
    for index in [0, 2, 3] {
        assert_eq!(replicas[index], before.replicas[index], "who lived stays");
    }

    // With the file, a container that it does not know is a stray, also one with only half the labels.
    fleet.kill();
    let label = format!("ringmaster.fleet={}", fleet.world.fleet);
    let whole = ["ringmaster.replica=99", "ringmaster.incarnation=1", "ringmaster.slots=1"];
    let mut more = vec!["--label", &*label, "--label", "ringmaster.spec=0"];
    more.extend(whole.iter().flat_map(|label| ["--label", label]));
    more.extend(["--label", "ringmaster.ordinal=9", "--label", "ringmaster.weight=1"]);
    let stray = fleet.world.run(&fleet.container("stray"), &more);
    let half = fleet.world.run(&fleet.container("half"), &["--label", &label]);
    fleet.start(&[]);
    eventually("strays are removed", SOON, || {
        !fleet.world.exists(&stray) && !fleet.world.exists(&half)
    });
    fleet.until_in_service(4);
    assert_eq!(fleet.digest(), before.digest);
    fleet.assert_no_strays();
    assert_untouched(&fleet, &strangers);
}

/// The operation that is under way when the balancer is killed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Work {
    Add,
    Remove,
    Respawn,
}

/// The moment of the kill.
#[derive(Clone, Copy, Debug)]
enum When {
    After(u64),
    At(&'static str),
}

/// Waits for the moment, by the decision record.
fn wait_for(fleet: &Fleet, when: When, after: u64) {
    match when {
        When::After(millis) => std::thread::sleep(Duration::from_millis(millis)),
        When::At(event) => {
            let begin = Instant::now();
            while !fleet.decisions(after).iter().any(|decision| decision.event == event) {
                assert!(begin.elapsed() < SOON, "no '{event}'");
            }
        }
    }
}

/// One round: begins the operation, kills the balancer, and checks the fleet of the next one.
/// Returns whether the operation had taken effect.
fn killed_during(fleet: &mut Fleet, work: Work, when: When) -> bool {
    let before = (fleet.replicas(), fleet.digest());
    let (path, count) = match work {
        Work::Add => ("/add", before.0.len() + 2),
        Work::Remove => ("/rm", before.0.len() - 2),
        Work::Respawn => ("", before.0.len()),
    };
    let to = fleet.traffic();
    let body = r#"{"n":2}"#;
    let would_be = match work {
        Work::Respawn => before.1.clone(),
        _ => {
            let dry = call(to, "POST", &format!("{path}?dry_run=true"), body).unwrap().expect(200);
            dry.json()["message"]["after"]["digest"].as_str().unwrap().to_owned()
        }
    };
    let after = fleet.last_decision();
    let command = (work != Work::Respawn)
        .then(|| std::thread::spawn(move || call(to, "POST", path, body).ok()));
    if work == Work::Respawn {
        let victim = fleet.container(&before.0[0]);
        fleet.world.docker(&["kill", &victim]);
    }
    wait_for(fleet, when, after);
    fleet.kill();
    let answer: Option<Response> = command.and_then(|command| command.join().unwrap());

    fleet.start(&[]);
    eventually("it has booted", SOON, || fleet.status()["booted"] == true);
    let done = fleet.digest() == would_be;
    assert!(done || fleet.digest() == before.1, "{work:?} {when:?}: neither before nor after");
    if answer.is_some_and(|answer| answer.status == 200) {
        assert!(done, "{work:?} {when:?}: what was answered is lost");
    }
    let expected = if done { count } else { before.0.len() };
    fleet.until_in_service(expected);
    fleet.assert_no_strays();
    if work != Work::Respawn {
        let now = fleet.replicas();
        let stays = before.0.len().min(now.len());
        assert_eq!(now[..stays], before.0[..stays], "{work:?} {when:?}: who stays is replaced");
    }
    done
}

#[test]
fn a_balancer_killed_at_any_moment_loses_nothing() {
    use When::{After, At};
    let Some(host) = engine() else { return };
    let _turn = alone();
    let mut fleet = Fleet::of(&host, 3, &[]);
    let strangers = strangers(&fleet);
    let moments = [
        (
            Work::Add,
            &[
                After(0),
                At("starting"),
                After(60),
                After(200),
                After(350),
                After(500),
                At("committed"),
                At("admitted"),
            ][..],
        ),
        (
            Work::Remove,
            &[
                After(0),
                At("committed"),
                At("draining"),
                After(5),
                After(15),
                At("stopping"),
                After(60),
                At("stopped"),
            ],
        ),
        (
            Work::Respawn,
            &[After(0), At("died"), At("starting"), After(150), After(300), At("admitted")],
        ),
    ];
    for (work, moments) in moments {
        let mut done = 0;
        for when in moments {
            done += usize::from(killed_during(&mut fleet, work, *when));
            // As many as before, for the next round.
            match fleet.replicas().len() {
                5 if work == Work::Add => drop(fleet.rm(r#"{"n":2}"#).expect(200)),
                1 if work == Work::Remove => drop(fleet.add(r#"{"n":2}"#).expect(200)),
                _ => {}
            }
        }
        print(&format!("killed during {work:?}: {done} of {} had taken effect", moments.len()));
    }
    assert_untouched(&fleet, &strangers);
}

#[test]
fn replicas_stop_with_the_balancer_if_configured() {
    let Some(host) = engine() else { return };
    let _turn = beside_others();
    let mut fleet = Fleet::of(&host, 3, &["--stop-replicas-on-exit"]);
    let strangers = strangers(&fleet);
    let ring = fleet.digest();
    // Open requests may end.
    let to = fleet.traffic();
    let open = std::thread::spawn(move || call(to, "GET", "/process?delay_ms=1500", ""));
    eventually("a request is open", SOON, || {
        let metrics = call(fleet.admin(), "GET", "/metrics", "").unwrap().body;
        let mut open =
            metrics.lines().filter(|line| line.starts_with("ringmaster_replica_in_flight"));
        open.any(|line| line.ends_with(" 1"))
    });
    let begin = Instant::now();
    assert_eq!(fleet.terminate().code(), Some(0));
    assert_eq!(open.join().unwrap().unwrap().status, 200);
    print(&format!("stopped with its replicas in {:.1?}", begin.elapsed()));
    assert!(fleet.containers().is_empty(), "{:?}", fleet.containers());
    assert_untouched(&fleet, &strangers);
    fleet.start(&["--replicas", "1", "--stop-replicas-on-exit"]);
    fleet.until_in_service(3);
    assert_eq!(fleet.digest(), ring);
    // Also while replacements are under way.
    for name in fleet.replicas() {
        fleet.world.docker(&["kill", &fleet.container(&name)]);
    }
    assert_eq!(fleet.terminate().code(), Some(0));
    assert!(fleet.containers().is_empty(), "{:?}", fleet.containers());
}
