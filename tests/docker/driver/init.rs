//! Containers behind an init, and an engine that has none.

use std::time::{Duration, Instant};

use super::*;
use crate::{
    docker::{World, docker, engine, import_image},
    private_engine::PrivateEngine,
};

/// The program has no handler of SIGTERM, which the kernel ignores for a first process.
fn without_handler(world: &World) -> DockerConfig {
    DockerConfig {
        command: Some(vec!["stubborn".into()]),
        grace: Duration::from_secs(3),
        ..config(world)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_without_a_handler_ends_at_once_behind_an_init() {
    let Some(host) = engine() else { return };
    let world = World::new(&host);
    for (init, waits) in [(Init::Auto, false), (Init::On, false), (Init::Off, true)] {
        let driver = ready(DockerConfig { init, ..without_handler(&world) }).await;
        let started = driver.start(request("S5", 1, 1)).await.unwrap();
        assert!(get(started.address).contains("SERVER_ID=S5"));
        let on = world.inspect(&started.handle.0, "{{.HostConfig.Init}}");
        assert_eq!(on, (!waits).to_string(), "{init:?}");
        let begin = Instant::now();
        driver.stop(started.handle, StopManner::Graceful).await.unwrap();
        let took = begin.elapsed();
        assert_eq!(took >= Duration::from_secs(3), waits, "{init:?}: {took:?}");
    }
}

/// Two inits conflict: some must be the first process.
#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_starts_an_init_itself_gets_none() {
    let Some(host) = engine() else { return };
    let world = World::new(&host);
    let driver = ready(config(&world)).await;
    let wanted = driver.list().await.unwrap().wanted.unwrap();
    // The same image with another name of its program.
    let container = world.docker(&["create", &world.image]);
    world.docker(&[
        "cp",
        crate::docker::replica().to_str().unwrap(),
        &format!("{container}:/dumb-init"),
    ]);
    let change = r#"ENTRYPOINT ["/dumb-init", "serve"]"#;
    world.owns_image(world.docker(&["commit", "--change", change, &container, &world.image]));
    world.docker(&["rm", &container]);
    let started = driver.start(request("S5", 1, 1)).await.unwrap();
    assert_eq!(world.inspect(&started.handle.0, "{{.HostConfig.Init}}"), "false");
    assert!(get(started.address).contains("SERVER_ID=S5"));
    assert_ne!(started.revision.spec, wanted.spec, "it is another image");
    // The build before is started with an init, as its program is none.
    let before = driver.start(StartRequest { image: wanted.image, ..request("S6", 2, 1) }).await;
    let before = before.unwrap();
    assert_eq!(world.inspect(&before.handle.0, "{{.HostConfig.Init}}"), "true");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_without_an_init_starts_replicas_nevertheless() {
    if engine().is_none() {
        return;
    }
    let Some(private) = PrivateEngine::start_without_init() else { return };
    import_image(&private.host(), "rmdrv-private:1", "/replica");
    let config = |init| DockerConfig {
        init,
        host: private.host(),
        ..DockerConfig::new("default", "rmdrv-private:1")
    };
    let asked = ready(config(Init::On)).await;
    let refused = asked.start(request("S5", 1, 1)).await.unwrap_err();
    assert!(refused.to_string().contains("docker-init"), "{refused}");
    assert_eq!(asked.list().await.unwrap().found, [], "nothing is left of it");

    let driver = ready(config(Init::Auto)).await;
    for name in ["S5", "S6"] {
        let started = driver.start(request(name, 1, 1)).await.unwrap();
        let template = ["inspect", "--format", "{{.HostConfig.Init}}", &started.handle.0];
        assert_eq!(docker(&private.host(), &template).unwrap(), "false");
    }
}
