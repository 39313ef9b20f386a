//! The experiments against a balancer that is acted by the fake server.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use analysis::experiments::{Setup, a1, a2, a3};
use analysis::load::KeySource;
use indicatif::ProgressBar;

use crate::fake::{Act, Seen, home, start};

/// A folder of its own under the build's folder, emptied first.
fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&path);
    path
}

fn setup(url: String, out: &Path) -> Setup {
    Setup {
        url,
        keys: KeySource::Random,
        key_header: http::HeaderName::from_static("x-request-id"),
        seed: 1,
        connections: 4,
        deadline: Duration::from_secs(5),
        out: out.to_owned(),
    }
}

fn rep(names: &[&str]) -> String {
    serde_json::json!({"message": {"N": names.len(), "replicas": names}, "status": "successful"})
        .to_string()
}

fn read(out: &Path, name: &str) -> String {
    std::fs::read_to_string(out.join(name)).unwrap()
}

/// Three replicas, the keys split in two halves among the first two.
fn halves(seen: Seen) -> Act {
    match seen.path.as_str() {
        "/rep" => Act::Answer(rep(&["server_1", "server_2", "server_3"])),
        "/api/ring" => Act::Answer(
            r#"{"slots":512,"replicas":[{"name":"server_1","id":1,"share":0.5},
                {"name":"server_2","share":0.25},{"name":"server_3","share":0.25}]}"#
                .to_owned(),
        ),
        _ if seen.key.is_some_and(|key| key % 2 == 0) => Act::Answer(home("server_1")),
        _ => Act::Answer(home("server_2")),
    }
}

#[tokio::test]
async fn a1_measures_the_shares_beside_the_predicted_ones() {
    let out = folder("a1");
    let url = format!("http://{}", start(halves).await);
    let question = a1::Question { requests: 1_000, admin_url: Some(url.clone()), hash_key: None };
    let found = a1::run(&setup(url, &out), &question, &ProgressBar::hidden()).await.unwrap();
    let names: Vec<&str> = found.rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["server_1", "server_2", "server_3"]);
    assert_eq!(found.rows.iter().map(|row| row.requests).sum::<u64>(), 1_000);
    assert_eq!(found.rows[2].requests, 0, "who answers nothing is shown too");
    assert_eq!((found.rows[0].predicted, &found.no_prediction), (Some(0.5), &None));

    let csv = read(&out, "a1.csv");
    assert_eq!(csv.lines().count(), 4);
    assert!(csv.starts_with("replica,requests,measured_share,predicted_share\nserver_1,"));
    assert!(csv.contains("server_3,0,0.000000,0.250000\n"), "{csv}");
    let svg = read(&out, "a1.svg");
    for part in ["server_1", "server_2", "server_3", "A-1: 1,000 requests over 3 replicas"] {
        assert!(svg.contains(part), "{part}");
    }
    assert!(found.to_string().contains("peak to average"));
}

#[tokio::test]
async fn a1_does_without_a_prediction_and_says_why() {
    let out = folder("a1-alone");
    let url = format!("http://{}", start(halves).await);
    let admin = start(|_| Act::Status(403)).await;
    let question =
        a1::Question { requests: 100, admin_url: Some(format!("http://{admin}")), hash_key: None };
    let found = a1::run(&setup(url, &out), &question, &ProgressBar::hidden()).await.unwrap();
    assert!(found.rows.iter().all(|row| row.predicted.is_none()));
    assert!(found.to_string().contains("no prediction:") && found.to_string().contains("403"));
    assert!(!read(&out, "a1.svg").contains("predicted"));
}

/// A balancer whose first replica dies when the file `killed` appears: for
/// 100 ms its requests fail, then it is out, 400 ms later its successor is in.
fn with_a_mortal(killed: PathBuf) -> impl Fn(Seen) -> Act + Send + Sync {
    let died: Arc<Mutex<Option<Instant>>> = Arc::default();
    move |seen| {
        let mut died = died.lock().unwrap();
        if died.is_none() && killed.exists() {
            *died = Some(Instant::now());
        }
        let since = died.map(|at| at.elapsed().as_millis());
        let first = match since {
            None => Some("S1"),
            Some(0..100) => None,
            Some(100..500) => Some("S2"),
            Some(_) => Some("server_777777"),
        };
        match (seen.path.as_str(), since) {
            ("/rep", None | Some(0..100)) => Act::Answer(rep(&["S1", "S2"])),
            ("/rep", Some(100..500)) => Act::Answer(rep(&["S2"])),
            ("/rep", Some(_)) => Act::Answer(rep(&["server_777777", "S2"])),
            _ if seen.key.is_some_and(|key| key % 2 == 0) => {
                first.map_or(Act::Status(502), |name| Act::Answer(home(name)))
            }
            _ => Act::Answer(home("S2")),
        }
    }
}

fn kill_at_half_a_second(command: &str) -> a3::Question {
    a3::Question {
        rate: 200.0,
        duration: Duration::from_secs(2),
        kill_after: Duration::from_millis(500),
        victim: None,
        kill: command.parse().unwrap(),
        admin_url: None,
    }
}

/// A fleet that can be scaled, and that assigns keys in turns.
fn scaling() -> impl Fn(Seen) -> Act + Send + Sync + 'static {
    let replicas = Mutex::new(3usize);
    move |seen: Seen| {
        let mut replicas = replicas.lock().unwrap();
        let names: Vec<String> = (1..=*replicas).map(|number| format!("server_{number}")).collect();
        match seen.path.as_str() {
            "/rep" => Act::Answer(rep(&names.iter().map(String::as_str).collect::<Vec<_>>())),
            // The fake reads no bodies; this is what A-2 asks for, from 3 to 2, to 6 and back.
            "/add" => {
                *replicas += 1;
                Act::Answer("{}".to_owned())
            }
            "/rm" => {
                *replicas = if *replicas == 6 { 3 } else { 2 };
                Act::Answer("{}".to_owned())
            }
            _ => {
                let key = seen.key.unwrap_or(0) as usize;
                Act::Answer(home(&names[key % names.len()]))
            }
        }
    }
}

#[tokio::test]
async fn a2_measures_every_size_and_leaves_the_fleet_as_it_was() {
    let out = folder("a2");
    let url = format!("http://{}", start(scaling()).await);
    let question = a1::Question { requests: 600, admin_url: None, hash_key: None };
    let setup = setup(url, &out);
    let found = a2::run(&setup, &question, &ProgressBar::hidden()).await.unwrap();
    let sizes: Vec<usize> = found.points.iter().map(|point| point.replicas).collect();
    assert_eq!(sizes, [2, 3, 4, 5, 6]);
    for point in &found.points {
        assert_eq!(point.rows.iter().map(|row| row.requests).sum::<u64>(), 600);
        assert!((point.average - 600.0 / point.replicas as f64).abs() < 1e-9);
        assert!(point.peak_to_average >= 1.0 && point.peak_to_average < 1.4, "{point:?}");
        assert!(point.expected.is_none(), "the server shows no ring");
    }
    let balancer = analysis::balancer::Balancer::new(&setup.url).unwrap();
    assert_eq!(balancer.replicas().await.unwrap().len(), 3);
    let csv = read(&out, "a2.csv");
    assert!(csv.starts_with("n,average,deviation,peak_to_average,predicted_deviation,"), "{csv}");
    assert_eq!(csv.lines().count(), 6);
    assert!(read(&out, "a2.svg").contains("A-2: 600 requests over N replicas"));
    assert!(read(&out, "a2-peak.svg").contains("A-2: the busiest of N replicas, 600 requests"));
    assert!(found.to_string().contains("peak/average"));
}

#[tokio::test]
async fn a3_sees_the_kill_the_gap_and_the_replacement() {
    let out = folder("a3");
    std::fs::create_dir_all(&out).unwrap();
    let url = format!("http://{}", start(with_a_mortal(out.join("killed-S1"))).await);
    let question = kill_at_half_a_second(&format!("touch {}/killed-{{name}}", out.display()));
    let found = a3::run(&setup(url, &out), &question, &ProgressBar::hidden()).await.unwrap();

    assert_eq!(found.victim, "S1");
    let moments = &found.moments;
    let new = moments.replacement.as_ref().expect("the replacement was seen");
    assert_eq!(new.name, "server_777777");
    let out_of_table = moments.out_of_table.expect("it was seen to leave");
    assert!(moments.killed >= Duration::from_millis(500));
    assert!(out_of_table >= moments.killed + Duration::from_millis(100));
    assert!(new.in_service >= out_of_table + Duration::from_millis(300), "{moments:?}");
    assert_eq!(found.load.requests, 400);
    assert_eq!(found.load.errors.keys().collect::<Vec<_>>(), ["status 502"]);

    let csv = read(&out, "a3.csv");
    let mut lines = csv.lines();
    assert_eq!(lines.next(), Some("start_s,S1,server_777777,S2,failed"));
    let counted: u64 =
        lines.flat_map(|line| line.split(',').skip(1)).map(|n| n.parse::<u64>().unwrap()).sum();
    assert_eq!(counted, 400, "every request is in exactly one bin");
    let svg = read(&out, "a3.svg");
    for part in ["S1", "S2", "server_777777 in service", "out of the table", "kill (", "failed"] {
        assert!(svg.contains(part), "{part}");
    }
    assert!(read(&out, "a3-moments.csv").contains("S1 out of the table,"));
    let json = serde_json::to_value(&found).unwrap();
    assert_eq!(json["moments"]["replacement"]["name"], "server_777777");
}

#[tokio::test]
async fn a3_refuses_what_cannot_be_and_stops_when_the_kill_fails() {
    let out = folder("a3-bad");
    let url = format!("http://{}", start(halves).await);
    let setup = setup(url, &out);
    let stranger =
        a3::Question { victim: Some("S9".to_owned()), ..kill_at_half_a_second("true {name}") };
    let late =
        a3::Question { kill_after: Duration::from_secs(2), ..kill_at_half_a_second("true {name}") };
    let broken = a3::Question {
        duration: Duration::from_secs(60),
        kill_after: Duration::from_millis(50),
        ..kill_at_half_a_second("ls /no-such/{name}")
    };
    let start = Instant::now();
    for (question, reason) in
        [(stranger, "no replica in service"), (late, "before the load ends"), (broken, "failed")]
    {
        let error = a3::run(&setup, &question, &ProgressBar::hidden()).await.unwrap_err();
        assert!(format!("{error:#}").contains(reason), "{error:#}");
    }
    assert!(start.elapsed() < Duration::from_secs(20), "it did not wait for the load's end");
    assert!(!out.exists(), "nothing was written");
}
