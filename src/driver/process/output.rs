//! The output of children: logged line by line in bounded memory, with its last lines kept.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ringmaster_core::fleet::{
    ids::InstanceId,
    message::{BYTES_MAX, LINES_MAX, LastWords},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::Child,
    sync::watch,
    time,
};

use crate::driver::tail::{Tail, clean};

/// Longer lines are split at this many bytes.
const LONGEST_LINE: usize = 500;
/// How long to wait for the pipes to close after the child has ended: its last line may be in them.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(100);

/// The last lines that a child wrote, and how many of its pipes are open.
#[derive(Clone, Debug)]
pub(super) struct Output {
    tail: Arc<Mutex<Tail>>,
    /// Number of open pipes.
    open: watch::Sender<usize>,
}

impl Default for Output {
    fn default() -> Self {
        let tail = Tail::new(LINES_MAX, BYTES_MAX);
        Self { tail: Arc::new(Mutex::new(tail)), open: watch::Sender::new(0) }
    }
}

impl Output {
    /// The exit status with the last lines.
    pub(super) async fn last_words(&self, code: i64) -> LastWords {
        let mut open = self.open.subscribe();
        // A grandchild can keep the pipes open for ever.
        let _ = time::timeout(DRAIN_TIMEOUT, open.wait_for(|open| *open == 0)).await;
        LastWords { lines: self.lines(LINES_MAX), ..LastWords::of_exit(Some(code)) }
    }

    /// The last lines, oldest first.
    pub(super) fn lines(&self, most: usize) -> Vec<String> {
        let mut lines = self.tail().lines();
        let beyond = lines.len().saturating_sub(most);
        lines.drain(..beyond);
        lines
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads both pipes until they close.
pub(super) fn pass_on(child: &mut Child, instance: InstanceId, last: &Output) {
    if let Some(pipe) = child.stdout.take() {
        read_on(pipe, instance, last.clone());
    }
    if let Some(pipe) = child.stderr.take() {
        read_on(pipe, instance, last.clone());
    }
}

fn read_on(pipe: impl AsyncRead + Unpin + Send + 'static, instance: InstanceId, last: Output) {
    last.open.send_modify(|open| *open += 1);
    tokio::spawn(async move {
        each_line(pipe, |line| {
            tracing::debug!(%instance, "{line}");
            last.tail().push_line(line);
        })
        .await;
        last.open.send_modify(|open| *open -= 1);
    });
}

async fn each_line(mut pipe: impl AsyncRead + Unpin, mut on_line: impl FnMut(&str)) {
    let mut finish_line = |bytes: &[u8]| {
        if let Some(text) = clean(bytes) {
            on_line(text.trim_start());
        }
    };
    let mut line = Vec::with_capacity(LONGEST_LINE);
    let mut chunk = [0; 1024];
    while let Ok(length @ 1..) = pipe.read(&mut chunk).await {
        for byte in &chunk[..length] {
            if *byte == b'\n' || line.len() == LONGEST_LINE {
                finish_line(&line);
                line.clear();
            }
            if *byte != b'\n' {
                line.push(*byte);
            }
        }
    }
    finish_line(&line);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_line_is_passed_on_and_long_ones_are_split() {
        let mut lines = Vec::new();
        let text = format!("one\r\n\n{}\nlast", "x".repeat(1200));
        each_line(text.as_bytes(), |line| lines.push(line.to_owned())).await;
        let lengths: Vec<usize> = lines.iter().map(String::len).collect();
        assert_eq!(lengths, [3, 500, 500, 200, 4]);
        assert_eq!((lines[0].as_str(), lines[4].as_str()), ("one", "last"));
    }
}
