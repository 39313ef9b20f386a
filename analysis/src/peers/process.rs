//! The programs of a comparison: started on their cores, measured by the kernel's clock, stopped.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{net::TcpStream, process::Command};

/// How long a program may take until it answers, or until it has ended.
const DEADLINE: Duration = Duration::from_secs(10);
/// Between two looks at a port.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A program that ends with this value.
pub(super) struct Child {
    name: String,
    child: tokio::process::Child,
}

/// A port that was free a moment ago.
pub(super) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr()?.port())
}

/// The first line that a program says of its version.
pub(super) async fn version(program: &str) -> Result<String> {
    let output = Command::new(program).arg("-v").output().await;
    let output = output.with_context(|| format!("`{program}` is not installed"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.lines().next().unwrap_or(program).to_owned())
}

/// One companion server, on the cores of this program.
pub(super) async fn server(program: &Path, number: usize, port: u16) -> Result<Child> {
    let mut command = Command::new(program);
    command
        .env("SERVER_ID", format!("server_{number}"))
        .env("HOST", "127.0.0.1")
        .env("PORT", port.to_string());
    let mut child = Child::spawn(program, command)?;
    child.wait_until_ready(port).await?;
    Ok(child)
}

impl Child {
    /// Starts a program on the first core alone.
    pub(super) fn on_core_0(program: &Path, arguments: &[String]) -> Result<Child> {
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]).arg(program).args(arguments);
        Child::spawn(program, command)
    }

    fn spawn(program: &Path, mut command: Command) -> Result<Child> {
        let name = program.display().to_string();
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {name}"))?;
        Ok(Child { name, child })
    }

    /// Waits until `/home` is answered with 200.
    pub(super) async fn wait_until_ready(&mut self, port: u16) -> Result<()> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let url = format!("http://{address}/home");
        let client = reqwest::Client::builder().no_proxy().timeout(DEADLINE).build()?;
        let begun = Instant::now();
        while begun.elapsed() < DEADLINE {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended at once: {status}", self.name);
            }
            if TcpStream::connect(address).await.is_ok() {
                let answer = client.get(&url).send().await;
                if answer.is_ok_and(|answer| answer.status().is_success()) {
                    return Ok(());
                }
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        bail!("{} did not answer within {DEADLINE:?}", self.name)
    }

    /// User and system time of all its threads so far.
    pub(super) fn cpu_time(&self) -> Result<Duration> {
        let pid = self.child.id().with_context(|| format!("{} has ended", self.name))?;
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let ticks = ticks(&text).with_context(|| format!("{text:?} is not a stat line"))?;
        let per_second = rustix::param::clock_ticks_per_second();
        Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
    }

    /// Asks it to end, and waits for that.
    pub(super) async fn stop(mut self) -> Result<()> {
        let pid = self.child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        if let Some(pid) = pid {
            kill_process(pid, Signal::TERM)?;
        }
        let ended = tokio::time::timeout(DEADLINE, self.child.wait()).await;
        ended.with_context(|| format!("{} does not end", self.name))??;
        Ok(())
    }
}

/// `utime` and `stime`, fields 14 and 15; the name in field 2 may hold anything but ends with `)`.
fn ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_line_is_read_past_any_name() {
        let line = "7 (a) b) R 1 7 7 0 -1 4194304 99 0 0 0 150 50 0 0 20 0 2 0 1 1 1";
        assert_eq!(ticks(line), Some(200));
        assert_eq!(ticks("7 (cut"), None);
    }
}
