//! Compares the statistics with the counts of the client.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use reqwest::Method;
use serde::Deserialize;

use super::{
    background::plan,
    finding::Row,
    fleet::{Companion, Process, Programs, upstreams},
};
use crate::load::{self, Amount, Pace, Tally};

/// Requests in all, and in one batch.
const REQUESTS: u64 = 100_000;
const BATCH: u64 = 5_000;
/// Batches from one reset to the next.
const RESET_EVERY: u64 = 3;
const SERVERS: usize = 4;
/// Pause between two requests of the statistics while other requests are in flight.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

#[derive(Debug, Deserialize)]
struct Stats {
    total_requests: u64,
    total_errors: u64,
    servers: Vec<ServerStats>,
}

#[derive(Debug, Deserialize)]
struct ServerStats {
    name: String,
    request_count: u64,
}

/// The differences of all looks.
pub(super) async fn measure(programs: &Programs) -> Result<Vec<Row>> {
    let servers = Companion::several(programs, "server_", SERVERS).await?;
    let mut arguments = upstreams(&servers);
    arguments.push("--server-headers".to_owned());
    let process = Process::start(programs, arguments).await?;
    process.serves(SERVERS).await?;
    // The requests of the start-up must not be counted.
    reset(&process).await?;
    let mut counted = Counted::default();
    let mut differences = Differences::default();
    let (mut answered, mut failed, mut resets) = (0, 0, 0);
    for batch in 0..REQUESTS / BATCH {
        let tally = batch_of(&process, batch, counted.requests, &mut differences).await?;
        counted.take(&tally);
        answered += tally.answered;
        failed += tally.failed();
        differences.add(&counted, &stats(&process).await?);
        if batch % RESET_EVERY == RESET_EVERY - 1 {
            reset(&process).await?;
            counted = Counted::default();
            resets += 1;
            differences.add(&counted, &stats(&process).await?);
        }
    }
    let Differences { looks, total, servers, during } = differences;
    let between = format!("{looks} looks, {resets} resets between, {during} looks under load");
    let (what, sent) = ("statistics beside the client's count", answered + failed);
    Ok(vec![
        Row::none_of(&format!("{what}: requests too many or too few"), total, &format!("{sent}"))
            .with(format!("{answered} answered, {failed} failed; {between}")),
        Row::none_of(&format!("{what}, by server"), servers, &format!("{sent}")),
    ])
}

/// Sends one batch, and looks at the statistics meanwhile: they may only rise, and never beyond what
/// was sent.
async fn batch_of(
    process: &Process,
    batch: u64,
    before: u64,
    differences: &mut Differences,
) -> Result<Tally> {
    let mut plan = plan(process.traffic(), Pace::Closed, Amount::Requests(BATCH)).await?;
    plan.seed = batch;
    let bar = ProgressBar::hidden();
    let mut run = std::pin::pin!(load::run(&plan, &bar));
    let mut seen = before;
    loop {
        tokio::select! {
            run = &mut run => return Ok(run?.tally),
            () = tokio::time::sleep(POLL_INTERVAL) => {
                let now = stats(process).await?.total_requests;
                if now < seen || now > before + BATCH {
                    bail!("the statistics went from {seen} to {now} within {BATCH} requests");
                }
                seen = now;
                differences.during += 1;
            }
        }
    }
}

async fn stats(process: &Process) -> Result<Stats> {
    process.get("/api/stats").await.context("no statistics")
}

async fn reset(process: &Process) -> Result<()> {
    match process.ask(Method::POST, "/manage/reset", None).await {
        Some((200, _)) => Ok(()),
        other => bail!("POST /manage/reset: {other:?}"),
    }
}

/// What the client has seen since the last reset.
#[derive(Debug, Default)]
struct Counted {
    requests: u64,
    errors: u64,
    servers: BTreeMap<String, u64>,
}

impl Counted {
    fn take(&mut self, tally: &Tally) {
        self.requests += tally.answered + tally.failed();
        self.errors += tally.failed();
        for (name, count) in tally.by_name() {
            *self.servers.entry(name.to_owned()).or_insert(0) += count;
        }
    }
}

/// By how many requests the two counts differ, in all looks together.
#[derive(Debug, Default)]
struct Differences {
    looks: u64,
    total: u64,
    servers: u64,
    /// Looks while requests were under way.
    during: u64,
}

impl Differences {
    fn add(&mut self, counted: &Counted, stats: &Stats) {
        self.looks += 1;
        self.total += counted.requests.abs_diff(stats.total_requests);
        self.total += counted.errors.abs_diff(stats.total_errors);
        let mut ours = counted.servers.clone();
        for server in &stats.servers {
            let count = ours.remove(&server.name).unwrap_or_default();
            self.servers += count.abs_diff(server.request_count);
        }
        self.servers += ours.values().sum::<u64>();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_too_many_or_too_few_is_a_difference() {
        let servers = BTreeMap::from([("a".to_owned(), 5), ("b".to_owned(), 2)]);
        let counted = Counted { requests: 7, errors: 1, servers };
        let server =
            |name: &str, request_count| ServerStats { name: name.to_owned(), request_count };
        let mut stats = Stats {
            total_requests: 7,
            total_errors: 1,
            servers: vec![server("a", 5), server("b", 2), server("c", 0)],
        };
        let mut differences = Differences::default();
        differences.add(&counted, &stats);
        assert_eq!((differences.total, differences.servers), (0, 0));
        stats.total_requests = 6;
        stats.servers.remove(0);
        stats.servers[1].request_count = 3;
        differences.add(&counted, &stats);
        assert_eq!((differences.total, differences.servers, differences.looks), (1, 8, 2));
    }
}
