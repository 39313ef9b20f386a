//! The CPU cost of supervision at rest: without failures there are only heartbeats.
//!
//! Two figures for each size of fleet: the core alone, on virtual time, and the control threads of
//! the real program, which send the heartbeats too.

use std::{
    collections::BTreeSet,
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use ringmaster_core::{
    fleet::{
        ids::{InstanceId, Moment, ReplicaName, SpecDigest},
        limits::Limits,
        message::{Action, Event, Listing, ProbeOutcome, Revision},
        server::{Registration, Server, Source},
        state::Keeper,
        supervisor::{Settings, Supervisor},
        victim::VictimRule,
        view::FleetView,
    },
    ring::{Algorithm, RingSettings},
};
use serde::Serialize;
use tokio::process::Command;

use crate::{
    balancer::Balancer,
    peers::replica,
    process::{Child, Ready, free_port, raise_file_limit},
};

/// Sizes of the fleet.
const SIZES: [usize; 3] = [3, 100, 1_000];
/// Virtual time that the core is at rest, in milliseconds.
const REST_MS: u64 = 20_000;
/// Virtual time in which all have been admitted, in milliseconds.
const BOOT_MS: u64 = 2_000;
/// The goal for the control loop with the largest fleet, in percent of a core.
const GOAL_PERCENT: f64 = 10.0;

/// The result for one size of the fleet.
#[derive(Debug, Serialize)]
pub struct Row {
    replicas: usize,
    /// The core alone, without heartbeats, in percent of a CPU core.
    core_percent: f64,
    /// The control threads of the program, with heartbeats, in percent of a CPU core.
    threads_percent: f64,
    heartbeats_per_second: f64,
}

/// The result for all sizes of the fleet.
#[derive(Debug, Serialize)]
pub struct Finding {
    rows: Vec<Row>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# What supervising costs at rest\n")?;
        writeln!(
            f,
            "`make bench-control`, in percent of one core. The core plans and derives on virtual \
             time; the threads of the real program send the heartbeats as well. Goal for the core \
             with 1,000 replicas: at most {GOAL_PERCENT} %.\n"
        )?;
        writeln!(f, "| replicas | heartbeats/s | the core alone | all control threads |")?;
        writeln!(f, "|---|---|---|---|")?;
        for row in &self.rows {
            writeln!(
                f,
                "| {} | {:.0} | {:.2} % | {:.2} % |",
                row.replicas, row.heartbeats_per_second, row.core_percent, row.threads_percent
            )?;
        }
        Ok(())
    }
}

/// Measures all sizes, and writes the table into `out`.
///
/// # Errors
/// A program that does not run, a file that cannot be written.
pub async fn run(ringmaster: &Path, time: Duration, out: &Path) -> Result<Finding> {
    raise_file_limit()?;
    let mut rows = Vec::new();
    for replicas in SIZES {
        let (core_percent, heartbeats_per_second) = core(replicas)?;
        let threads_percent = threads(ringmaster, replicas, time).await?;
        rows.push(Row { replicas, core_percent, threads_percent, heartbeats_per_second });
    }
    let finding = Finding { rows };
    std::fs::create_dir_all(out)?;
    let path = out.join("control.md");
    std::fs::write(&path, finding.to_string())
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(finding)
}

/// The supervisor's CPU use at rest in percent, and its heartbeats per second.
fn core(replicas: usize) -> Result<(f64, f64)> {
    let settings = Settings {
        limits: Limits { replicas_max: replicas, ..Limits::default() },
        keeper: Keeper::Others,
        servers: servers(replicas)?,
        ring: RingSettings { algorithm: Algorithm::Slots, slots: 65_536, ..Default::default() },
        victim: VictimRule::Newest,
        replicas,
        seed: 1,
    };
    let mut world = World {
        supervisor: Supervisor::new(settings, None, Moment(0))?,
        // There is no engine.
        listing: Listing {
            wanted: Some(Revision { spec: SpecDigest("static".into()), image: None }),
            ..Listing::default()
        },
        due: BTreeSet::from([(Moment(0), Due::Wake)]),
        wake_at: Some(Moment(0)),
        heartbeats: 0,
    };
    world.play(Moment(BOOT_MS));
    let in_service = world.supervisor.state().in_service().len();
    ensure!(in_service == replicas, "{in_service} of {replicas} are in service");
    world.heartbeats = 0;
    let begun = Instant::now();
    world.play(Moment(BOOT_MS + REST_MS));
    let rest = Duration::from_millis(REST_MS).as_secs_f64();
    let share = begun.elapsed().as_secs_f64() / rest;
    Ok((share * 100.0, world.heartbeats as f64 / rest))
}

fn servers(replicas: usize) -> Result<Vec<Registration>> {
    let server = |number: usize| {
        let host = replica::address(number, 80).ip().to_string();
        let server = Server::new(&host, 80, Source::Operator)?;
        let name = ReplicaName::numbered(u32::try_from(number)? + 1);
        Ok(Registration { name, weight: 1, server })
    };
    (0..replicas).map(server).collect()
}

/// The next occurrence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Wake,
    Passed(InstanceId),
}

/// Passes every heartbeat after a millisecond, on virtual time.
struct World {
    supervisor: Supervisor,
    listing: Listing,
    due: BTreeSet<(Moment, Due)>,
    wake_at: Option<Moment>,
    heartbeats: u64,
}

impl World {
    fn play(&mut self, until: Moment) {
        while let Some(&(at, due)) = self.due.first().filter(|(at, _)| *at <= until) {
            self.due.pop_first();
            match due {
                Due::Wake if self.wake_at == Some(at) => self.turn(Event::Tick, at),
                Due::Wake => {}
                Due::Passed(instance) => {
                    self.turn(Event::Probed { instance, outcome: ProbeOutcome::Passed }, at);
                }
            }
        }
    }

    /// Handles one event as the shell does: it derives the table and the view if they may have changed.
    fn turn(&mut self, event: Event, now: Moment) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let turn = self.supervisor.handle(event, now);
            if !turn.is_quiet {
                std::hint::black_box(self.supervisor.table());
                std::hint::black_box(FleetView::of(self.supervisor.state()));
            }
            self.wake_at = turn.wake_at;
            for action in turn.actions {
                match action {
                    Action::Probe { instance, .. } => {
                        self.heartbeats += 1;
                        self.due.insert((Moment(now.0 + 1), Due::Passed(instance)));
                    }
                    Action::List { requested_at } => {
                        events
                            .push(Event::Listed { requested_at, result: Ok(self.listing.clone()) });
                    }
                    Action::Persist { write, .. } => {
                        events.push(Event::Persisted { write, result: Ok(()) });
                    }
                    _ => {}
                }
            }
        }
        if let Some(wake_at) = self.wake_at {
            self.due.insert((wake_at.max(now), Due::Wake));
        }
    }
}

/// The control threads of the program in percent of a CPU, with replicas that always pass.
async fn threads(ringmaster: &Path, replicas: usize, time: Duration) -> Result<f64> {
    let (port, traffic, admin) = (free_port()?, free_port()?, free_port()?);
    let myself = std::env::current_exe()?;
    let mut command = Command::new(&myself);
    command.args(["replicas", "--count", &replicas.to_string(), "--port", &port.to_string()]);
    let mut servers = Child::spawn(&myself, command)?;
    servers.wait_until_ready(replica::address(replicas - 1, port), Ready::Accepts).await?;

    let directory = tempfile::tempdir()?;
    let file = directory.path().join("ringmaster.toml");
    let upstreams: Vec<String> = (0..replicas)
        .map(|number| format!("\"server_{number}={}\"", replica::address(number, port)))
        .collect();
    std::fs::write(
        &file,
        format!(
            "driver = \"static\"\nlisten = \"127.0.0.1:{traffic}\"\nadmin = \"127.0.0.1:{admin}\"\n\
             algorithm = \"slots\"\nslots = 65536\nreplicas_max = {replicas}\n\
             replicas = {replicas}\nworkers = 1\nupstream = [{}]\n",
            upstreams.join(", ")
        ),
    )?;
    let mut command = Command::new(ringmaster);
    command.args(["serve", "--config"]).arg(&file);
    let mut balancer = Child::spawn(ringmaster, command)?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, admin));
    balancer.wait_until_ready(address, Ready::Accepts).await?;
    Balancer::new(&format!("http://{address}"))?.wait_for(replicas).await?;

    let is_control = |name: &str| name == "control";
    let before = balancer.cpu_time_of(is_control)?;
    let begun = Instant::now();
    tokio::time::sleep(time).await;
    let used = balancer.cpu_time_of(is_control)?.saturating_sub(before);
    let share = used.as_secs_f64() / begun.elapsed().as_secs_f64();
    balancer.stop().await?;
    servers.stop().await?;
    Ok(share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_rest_each_replica_has_its_heartbeat() {
        let (_, heartbeats) = core(50).unwrap();
        // 50 replicas, each with a heartbeat every 400 ms.
        assert!((120.0..=126.0).contains(&heartbeats), "{heartbeats}");
    }
}
