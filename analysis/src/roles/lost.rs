//! The Redis is killed, hangs, or comes back empty: requests succeed, and no key moves.

use std::time::Duration;

use anyhow::{Context, Result};

use super::{
    background::Background,
    finding::{Row, Times},
    fleet::{Companion, Process, Programs, Redis, upstreams},
    status::{Standing, settle, standing},
};

/// How often it is killed, and how often it comes back empty.
const TIMES: usize = 5;
/// How long it hangs.
const PAUSE: Duration = Duration::from_secs(30);
/// How long it is away after it was killed: the lease ends meanwhile.
const AWAY: Duration = Duration::from_secs(3);
const PROCESSES: usize = 3;
const REPLICAS: usize = 3;

#[derive(Clone, Copy)]
enum Trouble {
    Killed,
    Paused,
    Emptied,
}

/// Measures all kinds of trouble; the Redis is paused `pauses` times.
pub(super) async fn measure(programs: &Programs, pauses: usize) -> Result<Vec<Row>> {
    let mut redis = Redis::start().await?;
    let servers = Companion::several(programs, "server_", REPLICAS).await?;
    let mut arguments = vec!["--fleet=lost".to_owned(), format!("--store={}", redis.url())];
    arguments.extend(upstreams(&servers));
    let mut processes = Vec::new();
    for _ in 0..PROCESSES {
        processes.push(Process::start(programs, arguments.clone()).await?);
    }
    for process in &processes {
        process.serves(REPLICAS).await?;
    }
    settle(&processes, PROCESSES).await?;
    let before = all(&processes).await?;
    let mut rows = Vec::new();
    for (trouble, times, what) in [
        (Trouble::Killed, TIMES, "Redis killed, away 3 s, back with its data"),
        (Trouble::Paused, pauses, "Redis paused 30 s"),
        (Trouble::Emptied, TIMES, "Redis killed, back empty (at once, or after 3 s)"),
    ] {
        let mut held = Held { before: &before, changed: 0, settled: Times::default() };
        let addresses: Vec<_> = processes.iter().map(|process| process.traffic()).collect();
        let load = Background::start(&addresses).await?;
        for turn in 0..times {
            redis = meet(redis, trouble, turn).await?;
            held.look(&processes).await?;
        }
        rows.push(load.stop().await?.row(what));
        let of = format!("{} looks at digest, names and N", times * PROCESSES);
        let settled = format!("until one supervised and all followed: {}", held.settled);
        let moved = format!("{what}: another ring, names or N afterwards");
        rows.push(Row::none_of(&moved, held.changed, &of).with(settled));
    }
    Ok(rows)
}

async fn meet(redis: Redis, trouble: Trouble, turn: usize) -> Result<Redis> {
    match trouble {
        Trouble::Killed => redis.kill_and_start(AWAY, false).await,
        Trouble::Paused => {
            redis.pause(PAUSE).await?;
            Ok(redis)
        }
        Trouble::Emptied => {
            let away = if turn.is_multiple_of(2) { Duration::ZERO } else { AWAY };
            redis.kill_and_start(away, true).await
        }
    }
}

async fn all(processes: &[Process]) -> Result<Vec<Standing>> {
    let mut all = Vec::new();
    for process in processes {
        all.push(standing(process).await.context("a process does not show its ring")?);
    }
    Ok(all)
}

struct Held<'a> {
    before: &'a [Standing],
    changed: u64,
    settled: Times,
}

impl Held<'_> {
    async fn look(&mut self, processes: &[Process]) -> Result<()> {
        self.settled.push(settle(processes, PROCESSES).await?);
        let now = all(processes).await?;
        self.changed +=
            now.iter().zip(self.before).filter(|(now, then)| now != then).count() as u64;
        Ok(())
    }
}
