//! Keeps a fleet from having two supervisors, where no shared store has a lease for that.

use std::{io, path::Path};

use anyhow::bail;
use ringmaster_core::ring::hash;

use crate::{config::Config, driver::docker::DockerDriver};

/// Refuses a second supervisor of the same fleet, as far as this process can find one: by the state
/// directory (locked before), by an abstract socket of this network namespace, and by the labels of
/// balancers in containers. The kernel releases the socket when the process ends.
pub(super) async fn lock_fleet(
    config: &Config,
    docker: Option<&DockerDriver>,
) -> anyhow::Result<Option<std::os::unix::net::UnixListener>> {
    use std::os::{linux::net::SocketAddrExt, unix::net};
    let Some(docker) = docker else { return Ok(None) };
    // Hashed, because the system limits such a name to 107 bytes.
    let engine = hash::xxh3(engine_name(&crate::driver::docker::default_host()).as_bytes());
    let name = format!("ringmaster/{engine:016x}/{}", config.fleet);
    let address = net::SocketAddr::from_abstract_name(name)?;
    let lock = match net::UnixListener::bind_addr(&address) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            bail!("another balancer already supervises the fleet '{}'", config.fleet)
        }
        Err(error) => return Err(error.into()),
    };
    match docker.other_balancers().await {
        Ok(others) if others.is_empty() => {}
        Ok(others) => bail!(
            "another balancer already supervises the fleet '{}': container '{}'",
            config.fleet,
            others.join("', '")
        ),
        Err(error) => tracing::warn!("{error}; waiting for it"),
    }
    Ok(Some(lock))
}

/// The same name for every path to the engine's socket. Only the directory is resolved, because the
/// socket may be missing while the engine is away.
fn engine_name(host: &str) -> String {
    let path = host.strip_prefix("unix://").map(Path::new);
    let real = path.and_then(|path| {
        let directory = path.parent()?.canonicalize().ok()?;
        Some(directory.join(path.file_name()?).display().to_string())
    });
    real.unwrap_or_else(|| host.to_owned())
}
