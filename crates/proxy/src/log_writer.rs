//! The thread that writes the access log. Whatever its file does (a full disk, a closed pipe, a disk
//! that hangs), workers do not notice: lines that cannot be written are dropped and counted, and
//! writing resumes as soon as it can.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::Receiver,
    },
    time::{Duration, Instant},
};

use crossbeam_utils::CachePadded;

use super::metrics::Counters;

/// Bytes that are written together at most.
const BATCH_MAX: usize = 64 * 1024;
/// From one failed attempt to open the file anew to the next.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);

/// Where the lines go.
#[derive(Debug)]
pub(super) struct Sink {
    /// `None`: standard output, which has no name to be opened by.
    path: Option<PathBuf>,
    file: File,
}

impl Sink {
    /// Opens a file to append to, or standard output.
    pub(super) fn open(path: Option<PathBuf>) -> io::Result<Self> {
        let file = match &path {
            // Past the buffer of `io::stdout`, which would keep half of a line that failed.
            None => File::from(io::stdout().as_fd().try_clone_to_owned()?),
            Some(path) => {
                let opened = File::options().append(true).create(true).open(path);
                opened.map_err(|error| {
                    let path = path.display();
                    io::Error::new(error.kind(), format!("cannot write to '{path}': {error}"))
                })?
            }
        };
        Ok(Self { path, file })
    }
}

/// Takes lines until the last sender is gone, and writes together what waits. `reopen` asks for the
/// file to be opened anew by its path, which an empty line announces.
pub(super) fn write_lines(
    waiting: &Receiver<Vec<u8>>,
    sink: Sink,
    reopen: &AtomicBool,
    counters: &Arc<CachePadded<Counters>>,
) {
    let Sink { path, file } = sink;
    let mut writer = Writer::new(file);
    let mut is_failing = false;
    let mut reopen_after: Option<Instant> = None;
    let mut batch = Vec::new();
    while let Ok(line) = waiting.recv() {
        batch.extend_from_slice(&line);
        while batch.len() < BATCH_MAX
            && let Ok(line) = waiting.try_recv()
        {
            batch.extend_from_slice(&line);
        }
        let may_reopen = reopen_after.is_none_or(|after| Instant::now() >= after);
        if may_reopen && reopen.swap(false, Ordering::Relaxed) {
            // Standard output belongs to the program that started us; there is nothing to open anew.
            match path.clone().map(|path| Sink::open(Some(path))) {
                Some(Ok(sink)) => {
                    writer = Writer::new(sink.file);
                    reopen_after = None;
                    tracing::info!("the access log was opened anew");
                }
                Some(Err(error)) => {
                    reopen.store(true, Ordering::Relaxed);
                    reopen_after = Some(Instant::now() + REOPEN_PAUSE);
                    tracing::warn!(%error, "the access log goes on in the file that it had");
                }
                None => {}
            }
        }
        let (lost, result) = writer.write(&batch);
        batch.clear();
        counters.log_dropped.add(lost);
        match result {
            Ok(()) if is_failing => {
                let dropped = counters.log_dropped.get();
                tracing::info!(dropped, "the access log can be written again");
                is_failing = false;
            }
            Err(error) if !is_failing => {
                tracing::warn!(%error, "the access log cannot be written; its lines are dropped");
                is_failing = true;
            }
            _ => {}
        }
    }
}

/// Writes whole lines, and never joins half of one with another.
struct Writer<W> {
    out: W,
    /// Whether half of a line was written last.
    is_torn: bool,
}

impl<W: Write> Writer<W> {
    fn new(out: W) -> Self {
        Self { out, is_torn: false }
    }

    /// Writes lines, each with its end. Returns how many were lost, the half-written included, and
    /// what was in the way.
    fn write(&mut self, lines: &[u8]) -> (u64, io::Result<()>) {
        if lines.is_empty() {
            return (0, Ok(()));
        }
        if self.is_torn {
            // What is left of the torn line becomes a line of its own.
            if let (_, Err(error)) = self.pass(b"\n") {
                return (count_lines(lines), Err(error));
            }
            self.is_torn = false;
        }
        let (written, result) = self.pass(lines);
        let lost = count_lines(&lines[written..]);
        self.is_torn = written > 0 && lines[written - 1] != b'\n';
        (lost, result)
    }

    /// As many bytes as can be written.
    fn pass(&mut self, bytes: &[u8]) -> (usize, io::Result<()>) {
        let mut written = 0;
        while written < bytes.len() {
            match self.out.write(&bytes[written..]) {
                Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (written, Err(error)),
            }
        }
        (written, Ok(()))
    }
}

/// Each line has one end, also one whose beginning is written already.
fn count_lines(lines: &[u8]) -> u64 {
    lines.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with so much room.
    #[derive(Default)]
    struct Disk {
        room: usize,
        held: Vec<u8>,
    }

    impl Write for &mut Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let fits = bytes.len().min(self.room);
            if fits == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room -= fits;
            self.held.extend_from_slice(&bytes[..fits]);
            Ok(fits)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_found_no_room_spoils_no_other() {
        for room in 0..=12 {
            let mut disk = Disk { room, ..Disk::default() };
            let mut writer = Writer::new(&mut disk);
            let (mut lost, result) = writer.write(b"one\ntwo\n");
            assert_eq!(result.is_ok(), room >= 8, "{room}");
            lost += writer.write(b"abc\n").0;
            assert!(writer.write(b"x\ny\n").1.is_err() && writer.write(b"").1.is_ok());
            writer.out.room = 100;
            assert_eq!(writer.write(b"three\nfour\n").0, 0);
            let text = String::from_utf8(disk.held).unwrap();
            let whole = |line: &&str| ["one", "two", "abc", "three", "four"].contains(line);
            let lines: Vec<&str> = text.lines().collect();
            assert!(text.ends_with("\nthree\nfour\n") || room == 0, "{room}: {text:?}");
            let torn = lines.iter().filter(|line| !whole(line)).count();
            assert!(torn <= 1, "{room}: {text:?}");
            let kept = lines.iter().filter(|line| ["one", "two", "abc"].contains(line)).count();
            // A line of which only the end was missing is counted, and yet there.
            let accounted = kept + usize::try_from(lost).unwrap();
            let expected = 3 + usize::from([3, 7, 11].contains(&room));
            assert_eq!(accounted, expected, "{room}: {text:?}");
        }
    }
}
