//! Every request ends in exactly one column of the books.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use analysis::load::{Amount, KeySource, Keys, Pace, Plan, RequestError, Run, Shape, run};
use analysis::target::Target;
use indicatif::ProgressBar;
use tokio::net::TcpListener;

use crate::fake::{Act, home, start};

fn plan(address: SocketAddr) -> Plan {
    Plan {
        target: Target { authority: address.to_string(), address },
        shape: Shape::default(),
        keys: KeySource::Random,
        seed: 7,
        pace: Pace::Closed,
        amount: Amount::Requests(1_000),
        connections: 8,
        deadline: Duration::from_secs(5),
        keep_samples: true,
    }
}

async fn carry_out(plan: &Plan) -> Run {
    run(plan, &ProgressBar::hidden()).await.unwrap()
}

#[tokio::test]
async fn answers_and_failures_are_counted_exactly() {
    let address = start(|seen| match seen.index % 20 {
        3 => Act::Reset,
        7 => Act::Status(503),
        11 => Act::HalfAnswer,
        13 => Act::Status(404),
        17 => Act::Nonsense,
        rest if rest % 2 == 0 => Act::Answer(home("server_1")),
        _ => Act::Answer(home("server_2")),
    })
    .await;
    let run = carry_out(&plan(address)).await;
    let tally = run.tally;
    assert_eq!(tally.answered, 750);
    assert_eq!(tally.by_name(), BTreeMap::from([("server_1", 500), ("server_2", 250)]));
    assert_eq!(
        tally.failures,
        BTreeMap::from([
            (RequestError::Reset, 50),
            (RequestError::Closed, 50),
            (RequestError::Protocol, 50),
            (RequestError::Status(404), 50),
            (RequestError::Status(503), 50),
        ])
    );
    assert_eq!(tally.latency.len(), 750);
    assert_eq!(tally.samples.unwrap().len(), 1_000);
    // One for each of the eight, and one more after each that was lost, but for
    // those that were lost by a connection's last request.
    assert!((151..=158).contains(&tally.connections_opened), "{}", tally.connections_opened);
}

#[tokio::test]
async fn a_connection_closed_between_requests_is_no_failure() {
    let address = start(|seen| match seen.index % 5 {
        0 => Act::AnswerAndClose(home("a")),
        _ => Act::Answer(home("a")),
    })
    .await;
    // Slow enough for the close to arrive before the next request is sent; one
    // that crosses a request on its way is a failure, and rightly so.
    let mut plan = plan(address);
    plan.pace = Pace::Open { rate: 50.0 };
    plan.amount = Amount::Requests(25);
    plan.connections = 1;
    let tally = carry_out(&plan).await.tally;
    assert_eq!((tally.answered, tally.failed()), (25, 0));
    assert_eq!(tally.connections_opened, 6, "the first, and one after each of five closes");
}

#[tokio::test]
async fn silence_ends_at_the_deadline() {
    let address = start(|seen| match seen.index % 10 {
        4 => Act::Silence,
        _ => Act::Answer("no name in here".to_owned()),
    })
    .await;
    let mut plan = plan(address);
    plan.deadline = Duration::from_millis(300);
    plan.amount = Amount::Requests(100);
    let tally = carry_out(&plan).await.tally;
    assert_eq!((tally.answered, tally.unnamed), (90, 90));
    assert_eq!(tally.failures, BTreeMap::from([(RequestError::Timeout, 10)]));
}

#[tokio::test]
async fn where_nothing_listens_every_request_is_refused() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = gone.local_addr().unwrap();
    drop(gone);
    let mut plan = plan(address);
    plan.amount = Amount::Requests(40);
    let tally = carry_out(&plan).await.tally;
    assert_eq!(tally.failures, BTreeMap::from([(RequestError::Refused, 40)]));
    assert_eq!((tally.answered, tally.connections_opened), (0, 0));
}

#[tokio::test]
async fn a_stall_shows_in_all_requests_that_were_due_during_it() {
    let stall = |seen: crate::fake::Seen| match seen.index {
        10 => Act::Late(Duration::from_millis(500), home("a")),
        _ => Act::Answer(home("a")),
    };
    let mut plan = plan(start(stall).await);
    plan.pace = Pace::Open { rate: 100.0 };
    plan.amount = Amount::Requests(100);
    plan.connections = 1;
    let slow = |run: &Run| run.tally.latency.count_between(100_000, 10_000_000);
    let open = carry_out(&plan).await;
    assert_eq!(open.tally.answered, 100);
    // Due from 100 ms to 500 ms of the stall's 500 ms: 40 requests.
    assert!((40..=100).contains(&slow(&open)), "{}", slow(&open));

    plan.target.address = start(stall).await;
    plan.pace = Pace::Closed;
    let closed = carry_out(&plan).await;
    // One, and perhaps a few more when the machine itself stalls.
    assert!((1..10).contains(&slow(&closed)), "a closed loop does not see it");
}

#[tokio::test]
async fn an_open_loop_keeps_its_rate_and_gives_up_what_cannot_be_sent() {
    let mut plan = plan(start(|_| Act::Answer(home("a"))).await);
    plan.pace = Pace::Open { rate: 200.0 };
    plan.amount = Amount::Duration(Duration::from_millis(500));
    let kept = carry_out(&plan).await;
    assert_eq!(kept.tally.answered, 100);
    assert!(kept.elapsed >= Duration::from_millis(495), "{:?}", kept.elapsed);

    plan.target.address = start(|_| Act::Silence).await;
    plan.pace = Pace::Open { rate: 1_000.0 };
    plan.amount = Amount::Requests(100);
    plan.connections = 1;
    plan.deadline = Duration::from_millis(300);
    let failures = carry_out(&plan).await.tally.failures;
    // One or two are sent before 399 ms; all others wait behind them in vain.
    let count = |failure| failures.get(&failure).copied().unwrap_or(0);
    assert_eq!(count(RequestError::Timeout) + count(RequestError::Unsent), 100, "{failures:?}");
    assert!((1..=2).contains(&count(RequestError::Timeout)), "{failures:?}");
}

#[tokio::test]
async fn a_closed_loop_ends_when_its_time_is_over() {
    let mut plan = plan(start(|_| Act::Answer(home("a"))).await);
    plan.amount = Amount::Duration(Duration::from_millis(200));
    let start = Instant::now();
    let run = carry_out(&plan).await;
    assert!(run.tally.answered > 0);
    assert_eq!(run.tally.failed(), 0);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[tokio::test]
async fn the_seed_decides_the_keys_that_arrive_in_header_and_path() {
    let seen: Arc<Mutex<Vec<(u64, String)>>> = Arc::default();
    let book = Arc::clone(&seen);
    let mut plan = plan(
        start(move |seen| {
            book.lock().unwrap().push((seen.key.unwrap(), seen.path));
            Act::Answer(home("a"))
        })
        .await,
    );
    plan.keys = KeySource::Zipf { count: 50, exponent: 1.0 };
    plan.amount = Amount::Requests(200);
    plan.shape.path = "/get?key={key}".to_owned();
    carry_out(&plan).await;
    let keys = Keys::new(plan.keys, plan.seed).unwrap();
    let mut expected: Vec<(u64, String)> = (0..200)
        .map(|index| keys.key(index).unwrap())
        .map(|key| (key, format!("/get?key={key}")))
        .collect();
    let mut arrived = seen.lock().unwrap().clone();
    expected.sort_unstable();
    arrived.sort_unstable();
    assert_eq!(arrived, expected);
}

#[tokio::test]
async fn a_plan_that_cannot_be_carried_out_is_refused_with_the_reason() {
    type Spoil = fn(&mut Plan);
    let bad: [(Spoil, &str); 10] = [
        (|plan| plan.connections = 0, "connections"),
        (|plan| plan.connections = 1_000_000, "connections"),
        (|plan| plan.pace = Pace::Open { rate: 0.0 }, "rate"),
        (|plan| plan.pace = Pace::Open { rate: f64::NAN }, "rate"),
        (|plan| plan.pace = Pace::Open { rate: 1e-300 }, "rate"),
        (|plan| plan.deadline = Duration::ZERO, "deadline"),
        (|plan| plan.amount = Amount::Requests(0), "requests"),
        (|plan| plan.amount = Amount::Requests(u64::MAX), "requests"),
        (|plan| plan.amount = Amount::Duration(Duration::MAX), "duration"),
        (|plan| plan.shape.path = "home".to_owned(), "slash"),
    ];
    for (spoil, reason) in bad {
        let mut plan = plan("127.0.0.1:1".parse().unwrap());
        spoil(&mut plan);
        let error = run(&plan, &ProgressBar::hidden()).await.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}
