//! The command line. Doc comments on commands and flags are the texts of `--help`.

pub mod check;
pub mod print;
pub mod settings;
pub mod simulate;

use std::path::PathBuf;

use clap::{ArgMatches, Args, Parser, Subcommand, parser::ValueSource};

use crate::config::{ConfigError, FromFile, Options, Secret};

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

/// The subcommands with their arguments.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the balancer
    Serve(Serve),
    /// Check a configuration and show what it means
    Check(Serve),
    /// List the replicas in service
    Replicas(AdminOptions),
    /// Add replicas
    Add(Add),
    /// Remove replicas: the named ones first, then by the victim rule
    Rm(Remove),
    /// Show who owns which share of the keys, or change that
    Ring(RingCommand),
    /// List the servers and what they served; register, drain or remove one
    Servers(Servers),
    /// Show all replicas and their instances
    Status(AdminOptions),
    /// Try again what was given up: a roll that was stopped, starts that wait for their back-off
    Retry(AdminOptions),
    /// Show what a replica has written, and how its instances ended
    Logs(Logs),
    /// Play a sequence of changes on a ring, without a fleet
    Simulate(simulate::Simulate),
}

/// Settings of `serve` and `check`.
#[derive(Args, Debug)]
pub struct Serve {
    /// Configuration file: TOML, or the config.json of a balancer with registered servers
    #[arg(long, env = "RINGMASTER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the whole configuration as a file, and start nothing
    #[arg(long)]
    pub print_config: bool,
    /// All other settings.
    #[command(flatten)]
    pub options: Options,
}

/// The settings from all sources together.
#[derive(Debug)]
pub struct Given {
    /// The settings, before they are checked.
    pub options: Options,
    /// Sentences on the way in which they were given.
    pub warnings: Vec<String>,
}

impl Serve {
    /// The settings of flags and environment, then those of the file, then those of the preset.
    ///
    /// # Errors
    /// A file that cannot be read, or an unknown preset.
    pub fn given(self) -> Result<Given, ConfigError> {
        let file = self.config.as_deref().map(FromFile::read).transpose()?;
        let FromFile { options: mut file, warnings } = file.unwrap_or_default();
        // A token from a flag or the environment replaces both kinds of token in the file.
        if self.options.admin_token.is_some() || self.options.admin_token_file.is_some() {
            (file.admin_token, file.admin_token_file) = (None, None);
        }
        let options = self.options.or(file).with_preset()?.with_token_of_file()?;
        Ok(Given { options, warnings })
    }
}

/// Address and token of a running balancer.
#[derive(Args, Clone, Debug)]
pub struct AdminOptions {
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

/// Arguments of `ring`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct RingCommand {
    /// A change; without one the ring is shown.
    #[command(subcommand)]
    pub change: Option<RingChange>,
    /// Show where this key goes, and who would follow
    #[arg(long)]
    pub key: Option<String>,
    /// How the balancer is reached.
    #[command(flatten)]
    pub client: AdminOptions,
}

/// Changes of the ring.
#[derive(Debug, Subcommand)]
pub enum RingChange {
    /// Change settings of the ring; what is not named stays
    Set(SetRing),
    /// Change the weight of a replica
    Weight(Reweigh),
}

/// Arguments of `ring set`.
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
    pub client: AdminOptions,
}

/// Arguments of `ring weight`.
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
    pub client: AdminOptions,
}

/// Arguments of `add`.
#[derive(Args, Debug)]
pub struct Add {
    /// How many, and which.
    #[command(flatten)]
    pub scale: Scale,
    /// Weight of each newcomer
    #[arg(long, default_value_t = 1)]
    pub weight: u32,
}

/// Arguments of `rm`.
#[derive(Args, Debug)]
pub struct Remove {
    /// How many, and which.
    #[command(flatten)]
    pub scale: Scale,
    /// Do not ask before more than half of the fleet, or the last replica, is removed
    #[arg(long, short)]
    pub yes: bool,
}

/// Arguments of `servers`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Servers {
    /// A change; without one the servers are listed.
    #[command(subcommand)]
    pub action: Option<ServerAction>,
    /// How the balancer is reached.
    #[command(flatten)]
    pub client: AdminOptions,
}

/// Changes of servers.
#[derive(Debug, Subcommand)]
pub enum ServerAction {
    /// Register a server that somebody else keeps
    Add(RegisterServer),
    /// Remove a server; one that the balancer started is stopped
    Rm(RemoveServer),
    /// Send a server no more requests; what is open goes on, and it keeps its keys
    Drain(OneServer),
    /// Send a drained server requests again
    Enable(OneServer),
}

/// Arguments of `servers add`.
#[derive(Args, Debug)]
pub struct RegisterServer {
    /// What to call it
    pub name: String,
    /// Where it listens
    #[arg(value_name = "HOST:PORT")]
    pub place: Place,
    /// Its part of the keys, relative to the others
    #[arg(long, default_value_t = 1)]
    pub weight: u32,
    /// Only show what would move
    #[arg(long)]
    pub dry_run: bool,
    /// How the balancer is reached.
    #[command(flatten)]
    pub client: AdminOptions,
}

/// Arguments of `servers rm`.
#[derive(Args, Debug)]
pub struct RemoveServer {
    /// Its name
    pub name: String,
    /// Do not ask before more than half of the fleet, or the last replica, is removed
    #[arg(long, short)]
    pub yes: bool,
    /// Only show what would move
    #[arg(long)]
    pub dry_run: bool,
    /// How the balancer is reached.
    #[command(flatten)]
    pub client: AdminOptions,
}

/// Arguments of `servers drain` and `servers enable`.
#[derive(Args, Debug)]
pub struct OneServer {
    /// Its name
    pub name: String,
    /// How the balancer is reached.
    #[command(flatten)]
    pub client: AdminOptions,
}

/// `HOST:PORT`. The balancer checks the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// A hostname or an address, IPv6 in its brackets.
    pub host: String,
    /// At least 1.
    pub port: u16,
}

impl std::str::FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANTED: &str = "it is not HOST:PORT";
        let (host, port) = text.rsplit_once(':').ok_or(WANTED)?;
        let is_bracketed = host.starts_with('[') && host.ends_with(']');
        if host.is_empty() || host.contains(':') && !is_bracketed {
            return Err("it is not HOST:PORT; an IPv6 address is written in brackets");
        }
        let port = port.parse().ok().filter(|&port: &u16| port > 0);
        let port = port.ok_or("the port is not a number from 1 to 65535")?;
        Ok(Self { host: host.to_owned(), port })
    }
}

/// Arguments of `logs`.
#[derive(Args, Debug)]
pub struct Logs {
    /// Name of a replica, or the former name of an instance that has ended
    pub name: String,
    /// Lines at most, of each instance [default: 50]
    #[arg(long)]
    pub lines: Option<usize>,
    /// How the balancer is reached.
    #[command(flatten)]
    pub client: AdminOptions,
}

/// Arguments of every scale command.
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
    pub client: AdminOptions,
}

/// A warning if a secret is on the command line, where every process of the machine can read it.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_host_and_a_port() {
        for (text, host, port) in [("a:1", "a", 1), ("[::1]:65535", "[::1]", 65_535)] {
            assert_eq!(text.parse(), Ok(Place { host: host.to_owned(), port }), "{text}");
        }
        for text in ["a", ":1", "a:", "a:0", "a:65536", "::1", "::1:80", ""] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }
}
