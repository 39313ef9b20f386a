//! Another party writes a status into the Redis: from then until requests go accordingly.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use redis::aio::MultiplexedConnection;

use super::{
    finding::{Row, Times},
    fleet::{Companion, Process, Programs, Redis},
};

/// Changes that are measured.
const CHANGES: usize = 50;
/// How soon the middle one of them shows.
const GOAL: Duration = Duration::from_millis(50);
/// Beyond this a change has no effect.
const DEADLINE: Duration = Duration::from_secs(5);
/// Keys that are tried until one belongs to the server that is marked.
const KEYS: usize = 1_000;

/// The time of each change.
pub(super) async fn measure(programs: &Programs) -> Result<Vec<Row>> {
    let redis = Redis::start().await?;
    let servers = Companion::several(programs, "server_", 2).await?;
    let mut stranger = redis::Client::open(redis.url())?.get_multiplexed_async_connection().await?;
    for server in &servers {
        let fields = [("url", format!("http://{}", server.address)), ("status", "healthy".into())];
        let key = format!("backend:{}", server.name);
        let mut both = redis::pipe();
        both.cmd("HSET").arg(key).arg(&fields).ignore();
        both.cmd("SADD").arg("backends").arg(&server.name).ignore();
        both.query_async::<()>(&mut stranger).await?;
    }
    let arguments =
        ["--fleet=stranger", "--driver=static", "--backends", "--heartbeat-path=/health"];
    let mut arguments: Vec<String> = arguments.map(str::to_owned).to_vec();
    arguments.push(format!("--store={}", redis.url()));
    // Our own checks are too rare to have a say.
    arguments.push("--heartbeat-interval=60s".to_owned());
    let process = Process::start(programs, arguments).await?;
    process.serves(servers.len()).await?;

    let (home, marked) = (Home::of(&process)?, &servers[1].name);
    let key = home.key_of(marked).await?;
    let mut times = Times::default();
    for change in 0..CHANGES {
        // Not in step with anything that is done once in a while.
        tokio::time::sleep(Duration::from_millis(20 + (change as u64 * 37) % 100)).await;
        let is_healthy = change % 2 == 1;
        let begun = Instant::now();
        mark(&mut stranger, marked, is_healthy).await?;
        while (home.owner(key).await? == *marked) != is_healthy {
            if begun.elapsed() > DEADLINE {
                bail!("change {change} has no effect within {DEADLINE:?}");
            }
        }
        times.push(begun.elapsed());
    }
    let what = "status in Redis by another party: until requests go accordingly";
    Ok(vec![Row::median_at_most(what, &times, GOAL)])
}

async fn mark(stranger: &mut MultiplexedConnection, name: &str, is_healthy: bool) -> Result<()> {
    let status = if is_healthy { "healthy" } else { "unhealthy" };
    let change = serde_json::json!({ "backend_id": name, "status": status });
    let mut both = redis::pipe();
    both.cmd("HSET").arg(format!("backend:{name}")).arg("status").arg(status).ignore();
    both.cmd("PUBLISH").arg("backend_changes").arg(change.to_string()).ignore();
    both.query_async::<()>(stranger).await.context("the Redis does not take a status")
}

/// Asks for `/home` by key.
struct Home {
    client: reqwest::Client,
    url: String,
}

impl Home {
    fn of(process: &Process) -> Result<Home> {
        let client = reqwest::Client::builder().no_proxy().timeout(DEADLINE).build()?;
        Ok(Home { client, url: format!("http://{}/home", process.traffic()) })
    }

    /// Who answers a key.
    async fn owner(&self, key: usize) -> Result<String> {
        let answer = self.client.get(&self.url).header("x-request-id", key).send().await?;
        let answer: serde_json::Value = answer.error_for_status()?.json().await?;
        let greeting = answer["message"].as_str().context("the answer greets with no name")?;
        Ok(greeting.rsplit(' ').next().unwrap_or_default().to_owned())
    }

    async fn key_of(&self, name: &str) -> Result<usize> {
        for key in 0..KEYS {
            if self.owner(key).await? == name {
                return Ok(key);
            }
        }
        bail!("no key of {KEYS} belongs to {name}")
    }
}
