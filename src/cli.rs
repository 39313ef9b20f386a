//! The command line: what can be asked for, and how the answers of a running balancer are shown.

pub mod check;
pub mod simulate;

use std::path::PathBuf;

use clap::{ArgMatches, Args, Parser, Subcommand, parser::ValueSource};

use crate::config::{ConfigError, Options, Secret};

/// Keeps N replicas of a container alive on Docker and sends every key to the same one.
#[derive(Debug, Parser)]
#[command(name = "ringmaster", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Print answers as JSON
    #[arg(long, global = true)]
    pub json: bool,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the balancer
    Serve(Serve),
    /// Check a configuration and show what it means
    Check(Serve),
    /// List the replicas in service
    Replicas(Client),
    /// Add replicas
    Add(Add),
    /// Remove replicas: the named ones first, then by the victim rule
    Rm(Remove),
    /// Show who owns which share of the keys, or change that
    Ring(Ring),
    /// Show all replicas and their instances
    Status(Client),
    /// Try again what was given up: a roll that was stopped, starts that wait for their back-off
    Retry(Client),
    /// Show what a replica has written, and how its instances ended
    Logs(Logs),
    /// Play a sequence of changes on a ring, without a fleet
    Simulate(simulate::Simulate),
}

/// Settings of `serve` and `check`.
#[derive(Args, Debug)]
pub struct Serve {
    /// Configuration file (TOML)
    #[arg(long, env = "RINGMASTER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// All other settings.
    #[command(flatten)]
    pub options: Options,
}

impl Serve {
    /// The settings of flags and environment, and behind them those of the file.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn options(self) -> Result<Options, ConfigError> {
        let file = self.config.as_deref().map(Options::from_file).transpose()?;
        let mut file = file.unwrap_or_default();
        // Two ways to say one thing: the one that is nearer wins.
        if self.options.admin_token.is_some() || self.options.admin_token_file.is_some() {
            (file.admin_token, file.admin_token_file) = (None, None);
        }
        self.options.or(file).with_token_of_file()
    }
}

/// How a running balancer is reached.
#[derive(Args, Clone, Debug)]
pub struct Client {
    /// Admin address of the balancer
    #[arg(long, env = "RINGMASTER_URL", default_value = "http://127.0.0.1:9090")]
    pub url: String,
    /// Token of the admin port; others can read it here (`ps`)
    #[arg(long, env = "RINGMASTER_ADMIN_TOKEN", hide_env_values = true)]
    pub token: Option<Secret>,
    /// File that holds the token
    #[arg(long, env = "RINGMASTER_ADMIN_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// What to show of the ring, or to change.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Ring {
    /// A change; without one the ring is shown.
    #[command(subcommand)]
    pub change: Option<RingChange>,
    /// Show where this key goes, and who would follow
    #[arg(long)]
    pub key: Option<String>,
    /// How the balancer is reached.
    #[command(flatten)]
    pub client: Client,
}

/// Changes of the ring.
#[derive(Debug, Subcommand)]
pub enum RingChange {
    /// Change settings of the ring; what is not named stays
    Set(SetRing),
    /// Change the weight of a replica
    Weight(Reweigh),
}

/// Settings of the ring.
#[derive(Args, Debug)]
pub struct SetRing {
    /// ring, slots, ketama, maglev, rendezvous or jump
    #[arg(long)]
    pub algorithm: Option<String>,
    /// Slots of the ring or table
    #[arg(long)]
    pub slots: Option<u32>,
    /// Virtual servers for each unit of weight
    #[arg(long)]
    pub virtual_servers: Option<u32>,
    /// even, hash or polynomial
    #[arg(long)]
    pub placement: Option<String>,
    /// linear or quadratic
    #[arg(long)]
    pub collision: Option<String>,
    /// xxh3, murmur3, fnv1a, djb2, crc32, md5, sha1, siphash, simple or polynomial
    #[arg(long)]
    pub hash: Option<String>,
    /// Secret of siphash: 32 hexadecimal digits [default: $RINGMASTER_HASH_KEY]
    #[arg(long)]
    pub hash_key: Option<Secret>,
    /// Only show what would move
    #[arg(long)]
    pub dry_run: bool,
    /// How the balancer is reached.
    #[command(flatten)]
    pub client: Client,
}

/// Another weight.
#[derive(Args, Debug)]
pub struct Reweigh {
    /// Name of the replica
    pub name: String,
    /// Its weight, at least 1
    pub weight: u32,
    /// Only show what would move
    #[arg(long)]
    pub dry_run: bool,
    /// How the balancer is reached.
    #[command(flatten)]
    pub client: Client,
}

/// An addition.
#[derive(Args, Debug)]
pub struct Add {
    /// How many, and which.
    #[command(flatten)]
    pub scale: Scale,
    /// Weight of each newcomer
    #[arg(long, default_value_t = 1)]
    pub weight: u32,
}

/// A removal.
#[derive(Args, Debug)]
pub struct Remove {
    /// How many, and which.
    #[command(flatten)]
    pub scale: Scale,
    /// Do not ask before more than half of the fleet, or the last replica, is removed
    #[arg(long, short)]
    pub yes: bool,
}

/// Whose log to show.
#[derive(Args, Debug)]
pub struct Logs {
    /// Name of a replica, or the former name of an instance that has ended
    pub name: String,
    /// Lines at most, of each instance [default: 50]
    #[arg(long)]
    pub lines: Option<usize>,
    /// How the balancer is reached.
    #[command(flatten)]
    pub client: Client,
}

/// A scale command.
#[derive(Args, Debug)]
pub struct Scale {
    /// How many [default: as many as names are given, or 1]
    #[arg(short, long)]
    pub n: Option<usize>,
    /// Names
    pub names: Vec<String>,
    /// Only show what would move
    #[arg(long)]
    pub dry_run: bool,
    /// How the balancer is reached.
    #[command(flatten)]
    pub client: Client,
}

/// Says that a secret is on the command line, where every process of the machine can read it.
pub fn secret_on_command_line(given: &ArgMatches) -> Option<String> {
    const SECRETS: [&str; 4] = ["admin_token", "metrics_token", "hash_key", "token"];
    let on_command_line = |id: &&str| {
        matches!(given.try_contains_id(id), Ok(true))
            && given.value_source(id) == Some(ValueSource::CommandLine)
    };
    if let Some(id) = SECRETS.into_iter().find(on_command_line) {
        let flag = id.replace('_', "-");
        let instead = if id.ends_with("token") { "a token file" } else { "the configuration file" };
        return Some(format!(
            "`--{flag}`: every user of this machine can read it there (`ps`); use {instead} or the environment"
        ));
    }
    if on_command_line(&"store")
        && let Ok(Some(url)) = given.try_get_one::<Secret>("store")
        && url.0.contains('@')
    {
        return Some(
            "`--store`: every user of this machine can read its password there (`ps`); use the configuration file or the environment"
                .to_owned(),
        );
    }
    given.subcommand().and_then(|(_, inner)| secret_on_command_line(inner))
}
