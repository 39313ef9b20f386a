//! Effects on instances, behind one small trait. A driver decides nothing: it carries out the core's
//! actions to start and stop, and reports what it finds.

pub mod docker;
pub mod none;
pub mod process;
mod settle;
mod tail;

use futures_util::future::BoxFuture;
use ringmaster_core::fleet::{
    ids::{Handle, InstanceId, SpecDigest},
    message::{
        EngineError, LastWords, Listing, Sighting, StartError, StartRequest, Started, StopManner,
    },
};
use tokio::sync::mpsc;

/// What an engine reports without a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Something happened to an instance of this fleet. The handle names the container or process,
    /// because several can have the same labels.
    Saw(InstanceId, Handle, Sighting),
    /// The event stream was lost or opened (also for the first time); events in between are missing.
    StreamChanged,
}

/// One way to run instances: containers, processes, or addresses that others keep.
///
/// Each call has a deadline of its own inside the driver, and may be dropped at any time by the
/// caller. Calls run concurrently.
pub trait Driver: Send + Sync + 'static {
    /// Starts an instance and returns the address where it will listen. A container of the fleet that
    /// already has the name is removed first, unless it runs and is no earlier run of the same
    /// replica: then another supervisor has started it.
    fn start(&self, request: StartRequest) -> BoxFuture<'_, Result<Started, StartError>>;

    /// Stops an instance and removes what is left of it; `Ok` also when there is nothing.
    fn stop(&self, handle: Handle, manner: StopManner) -> BoxFuture<'_, Result<(), EngineError>>;

    /// How an instance ended and its last lines, before [`Driver::stop`] removes it; `None` if
    /// nothing is known of it. Takes a few seconds at most.
    fn last_words(&self, handle: Handle) -> BoxFuture<'_, Option<LastWords>>;

    /// The last lines that an instance has written, oldest first, without control characters.
    fn logs(&self, handle: Handle, lines: usize)
    -> BoxFuture<'_, Result<Vec<String>, EngineError>>;

    /// All instances of the fleet.
    fn list(&self) -> BoxFuture<'_, Result<Listing, EngineError>>;

    /// Removes what the driver made for the fleet beside its instances, once none of them is left.
    fn tidy_up(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(async { Ok(()) })
    }

    /// Sends what the engine reports until the receiver is gone. Subscribes again after an error.
    fn watch(&self, signals: mpsc::Sender<Signal>) -> BoxFuture<'_, ()>;
}

/// Digest of what a driver starts instances from. Each part is written with its length, so that
/// different lists of parts give different texts; the environment is sorted, because its order has
/// no meaning.
fn spec_digest(parts: &[&str], env: &[(String, String)]) -> SpecDigest {
    let mut env: Vec<&(String, String)> = env.iter().collect();
    env.sort();
    let pairs = env.iter().flat_map(|(key, value)| [key, value]);
    let mut text = format!("{};", parts.len());
    for part in parts.iter().copied().chain(pairs.map(String::as_str)) {
        text.push_str(&format!("{}:{part};", part.len()));
    }
    let hash = xxhash_rust::xxh3::xxh3_64(text.as_bytes());
    SpecDigest(format!("{hash:016x}").into())
}

/// The environment variables that the contract gives to every instance, with any driver.
fn contract_env(request: &StartRequest, port: u16) -> [(&'static str, String); 4] {
    let InstanceId { replica, incarnation } = request.instance;
    [
        ("SERVER_ID", request.name.to_string()),
        ("PORT", port.to_string()),
        ("RINGMASTER_REPLICA", replica.0.to_string()),
        ("RINGMASTER_INCARNATION", incarnation.0.to_string()),
    ]
}

/// Log lines that a sentence on an end quotes.
const LINES_SHOWN: usize = 3;
/// The longest sentence on an end, in characters.
const SENTENCE_MAX: usize = 800;

/// A sentence on an end right after the start. `error`: the engine's message, may be empty.
fn describe_end(error: &str, last_words: &LastWords) -> String {
    let mut text = match last_words.exit_code {
        Some(code) => format!("it exited at once with status {code}"),
        None => "it exited at once".to_owned(),
    };
    let lines = &last_words.lines;
    let lines = lines[lines.len().saturating_sub(LINES_SHOWN)..].join(" | ");
    for part in [error, &lines] {
        if !part.is_empty() {
            text = format!("{text}: {part}");
        }
    }
    if text.chars().count() > SENTENCE_MAX {
        text = text.chars().take(SENTENCE_MAX).collect();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_on_an_end_is_complete_and_bounded() {
        let lines = ["one", "two", "three", "bye"].map(str::to_owned).to_vec();
        let words = LastWords { lines, ..LastWords::of_exit(Some(3)) };
        assert_eq!(
            describe_end("exec format error", &words),
            "it exited at once with status 3: exec format error: two | three | bye"
        );
        assert_eq!(describe_end("", &LastWords::default()), "it exited at once");
        let long = LastWords { lines: vec!["ä".repeat(2_000)], ..LastWords::of_exit(Some(1)) };
        assert_eq!(describe_end("", &long).chars().count(), SENTENCE_MAX);
    }
}
