//! Three processes of both roles, one fleet: servers come and go by commands at any of them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    background::Background,
    containers::Containers,
    finding::{Row, Times},
    fleet::{Companion, Process, Programs, Redis, upstreams},
    status::{Status, agree, settle},
};

/// Processes of both roles.
const PROCESSES: usize = 3;
/// Servers that stay.
const STAYING: usize = 3;
/// Additions, and as many removals.
const ROUNDS: usize = 30;
/// The same with containers, which take longer.
const ROUNDS_OF_CONTAINERS: usize = 6;
/// Containers that stay; one more comes and goes.
const CONTAINERS: usize = 2;
/// How soon after an answer all have the new ring.
const GOAL: Duration = Duration::from_secs(1);
/// Between two commands, so that they do not fall into step with anything.
const PAUSE: Duration = Duration::from_millis(130);

/// Registers and removes servers.
pub(super) async fn servers(programs: &Programs) -> Result<Vec<Row>> {
    let redis = Redis::start().await?;
    let staying = Companion::several(programs, "server_", STAYING).await?;
    let coming = Companion::several(programs, "extra_", PROCESSES).await?;
    let mut fleet = Fleet::start(programs, &redis, "servers", upstreams(&staying)).await?;
    fleet.settle(STAYING).await?;
    let load = fleet.load().await?;
    for round in 0..ROUNDS {
        let one = &coming[round % coming.len()];
        let (name, address) = (&one.name, one.address);
        let body = json!({
            "name": name, "address": address.ip().to_string(), "port": address.port(), "weight": 1,
        });
        fleet.command(round, Method::POST, "/api/servers", Some(body)).await?;
        let path = format!("/api/servers/{name}");
        fleet.command(round + 1, Method::DELETE, &path, None).await?;
    }
    let outcome = load.stop().await?;
    Ok(fleet.rows("servers registered and removed", outcome.row("servers registered and removed")))
}

/// Adds and removes containers.
pub(super) async fn containers(programs: &Programs) -> Result<Vec<Row>> {
    let engine = Containers::new(programs.image.as_deref(), "commands")?;
    let redis = Redis::start().await?;
    let mut fleet =
        Fleet::start(programs, &redis, &engine.fleet, engine.arguments(CONTAINERS)).await?;
    fleet.settle(CONTAINERS).await?;
    let load = fleet.load().await?;
    for round in 0..ROUNDS_OF_CONTAINERS {
        let body = Some(json!({ "n": 1, "hostnames": ["extra"] }));
        fleet.command(round, Method::POST, "/add", body.clone()).await?;
        fleet.command(round + 1, Method::DELETE, "/rm", body).await?;
    }
    let outcome = load.stop().await?;
    let what = "containers by /add and /rm";
    Ok(fleet.rows(what, outcome.row(what)))
}

struct Fleet {
    processes: Vec<Process>,
    /// Of the ring that all have now.
    digest: String,
    agreement: Times,
    answers: Times,
}

impl Fleet {
    async fn start(
        programs: &Programs,
        redis: &Redis,
        name: &str,
        more: Vec<String>,
    ) -> Result<Fleet> {
        let mut arguments = vec![format!("--fleet={name}"), format!("--store={}", redis.url())];
        arguments.extend(more);
        let mut processes = Vec::new();
        for _ in 0..PROCESSES {
            processes.push(Process::start(programs, arguments.clone()).await?);
        }
        let (agreement, answers) = (Times::default(), Times::default());
        Ok(Fleet { processes, digest: String::new(), agreement, answers })
    }

    async fn settle(&mut self, replicas: usize) -> Result<()> {
        for process in &self.processes {
            process.serves(replicas).await?;
        }
        settle(&self.processes, PROCESSES).await?;
        let status: Option<Status> = self.processes[0].get("/api/status").await;
        let digest = status.as_ref().and_then(|status| status.agreed(PROCESSES));
        self.digest = digest.context("the processes disagree at the beginning")?.to_owned();
        Ok(())
    }

    async fn load(&self) -> Result<Background> {
        let addresses: Vec<_> = self.processes.iter().map(|process| process.traffic()).collect();
        Background::start(&addresses).await
    }

    /// One command at one of the processes, and the time until all have its ring.
    async fn command(
        &mut self,
        turn: usize,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<()> {
        let process = &self.processes[turn % self.processes.len()];
        let begun = Instant::now();
        let answer = process.ask(method.clone(), path, body).await;
        let (status, text) = answer.with_context(|| format!("{method} {path}: no answer"))?;
        self.answers.push(begun.elapsed());
        if !(200..300).contains(&status) {
            bail!("{method} {path}: {status} {text}");
        }
        let (took, digest) = agree(process, PROCESSES, &self.digest).await?;
        self.agreement.push(took);
        self.digest = digest;
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }

    fn rows(self, what: &str, failed: Row) -> Vec<Row> {
        let agreement = format!("{what}: from the answer until all digests are equal");
        let answers = format!("the answers themselves took {}", self.answers);
        vec![failed, Row::at_most(&agreement, &self.agreement, GOAL).with(answers)]
    }
}
