//! CPU per request: a balancer that follows a store beside processes of both roles.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result};

use super::{
    finding::Row,
    fleet::{Process, Programs, Redis},
    status::settle,
};
use crate::{
    peers::{generators, replica, rows::Work},
    process::{Child, LOAD_CORE, Others, PROXY_CORE, Pinned, Ready, free_port},
};

/// Rounds, in each of which every process is measured once.
const ROUNDS: usize = 40;
/// How long a process is loaded in a round: short, since what disturbs one is to disturb the next.
const TIME: Duration = Duration::from_secs(1);
const WARM_UP: Duration = Duration::from_secs(1);
const REPLICAS: usize = 3;
/// What is sent.
const WORK: Work = Work::Get { connections: 64, bytes: 64 };
/// The goal: CPU per request of a balancer, relative to a process of both roles.
const GOAL: f64 = 1.02;

/// The ratios of all rounds.
pub(super) async fn measure(programs: &Programs) -> Result<Vec<Row>> {
    let others = Others::watch()?;
    // The load comes from here.
    let _pinned = Pinned::to(LOAD_CORE)?;
    let (replicas, upstreams) = start_replicas().await?;
    let redis = Redis::start().await?;
    let with = |more: &[String]| -> Vec<String> { upstreams.iter().chain(more).cloned().collect() };
    let store = format!("--store={}", redis.url());
    let shared = |fleet: &str, role: &str| {
        [store.clone(), format!("--fleet={fleet}"), format!("--role={role}")]
    };
    let supervisor =
        Process::on_core(programs, LOAD_CORE, with(&shared("split", "supervisor"))).await?;
    let variants = [
        ("both roles, Redis", with(&shared("whole", "both"))),
        ("role balancer", shared("split", "balancer").to_vec()),
        ("both roles, file", with(&[])),
    ];
    let mut all = Vec::new();
    for (name, arguments) in variants {
        let process = Process::on_core(programs, PROXY_CORE, arguments).await?;
        process.serves(REPLICAS).await?;
        generators::closed(WORK, process.traffic(), WARM_UP).await?;
        all.push(Measured { name, process, micros: Vec::new() });
    }
    settle(std::slice::from_ref(&supervisor), 1).await?;
    for round in 0..ROUNDS {
        for turn in 0..all.len() {
            let at = (round + turn) % all.len();
            all[at].round().await?;
        }
    }
    // CPU time of ended children counts as this program's own.
    let mut figures = Vec::new();
    for Measured { name, process, micros } in all {
        process.kill().await?;
        figures.push(Figures { name, micros });
    }
    supervisor.kill().await?;
    replicas.stop().await?;
    let cores = others.cores()?;
    let [both, balancer, file] = figures.as_slice() else { unreachable!("three were started") };
    let busy = format!("other programs had {cores:.2} cores on average meanwhile");
    let raw: Vec<String> = figures.iter().map(Figures::raw).collect();
    Ok(vec![
        ratio(balancer, both).with(raw.join("; ")).with(busy),
        Row { goal: None, ..ratio(balancer, file) },
        Row { goal: None, ..ratio(both, file) },
    ])
}

async fn start_replicas() -> Result<(Child, Vec<String>)> {
    let (port, myself) = (free_port()?, std::env::current_exe()?);
    let mut command = Child::bound_command(std::path::Path::new("taskset"));
    command.args(["-c", LOAD_CORE]).arg(&myself);
    command.args(["replicas", "--count", &REPLICAS.to_string(), "--port", &port.to_string()]);
    let mut child = Child::spawn(&myself, command)?;
    child.wait_until_ready(replica::address(REPLICAS - 1, port), Ready::Answers).await?;
    let upstream = |number: usize| -> SocketAddr { replica::address(number, port) };
    let upstreams =
        (0..REPLICAS).map(|number| format!("--upstream=server_{number}={}", upstream(number)));
    let driver = ["--driver=static".to_owned(), "--heartbeat-path=/home".to_owned()];
    Ok((child, driver.into_iter().chain(upstreams).collect()))
}

struct Measured {
    name: &'static str,
    process: Process,
    /// CPU time of a request in each round, in microseconds.
    micros: Vec<f64>,
}

impl Measured {
    async fn round(&mut self) -> Result<()> {
        let before = self.process.cpu_time()?;
        let counts = generators::closed(WORK, self.process.traffic(), TIME).await;
        let counts = counts.with_context(|| self.name)?;
        let spent = self.process.cpu_time()?.saturating_sub(before);
        self.micros.push(spent.as_secs_f64() * 1e6 / counts.answered as f64);
        Ok(())
    }
}

struct Figures {
    name: &'static str,
    micros: Vec<f64>,
}

impl Figures {
    fn raw(&self) -> String {
        let all: Vec<String> = self.micros.iter().map(|one| format!("{one:.2}")).collect();
        format!("{} {} µs", self.name, all.join(", "))
    }
}

/// One to the other in each round, and the middle of the rounds.
fn ratio(one: &Figures, other: &Figures) -> Row {
    let mut ratios: Vec<f64> = one.micros.iter().zip(&other.micros).map(|(a, b)| a / b).collect();
    ratios.sort_by(f64::total_cmp);
    let part = |part: f64| ratios[((ratios.len() - 1) as f64 * part).round() as usize];
    let middle = part(0.5);
    Row {
        what: format!("CPU per request: {} to {}", one.name, other.name),
        figure: format!(
            "{middle:.3} (quartiles {:.3} to {:.3}, all {:.3} to {:.3}), {} rounds",
            part(0.25),
            part(0.75),
            part(0.0),
            part(1.0),
            ratios.len()
        ),
        goal: Some((format!("median ≤ {GOAL}"), middle <= GOAL)),
        raw: Vec::new(),
    }
}
