//! Programs that experiments start: their cores, their CPU time and memory, and their end.

use std::{
    fs::File,
    io::{Read, Seek},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::{net::TcpStream, process::Command};

/// Timeout for the start and the end of a program.
const DEADLINE: Duration = Duration::from_secs(20);
/// Timeout for printing a version.
const VERSION_DEADLINE: Duration = Duration::from_secs(5);
/// Pause between two checks of a port.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The core of the proxy that is measured.
pub(crate) const PROXY_CORE: &str = "0";
/// The core of the load and of the replicas; this program is on it too.
pub(crate) const LOAD_CORE: &str = "1";

/// Keeps this program, and what it starts meanwhile, on one core; dropping it ends that.
pub(crate) struct Pinned(CpuSet);

impl Pinned {
    /// On a core numbered as `taskset -c` does.
    pub(crate) fn to(core: &str) -> Result<Pinned> {
        let before = sched_getaffinity(None).context("the cores of this program are unknown")?;
        let mut one = CpuSet::new();
        one.set(core.parse()?);
        sched_setaffinity(None, &one).with_context(|| format!("there is no core {core}"))?;
        Ok(Pinned(before))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if let Err(error) = sched_setaffinity(None, &self.0) {
            eprintln!("analysis: this program stays on one core: {error}");
        }
    }
}

/// How to check that a proxy serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ready {
    /// It accepts connections.
    Accepts,
    /// It responds to a request with success.
    Answers,
}

/// A program that ends when this value is dropped.
pub(crate) struct Child {
    name: String,
    child: tokio::process::Child,
    /// Its standard error.
    words: File,
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr()?.port())
}

/// Lets this process and the ones it starts open as many files as the machine allows them.
pub(crate) fn raise_file_limit() -> Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
        .context("cannot raise the limit of open files")?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// The first line of a program's version; `None` if it is not installed.
pub(crate) async fn version(program: &Path, flag: &str) -> Option<String> {
    let mut command = Command::new(program);
    command.arg(flag).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(VERSION_DEADLINE, command.output()).await.ok()?.ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    text.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}

impl Child {
    /// Starts a program on these cores alone, numbered as `taskset -c` does.
    pub(crate) fn on_cores(cores: &str, program: &Path, arguments: &[String]) -> Result<Child> {
        // It replaces itself by the program, which so has the process number that we know.
        let mut command = Command::new("taskset");
        command.args(["-c", cores]).arg(program).args(arguments);
        Child::spawn(program, command)
    }

    /// A command that ends with this process, also when this process is killed.
    pub(crate) fn bound_command(program: &Path) -> Command {
        // It replaces itself by the program, which so has the process number that we know.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program);
        command
    }

    /// Starts a program, silent, with the environment of this one.
    pub(crate) fn spawn(program: &Path, mut command: Command) -> Result<Child> {
        let name = program.display().to_string();
        let words = tempfile::tempfile().context("no temporary file")?;
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(words.try_clone()?)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {name}"))?;
        Ok(Child { name, child, words })
    }

    /// Waits until it serves at this address: accepts, or answers `/home` with 200.
    pub(crate) async fn wait_until_ready(
        &mut self,
        address: SocketAddr,
        ready: Ready,
    ) -> Result<()> {
        let client = reqwest::Client::builder().no_proxy().timeout(DEADLINE).build()?;
        let begun = Instant::now();
        while begun.elapsed() < DEADLINE {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended at once ({status}): {}", self.name, self.last_words());
            }
            if TcpStream::connect(address).await.is_ok() {
                if ready == Ready::Accepts {
                    return Ok(());
                }
                let answer = client.get(format!("http://{address}/home")).send().await;
                if answer.is_ok_and(|answer| answer.status().is_success()) {
                    return Ok(());
                }
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        bail!("{} did not answer within {DEADLINE:?}: {}", self.name, self.last_words())
    }

    /// The end of its standard error.
    fn last_words(&self) -> String {
        let mut text = Vec::new();
        let mut words = &self.words;
        let read = words.rewind().and_then(|()| words.read_to_end(&mut text));
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().rev().filter(|line| !line.is_empty()).take(2).collect();
        if read.is_err() || lines.is_empty() { "no words".to_owned() } else { lines.join(" / ") }
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.id()?)?).context("0 is no process")?;
        kill_process(pid, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// SIGKILL, and waits for its end.
    pub(crate) async fn kill(mut self) -> Result<()> {
        let killed = tokio::time::timeout(DEADLINE, self.child.kill()).await;
        killed.with_context(|| format!("{} does not end", self.name))??;
        Ok(())
    }

    fn id(&self) -> Result<u32> {
        self.child.id().with_context(|| format!("{} has ended", self.name))
    }

    /// How long its threads have run so far, in user and system mode.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        self.cpu_time_of(|_| true)
    }

    /// The same of threads whose name is of interest.
    pub(crate) fn cpu_time_of(&self, is_meant: impl Fn(&str) -> bool) -> Result<Duration> {
        let mut nanoseconds = 0;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.id()?))? {
            let thread = thread?.path();
            let name = std::fs::read_to_string(thread.join("comm")).unwrap_or_default();
            if !is_meant(name.trim_end()) {
                continue;
            }
            // A thread may end while we look; what it ran is then lost.
            let Ok(text) = std::fs::read_to_string(thread.join("schedstat")) else {
                continue;
            };
            nanoseconds += run_time(&text).with_context(|| format!("{text:?} is no schedstat"))?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// Its part of the memory, with shared pages counted in parts: PSS, in KiB.
    pub(crate) fn memory(&self) -> Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.id()?))?;
        proportional(&text).context("smaps_rollup has no Pss")
    }

    /// Asks it to end, and waits for that.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let pid = self.child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        if let Some(pid) = pid {
            kill_process(pid, Signal::TERM)?;
        }
        let ended = tokio::time::timeout(DEADLINE, self.child.wait()).await;
        ended.with_context(|| format!("{} does not end", self.name))??;
        Ok(())
    }
}

/// Measures how much CPU other programs use.
pub(crate) struct Others {
    begun: Instant,
    busy: Duration,
    ours: Duration,
}

impl Others {
    /// Begins to watch.
    pub(crate) fn watch() -> Result<Others> {
        Ok(Others { begun: Instant::now(), busy: busy()?, ours: ours()? })
    }

    /// The average number of cores that other programs have used since then. Not counted are this one and
    /// the programs that it started and that have ended.
    pub(crate) fn cores(&self) -> Result<f64> {
        let busy = busy()?.saturating_sub(self.busy);
        let theirs = busy.saturating_sub(ours()?.saturating_sub(self.ours));
        Ok(theirs.as_secs_f64() / self.begun.elapsed().as_secs_f64())
    }
}

fn busy() -> Result<Duration> {
    let text = std::fs::read_to_string("/proc/stat")?;
    busy_ticks(&text).map(of_ticks).context("/proc/stat does not count")
}

fn ours() -> Result<Duration> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    ours_ticks(&text).map(of_ticks).context("/proc/self/stat does not count")
}

fn of_ticks(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// All that the line of all cores counts, what other machines on the same host took included, but
/// idling (fourth and fifth) and what guests had, which is in the first two already.
fn busy_ticks(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks = line.split_ascii_whitespace().take(8).map(|number| number.parse::<u64>().ok());
    ticks.enumerate().filter(|(place, _)| ![3, 4].contains(place)).map(|(_, ticks)| ticks).sum()
}

/// User and system time of the process and of its children that have ended: fields 14 to 17. The
/// name in field 2 may hold anything but ends with `)`.
fn ours_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Option<Vec<u64>> =
        rest.split(' ').skip(11).take(4).map(|field| field.parse().ok()).collect();
    fields.filter(|fields| fields.len() == 4).map(|fields| fields.iter().sum())
}

/// The first of three numbers: nanoseconds on a core.
fn run_time(schedstat: &str) -> Option<u64> {
    schedstat.split_ascii_whitespace().next()?.parse().ok()
}

fn proportional(smaps: &str) -> Option<u64> {
    let rest = smaps.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    rest.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_the_kernel_are_read() {
        assert_eq!(run_time("52698000 17 3\n"), Some(52_698_000));
        assert_eq!(run_time(""), None);
        let smaps =
            "5581-7ffd ---p 00000000 [rollup]\nRss:  9 kB\nPss:   412 kB\nPss_Dirty: 7 kB\n";
        assert_eq!(proportional(smaps), Some(412));
        assert_eq!(proportional("Rss: 9 kB"), None);
        let stat = "cpu  10 2 5 900 30 1 4 3 7 0\ncpu0 1 1 1 1 1 1 1 0 0 0\n";
        assert_eq!(busy_ticks(stat), Some(25));
        let line = "7 (a) b) R 1 7 7 0 -1 4194304 99 0 0 0 150 50 20 5 20 0 2 0 1 1 1";
        assert_eq!((ours_ticks(line), ours_ticks("7 (cut")), (Some(225), None));
    }

    #[tokio::test]
    async fn a_program_that_is_missing_has_no_version() {
        assert_eq!(version(Path::new("no-such-program-here"), "-v").await, None);
    }
}
