//! The Docker driver against a real engine.

mod evidence;
mod init;

use std::{
    env,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::docker::{World, engine, eventually, import_image};
use crate::private_engine::PrivateEngine;
use ringmaster::driver::{
    Driver, Signal,
    docker::{Deadlines, DockerConfig, DockerDriver, init::Init},
};
use ringmaster_core::fleet::{
    ids::{Handle, ImageId, Incarnation, InstanceId, ReplicaId, ReplicaName},
    message::{EngineError, FoundState, Sighting, StartError, StartRequest, StopManner},
};
use rustix::process::{Pid, Signal as Kill, kill_process};
use tokio::{sync::mpsc, time};

/// Timeout of every wait, long enough for a busy machine.
const LONG: Duration = Duration::from_secs(20);

fn config(world: &World) -> DockerConfig {
    DockerConfig { host: world.host.clone(), ..DockerConfig::new(&world.fleet, &world.image) }
}

async fn ready(config: DockerConfig) -> Arc<DockerDriver> {
    let driver = Arc::new(DockerDriver::new(config));
    driver.prepare().await.unwrap();
    driver
}

fn request(name: &str, replica: u32, incarnation: u32) -> StartRequest {
    StartRequest {
        instance: InstanceId { replica: ReplicaId(replica), incarnation: Incarnation(incarnation) },
        name: ReplicaName::new(name).unwrap(),
        ordinal: 3,
        weight: 2,
        positions: vec![9, 511, 0],
        image: None,
    }
}

fn get(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect_timeout(&address, LONG).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_started_listed_and_stopped() {
    let Some(host) = engine() else { return };
    let world = World::new(&host);
    let driver = ready(DockerConfig {
        env: vec![("SERVER_ID".into(), "x".into()), ("MORE".into(), "y".into())],
        ..config(&world)
    })
    .await;
    let begin = Instant::now();
    let started = driver.start(request("S5", 7, 4)).await.unwrap();
    eprintln!("started in {:?}", begin.elapsed());

    let answer = get(started.address);
    for line in [
        "SERVER_ID=S5\n",
        "PORT=5000\n",
        "RINGMASTER_REPLICA=7\n",
        "RINGMASTER_INCARNATION=4\n",
        "MORE=y\n",
        "HOSTNAME_FILE=S5\n",
    ] {
        assert!(answer.contains(line), "{line} in {answer}");
    }
    let container = format!("{}-S5", world.fleet);
    let id = started.handle.to_string();
    let of_network = |field: &str| {
        let template = "{{range $name, $it := .NetworkSettings.Networks}}{{$name}} FIELD{{end}}";
        world.inspect(&id, &template.replace("FIELD", field))
    };
    assert_eq!(world.inspect(&id, "{{.Name}}"), format!("/{container}"));
    let aliases = of_network("{{$it.Aliases}}");
    assert!(aliases.starts_with(&format!("{}-net [S5 replica-7", world.fleet)), "{aliases}");
    assert_eq!(world.inspect(&id, "{{.HostConfig.RestartPolicy.Name}}"), "no");
    assert_eq!(world.inspect(&id, "{{.HostConfig.PortBindings}}"), "map[]");

    let listing = driver.list().await.unwrap();
    assert_eq!(listing.found.len(), 1);
    let found = &listing.found[0];
    assert_eq!(found.handle, started.handle);
    assert_eq!(found.state, FoundState::Running(Some(started.address)));
    let identity = found.identity.clone().unwrap();
    assert_eq!(identity.instance, request("S5", 7, 4).instance);
    assert_eq!(identity.name.as_str(), "S5");
    assert_eq!((identity.ordinal, identity.weight), (3, 2));
    assert_eq!(identity.positions, [9, 511, 0]);
    assert_eq!(Some(identity.spec), listing.wanted.map(|wanted| wanted.spec));

    let begin = Instant::now();
    driver.stop(started.handle.clone(), StopManner::Graceful).await.unwrap();
    eprintln!("stopped in {:?}", begin.elapsed());
    assert!(begin.elapsed() < Duration::from_secs(9), "SIGTERM was obeyed");
    assert!(!world.exists(&container));
    driver.stop(started.handle, StopManner::Graceful).await.unwrap();
    assert_eq!(driver.list().await.unwrap().found, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_containers_and_those_that_ignore_sigterm_end_too() {
    let Some(host) = engine() else { return };
    let world = World::new(&host);
    let driver = ready(DockerConfig {
        command: Some(vec!["stubborn".into()]),
        // With an init it would end at SIGTERM, as it has no handler.
        init: Init::Off,
        grace: Duration::from_secs(1),
        ..config(&world)
    })
    .await;
    for (manner, paused) in [
        (StopManner::Kill, false),
        (StopManner::Kill, true),
        (StopManner::Graceful, true),
        (StopManner::Graceful, false),
    ] {
        let started = driver.start(request("S5", 1, 1)).await.unwrap();
        if paused {
            world.docker(&["pause", &started.handle.0]);
            let state = driver.list().await.unwrap().found[0].state;
            assert_eq!(state, FoundState::Paused(Some(started.address)));
        }
        let begin = Instant::now();
        driver.stop(started.handle.clone(), manner).await.unwrap();
        eprintln!("{manner:?}, paused {paused}: {:?}", begin.elapsed());
        assert!(!world.exists(&started.handle.0));
        assert!(begin.elapsed() < Duration::from_secs(9));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_concurrent_stops_both_succeed() {
    let Some(host) = engine() else { return };
    let world = World::new(&host);
    let driver = ready(config(&world)).await;
    let started = driver.start(request("S5", 1, 1)).await.unwrap();
    let stop = |manner| driver.stop(started.handle.clone(), manner);
    let (first, second, third) =
        tokio::join!(stop(StopManner::Graceful), stop(StopManner::Kill), stop(StopManner::Kill));
    assert_eq!((first, second, third), (Ok(()), Ok(()), Ok(())));
    assert!(!world.exists(&started.handle.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_container_of_the_fleet_is_replaced_and_a_foreign_one_stays() {
    let Some(host) = engine() else { return };
    let world = World::new(&host);
    let driver = ready(config(&world)).await;
    let stale = driver.start(request("S5", 1, 1)).await.unwrap();
    let fresh = driver.start(request("S5", 1, 2)).await.unwrap();
    assert!(!world.exists(&stale.handle.0));
    assert_ne!(stale.handle, fresh.handle);
    // A running container that is no earlier run of the replica was started by a later supervisor.
    for (replica, incarnation) in [(1, 1), (1, 2), (2, 1)] {
        let refused = driver.start(request("S5", replica, incarnation)).await.unwrap_err();
        assert!(matches!(refused, StartError::NameTaken(_)), "{refused:?}");
    }
    assert_eq!(world.inspect(&fresh.handle.0, "{{.State.Running}}"), "true");

    let foreign_name = format!("{}-S6", world.fleet);
    let foreign = world.run(&foreign_name, &[]);
    let taken = driver.start(request("S6", 3, 1)).await.unwrap_err();
    assert_eq!(taken.to_string(), "'S6' is the name of another container");
    let refused = driver.stop(Handle(foreign.as_str().into()), StopManner::Kill).await.unwrap_err();
    assert!(matches!(refused, EngineError::Refused(text) if text.contains("not touched")));
    assert_eq!(world.inspect(&foreign, "{{.State.Running}}"), "true");

    let listing = driver.list().await.unwrap();
    assert_eq!(listing.found.len(), 1);
    assert_eq!(listing.foreign_names, [ReplicaName::new("S6").unwrap()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_start_gives_a_reason_and_leaves_nothing() {
    let Some(host) = engine() else { return };
    let world = World::new(&host);
    let refusal = async |config: DockerConfig| {
        let driver = ready(config).await;
        let error = driver.start(request("S5", 1, 1)).await.unwrap_err();
        assert_eq!(driver.list().await.unwrap().found, []);
        match error {
            StartError::Refused(text)
            | StartError::NoImage(text)
            | StartError::Ended { why: text, .. } => text,
            other => panic!("{other:?}"),
        }
    };
    let missing = refusal(DockerConfig { image: "rmdrv-nothing:1".into(), ..config(&world) }).await;
    assert!(missing.contains("docker pull rmdrv-nothing:1"), "{missing}");

    let ended = refusal(DockerConfig {
        command: Some(vec!["exit".into()]),
        settle: Duration::from_secs(2),
        ..config(&world)
    })
    .await;
    assert_eq!(*ended, *"it exited at once with status 3: the sky is falling");

    world.import("/nothing");
    for init in [Init::Auto, Init::Off] {
        let broken = refusal(DockerConfig { init, ..config(&world) }).await;
        assert!(broken.to_lowercase().contains("no such file or directory"), "{broken}");
    }
}

/// The next sighting, and how long it took since `begin`.
async fn next_sighting(
    signals: &mut mpsc::Receiver<Signal>,
    begin: Instant,
) -> (InstanceId, Sighting) {
    loop {
        let signal = time::timeout(LONG, signals.recv()).await.unwrap().unwrap();
        eprintln!("{signal:?} after {:?}", begin.elapsed());
        if let Signal::Saw(instance, _, sighting) = signal {
            return (instance, sighting);
        }
    }
}

/// Watches, and waits until the stream is open.
async fn watch(driver: &Arc<DockerDriver>) -> mpsc::Receiver<Signal> {
    let (sender, mut receiver) = mpsc::channel(64);
    let driver = driver.clone();
    tokio::spawn(async move { driver.watch(sender).await });
    let first = time::timeout(LONG, receiver.recv()).await.unwrap();
    assert_eq!(first, Some(Signal::StreamChanged));
    receiver
}

fn main_process(world: &World, container: &str) -> Pid {
    let number = world.inspect(container, "{{.State.Pid}}");
    Pid::from_raw(number.parse().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_reported_at_once() {
    let Some(host) = engine() else { return };
    let world = World::new(&host);
    let driver = ready(config(&world)).await;
    let mut signals = watch(&driver).await;
    let wanted = request("S5", 7, 4);
    let started = driver.start(wanted.clone()).await.unwrap();
    let id = started.handle.to_string();
    // Events of other containers are not reported.
    let foreign = world.run(&format!("{}-x1", world.fleet), &[]);
    world.docker(&["rm", "--force", &foreign]);

    let mut expect = async |begin: Instant, expected: Sighting| {
        let (instance, sighting) = next_sighting(&mut signals, begin).await;
        assert_eq!((instance, sighting), (wanted.instance, expected));
        assert!(begin.elapsed() < Duration::from_secs(2));
    };
    let begin = Instant::now();
    world.docker(&["pause", &id]);
    expect(begin, Sighting::Paused).await;
    let begin = Instant::now();
    world.docker(&["unpause", &id]);
    expect(begin, Sighting::Unpaused).await;
    let process = main_process(&world, &id);
    let begin = Instant::now();
    kill_process(process, Kill::KILL).unwrap();
    let exit_code = Some(137);
    expect(begin, Sighting::Died { exit_code }).await;
    let state = driver.list().await.unwrap().found[0].state;
    assert_eq!(state, FoundState::Exited { exit_code });
    driver.stop(started.handle, StopManner::Kill).await.unwrap();
    expect(Instant::now(), Sighting::Removed).await;
}

/// Runs a container without the driver, with the labels of [`request`]`("S5", 7, 4)`.
fn run_labelled(world: &World, options: &[&str], argument: &str) -> String {
    let fleet = format!("ringmaster.fleet={}", world.fleet);
    let mut args = vec!["run", "--detach", "--env", "PORT=5000", "--label", &fleet];
    args.extend(["--label", "ringmaster.replica=7"]);
    args.extend(["--label", "ringmaster.incarnation=4"]);
    args.extend(options);
    args.extend([&*world.image, argument]);
    world.docker(&args)
}

#[tokio::test(flavor = "multi_thread")]
async fn out_of_memory_and_health_events_are_reported() {
    let Some(host) = engine() else { return };
    let world = World::new(&host);
    let driver = ready(config(&world)).await;
    let mut signals = watch(&driver).await;
    let instance = request("S5", 7, 4).instance;
    // The image has no shell, so the check fails.
    let check = ["--health-cmd", "x", "--health-interval", "1s", "--health-retries", "1"];
    let id = run_labelled(&world, &check, "serve");
    let seen = next_sighting(&mut signals, Instant::now()).await;
    assert_eq!(seen, (instance, Sighting::Unhealthy));
    driver.stop(Handle(id.into()), StopManner::Kill).await.unwrap();
    for _ in ["died", "removed"] {
        next_sighting(&mut signals, Instant::now()).await;
    }
    // It uses up its memory only on request: an engine can miss the event right after a start.
    let memory = ["--memory", "16m", "--memory-swap", "16m"];
    let id = run_labelled(&world, &memory, "hungry");
    let ip = world.inspect(&id, "{{.NetworkSettings.IPAddress}}");
    let address = SocketAddr::new(ip.parse().unwrap(), 5000);
    eventually("it listens", LONG, || TcpStream::connect(address).is_ok());
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let (who, what) = next_sighting(&mut signals, Instant::now()).await;
        assert_eq!(who, instance);
        seen.push(what);
    }
    let exit_code = Some(137);
    assert!(seen.contains(&Sighting::OutOfMemory), "{seen:?}");
    assert!(seen.contains(&Sighting::Died { exit_code }), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disconnect_from_the_network_is_reported() {
    let Some(host) = engine() else { return };
    let world = World::new(&host);
    let driver = ready(config(&world)).await;
    let mut signals = watch(&driver).await;
    let wanted = request("S5", 7, 4);
    let started = driver.start(wanted.clone()).await.unwrap();
    let network = format!("{}-net", world.fleet);
    world.docker(&["network", "disconnect", &network, &started.handle.0]);
    let (instance, sighting) = next_sighting(&mut signals, Instant::now()).await;
    assert_eq!((instance, sighting), (wanted.instance, Sighting::Disconnected));
    let state = driver.list().await.unwrap().found[0].state;
    assert_eq!(state, FoundState::Running(None));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_network_is_made_labelled_and_made_again() {
    let Some(host) = engine() else { return };
    let world = World::new(&host);
    let driver = DockerDriver::new(config(&world));
    assert_eq!(driver.fleet_network(), None);
    // At the same time, as a second balancer would do it.
    let other = DockerDriver::new(config(&world));
    let (first, second, third) = tokio::join!(driver.prepare(), driver.prepare(), other.prepare());
    assert_eq!((first, second, third), (Ok(()), Ok(()), Ok(())));
    let network = format!("{}-net", world.fleet);
    let filter = format!("name={network}");
    let count = || world.docker(&["network", "ls", "-q", "--filter", &filter]).lines().count();
    assert_eq!(count(), 1);
    let label = "{{index .Labels \"ringmaster.fleet\"}} {{.Driver}}";
    assert_eq!(world.inspect(&network, label), format!("{} bridge", world.fleet));

    let started = driver.start(request("S5", 1, 1)).await.unwrap();
    let ranges = driver.fleet_network().unwrap();
    assert!(ranges.may_be_replica(started.address.ip()));
    assert!(!ranges.may_be_replica(ranges.gateways[0]));
    driver.stop(started.handle, StopManner::Kill).await.unwrap();
    world.docker(&["network", "rm", &network]);
    driver.start(request("S5", 1, 2)).await.unwrap();
    assert_eq!(world.inspect(&network, label), format!("{} bridge", world.fleet));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_network_is_used_as_it_is() {
    let Some(host) = engine() else { return };
    let world = World::new(&host);
    let network = format!("{}-made", world.fleet);
    world.docker(&["network", "create", &network]);
    let driver = ready(DockerConfig { network: Some(network.clone()), ..config(&world) }).await;
    assert_eq!(world.inspect(&network, "{{len .Labels}}"), "0");
    let started = driver.start(request("S5", 1, 1)).await.unwrap();
    assert!(get(started.address).contains("SERVER_ID=S5"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuilt_image_makes_running_containers_outdated() {
    let Some(host) = engine() else { return };
    let world = World::new(&host);
    let driver = ready(config(&world)).await;
    driver.start(request("S5", 1, 1)).await.unwrap();
    let before = driver.list().await.unwrap().wanted.unwrap();
    world.import("/replica");
    let listing = driver.list().await.unwrap();
    let wanted = listing.wanted.unwrap();
    assert!(wanted.spec != before.spec && wanted.image != before.image);
    let identity = listing.found[0].identity.clone().unwrap();
    assert_eq!((identity.spec, identity.image), (before.spec.clone(), before.image.clone()));
    // The build that the tag names now, and the build before by its id.
    let new = driver.start(request("S6", 1, 2)).await.unwrap();
    let old = StartRequest { image: before.image.clone(), ..request("S7", 1, 3) };
    let old = driver.start(old).await.unwrap();
    assert_eq!((new.revision.spec, old.revision.spec), (wanted.spec, before.spec));
    let runs = |handle: &Handle| Some(ImageId(world.inspect(&handle.0, "{{.Image}}").into()));
    assert_eq!((runs(&new.handle), runs(&old.handle)), (wanted.image, before.image));
    let gone = Some(ImageId(format!("sha256:{}", "0".repeat(64)).into()));
    let error = driver.start(StartRequest { image: gone, ..request("S8", 1, 4) }).await;
    assert!(matches!(error, Err(StartError::NoImage(_))), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn strays_are_listed_in_every_state() {
    let Some(host) = engine() else { return };
    let world = World::new(&host);
    let driver = ready(config(&world)).await;
    let label = format!("ringmaster.fleet={}", world.fleet);
    let stray = world.run(&format!("{}-s1", world.fleet), &["--label", &label]);
    let created = world.docker(&["create", "--label", &label, &world.image]);
    let listing = driver.list().await.unwrap();
    assert_eq!(listing.found.len(), 2);
    for found in &listing.found {
        assert_eq!(found.identity, None);
        let expected = if *found.handle.0 == *created {
            FoundState::Created
        } else {
            FoundState::Running(None)
        };
        assert_eq!(found.state, expected);
        driver.stop(found.handle.clone(), StopManner::Kill).await.unwrap();
    }
    assert!(!world.exists(&stray) && !world.exists(&created));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_balancer_of_the_fleet_is_found_while_it_runs() {
    let Some(host) = engine() else { return };
    let world = World::new(&host);
    let driver = DockerDriver::new(config(&world));
    assert_eq!(driver.other_balancers().await.unwrap(), [""; 0]);
    let name = format!("{}-balancer", world.fleet);
    let balances = format!("ringmaster.balances={}", world.fleet);
    let role = "ringmaster.role=balancer";
    let id = world.run(&name, &["--label", role, "--label", &balances]);
    world.run(
        &format!("{}-other", world.fleet),
        &["--label", role, "--label", "ringmaster.balances=rmdrv-other"],
    );
    assert_eq!(driver.other_balancers().await.unwrap(), [name]);
    world.docker(&["kill", &id]);
    assert_eq!(driver.other_balancers().await.unwrap(), [""; 0]);
}

/// Run by [`a_balancer_in_a_container_joins_the_network`] inside a container.
#[tokio::test(flavor = "multi_thread")]
async fn plays_the_balancer_in_a_container() {
    let Ok(fleet) = env::var("RINGMASTER_TEST_INSIDE") else {
        return;
    };
    let resumed = tokio::signal::unix::SignalKind::user_defined1();
    let mut resumed = tokio::signal::unix::signal(resumed).unwrap();
    let driver = ready(DockerConfig::new(&fleet, "rmdrv-nothing:1")).await;
    driver.prepare().await.unwrap();
    assert_eq!(driver.other_balancers().await.unwrap(), [""; 0]);
    time::timeout(Duration::from_secs(600), resumed.recv()).await.unwrap();
    driver.tidy_up().await.unwrap();
    time::sleep(Duration::from_secs(600)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_balancer_in_a_container_joins_the_network() {
    let Some(host) = engine() else { return };
    let Some(socket) = host.strip_prefix("unix://") else {
        crate::docker::skip("the engine is not on this machine");
        return;
    };
    let world = World::new(&host);
    let name = format!("{}-balancer", world.fleet);
    let exe = env::current_exe().unwrap();
    let mount = |from: &str, to: &str| format!("{from}:{to}:ro");
    let exe = mount(exe.to_str().unwrap(), "/test");
    let socket = format!("{socket}:/var/run/docker.sock");
    let libraries: Vec<String> = ["/lib", "/lib64", "/usr/lib"]
        .into_iter()
        .filter(|dir| std::path::Path::new(dir).exists())
        .map(|dir| mount(dir, dir))
        .collect();
    let inside = format!("RINGMASTER_TEST_INSIDE={}", world.fleet);
    let balances = format!("ringmaster.balances={}", world.fleet);
    let mut args = vec![
        "run",
        "--detach",
        "--name",
        &name,
        "--hostname",
        "balancer",
        "--env",
        &inside,
        "--label",
        "ringmaster.role=balancer",
        "--label",
        &balances,
        "--volume",
        &exe,
        "--volume",
        &socket,
        "--entrypoint",
        "/test",
    ];
    for library in &libraries {
        args.extend(["--volume", library]);
    }
    args.extend([
        &world.image,
        "--exact",
        "driver::plays_the_balancer_in_a_container",
        "--nocapture",
    ]);
    world.docker(&args);
    let networks = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}";
    let network = format!("{}-net", world.fleet);
    eventually("the balancer is on the network", LONG, || {
        let running = world.inspect(&name, "{{.State.Running}}");
        assert_eq!(running, "true", "{:?}", world.docker(&["logs", &name]));
        world.inspect(&name, networks).contains(&network)
    });
    // At the end it leaves the network that it joined, and removes it.
    world.docker(&["kill", "--signal", "USR1", &name]);
    eventually("the network is gone", LONG, || {
        assert_eq!(world.inspect(&name, "{{.State.Running}}"), "true");
        let list = ["network", "ls", "--quiet", "--filter", &format!("name={network}")];
        world.docker(&list).is_empty()
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_ends_and_comes_again_is_followed() {
    if engine().is_none() {
        return;
    }
    let Some(private) = PrivateEngine::start() else {
        return;
    };
    import_image(&private.host(), "rmdrv-private:1", "/replica");
    let driver = ready(DockerConfig {
        host: private.host(),
        deadlines: Deadlines { ordinary: Duration::from_secs(2), create: Duration::from_secs(10) },
        ..DockerConfig::new("default", "rmdrv-private:1")
    })
    .await;
    let mut signals = watch(&driver).await;
    let started = driver.start(request("S5", 1, 1)).await.unwrap();
    // The default fleet uses bare names.
    let template = "{{.Name}} {{range $name, $_ := .NetworkSettings.Networks}}{{$name}}{{end}}";
    let inspect = ["inspect", "--format", template, "S5"];
    assert_eq!(crate::docker::docker(&private.host(), &inspect).unwrap(), "/S5 net1");

    // Killed: the stream ends at once, and calls fail at once.
    private.end(Kill::KILL);
    changed(&mut signals).await;
    let begin = Instant::now();
    assert!(matches!(driver.list().await, Err(EngineError::Away(_))));
    let unclear = driver.start(request("S6", 2, 1)).await;
    assert!(matches!(unclear, Err(StartError::Unclear(_))), "{unclear:?}");
    let stop = driver.stop(started.handle.clone(), StopManner::Graceful).await;
    assert!(matches!(stop, Err(EngineError::Away(_))));
    assert!(begin.elapsed() < Duration::from_secs(1));

    // Started again: the stream is opened and calls work. The engine has ended the former containers.
    private.again();
    changed(&mut signals).await;
    driver.stop(started.handle, StopManner::Kill).await.unwrap();
    let second = driver.start(request("S5", 1, 2)).await.unwrap();
    crate::docker::docker(&private.host(), &["kill", &second.handle.0]).unwrap();
    loop {
        let (instance, sighting) = next_sighting(&mut signals, Instant::now()).await;
        let exit_code = Some(137);
        if instance == request("S5", 1, 2).instance && sighting == (Sighting::Died { exit_code }) {
            break;
        }
    }

    // Frozen: every call ends by its deadline.
    private.signal(Kill::STOP);
    let begin = Instant::now();
    let (list, start, words) = tokio::join!(
        driver.list(),
        driver.start(request("S6", 2, 1)),
        driver.last_words(second.handle.clone())
    );
    assert_eq!(words, None);
    assert!(matches!(list, Err(EngineError::Away(text)) if text.contains("within 2s")));
    assert!(matches!(start, Err(StartError::Unclear(_))), "{start:?}");
    assert!(begin.elapsed() < Duration::from_secs(5));
    private.signal(Kill::CONT);

    // Stopped in order.
    private.end(Kill::TERM);
    changed(&mut signals).await;
}

/// Waits for the signal that the stream was lost or opened.
async fn changed(signals: &mut mpsc::Receiver<Signal>) {
    loop {
        let signal = time::timeout(LONG, signals.recv()).await.unwrap();
        if signal.unwrap() == Signal::StreamChanged {
            return;
        }
    }
}
