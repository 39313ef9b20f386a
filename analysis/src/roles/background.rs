//! A load that runs while something happens: an open loop at every process that carries traffic.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use http::HeaderName;
use indicatif::ProgressBar;
use tokio::{sync::oneshot, task::JoinHandle};

use super::finding::Row;
use crate::{
    load::{self, Amount, KeySource, Pace, Plan, RequestError, Run, Shape},
    target::Target,
};

/// Requests per second at each process.
const RATE: f64 = 300.0;
/// Keep-alive connections to each process.
const CONNECTIONS: usize = 16;
/// Timeout of a request.
const DEADLINE: Duration = Duration::from_secs(5);
/// The load ends by itself after this time; no row takes so long.
const LONGEST: Duration = Duration::from_secs(900);

/// The plan of a load by `X-Request-ID` at one address.
pub(super) async fn plan(address: SocketAddr, pace: Pace, amount: Amount) -> Result<Plan> {
    Ok(Plan {
        target: Target::resolve(&format!("http://{address}")).await?,
        shape: Shape { key_header: HeaderName::from_static("x-request-id"), ..Shape::default() },
        keys: KeySource::Random,
        seed: u64::from(address.port()),
        pace,
        amount,
        connections: CONNECTIONS,
        deadline: DEADLINE,
        keep_samples: false,
    })
}

/// Loads that are under way. They end when this is dropped.
pub(super) struct Background(Vec<(JoinHandle<Result<Run>>, oneshot::Sender<()>)>);

impl Background {
    pub(super) async fn start(addresses: &[SocketAddr]) -> Result<Background> {
        let mut all = Vec::new();
        for address in addresses {
            let plan = plan(*address, Pace::Open { rate: RATE }, Amount::Duration(LONGEST)).await?;
            let (sender, end) = oneshot::channel::<()>();
            let task = tokio::spawn(async move {
                let end = async {
                    // A sender that is gone ends it as well.
                    let _ = end.await;
                };
                load::run_until(&plan, &ProgressBar::hidden(), end).await
            });
            all.push((task, sender));
        }
        Ok(Background(all))
    }

    /// Ends the loads, and returns their counts.
    pub(super) async fn stop(mut self) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        for (task, end) in std::mem::take(&mut self.0) {
            // A load that has ended by itself has failed; its error is returned below.
            let _ = end.send(());
            let run = task.await.context("a load ended badly")??;
            outcome.take(&run);
        }
        Ok(outcome)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        for (task, _) in &self.0 {
            task.abort();
        }
    }
}

/// The result of several loads.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    answered: u64,
    failures: std::collections::BTreeMap<RequestError, u64>,
    /// In milliseconds, from when a request was due.
    slowest: f64,
}

impl Outcome {
    fn take(&mut self, run: &Run) {
        self.answered += run.tally.answered;
        for (kind, count) in &run.tally.failures {
            *self.failures.entry(*kind).or_insert(0) += count;
        }
        self.slowest = self.slowest.max(run.tally.latency.max() as f64 / 1e3);
    }

    /// The row of failed requests, with the goal 0.
    pub(super) fn row(&self, what: &str) -> Row {
        let failed: u64 = self.failures.values().sum();
        let of = format!("{} requests", self.answered + failed);
        let kinds: Vec<String> =
            self.failures.iter().map(|(kind, count)| format!(", {kind} {count}")).collect();
        let (answered, slowest) = (self.answered, self.slowest);
        let raw = format!("{answered} answered, the slowest {slowest:.0} ms{}", kinds.concat());
        Row::none_of(&format!("{what}: failed requests"), failed, &of).with(raw)
    }
}
