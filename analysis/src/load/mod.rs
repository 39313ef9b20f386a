//! The load generator: a [`Plan`] in, a [`Run`] out.
//!
//! `schedule` decides when, `keys` which key; `client` sends, `tally` counts.

mod client;
mod keys;
mod schedule;
mod tally;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use indicatif::ProgressBar;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use client::LoadClient;
pub use keys::{KeySource, Keys};
use schedule::Pacer;
pub use schedule::{Amount, Pace, Schedule};
pub use tally::{Outcome, RequestError, Sample, Tally};

use crate::target::Target;

/// Most connections: with more, the generator itself would be the limit.
pub const MAX_CONNECTIONS: usize = 4096;

/// Limits of a plan: more makes no sense on one machine, and within them no sum of times overflows.
const RATES: std::ops::RangeInclusive<f64> = 0.001..=1_000_000.0;
const MOST_REQUESTS: u64 = 1_000_000_000_000;
const LONGEST: Duration = Duration::from_secs(30 * 86_400);

/// Interval of the progress bar.
const BAR_INTERVAL: Duration = Duration::from_millis(200);

/// Everything that decides what is sent and when.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where the requests are sent.
    pub target: Target,
    /// What all requests have in common.
    pub shape: Shape,
    /// The key of each request.
    pub keys: KeySource,
    /// Decides the keys, together with the request's number.
    pub seed: u64,
    /// How fast requests follow each other.
    pub pace: Pace,
    /// When the run is over.
    pub amount: Amount,
    /// Keep-alive connections, from 1 to [`MAX_CONNECTIONS`].
    pub connections: usize,
    /// Timeout of a request, with the time to connect.
    pub deadline: Duration,
    /// Whether single requests are kept for a time line.
    pub keep_samples: bool,
}

/// What all requests have in common. `{key}` in path and body stands for the key.
#[derive(Debug, Clone)]
pub struct Shape {
    /// The HTTP method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// The header that carries the key.
    pub key_header: HeaderName,
    /// A JSON body, or none.
    pub body: Option<String>,
}

impl Default for Shape {
    fn default() -> Shape {
        Shape {
            method: Method::GET,
            path: "/home".to_owned(),
            key_header: HeaderName::from_static("x-request-id"),
            body: None,
        }
    }
}

/// A finished run.
#[derive(Debug)]
pub struct Run {
    /// The counts.
    pub tally: Tally,
    /// The moment that all times in the tally count from.
    pub started: Instant,
    /// From the start to the last response.
    pub elapsed: Duration,
}

/// Carries out `plan` and waits until every request has been counted.
///
/// # Errors
/// When the plan cannot be carried out at all. Failing requests are no error,
/// they are counted.
pub async fn run(plan: &Plan, bar: &ProgressBar) -> Result<Run> {
    run_until(plan, bar, std::future::pending()).await
}

/// Like [`run`], but sends no more requests once `end` completes. Open requests are waited for.
///
/// # Errors
/// As [`run`].
pub async fn run_until(
    plan: &Plan,
    bar: &ProgressBar,
    end: impl Future<Output = ()>,
) -> Result<Run> {
    check(plan)?;
    let schedule = Arc::new(Schedule::new(plan.pace, plan.amount));
    let started = Instant::now();
    let shared = Arc::new(Shared {
        template: Template::new(plan)?,
        tally: Mutex::new(Tally::new(plan.keep_samples)?),
        keys: Keys::new(plan.keys, plan.seed)?,
        released: Arc::new(Semaphore::new(0)),
        // The last request of the schedule has its whole timeout.
        gives_up: schedule.last_due().map(|due| due + plan.deadline),
        schedule,
        started,
    });
    let mut workers = JoinSet::new();
    for _ in 0..plan.connections {
        let client = LoadClient::new(plan.target.clone(), plan.deadline);
        workers.spawn(work(Arc::clone(&shared), client));
    }
    let _pacer = match plan.pace {
        Pace::Closed => None,
        Pace::Open { .. } => {
            let released = Arc::clone(&shared.released);
            Some(Pacer::start(Arc::clone(&shared.schedule), started, released)?)
        }
    };
    let mut bar_moves = tokio::time::interval(BAR_INTERVAL);
    let mut end = std::pin::pin!(end);
    let mut has_ended = false;
    loop {
        tokio::select! {
            ended = workers.join_next() => match ended {
                Some(ended) => ended.context("a connection's task ended badly")?,
                None => break,
            },
            () = &mut end, if !has_ended => {
                has_ended = true;
                shared.schedule.end();
            }
            _ = bar_moves.tick() => show_progress(bar, plan, &shared),
        }
    }
    let elapsed = started.elapsed();
    bar.finish_and_clear();
    let tally = std::mem::replace(&mut *shared.tally(), Tally::new(false)?);
    Ok(Run { tally, started, elapsed })
}

fn check(plan: &Plan) -> Result<()> {
    if !(1..=MAX_CONNECTIONS).contains(&plan.connections) {
        bail!("connections must be from 1 to {MAX_CONNECTIONS}, not {}", plan.connections);
    }
    if let Pace::Open { rate } = plan.pace
        && !RATES.contains(&rate)
    {
        let (least, most) = (RATES.start(), RATES.end());
        bail!("the rate must be from {least} to {most} per second, not {rate}");
    }
    let usable = |time: Duration| !time.is_zero() && time <= LONGEST;
    if !usable(plan.deadline) {
        bail!("the deadline must be above 0 and at most {LONGEST:?}");
    }
    match plan.amount {
        Amount::Requests(number) if !(1..=MOST_REQUESTS).contains(&number) => {
            bail!("the number of requests must be from 1 to {MOST_REQUESTS}, not {number}")
        }
        Amount::Duration(time) if !usable(time) => {
            bail!("the duration must be above 0 and at most {LONGEST:?}")
        }
        _ => Ok(()),
    }
}

/// The state that all connections share.
#[derive(Debug)]
struct Shared {
    schedule: Arc<Schedule>,
    template: Template,
    keys: Keys,
    /// One permit per request that is due.
    released: Arc<Semaphore>,
    /// After this time, requests of an open loop that still wait count as unsent.
    gives_up: Option<Duration>,
    started: Instant,
    /// Never contended: the runtime has one thread, and it is not held across a wait.
    tally: Mutex<Tally>,
}

impl Shared {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        // After a panic of a task one request is missing, but the counts are valid.
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The loop of one connection: take a request's number, wait until it is due, send, count.
async fn work(shared: Arc<Shared>, mut client: LoadClient) {
    while let Some(index) = shared.schedule.claim(shared.started.elapsed()) {
        let due = shared.schedule.due(index);
        if due.is_some() {
            // Never fails, because the semaphore is never closed.
            if let Ok(permit) = shared.released.acquire().await {
                permit.forget();
            }
        }
        let sent = shared.started.elapsed();
        if shared.gives_up.is_some_and(|gives_up| sent > gives_up) {
            shared.tally().failure(sent, RequestError::Unsent);
            continue;
        }
        let opened = client.opened;
        let result = client.send(shared.template.request(shared.keys.key(index))).await;
        let at = shared.started.elapsed();
        {
            let mut tally = shared.tally();
            tally.connections_opened += client.opened - opened;
            match result {
                Ok(answer) => {
                    tally.body_bytes += answer.body_bytes;
                    if answer.status < StatusCode::BAD_REQUEST {
                        let latency = at.saturating_sub(due.unwrap_or(sent));
                        tally.answer(at, latency, answer.name.as_deref());
                    } else {
                        tally.failure(at, RequestError::Status(answer.status.as_u16()));
                    }
                }
                Err(failure) => tally.failure(at, failure),
            }
        }
        if !client.pause().is_zero() {
            tokio::time::sleep(client.pause()).await;
        }
    }
}

fn show_progress(bar: &ProgressBar, plan: &Plan, shared: &Shared) {
    let (answered, failed) = {
        let tally = shared.tally();
        (tally.answered, tally.failed())
    };
    match (shared.schedule.total(), plan.amount) {
        (Some(total), _) => {
            bar.set_length(total);
            bar.set_position(answered + failed);
        }
        (None, Amount::Duration(time)) => {
            bar.set_length(time.as_millis() as u64);
            bar.set_position(shared.started.elapsed().min(time).as_millis() as u64);
        }
        (None, Amount::Requests(_)) => {}
    }
    bar.set_message(format!("{answered} answered, {failed} failed"));
}

/// Builds requests; what does not change from one to the next is built once.
#[derive(Debug)]
struct Template {
    shape: Shape,
    host: HeaderValue,
    uri: Uri,
    body: Bytes,
    path_has_key: bool,
    body_has_key: bool,
}

impl Template {
    fn new(plan: &Plan) -> Result<Template> {
        let shape = plan.shape.clone();
        if !shape.path.starts_with('/') {
            bail!("the path {:?} does not start with a slash", shape.path);
        }
        let path_has_key = shape.path.contains("{key}");
        // One key is enough to check the path, because all keys are numbers.
        let uri = shape
            .path
            .replace("{key}", "0")
            .parse()
            .with_context(|| format!("{:?} is not a path", shape.path))?;
        let host =
            HeaderValue::from_str(&plan.target.authority).context("the host is no header")?;
        let body = Bytes::from(shape.body.clone().unwrap_or_default());
        let body_has_key = shape.body.as_ref().is_some_and(|body| body.contains("{key}"));
        Ok(Template { shape, host, uri, body, path_has_key, body_has_key })
    }

    fn request(&self, key: Option<u64>) -> Request<Full<Bytes>> {
        let text = key.map(|key| key.to_string()).unwrap_or_default();
        let body = if self.body_has_key {
            let body = self.shape.body.as_deref().unwrap_or_default();
            Bytes::from(body.replace("{key}", &text))
        } else {
            self.body.clone()
        };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = self.shape.method.clone();
        *request.uri_mut() = if self.path_has_key {
            let path = self.shape.path.replace("{key}", &text);
            path.parse().unwrap_or_else(|_| self.uri.clone())
        } else {
            self.uri.clone()
        };
        request.headers_mut().insert(HOST, self.host.clone());
        if self.shape.body.is_some() {
            request
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(key) = key {
            request.headers_mut().insert(self.shape.key_header.clone(), HeaderValue::from(key));
        }
        request
    }
}
