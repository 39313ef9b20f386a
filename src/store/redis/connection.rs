//! One connection for commands and one for what is published. Each call has a deadline, a lost
//! connection is made anew with a growing pause, and nothing waits without bound.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use redis::{
    AsyncConnectionConfig, Cmd, RedisError, Value,
    aio::{MultiplexedConnection, PubSub},
};
use tokio::sync::{Mutex, mpsc};

use super::address::Address;

/// The pause before a lost connection is tried again, at first and at most.
const PAUSE_FIRST: Duration = Duration::from_millis(25);
const PAUSE_MAX: Duration = Duration::from_millis(400);
/// How often a connection that only listens is asked whether it still works, and for how long at most
/// it may not answer: its loss is known before balancers that are not heard count as silent.
const PING: Duration = Duration::from_millis(500);
const PONG: Duration = Duration::from_secs(1);

/// Why a call came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CallError {
    /// It cannot be reached, or did not answer in time. Whether it has done what was asked is not
    /// known.
    #[error("{0}")]
    Away(String),
    /// It answered with an error.
    #[error("{0}")]
    Refused(String),
}

/// A connection for commands; all calls share it.
pub(super) struct Connection {
    address: Arc<Address>,
    timeout: Duration,
    state: Mutex<State>,
}

struct State {
    live: Option<MultiplexedConnection>,
    pause: Pause,
    last_error: CallError,
}

/// When the next attempt may be made.
struct Pause {
    next: Duration,
    until: Option<Instant>,
}

impl Pause {
    const NONE: Self = Self { next: PAUSE_FIRST, until: None };

    fn failed(&mut self) {
        self.until = Instant::now().checked_add(self.next);
        self.next = (self.next * 2).min(PAUSE_MAX);
    }

    fn is_over(&self) -> bool {
        self.until.is_none_or(|until| until <= Instant::now())
    }
}

impl Connection {
    /// Nothing is connected yet: the first call does that.
    pub(super) fn new(address: Arc<Address>, timeout: Duration) -> Self {
        let last_error = CallError::Away("it was not asked yet".to_owned());
        let state = State { live: None, pause: Pause::NONE, last_error };
        Self { address, timeout, state: Mutex::new(state) }
    }

    /// Sends a command and waits for its answer, within the deadline of all calls.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(super) async fn call(&self, command: &Cmd) -> Result<Value, CallError> {
        let answer = within(self.timeout, async {
            let mut live = self.live().await?;
            let answer = live.send_packed_command(command).await;
            answer.and_then(Value::extract_error).map_err(|error| error_of(&error))
        });
        let answer = answer.await;
        if let Err(CallError::Away(_)) = &answer {
            // What hangs is not used again: its answers would come after those of later calls.
            self.state.lock().await.live = None;
        }
        answer
    }

    async fn live(&self) -> Result<MultiplexedConnection, CallError> {
        let mut state = self.state.lock().await;
        if let Some(live) = &state.live {
            return Ok(live.clone());
        }
        if !state.pause.is_over() {
            return Err(state.last_error.clone());
        }
        // Counts as failed until it is made: the caller's deadline may drop this future.
        state.pause.failed();
        state.last_error = CallError::Away(format!("no answer within {:?}", self.timeout));
        match self.connect().await {
            Ok(live) => {
                state.live = Some(live.clone());
                state.pause = Pause::NONE;
                Ok(live)
            }
            Err(error) => {
                state.last_error = error_of(&error);
                Err(state.last_error.clone())
            }
        }
    }

    async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout));
        let client = self.address.client().await?;
        client.get_multiplexed_async_connection_with_config(&config).await
    }
}

/// What came of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Published {
    /// It was made, or made anew: what was published before is unknown.
    Subscribed,
    /// It has ended: what is published from now on is not heard until it is made anew.
    Lost,
    /// A message on one of the channels.
    Message { channel: String, payload: Vec<u8> },
}

/// Listens on channels until the receiver is gone. What comes while the receiver is behind is
/// dropped, and [`Published::Subscribed`] follows.
pub(super) async fn listen(
    address: Arc<Address>,
    timeout: Duration,
    channels: Vec<String>,
    sender: mpsc::Sender<Published>,
) {
    let mut pause = Pause::NONE;
    while !sender.is_closed() {
        let subscribed = within(timeout * 2, async {
            let client = address.client().await.map_err(|error| error_of(&error))?;
            let mut made = client.get_async_pubsub().await.map_err(|error| error_of(&error))?;
            made.subscribe(&channels).await.map_err(|error| error_of(&error))?;
            Ok(made)
        });
        match subscribed.await {
            Ok(made) => {
                pause = Pause::NONE;
                pass_on(made, timeout, &sender).await;
                if sender.send(Published::Lost).await.is_err() {
                    return;
                }
            }
            Err(error) => tracing::debug!(%error, "the store's channels cannot be listened to"),
        }
        pause.failed();
        if let Some(until) = pause.until {
            tokio::time::sleep_until(until.into()).await;
        }
    }
}

/// Until the connection or the receiver is gone.
async fn pass_on(made: PubSub, timeout: Duration, sender: &mpsc::Sender<Published>) {
    let (mut asked, mut messages) = made.split();
    if sender.send(Published::Subscribed).await.is_err() {
        return;
    }
    let mut pings = tokio::time::interval(PING);
    let mut is_behind = false;
    loop {
        if is_behind && sender.try_send(Published::Subscribed).is_ok() {
            is_behind = false;
        }
        tokio::select! {
            message = messages.next() => {
                let Some(message) = message else { return };
                let channel = message.get_channel_name().to_owned();
                let payload = message.get_payload_bytes().to_vec();
                is_behind |= sender.try_send(Published::Message { channel, payload }).is_err();
            }
            _ = pings.tick() => {
                let pong = within(timeout.min(PONG), async {
                    asked.ping::<Value>().await.map_err(|error| error_of(&error))
                });
                if sender.is_closed() || pong.await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn within<T>(
    timeout: Duration,
    work: impl Future<Output = Result<T, CallError>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(timeout, work).await {
        Ok(done) => done,
        Err(_) => Err(CallError::Away(format!("no answer within {timeout:?}"))),
    }
}

fn error_of(error: &RedisError) -> CallError {
    match error.kind() {
        redis::ErrorKind::Server(_) | redis::ErrorKind::Extension => {
            CallError::Refused(error.to_string())
        }
        _ if error.is_unrecoverable_error() || error.is_timeout() || error.is_io_error() => {
            CallError::Away(error.to_string())
        }
        _ => CallError::Refused(error.to_string()),
    }
}
