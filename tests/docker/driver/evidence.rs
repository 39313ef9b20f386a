//! The logs of containers, and how they ended.

use std::time::Instant;

use ringmaster_core::fleet::message::LastWords;

use super::*;

async fn until_ended(world: &World, id: &str) {
    eventually("it has ended", LONG, || world.inspect(id, "{{.State.Running}}") == "false");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_lines_and_the_exit_code_are_reported() {
    let Some(host) = engine() else { return };
    let world = World::new(&host);
    let command = Some(vec!["talkative".into()]);
    let driver = ready(DockerConfig { command, ..config(&world) }).await;
    let handle = driver.start(request("S5", 1, 1)).await.unwrap().handle;
    let lines = driver.logs(handle.clone(), 3).await.unwrap();
    assert_eq!(lines, ["line 198", "line 199", "red alert"]);

    kill_process(main_process(&world, &handle.0), Kill::KILL).unwrap();
    until_ended(&world, &handle.0).await;
    let begin = Instant::now();
    let words = driver.last_words(handle.clone()).await.unwrap();
    eprintln!("last words after {:?}", begin.elapsed());
    assert_eq!((words.exit_code, words.out_of_memory), (Some(137), false));
    assert_eq!(
        (words.lines.len(), &*words.lines[0], &*words.lines[49]),
        (50, "line 151", "red alert")
    );
    driver.stop(handle.clone(), StopManner::Collect).await.unwrap();
    assert!(!world.exists(&handle.0));
    assert_eq!(driver.last_words(handle.clone()).await, None);
    let gone = driver.logs(handle, 3).await.unwrap_err();
    assert!(gone.to_string().contains("No such container"), "{gone}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_by_out_of_memory_is_reported() {
    let Some(host) = engine() else { return };
    let world = World::new(&host);
    let driver = ready(config(&world)).await;
    let memory = ["--memory", "16m", "--memory-swap", "16m"];
    let id = run_labelled(&world, &memory, "hungry");
    let ip = world.inspect(&id, "{{.NetworkSettings.IPAddress}}");
    let address = SocketAddr::new(ip.parse().unwrap(), 5000);
    eventually("it listens", LONG, || TcpStream::connect(address).is_ok());
    until_ended(&world, &id).await;
    let words = driver.last_words(Handle(id.into())).await.unwrap();
    assert_eq!(words.to_string(), "exit code 137 (SIGKILL), out of memory");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_ends_at_once_leaves_its_last_lines() {
    let Some(host) = engine() else { return };
    let world = World::new(&host);
    let command = Some(vec!["exit".into()]);
    let settle = Duration::from_secs(2);
    let driver = ready(DockerConfig { command, settle, ..config(&world) }).await;
    let error = driver.start(request("S5", 1, 1)).await.unwrap_err();
    let StartError::Ended { why, last_words } = error else { panic!("{error:?}") };
    assert_eq!(&*why, "it exited at once with status 3: the sky is falling");
    let lines = vec!["the sky is falling".to_owned()];
    assert_eq!(*last_words, LastWords { lines, ..LastWords::of_exit(Some(3)) });
    assert_eq!(driver.list().await.unwrap().found, []);
}
