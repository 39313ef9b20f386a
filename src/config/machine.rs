//! Checks a configuration against this machine without changing anything, and finds what `serve`
//! would refuse or could not use.

use std::{net::SocketAddr, path::PathBuf};

use futures_util::future::join_all;
use ringmaster_core::fleet::server::{Registration, Server};

use super::{Checked, Config, ConfigError, DriverKind, upstreams, wrong};
use crate::{control::resolver, store::FileStore};

/// Runs all checks. Returns what does not prevent a start, each in a sentence.
///
/// # Errors
/// What `serve` would refuse.
pub async fn check_machine(config: &Config) -> Checked<Vec<String>> {
    let mut warnings = resolve(config).await?;
    if config.driver == DriverKind::Process {
        program(config)?;
    }
    let found = FileStore::inspect(&config.state_dir, &config.fleet);
    let found = found.map_err(|error| ConfigError { key: "state_dir", why: error.to_string() });
    warnings.extend(found?);
    Ok(warnings)
}

/// Looks up the upstreams. Returns a sentence for each that has no address.
///
/// # Errors
/// Two upstreams with the same address.
pub async fn resolve(config: &Config) -> Checked<Vec<String>> {
    let lookups = config.upstreams.iter().map(|upstream| {
        let Server { host, port, .. } = &upstream.server;
        async move { resolver::resolve(host, *port).await.ok() }
    });
    let addresses = join_all(lookups).await;
    upstreams::addresses_differ(&config.upstreams, &addresses)?;
    let unknown = |(upstream, address): (&Registration, &Option<SocketAddr>)| {
        let (name, place) = (&upstream.name, upstream.server.place());
        let why = "cannot be resolved now; it gets no requests until it can";
        address.is_none().then(|| format!("the upstream '{name}' ({place}) {why}"))
    };
    Ok(config.upstreams.iter().zip(&addresses).filter_map(unknown).collect())
}

/// The command of a replica of the driver `process`: the companion server in the directory of this
/// program, unless another is configured.
///
/// # Errors
/// There is no such program.
pub fn program(config: &Config) -> Checked<Vec<String>> {
    if let Some(command) = &config.command {
        return Ok(command.clone());
    }
    let own = match std::env::current_exe() {
        Ok(own) => own,
        Err(error) => return wrong("command", format!("our own program is not found: {error}")),
    };
    let server: PathBuf = own.with_file_name("ringmaster-server");
    if !server.is_file() {
        let why = format!("there is no '{}'; name a program to run", server.display());
        return wrong("command", why);
    }
    Ok(vec![server.to_string_lossy().into_owned()])
}
