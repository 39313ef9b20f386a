//! The command that kills: split at white space, never given to a shell.

use std::process::Stdio;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::process::Command;

/// How long the command itself may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// A program with its arguments, in which `{name}` stands for the victim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KillCommand {
    words: Vec<String>,
}

impl FromStr for KillCommand {
    type Err = String;

    fn from_str(text: &str) -> Result<KillCommand, String> {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        if words.is_empty() {
            return Err("the command is empty".to_owned());
        }
        if !text.contains("{name}") {
            return Err(format!(
                "{text:?} does not contain {{name}}, so it kills nobody in particular"
            ));
        }
        Ok(KillCommand { words })
    }
}

impl KillCommand {
    fn for_victim(&self, name: &str) -> Vec<String> {
        self.words.iter().map(|word| word.replace("{name}", name)).collect()
    }

    /// Waits for `delay`, runs the command, and returns when it was *started*: the
    /// victim died some time before it ended, so times from here are at worst too long.
    ///
    /// # Errors
    /// When it cannot be started, fails, or does not end within 20 s.
    pub async fn run_after(&self, delay: Duration, name: &str) -> Result<Instant> {
        tokio::time::sleep(delay).await;
        let words = self.for_victim(name);
        let line = words.join(" ");
        let begun = Instant::now();
        let output = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(DEADLINE, output)
            .await
            .with_context(|| format!("{line:?} did not end within {DEADLINE:?}"))?
            .with_context(|| format!("cannot run {line:?}"))?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!("{line:?} failed ({}): {}", output.status, stderr.trim());
        }
        Ok(begun)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_victim_is_put_into_every_word() {
        let kill: KillCommand = "docker kill  lab-{name}".parse().unwrap();
        assert_eq!(kill.for_victim("S5"), ["docker", "kill", "lab-S5"]);
        for text in ["", "  ", "docker kill server_1"] {
            assert!(text.parse::<KillCommand>().is_err(), "{text:?}");
        }
    }

    #[tokio::test]
    async fn a_failing_command_is_an_error_with_its_own_words() {
        let run = |text: &str| {
            let kill: KillCommand = text.parse().unwrap();
            async move { kill.run_after(Duration::ZERO, "no-such-file").await }
        };
        assert!(run("true {name}").await.is_ok());
        let error = format!("{:#}", run("ls /{name}/x").await.unwrap_err());
        assert!(error.contains("No such file"), "{error}");
        let error = format!("{:#}", run("no-such-program {name}").await.unwrap_err());
        assert!(error.contains("cannot run"), "{error}");
    }
}
