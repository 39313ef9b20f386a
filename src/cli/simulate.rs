//! `ringmaster simulate`: its flags, and its result as a table, as JSON or as a picture.

mod json;
mod svg;
mod table;

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use ringmaster_core::ring::{OptionError, RingOptions};

use crate::simulate::{self, Options};

/// Arguments of `simulate`, checked by [`Options::check`].
#[derive(Args, Debug)]
pub struct Simulate {
    /// Algorithm: ring, slots, ketama, maglev, rendezvous, jump [default: ring]
    #[arg(long, value_name = "ALGORITHM")]
    pub algorithm: Option<String>,
    /// Slots of the ring [default: 512]
    #[arg(long, value_name = "N")]
    pub slots: Option<u32>,
    /// Virtual servers per replica [default: 9]
    #[arg(long, value_name = "N")]
    pub virtual_servers: Option<u32>,
    /// Where virtual servers go: even, hash, polynomial [default: even]
    #[arg(long, value_name = "PLACEMENT")]
    pub placement: Option<String>,
    /// What is done about a taken slot: linear, quadratic [default: linear]
    #[arg(long, value_name = "RULE")]
    pub collision: Option<String>,
    /// Hash function of keys [default: xxh3]
    #[arg(long, value_name = "HASH")]
    pub hash: Option<String>,
    /// Key of the hash siphash, 32 hexadecimal digits
    #[arg(long, value_name = "HEX")]
    pub hash_key: Option<String>,
    /// Replicas at first, then how many join or leave, one after the other
    #[arg(long, value_name = "N,+N,-N,..", default_value = "3,+2,-1", allow_hyphen_values = true)]
    pub sequence: String,
    /// Who leaves: newest, oldest, least_loaded, most_even_after, random
    #[arg(long, value_name = "RULE", default_value = "newest")]
    pub victim: String,
    /// Different keys, six-digit numbers
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub keys: u32,
    /// How often each key is arguments for: uniform, zipf:EXPONENT
    #[arg(long, value_name = "DISTRIBUTION", default_value = "uniform")]
    pub distribution: String,
    /// Simulate bounded load: nobody has more in flight than FACTOR times the average
    #[arg(long, value_name = "FACTOR")]
    pub bounded: Option<f64>,
    /// Requests in flight per replica under bounded load
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub in_flight: u32,
    /// The same seed gives the same answer
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// How the answer is written: table, json, svg [default: table, with --json json]
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Where the answer goes, instead of standard output
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

impl Simulate {
    fn options(&self) -> Options {
        Options {
            ring: RingOptions {
                algorithm: self.algorithm.clone(),
                slots: self.slots,
                virtual_servers: self.virtual_servers,
                placement: self.placement.clone(),
                collision: self.collision.clone(),
                hash: self.hash.clone(),
                hash_key: self.hash_key.clone(),
            },
            sequence: self.sequence.clone(),
            victim: self.victim.clone(),
            keys: self.keys,
            distribution: self.distribution.clone(),
            bounded: self.bounded,
            in_flight: self.in_flight,
            seed: self.seed,
        }
    }
}

/// Runs a simulation and formats the result.
///
/// # Errors
/// An invalid flag.
pub fn simulate(arguments: &Simulate, as_json: bool) -> Result<String, OptionError> {
    let default = if as_json { "json" } else { "table" };
    let write: fn(&simulate::Question, &[simulate::Step]) -> String =
        match arguments.format.as_deref().unwrap_or(default) {
            "table" => table::write,
            "json" => json::write,
            "svg" => svg::write,
            other => {
                let why = format!("'{other}' is not one of table, json, svg");
                return Err(OptionError { key: "format", why });
            }
        };
    let question = arguments.options().check()?;
    Ok(write(&question, &simulate::run(&question)?))
}

/// Writes the result to the file of `--output`; without one, returns it for standard output.
///
/// # Errors
/// A file that cannot be written.
pub fn write_output(arguments: &Simulate, text: String) -> anyhow::Result<String> {
    let Some(path) = &arguments.output else { return Ok(text) };
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(String::new())
}

/// A change in a short form, like `+2`.
fn change_text(change: simulate::SequenceStep) -> String {
    match change {
        simulate::SequenceStep::Start(number) => format!("start {number}"),
        simulate::SequenceStep::Add(number) => format!("+{number}"),
        simulate::SequenceStep::Remove(number) => format!("-{number}"),
    }
}

/// Least, mean and greatest share of the slots. `None` without replicas.
fn shares(step: &simulate::Step) -> Option<(f64, f64, f64)> {
    let shares = step.ring.shares();
    let least = shares.iter().copied().reduce(f64::min)?;
    let greatest = shares.iter().copied().reduce(f64::max)?;
    Some((least, shares.iter().sum::<f64>() / shares.len() as f64, greatest))
}
