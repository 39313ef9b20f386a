//! A supervisor is killed, and a standby goes on.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use reqwest::Method;
use serde_json::json;

use super::{
    background::Background,
    containers::Containers,
    finding::{Row, Times},
    fleet::{Companion, Process, Programs, Redis, until, upstreams},
    status::{Status, settle},
};

/// How often the supervisor is killed.
const KILLS: usize = 10;
const REPLICAS: usize = 3;
/// How soon the standby acts.
const GOAL: Duration = Duration::from_secs(3);

/// With containers as replicas where that is possible, and else with servers.
pub(super) async fn measure(programs: &Programs, notes: &mut Vec<String>) -> Result<Vec<Row>> {
    // It is dropped after the processes, which would start again what it removes.
    let engine = Containers::new(programs.image.as_deref(), "takeover");
    let redis = Redis::start().await?;
    let (name, servers, more) = match &engine {
        Ok(engine) => (engine.fleet.clone(), Vec::new(), engine.arguments(REPLICAS)),
        Err(error) => {
            notes.push(format!("The takeover was measured without containers: {error:#}."));
            let servers = Companion::several(programs, "server_", REPLICAS).await?;
            let more = upstreams(&servers);
            ("takeover".to_owned(), servers, more)
        }
    };
    let engine = engine.ok();
    let common = [format!("--fleet={name}"), format!("--store={}", redis.url())];
    let supervisor: Vec<String> =
        common.iter().cloned().chain(["--role=supervisor".to_owned()]).chain(more).collect();
    let balancer: Vec<String> = common.into_iter().chain(["--role=balancer".to_owned()]).collect();
    let mut supervisors = Vec::new();
    for _ in 0..2 {
        supervisors.push(Process::start(programs, supervisor.clone()).await?);
    }
    let balancer = [Process::start(programs, balancer).await?];
    balancer[0].serves(REPLICAS).await?;
    settle(&balancer, 1).await?;

    let before = engine.as_ref().map(Containers::running).transpose()?;
    let load = Background::start(&[balancer[0].traffic()]).await?;
    let (mut leads, mut acts) = (Times::default(), Times::default());
    for _ in 0..KILLS {
        let (lead, act) = kill(&mut supervisors, &balancer).await?;
        leads.push(lead);
        acts.push(act);
    }
    let failed = load.stop().await?.row("supervisor killed");
    let after = engine.as_ref().map(Containers::running).transpose()?;
    drop(servers);
    let (restarted, of) = match before.zip(after) {
        None => (0, format!("{REPLICAS} servers, which no supervisor can restart")),
        Some((before, after)) => {
            let kept = before.iter().filter(|(id, since)| after.get(*id) == Some(since)).count();
            ((before.len().max(after.len()) - kept) as u64, format!("{} containers", before.len()))
        }
    };
    let first = format!("it held the lease after {leads}");
    let restarted = Row::none_of("supervisor killed: replicas restarted", restarted, &of);
    Ok(vec![
        Row::at_most("supervisor killed: until the standby carries out commands", &acts, GOAL)
            .with(first),
        failed,
        restarted,
    ])
}

/// Kills the supervisor and starts it again as the standby. Returns how long it took until the other one
/// held the lease, and until it carried out a command.
async fn kill(
    supervisors: &mut Vec<Process>,
    balancer: &[Process],
) -> Result<(Duration, Duration)> {
    let mut leader = None;
    for (at, supervisor) in supervisors.iter().enumerate() {
        if supervisor.leads().await {
            leader = Some(at);
        }
    }
    let leader = supervisors.remove(leader.context("no supervisor leads")?);
    let [standby] = supervisors.as_slice() else { bail!("there are two supervisors") };
    let status: Status = standby.get("/api/status").await.context("the standby has no status")?;
    let begun = Instant::now();
    let killed = leader.kill().await?;
    until("the standby leads", async || standby.leads().await).await?;
    let leads = begun.elapsed();
    // Only a supervisor that knows its replicas can say what a removal would move.
    let body = json!({ "n": 1 });
    let mut said = None;
    until("the standby carries out commands", async || {
        said = standby.ask(Method::POST, "/rm?dry_run=true", Some(body.clone())).await;
        said.as_ref().is_some_and(|(status, _)| *status == 200)
    })
    .await
    .with_context(|| format!("it says {said:?}"))?;
    let acts = begun.elapsed();
    supervisors.push(killed.start().await?);
    settle(balancer, 1).await?;
    settle(supervisors, 1).await?;
    let now: Status = balancer[0].get("/api/status").await.context("no status")?;
    if now.lease.fence <= status.lease.fence {
        bail!("fence {} came after {}", now.lease.fence, status.lease.fence);
    }
    Ok((leads, acts))
}
