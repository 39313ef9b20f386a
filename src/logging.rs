//! The balancer's own log: lines to standard error or to a file, written by a thread of its own.
//!
//! Logging never blocks and never fails. A line is dropped and counted if the queue is full, because
//! the reader of a pipe has stopped, or if it cannot be written, because the disk is full or the pipe
//! is closed. The next line that can be written is preceded by one with the number of missing lines.

use std::{
    fs::File,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use tracing_subscriber::fmt::MakeWriter;

/// Pause between attempts to reopen the file.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);
/// Lines that may wait to be written.
const WAITING_MAX: usize = 4_096;

/// A static, because a process has one log.
static LINES_DROPPED: AtomicU64 = AtomicU64::new(0);

/// Log lines that could not be written, since the start.
pub fn lines_dropped() -> u64 {
    LINES_DROPPED.load(Ordering::Relaxed)
}

/// The log. Clones write to the same log.
#[derive(Clone, Debug)]
pub struct Log {
    messages: SyncSender<LogMessage>,
    reopens: Arc<AtomicBool>,
}

enum LogMessage {
    Write(Vec<u8>),
    /// To be confirmed when everything before it has been written.
    Flush(SyncSender<()>),
}

/// Where lines go.
enum Sink {
    Stderr,
    File { file: File, path: PathBuf },
}

impl Log {
    /// A log to a file, which is appended to, or to standard error.
    ///
    /// # Errors
    /// The file cannot be opened, or the thread cannot start.
    pub fn open(file: Option<&Path>) -> io::Result<Self> {
        let sink = match file {
            None => Sink::Stderr,
            Some(path) => Sink::File { file: append_to(path)?, path: path.to_owned() },
        };
        let (messages, waiting) = sync_channel(WAITING_MAX);
        let reopens = Arc::<AtomicBool>::default();
        let mut writer = Writer {
            sink,
            reopens: Arc::clone(&reopens),
            reopen_after: None,
            is_torn: false,
            reported: lines_dropped(),
        };
        thread::Builder::new().name("log".into()).spawn(move || writer.run(&waiting))?;
        Ok(Self { messages, reopens })
    }

    /// Reopens the file by its name before the next line, because log rotation may have renamed the
    /// open one.
    pub fn reopen(&self) {
        self.reopens.store(true, Ordering::Relaxed);
    }

    /// Waits until everything so far has been written or dropped; at most for `limit`.
    pub fn flush(&self, limit: Duration) {
        let (done, flushed) = sync_channel(1);
        // With a full queue the reader has stopped, and waiting would not help.
        if self.messages.try_send(LogMessage::Flush(done)).is_ok() {
            // The result does not matter: the caller continues in any case.
            let _ = flushed.recv_timeout(limit);
        }
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    File::options().append(true).create(true).open(path).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot write to '{}': {error}", path.display()))
    })
}

/// Whether lines may be coloured.
pub fn is_colourful(file: Option<&Path>) -> bool {
    file.is_none() && io::stderr().is_terminal()
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> LineWriter<'a> {
        LineWriter(self)
    }
}

/// Each write is one line.
#[derive(Debug)]
pub struct LineWriter<'a>(&'a Log);

impl Write for LineWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.0.messages.try_send(LogMessage::Write(line.to_vec())).is_err() {
            LINES_DROPPED.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The state of the writing thread.
struct Writer {
    sink: Sink,
    reopens: Arc<AtomicBool>,
    /// After a failure, the earliest moment of the next attempt.
    reopen_after: Option<Instant>,
    /// Whether the last line was written only in part.
    is_torn: bool,
    /// Dropped lines that have been reported in the log.
    reported: u64,
}

impl Writer {
    /// Runs until the last [`Log`] is dropped.
    fn run(&mut self, waiting: &Receiver<LogMessage>) {
        while let Ok(message) = waiting.recv() {
            let line = match message {
                LogMessage::Write(line) => line,
                LogMessage::Flush(done) => {
                    // The caller may have stopped waiting.
                    let _ = done.try_send(());
                    continue;
                }
            };
            let may_reopen = self.reopen_after.is_none_or(|after| Instant::now() >= after);
            if may_reopen && self.reopens.swap(false, Ordering::Relaxed) {
                self.reopen();
            }
            if self.write(&line).is_err() {
                LINES_DROPPED.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn reopen(&mut self) {
        let Sink::File { file, path } = &mut self.sink else { return };
        match append_to(path) {
            Ok(opened) => {
                (*file, self.is_torn) = (opened, false);
                self.reopen_after = None;
            }
            // Continue with the old file until a later attempt succeeds.
            Err(error) => {
                self.reopens.store(true, Ordering::Relaxed);
                if self.reopen_after.replace(Instant::now() + REOPEN_PAUSE).is_none() {
                    tracing::warn!("the log cannot be opened anew, it is tried again: {error}");
                }
            }
        }
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let dropped = lines_dropped();
        if dropped > self.reported {
            let missing = dropped - self.reported;
            self.put(format!("{missing} lines of this log could not be written\n").as_bytes())?;
            self.reported = dropped;
        }
        self.put(line)
    }

    fn put(&mut self, line: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.sink.write_all(b"\n")?;
            self.is_torn = false;
        }
        let mut left = line;
        while !left.is_empty() {
            match self.sink.write(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => left = &left[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.is_torn = left.len() < line.len();
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stderr => io::stderr().write(bytes),
            Self::File { file, .. } => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn put(log: &Log, line: &str) {
        log.make_writer().write_all(line.as_bytes()).unwrap();
    }

    #[test]
    fn a_full_device_drops_lines_and_the_next_file_reports_them() {
        let dir = std::env::temp_dir().join(format!("ringmaster-log-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let path = dir.join("log");
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let log = Log::open(Some(&path)).unwrap();
        let before = lines_dropped();
        put(&log, "one\n");
        put(&log, "two\n");
        log.flush(SOON);
        assert_eq!(lines_dropped() - before, 2);
        std::fs::remove_file(&path).unwrap();
        log.reopen();
        put(&log, "three\n");
        log.flush(SOON);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(text, "2 lines of this log could not be written\nthree\n");
    }
}
