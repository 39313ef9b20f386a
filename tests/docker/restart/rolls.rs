//! Another image under the same tag, or other settings: good ones, and bad ones.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use crate::{
    docker::{docker, engine, eventually},
    docker_support::{
        Fleet, SOON, beside_others, image,
        load::{Load, Shape},
        print,
    },
};

/// Runs `change` under load and waits until all replicas have been replaced; N never falls.
fn until_rolled(fleet: &Fleet, change: impl FnOnce()) {
    let before = fleet.containers();
    let load = Load::start(fleet.traffic(), Shape { connections: 50, rate: 300 });
    eventually("it is under load", SOON, || load.answered() > 300);
    change();
    eventually("all are replaced", Duration::from_secs(40), || {
        assert_eq!(
            fleet.replicas().len(),
            before.len(),
            "the new one comes before the old one goes"
        );
        let now = fleet.containers();
        now.len() == before.len() && now.keys().all(|name| !before.contains_key(name))
    });
    load.end().assert_all_answered();
}

#[test]
fn outdated_replicas_are_replaced_one_by_one() {
    let Some(host) = engine() else { return };
    let _turn = beside_others();
    let mut fleet = Fleet::of(&host, 3, &["--env", "COLOUR=red", "--bake", "1s"]);
    let ring = fleet.digest();
    // The image is made anew under the same name.
    let begin = Instant::now();
    until_rolled(&fleet, || {
        let made = image::rebuild(&host, &fleet.world.image, "MADE=anew");
        fleet.world.owns_image(made);
    });
    print(&format!("rolled 3 replicas in {:.1?}, the notice included", begin.elapsed()));
    let rolled: Vec<_> = fleet.decisions(0);
    let mut coming = 0;
    for decision in rolled.iter().skip_while(|decision| decision.event != "outdated") {
        match &*decision.event {
            "starting" => coming += 1,
            "admitted" => coming -= 1,
            _ => {}
        }
        assert!(coming <= 1, "one at a time: {rolled:#?}");
    }
    for name in fleet.replicas() {
        let env = fleet.world.inspect(&fleet.container(&name), "{{.Config.Env}}");
        assert!(env.contains("MADE=anew"), "{env}");
    }
    // Another setting, by a restart.
    let old = fleet.containers();
    assert_eq!(fleet.terminate().code(), Some(0));
    fleet.start(&["--env", "COLOUR=green", "--bake", "0s"]);
    eventually("all are replaced", Duration::from_secs(40), || {
        let now = fleet.containers();
        now.len() == 3 && now.keys().all(|name| !old.contains_key(name))
    });
    fleet.until_in_service(3);
    for name in fleet.replicas() {
        let env = fleet.world.inspect(&fleet.container(&name), "{{.Config.Env}}");
        assert!(env.contains("COLOUR=green"), "{env}");
    }
    assert_eq!(fleet.digest(), ring);
    fleet.assert_no_strays();
}

/// The ids of the images that the fleet's containers run. A container that a roll removes after the
/// fleet was listed has none.
fn images(fleet: &Fleet) -> BTreeSet<String> {
    let image = |container: &String| {
        let inspect = ["inspect", "--format", "{{.Image}}", container];
        docker(&fleet.world.host, &inspect).ok()
    };
    fleet.containers().values().filter_map(image).collect()
}

fn roll(fleet: &Fleet) -> String {
    fleet.status()["roll"]["state"].as_str().unwrap_or("none").to_owned()
}

/// The image passes its heartbeats and ends after four seconds, so the first heartbeat alone does not
/// show that it is bad.
#[test]
fn a_bad_image_is_given_up_and_the_old_one_goes_on() {
    let Some(host) = engine() else { return };
    let _turn = beside_others();
    // With the default bake.
    let mut fleet = Fleet::of(&host, 4, &[]);
    let before = images(&fleet);
    let load = Load::start(fleet.traffic(), Shape { connections: 50, rate: 200 });
    eventually("it is under load", SOON, || load.answered() > 200);
    let bad = image::rebuild(&host, &fleet.world.image, "EXIT_AFTER_MS=4000");
    fleet.world.owns_image(bad.clone());
    eventually("the roll is given up", Duration::from_secs(90), || roll(&fleet) == "stopped");
    eventually("four are in service", SOON, || fleet.replicas().len() == 4);
    let report = load.end();
    print(&format!(
        "a bad image: {} requests, {} failed, given up after {} tries",
        report.answered,
        report.failures.len(),
        fleet.decisions(0).iter().filter(|decision| decision.event == "roll_failed").count()
    ));
    report.assert_all_answered();
    assert_eq!(images(&fleet), before, "the old revision is whole");
    let tries = |fleet: &Fleet| {
        let decisions = fleet.decisions(0);
        let outdated = |detail: &str| detail.contains("its predecessor is outdated");
        decisions.iter().filter(|d| d.event == "starting" && outdated(&d.detail)).count()
    };
    assert_eq!(tries(&fleet), 2);

    // A dead replica is replaced from the image that works, not the one of the tag, also after a restart.
    assert_eq!(fleet.terminate().code(), Some(0));
    fleet.start(&["--bake", "0s"]);
    fleet.until_in_service(4);
    assert_eq!(roll(&fleet), "stopped");
    let victim = fleet.replicas()[0].clone();
    fleet.world.docker(&["kill", &fleet.container(&victim)]);
    eventually("it is replaced", SOON, || {
        let now = fleet.replicas();
        now.len() == 4 && !now.contains(&victim)
    });
    assert_eq!((images(&fleet), tries(&fleet)), (before, 0));

    // A new image starts a new roll.
    let good = image::rebuild(&host, &fleet.world.image, "EXIT_AFTER_MS=");
    fleet.world.owns_image(good.clone());
    eventually("all run the good image", Duration::from_secs(60), || {
        roll(&fleet) == "none" && images(&fleet) == BTreeSet::from([good.clone()])
    });
    fleet.assert_no_strays();
}
