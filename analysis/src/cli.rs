//! The command line: from flags to plans, and from results to text.

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};
use http::{HeaderName, Method};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::control;
use crate::experiments::{Setup, a1, a2, a3, a4};
use crate::load::{self, Amount, KeySource, Pace, Plan, Shape};
use crate::peers;
use crate::report::Report;
use crate::ring;
use crate::roles;
use crate::target::Target;

/// Load generator and experiments for Ringmaster.
#[derive(Debug, Parser)]
#[command(name = "analysis")]
pub struct Cli {
    /// Print the result as JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Send requests and say what came back.
    Load(LoadArgs),
    /// how evenly 10,000 requests spread over the replicas.
    A1(A1Args),
    /// the same for 2 to 6 replicas; the balancer is scaled, and back.
    A2(A1Args),
    /// kill one replica under load and watch its replacement.
    A3(A3Args),
    /// A-4: A-1 and A-2 for every placement and hash function; starts balancers of its own.
    A4(A4Args),
    /// CPU time per request, side by side with HAProxy, nginx and Envoy.
    Peers(PeersArgs),
    /// From key to replica so many times, to be counted by `peers`.
    #[command(hide = true)]
    Walk(WalkArgs),
    /// The replicas behind the proxies of `peers`.
    #[command(hide = true)]
    Replicas(ReplicasArgs),
    /// The floor of `peers`: bytes passed on as they are.
    #[command(hide = true)]
    Splice(SpliceArgs),
    /// The figures of the ring beside their goals; needs no balancer.
    Ring(RingArgs),
    /// What the control side costs at rest, with up to 1,000 replicas.
    Control(ControlArgs),
    /// Several processes of one fleet, while servers, supervisors and the Redis come and go.
    Roles(RolesArgs),
}

#[derive(Debug, Args)]
struct ControlArgs {
    /// The program that is measured.
    #[arg(long, value_name = "FILE", default_value = "target/release/ringmaster")]
    ringmaster: PathBuf,
    /// How long each size of fleet is watched (seconds, or with a unit).
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time)]
    time: Duration,
    /// The folder for the table.
    #[arg(long, value_name = "DIR", default_value = "analysis/results")]
    out: PathBuf,
}

#[derive(Debug, Args)]
struct RolesArgs {
    /// The program that is measured.
    #[arg(long, value_name = "FILE", default_value = "target/release/ringmaster")]
    ringmaster: PathBuf,
    /// The companion server's program.
    #[arg(long, value_name = "FILE", default_value = "target/release/ringmaster-server")]
    server: PathBuf,
    /// The companion server's image [default: nothing is measured with containers]
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// How often the Redis is paused, 30 s each time.
    #[arg(long, default_value_t = 2)]
    pauses: usize,
    /// These measurements only, separated by commas.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// The folder for the table.
    #[arg(long, value_name = "DIR", default_value = "analysis/results")]
    out: PathBuf,
}

/// The arguments of every load.
#[derive(Debug, Args)]
struct TrafficArgs {
    /// Where the requests go.
    #[arg(long, default_value = "http://127.0.0.1:5000")]
    url: String,
    /// Keep-alive connections.
    #[arg(long, short, default_value_t = 16)]
    connections: usize,
    /// Which key each request carries: none, random, uniform:COUNT, zipf:COUNT:EXPONENT.
    #[arg(long, default_value = "random")]
    keys: KeySource,
    /// The header that carries the key.
    #[arg(long, value_name = "NAME", default_value = "X-Request-ID")]
    key_header: HeaderName,
    /// The same seed gives the same keys.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long one request may take (seconds, or with a unit: 500ms, 5s).
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = time)]
    deadline: Duration,
}

#[derive(Debug, Args)]
struct LoadArgs {
    #[command(flatten)]
    traffic: TrafficArgs,
    /// Open loop: requests per second, sent on time whatever the answers do.
    /// Without it each connection sends its next request when it has an answer.
    #[arg(long)]
    rate: Option<f64>,
    /// How many requests [default: 10000].
    #[arg(long, short = 'n', conflicts_with = "duration")]
    requests: Option<u64>,
    /// How long instead (seconds, or with a unit).
    #[arg(long, short, value_name = "TIME", value_parser = time)]
    duration: Option<Duration>,
    /// Path and query; {key} stands for the key.
    #[arg(long, default_value = "/home")]
    path: String,
    /// The method.
    #[arg(long, default_value = "GET")]
    method: Method,
    /// A JSON body; {key} stands for the key.
    #[arg(long)]
    body: Option<String>,
}

#[derive(Debug, Args)]
struct A1Args {
    #[command(flatten)]
    traffic: TrafficArgs,
    /// How many requests.
    #[arg(long, short = 'n', default_value_t = 10_000)]
    requests: u64,
    /// Where GET /api/ring is asked for the predicted shares.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9090")]
    admin_url: String,
    /// The secret of the hash function siphash, which the balancer does not show.
    #[arg(long, value_name = "HEX", env = "RINGMASTER_HASH_KEY", hide_env_values = true)]
    hash_key: Option<String>,
    /// The folder for the SVG and CSV files.
    #[arg(long, default_value = "analysis/results")]
    out: PathBuf,
}

#[derive(Debug, Args)]
struct A4Args {
    /// The balancer's program.
    #[arg(long, value_name = "FILE", default_value = "target/release/ringmaster")]
    ringmaster: PathBuf,
    /// The companion server's program.
    #[arg(long, value_name = "FILE", default_value = "target/release/ringmaster-server")]
    server: PathBuf,
    /// How many requests at each N.
    #[arg(long, short = 'n', default_value_t = 10_000)]
    requests: u64,
    /// Keep-alive connections.
    #[arg(long, short, default_value_t = 16)]
    connections: usize,
    /// The same seed gives the same keys.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The folder for the SVG and CSV files.
    #[arg(long, default_value = "analysis/results")]
    out: PathBuf,
}

#[derive(Debug, Args)]
struct A3Args {
    #[command(flatten)]
    traffic: TrafficArgs,
    /// Requests per second.
    #[arg(long, default_value_t = 300.0)]
    rate: f64,
    /// How long the load runs (seconds, or with a unit).
    #[arg(long, short, value_name = "TIME", default_value = "12s", value_parser = time)]
    duration: Duration,
    /// When the victim is killed, from the start of the load.
    #[arg(long, value_name = "TIME", default_value = "4s", value_parser = time)]
    kill_after: Duration,
    /// The command that kills the replica {name}; split at spaces, no shell.
    #[arg(long, value_name = "COMMAND", default_value = "docker kill {name}")]
    kill: a3::KillCommand,
    /// Who is killed [default: the first of GET /rep].
    #[arg(long, value_name = "NAME")]
    victim: Option<String>,
    /// Where GET /rep is asked [default: the traffic port].
    #[arg(long, value_name = "URL")]
    admin_url: Option<String>,
    /// The folder for a3.svg, a3.csv and a3-moments.csv.
    #[arg(long, default_value = "analysis/results")]
    out: PathBuf,
}

#[derive(Debug, Args)]
struct PeersArgs {
    /// The balancer's program.
    #[arg(long, value_name = "FILE", default_value = "target/release/ringmaster")]
    ringmaster: PathBuf,
    /// Envoy's program.
    #[arg(long, value_name = "FILE", default_value = "envoy")]
    envoy: PathBuf,
    /// Rounds, in each of which every proxy is measured once in every row.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long each measurement loads the proxy, in whole seconds.
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = time)]
    time: Duration,
    /// These rows only, separated by commas.
    #[arg(long, value_name = "ROW", value_delimiter = ',')]
    only: Vec<String>,
    /// The folder for bench.md, bench.csv and bench.svg.
    #[arg(long, default_value = "analysis/results")]
    out: PathBuf,
}

#[derive(Debug, Args)]
struct ReplicasArgs {
    /// How many, each on an address of its own.
    #[arg(long)]
    count: usize,
    /// The port of all of them.
    #[arg(long)]
    port: u16,
}

#[derive(Debug, Args)]
struct SpliceArgs {
    /// Where clients come in.
    #[arg(long, value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Where their bytes go.
    #[arg(long, value_name = "ADDRESS")]
    upstream: SocketAddr,
}

#[derive(Debug, Args)]
struct WalkArgs {
    /// Replicas on the ring.
    #[arg(long)]
    replicas: u32,
    /// How often.
    #[arg(long)]
    turns: usize,
}

#[derive(Debug, Args)]
struct RingArgs {
    /// The folder for ring.md.
    #[arg(long, default_value = "analysis/results")]
    out: PathBuf,
}

/// `2`, `2s`, `1.5s` or `500ms`.
fn time(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => (text.strip_suffix('s').unwrap_or(text), 1.0),
    };
    let wrong = || format!("{text:?} is not a time such as 2, 1.5s or 500ms");
    let number: f64 = number.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(number * unit).map_err(|_| wrong())
}

impl TrafficArgs {
    fn setup(self, out: PathBuf) -> Setup {
        Setup {
            url: self.url,
            keys: self.keys,
            key_header: self.key_header,
            seed: self.seed,
            connections: self.connections,
            deadline: self.deadline,
            out,
        }
    }
}

impl A1Args {
    fn parts(self) -> (Setup, a1::Question) {
        let question = a1::Question {
            requests: self.requests,
            admin_url: Some(self.admin_url),
            hash_key: self.hash_key,
        };
        (self.traffic.setup(self.out), question)
    }
}

impl A4Args {
    fn parts(self) -> (Setup, a4::Question) {
        let setup = Setup {
            // Each balancer has its own.
            url: String::new(),
            keys: KeySource::Random,
            key_header: HeaderName::from_static("x-request-id"),
            seed: self.seed,
            connections: self.connections,
            deadline: Duration::from_secs(5),
            out: self.out,
        };
        let question = a4::Question {
            requests: self.requests,
            ringmaster: self.ringmaster,
            server: self.server,
        };
        (setup, question)
    }
}

/// Runs one command.
///
/// # Errors
/// When the command fails, or no request succeeds.
pub async fn run(cli: Cli) -> Result<()> {
    let bar = progress_bar();
    match cli.command {
        Command::Load(args) => {
            let plan = load_plan(args).await?;
            let report = Report::new(&plan, &load::run(&plan, &bar).await?);
            say(&report, cli.json)?;
            answered(&report)
        }
        Command::A1(args) => {
            let (setup, question) = args.parts();
            let finding = a1::run(&setup, &question, &bar).await?;
            say(&finding, cli.json)?;
            answered(&finding.load)
        }
        Command::A2(args) => {
            let (setup, question) = args.parts();
            say(&a2::run(&setup, &question, &bar).await?, cli.json)
        }
        Command::A4(args) => {
            let (setup, question) = args.parts();
            say(&a4::run(&setup, &question, &bar).await?, cli.json)
        }
        Command::A3(args) => {
            let question = a3::Question {
                rate: args.rate,
                duration: args.duration,
                kill_after: args.kill_after,
                victim: args.victim,
                kill: args.kill,
                admin_url: args.admin_url,
            };
            let finding = a3::run(&args.traffic.setup(args.out), &question, &bar).await?;
            say(&finding, cli.json)?;
            answered(&finding.load)
        }
        Command::Peers(args) => compare(args, &bar, cli.json).await,
        Command::Walk(args) => peers::walk::run(args.replicas, args.turns),
        Command::Replicas(args) => peers::replica::serve(args.count, args.port).await,
        Command::Splice(args) => peers::splice::serve(args.listen, args.upstream).await,
        Command::Ring(args) => say(&ring::run(&args.out)?, cli.json),
        Command::Control(args) => {
            say(&control::run(&args.ringmaster, args.time, &args.out).await?, cli.json)
        }
        Command::Roles(args) => share(args, &bar, cli.json).await,
    }
}

/// The same for several processes of a fleet.
async fn share(args: RolesArgs, bar: &ProgressBar, json: bool) -> Result<()> {
    let RolesArgs { ringmaster, server, image, pauses, only, out } = args;
    let programs = roles::Programs { ringmaster, server, image };
    let question = roles::Question { programs, pauses, only, out };
    let finding = roles::run(&question, bar).await?;
    say(&finding, json)?;
    match finding.gaps() {
        [] => Ok(()),
        gaps => bail!("not everything was measured: {}", gaps.join("; ")),
    }
}

/// A missed goal is a result, a missing figure is an error.
async fn compare(args: PeersArgs, bar: &ProgressBar, json: bool) -> Result<()> {
    let question = peers::Question {
        myself: std::env::current_exe()?,
        ringmaster: args.ringmaster,
        envoy: args.envoy,
        rounds: args.rounds,
        time: args.time,
        only: args.only,
        out: args.out,
    };
    let finding = peers::run(&question, bar).await?;
    say(&finding, json)?;
    if !finding.is_complete() {
        bail!("not everything could be measured");
    }
    Ok(())
}

async fn load_plan(args: LoadArgs) -> Result<Plan> {
    let amount = match (args.requests, args.duration) {
        (_, Some(time)) => Amount::Duration(time),
        (requests, None) => Amount::Requests(requests.unwrap_or(10_000)),
    };
    let traffic = args.traffic;
    Ok(Plan {
        target: Target::resolve(&traffic.url).await?,
        shape: Shape {
            method: args.method,
            path: args.path,
            key_header: traffic.key_header,
            body: args.body,
        },
        keys: traffic.keys,
        seed: traffic.seed,
        pace: args.rate.map_or(Pace::Closed, |rate| Pace::Open { rate }),
        amount,
        connections: traffic.connections,
        deadline: traffic.deadline,
        keep_samples: false,
    })
}

fn answered(report: &Report) -> Result<()> {
    if report.answered == 0 {
        bail!("no request was answered");
    }
    Ok(())
}

/// A progress bar on standard error, if that is a terminal.
fn progress_bar() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    // The template is constant; if it were wrong, the default style would be used.
    let style = ProgressStyle::with_template("{bar:40} {percent:>3} %  {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

fn say<T: Serialize + std::fmt::Display>(result: &T, json: bool) -> Result<()> {
    let text = if json { serde_json::to_string_pretty(result)? } else { result.to_string() };
    match writeln!(io::stdout(), "{text}") {
        // A reader that closes the pipe early is no error.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn times_are_read_with_and_without_a_unit() {
        for (text, millis) in [("2", 2_000), ("1.5s", 1_500), ("500ms", 500)] {
            assert_eq!(time(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "-1", "2h", "1e300", "nan"] {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn flags_that_contradict_or_make_no_sense_are_refused() {
        for flags in [
            "load --requests 5 --duration 5",
            "load --keys zipf:0:1",
            "load --key-header a:b",
            "a3 --kill true",
            "a5",
        ] {
            let words = std::iter::once("analysis").chain(flags.split(' '));
            assert!(Cli::try_parse_from(words).is_err(), "{flags}");
        }
    }
}
