//! The access log: one line for each request, written by a thread of its own.
//!
//! A worker never waits for it: a line that finds too many others waiting, or no room on the disk, is
//! dropped and counted.

use std::{
    io,
    path::PathBuf,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread,
    time::{Instant, SystemTime},
};

use crossbeam_utils::CachePadded;
use http::{HeaderValue, Method, Request, StatusCode, Version};
use ringmaster_core::fleet::ids::ReplicaName;
use tokio::sync::oneshot;

use super::{
    log_writer::{Sink, write_lines},
    metrics::Counters,
};

/// Lines that may wait to be written.
const WAITING_MAX: usize = 8_192;
/// The most of a target that a line shows.
pub(super) const TARGET_MAX: usize = 2_048;

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// An object with everything that is known.
    Json,
    /// The common log format of the NCSA servers.
    Common,
}

/// A format that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not one of off, json, common")]
pub struct FormatError(String);

impl FromStr for LogFormat {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        match text {
            "json" => Ok(Self::Json),
            "common" => Ok(Self::Common),
            _ => Err(FormatError(text.chars().take(80).collect())),
        }
    }
}

/// What is logged, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLogSettings {
    /// How a line looks.
    pub format: LogFormat,
    /// Appended to; `None`: standard output.
    pub file: Option<PathBuf>,
    /// Part of the requests that are logged, 0 to 1.
    pub sample: f64,
}

/// Where all workers send their lines.
#[derive(Debug)]
pub(crate) struct AccessLog {
    pub(super) lines: SyncSender<Vec<u8>>,
    pub(super) format: LogFormat,
    pub(crate) sample: f64,
    /// Whether the writer is to open its file anew.
    pub(super) reopen: Arc<AtomicBool>,
}

impl AccessLog {
    /// Opens the log; lines that cannot be written are counted in `counters`, which belong to its
    /// thread. The receiver resolves (with an error) when everything has been written, after the last
    /// worker has let go of the log.
    pub(crate) fn open(
        settings: &AccessLogSettings,
        counters: Arc<CachePadded<Counters>>,
    ) -> io::Result<(Arc<Self>, oneshot::Receiver<()>)> {
        let sink = Sink::open(settings.file.clone())?;
        let (lines, waiting) = sync_channel(WAITING_MAX);
        let (running, ended) = oneshot::channel::<()>();
        let reopen = Arc::<AtomicBool>::default();
        let is_asked = Arc::clone(&reopen);
        thread::Builder::new().name("access-log".into()).spawn(move || {
            let _running = running;
            write_lines(&waiting, sink, &is_asked, &counters);
        })?;
        let log = Self { lines, format: settings.format, sample: settings.sample, reopen };
        Ok((Arc::new(log), ended))
    }

    /// Lets the file be opened anew by its path before the next line is written.
    pub(crate) fn reopen(&self) {
        self.reopen.store(true, Ordering::Relaxed);
        // Wakes the writer. If it has no room for this it is awake.
        let _ = self.lines.try_send(Vec::new());
    }
}

/// How a request found its answer.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) replica: ReplicaName,
    /// Until the answer began, in microseconds.
    pub(crate) micros: u64,
    /// Replicas that were asked.
    pub(crate) attempts: usize,
    /// Why this one: by the ring, past a full owner, after another failed, because another was slow,
    /// or by another policy.
    pub(crate) why: &'static str,
}

/// One request; its line is written when this is dropped.
pub(crate) struct Entry {
    log: Arc<AccessLog>,
    counters: Arc<CachePadded<Counters>>,
    at: SystemTime,
    began: Instant,
    client: HeaderValue,
    method: Method,
    target: String,
    version: Version,
    /// Of the answer.
    pub(crate) status: StatusCode,
    /// `None` when no replica answered.
    pub(crate) route: Option<Route>,
    /// Bytes of the answer's body.
    pub(crate) bytes: u64,
    /// Whether the answer was passed on to its end.
    pub(crate) is_complete: bool,
}

impl Entry {
    pub(crate) fn begin<B>(
        log: Arc<AccessLog>,
        counters: Arc<CachePadded<Counters>>,
        client: HeaderValue,
        request: &Request<B>,
    ) -> Box<Self> {
        let target = request.uri().path_and_query().map_or("*", |target| target.as_str());
        let asked = (request.method().clone(), target, request.version());
        Self::begin_with(log, counters, client, asked)
    }

    /// The same of a request whose method, target and version are given.
    pub(crate) fn begin_with(
        log: Arc<AccessLog>,
        counters: Arc<CachePadded<Counters>>,
        client: HeaderValue,
        (method, target, version): (Method, &str, Version),
    ) -> Box<Self> {
        Box::new(Self {
            log,
            counters,
            at: SystemTime::now(),
            began: Instant::now(),
            client,
            method,
            target: printable(target),
            version,
            status: StatusCode::OK,
            route: None,
            bytes: 0,
            is_complete: true,
        })
    }

    pub(super) fn line(&self) -> String {
        let client = self.client.to_str().unwrap_or("-");
        match self.log.format {
            LogFormat::Json => self.json(client).to_string() + "\n",
            LogFormat::Common => format!(
                "{client} - - [{}] \"{} {} {:?}\" {} {}\n",
                common_time(self.at),
                self.method,
                // A target may hold quotes, and a line must not be read in two ways.
                self.target.replace('"', "%22"),
                self.version,
                self.status.as_u16(),
                self.bytes
            ),
        }
    }

    fn json(&self, client: &str) -> serde_json::Value {
        let mut line = serde_json::json!({
            "time": humantime::format_rfc3339_micros(self.at).to_string(),
            "client": client,
            "method": self.method.as_str(),
            "target": self.target,
            "version": format!("{:?}", self.version),
            "status": self.status.as_u16(),
            "bytes": self.bytes,
            "seconds": self.began.elapsed().as_secs_f64(),
            "complete": self.is_complete,
        });
        if let Some(route) = &self.route {
            line["replica"] = route.replica.as_str().into();
            line["upstream_seconds"] = (route.micros as f64 / 1e6).into();
            line["attempts"] = route.attempts.into();
            line["why"] = route.why.into();
        }
        line
    }
}

/// The beginning of a target. What a URI should not have as it is, and a terminal may take for a
/// command or for another direction of writing, is escaped as its sender should have done.
fn printable(target: &str) -> String {
    let mut shown = String::with_capacity(target.len().min(TARGET_MAX));
    for c in target.chars().take(TARGET_MAX) {
        if c.is_ascii_graphic() {
            shown.push(c);
            continue;
        }
        for byte in c.encode_utf8(&mut [0; 4]).bytes() {
            shown.push_str(&format!("%{byte:02X}"));
        }
    }
    shown
}

impl Drop for Entry {
    fn drop(&mut self) {
        if self.log.lines.try_send(self.line().into_bytes()).is_err() {
            self.counters.log_dropped.bump();
        }
    }
}

/// `10/Oct/2000:13:55:36 +0000`.
fn common_time(at: SystemTime) -> String {
    // "Tue, 10 Oct 2000 13:55:36 GMT"
    let text = httpdate::fmt_http_date(at);
    let mut words = text.split(' ').skip(1);
    let mut word = || words.next().unwrap_or("-");
    let (day, month, year, time) = (word(), word(), word(), word());
    format!("{day}/{month}/{year}:{time} +0000")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn the_common_format_has_its_own_time() {
        let at = UNIX_EPOCH + Duration::from_secs(971_186_136);
        assert_eq!(common_time(at), "10/Oct/2000:13:55:36 +0000");
    }

    #[test]
    fn a_terminal_finds_no_command_in_a_target() {
        assert_eq!(printable("/a?b=%20\"c"), "/a?b=%20\"c");
        assert_eq!(printable("/\u{9b}2J\u{7f}\u{202e}"), "/%C2%9B2J%7F%E2%80%AE");
        assert_eq!(printable(&"é".repeat(TARGET_MAX + 1)), "%C3%A9".repeat(TARGET_MAX));
    }

    #[test]
    fn formats_are_known_by_name() {
        assert_eq!("json".parse(), Ok(LogFormat::Json));
        assert_eq!("common".parse(), Ok(LogFormat::Common));
        let error = "xml".parse::<LogFormat>().unwrap_err();
        assert_eq!(error.to_string(), "'xml' is not one of off, json, common");
    }
}
