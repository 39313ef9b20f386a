//! The experiments: each one measures a running balancer, and writes
//! its numbers as CSV and its picture as SVG.

pub mod a1;
pub mod a2;
pub mod a3;
pub mod a4;
mod testbed;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use http::HeaderName;

use crate::load::KeySource;

/// The parameters of all experiments.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The balancer's traffic port, as `http://host:port`.
    pub url: String,
    /// The keys of the load.
    pub keys: KeySource,
    /// The header that carries the key.
    pub key_header: HeaderName,
    /// Decides the keys.
    pub seed: u64,
    /// Keep-alive connections.
    pub connections: usize,
    /// Timeout of a request.
    pub deadline: Duration,
    /// The folder for the results; made when missing.
    pub out: PathBuf,
}

/// Writes `text` to `name` in the folder `out`, and returns its path.
pub(crate) fn write(out: &Path, name: &str, text: &str) -> Result<PathBuf> {
    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let path = out.join(name);
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}
