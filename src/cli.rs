//! The command line: what can be asked for, and how the answers of a running balancer are shown.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::Options;

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
    Add(Scale),
    /// Remove replicas: the named ones first, then the newest
    Rm(Scale),
    /// Show who owns which share of the keys
    Ring(Client),
    /// Show all replicas and their instances
    Status(Client),
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

/// How a running balancer is reached.
#[derive(Args, Clone, Debug)]
pub struct Client {
    /// Admin address of the balancer
    #[arg(long, env = "RINGMASTER_URL", default_value = "http://127.0.0.1:9090")]
    pub url: String,
    /// Token of the admin port
    #[arg(long, env = "RINGMASTER_ADMIN_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
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
