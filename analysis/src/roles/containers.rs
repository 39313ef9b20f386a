//! The containers of a fleet that belongs to one run. All with its label are removed at the end.

use std::{collections::BTreeMap, process::Command};

use anyhow::{Context, Result, bail};

/// Longer than the engine takes for anything.
const SECONDS: &str = "60";
/// A start that was under way when its supervisor was killed may still end with a container.
const ROUNDS: usize = 3;

/// The containers of one fleet; dropping it removes them.
pub(super) struct Containers {
    pub(super) fleet: String,
    pub(super) image: String,
}

impl Containers {
    /// For a fleet whose name no other run uses. An error says why there can be none.
    pub(super) fn new(image: Option<&str>, purpose: &str) -> Result<Containers> {
        let image = image.context("no image was named")?;
        docker(&["image", "inspect", "--format", "{{.Id}}", image])?;
        let fleet = format!("bench-{purpose}-{}", std::process::id());
        Ok(Containers { fleet, image: image.to_owned() })
    }

    /// The flags of a process that may supervise this fleet.
    pub(super) fn arguments(&self, replicas: usize) -> Vec<String> {
        vec![
            "--driver=docker".to_owned(),
            format!("--image={}", self.image),
            format!("--replicas={replicas}"),
        ]
    }

    /// Running containers: their ids and start times.
    pub(super) fn running(&self) -> Result<BTreeMap<String, String>> {
        let ids = self.ids("ps", &["--all", "--no-trunc"])?;
        let started = |id: String| {
            let started = docker(&["inspect", "--format", "{{.State.StartedAt}}", &id])?;
            Ok((id, started))
        };
        ids.into_iter().map(started).collect()
    }

    fn ids(&self, what: &str, more: &[&str]) -> Result<Vec<String>> {
        let label = format!("label=ringmaster.fleet={}", self.fleet);
        let mut words = match what {
            "ps" => vec!["ps"],
            _ => vec![what, "ls"],
        };
        words.extend(["--quiet", "--filter", &label]);
        words.extend(more);
        Ok(docker(&words)?.lines().map(str::to_owned).collect())
    }

    fn remove(&self) -> Result<()> {
        for _ in 0..ROUNDS {
            for id in self.ids("ps", &["--all"])? {
                docker(&["rm", "--force", &id])?;
            }
        }
        for id in self.ids("network", &[])? {
            docker(&["network", "rm", &id])?;
        }
        Ok(())
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            eprintln!("analysis: the containers of the fleet {} stay: {error:#}", self.fleet);
        }
    }
}

/// Waits for it: a value that is dropped cannot do otherwise, and no load is under way then.
fn docker(words: &[&str]) -> Result<String> {
    let output = Command::new("timeout").arg(SECONDS).arg("docker").args(words).output();
    let output = output.context("cannot run docker")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("docker {}: {}", words.join(" "), said.trim().lines().last().unwrap_or("failed"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
