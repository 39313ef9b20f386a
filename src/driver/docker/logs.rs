//! The logs of containers, and how they ended.

use std::time::Duration;

use bollard::query_parameters::LogsOptions;
use futures_util::StreamExt;
use ringmaster_core::fleet::{
    ids::Handle,
    message::{BYTES_MAX, EngineError, LINES_MAX, LastWords},
};
use tokio::time;

use super::{DockerDriver, client::CallError};
use crate::driver::tail::Tail;

/// Limit for reading how a container ended: its removal waits for that.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// Most bytes that are read of a log, for its last lines.
const READ_MAX: usize = 4 * 1024 * 1024;
/// Most bytes that are passed on of a log.
const SHOWN_MAX: usize = 256 * 1024;

impl DockerDriver {
    /// How a container ended, and its last lines, as far as they can be read in time.
    pub(super) async fn collect_last_words(&self, id: &str) -> Option<LastWords> {
        let until = time::Instant::now() + LAST_WORDS;
        let state = match time::timeout_at(until, self.inspect(id)).await {
            Ok(Ok(container)) => container.state.unwrap_or_default(),
            Ok(Err(error)) => {
                tracing::debug!(container = id, "no last words: {}", error.text());
                return None;
            }
            Err(_) => return None,
        };
        let has_ended = state.running != Some(true);
        let mut tail = Tail::new(LINES_MAX, BYTES_MAX);
        let read = self.read_log(id, LINES_MAX, &mut tail);
        // The lines read before the error or the deadline are still used.
        if let Ok(Err(error)) = time::timeout_at(until, read).await {
            tracing::debug!(container = id, "no log: {}", error.text());
        }
        Some(LastWords {
            exit_code: state.exit_code.filter(|_| has_ended),
            out_of_memory: state.oom_killed == Some(true),
            lines: tail.lines(),
        })
    }

    pub(super) async fn live_log(
        &self,
        handle: &Handle,
        lines: usize,
    ) -> Result<Vec<String>, EngineError> {
        let mut tail = Tail::new(lines, SHOWN_MAX);
        let limit = self.config.deadlines.ordinary;
        match time::timeout(limit, self.read_log(&handle.0, lines, &mut tail)).await {
            Ok(read) => read?,
            Err(_) => {
                return Err(EngineError::Away(format!("no whole log within {limit:?}").into()));
            }
        }
        Ok(tail.lines())
    }

    /// Reads the end of a log into `tail`. The caller sets a deadline.
    async fn read_log(&self, id: &str, lines: usize, tail: &mut Tail) -> Result<(), CallError> {
        let options = LogsOptions {
            stdout: true,
            stderr: true,
            tail: lines.to_string(),
            ..Default::default()
        };
        let client = self.connection.client().await?;
        let mut log = client.logs(id, Some(options));
        let mut read = 0;
        while let Some(chunk) = log.next().await {
            let bytes = chunk.map_err(super::client::read_error)?.into_bytes();
            read += bytes.len();
            tail.push(&bytes);
            if read > READ_MAX {
                break;
            }
        }
        Ok(())
    }
}
