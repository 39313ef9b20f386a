//! A balancer for one experiment, with processes as replicas and a ring that can be changed.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;
use tokio::process::Command;

use crate::balancer::Balancer;
use crate::process::{Child, Ready, free_port};

/// The settings of the ring, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RingChoice {
    /// How positions are chosen.
    pub(super) placement: String,
    /// The hash function of keys.
    pub(super) hash: String,
    /// The secret of siphash.
    pub(super) hash_key: Option<String>,
}

/// The programs, and the balancer that runs.
pub(super) struct Testbed {
    ringmaster: PathBuf,
    server: PathBuf,
    running: Option<Running>,
}

struct Running {
    child: Child,
    port: u16,
    admin_port: u16,
    _state: TempDir,
}

impl Testbed {
    pub(super) fn new(ringmaster: &Path, server: &Path) -> Testbed {
        Testbed { ringmaster: ringmaster.to_owned(), server: server.to_owned(), running: None }
    }

    /// Restarts the balancer with another ring. Returns the URLs of its traffic port and admin port.
    ///
    /// # Errors
    /// When it does not start, or does not end before that.
    pub(super) async fn change_ring(
        &mut self,
        choice: &RingChoice,
        replicas: usize,
    ) -> Result<(String, String)> {
        self.stop().await?;
        let state = tempfile::tempdir().context("no temporary folder")?;
        let (port, admin_port) = (free_port()?, free_port()?);
        let mut command = Command::new(&self.ringmaster);
        command
            .args(["serve", "--driver=process", "--workers=1"])
            .arg(format!("--replicas={replicas}"))
            .arg(format!("--listen=127.0.0.1:{port}"))
            .arg(format!("--admin=127.0.0.1:{admin_port}"))
            .arg("--command")
            .arg(&self.server)
            .arg("--state-dir")
            .arg(state.path())
            .arg(format!("--placement={}", choice.placement))
            .arg(format!("--hash={}", choice.hash));
        if let Some(key) = &choice.hash_key {
            command.env("RINGMASTER_HASH_KEY", key);
        }
        let child = Child::spawn(&self.ringmaster, command)?;
        let running = self.running.insert(Running { child, port, admin_port, _state: state });
        let address = (Ipv4Addr::LOCALHOST, running.port).into();
        running.child.wait_until_ready(address, Ready::Answers).await?;
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let urls = (url(running.port), url(running.admin_port));
        Balancer::new(&urls.0)?.wait_for(replicas).await?;
        Ok(urls)
    }

    /// Ends the balancer, and with it its replicas.
    ///
    /// # Errors
    /// When it does not end.
    pub(super) async fn stop(&mut self) -> Result<()> {
        match self.running.take() {
            Some(running) => running.child.stop().await,
            None => Ok(()),
        }
    }
}
