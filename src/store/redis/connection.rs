//! One connection for commands and one for what is published. Each call has a deadline, a lost
//! connection is made anew with a growing pause, and nothing waits without bound.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use rand::RngExt;
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

/// A connection that lived this long was no failure: the pauses begin anew.
const LIFE_MIN: Duration = Duration::from_secs(5);

/// Why a call came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CallError {
    /// It cannot be reached, or did not answer in time. Whether it has done what was asked is not
    /// known.
    #[error("{0}")]
    Away(String),
    /// It answers, and does not do what was asked, for a reason that lies in the server: it loads, it
    /// only reads, it does not permit. Nothing is known of what it holds.
    #[error("it answers with an error: {0}")]
    Denied(String),
    /// What it holds is of another type than what was asked for.
    #[error("{0}")]
    Refused(String),
}

/// A connection for commands; all calls share it.
pub(super) struct RedisConnection {
    address: Arc<Address>,
    timeout: Duration,
    state: Mutex<State>,
}

struct State {
    live: Option<Live>,
    /// Counts the connections.
    made: u64,
    pause: Pause,
    last_error: CallError,
}

struct Live {
    number: u64,
    since: Instant,
    connection: MultiplexedConnection,
}

/// When the next attempt may be made.
struct Pause {
    next: Duration,
    until: Option<Instant>,
}

impl Pause {
    const NONE: Self = Self { next: PAUSE_FIRST, until: None };

    /// After an attempt that failed. The clients of a server that is back do not all come at once.
    fn failed(&mut self) {
        let jitter = rand::rng().random_range(0.5..1.0);
        self.until = Instant::now().checked_add(self.next.mul_f64(jitter));
        self.next = (self.next * 2).min(PAUSE_MAX);
    }

    /// After a connection that was made, and has ended.
    fn ended(&mut self, since: Instant) {
        if since.elapsed() >= LIFE_MIN {
            *self = Self::NONE;
        }
        self.failed();
    }

    fn is_over(&self) -> bool {
        self.until.is_none_or(|until| until <= Instant::now())
    }
}

impl RedisConnection {
    /// Nothing is connected yet: the first call does that.
    pub(super) fn new(address: Arc<Address>, timeout: Duration) -> Self {
        let last_error = CallError::Away("it was not asked yet".to_owned());
        let state = State { live: None, made: 0, pause: Pause::NONE, last_error };
        Self { address, timeout, state: Mutex::new(state) }
    }

    /// Sends a command and waits for its answer, within the deadline of all calls.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(super) async fn call(&self, command: &Cmd) -> Result<Value, CallError> {
        let mut used = None;
        let mut is_of_another = false;
        let answer = within(self.timeout, async {
            let (number, mut live) = self.live().await?;
            used = Some(number);
            let answer = live.send_packed_command(command).await.and_then(Value::extract_error);
            answer.map_err(|error| {
                is_of_another = asks_for_another(&error);
                error_of(&error)
            })
        });
        let answer = answer.await;
        // What hangs is not used again: its answers would come after those of later calls.
        if is_of_another || matches!(answer, Err(CallError::Away(_))) {
            let mut state = self.state.lock().await;
            if let Some(ended) = state.live.take_if(|live| Some(live.number) == used) {
                state.pause.ended(ended.since);
                if let Err(error) = &answer {
                    state.last_error = error.clone();
                }
            }
        }
        answer
    }

    async fn live(&self) -> Result<(u64, MultiplexedConnection), CallError> {
        let mut state = self.state.lock().await;
        if let Some(live) = &state.live {
            return Ok((live.number, live.connection.clone()));
        }
        if !state.pause.is_over() {
            return Err(state.last_error.clone());
        }
        // Counts as failed until it is made: the caller's deadline may drop this future.
        let pause = state.pause.next;
        state.pause.failed();
        state.last_error = CallError::Away(format!("no answer within {:?}", self.timeout));
        match self.connect().await {
            Ok(connection) => {
                state.made += 1;
                state.pause.next = pause;
                let (number, since) = (state.made, Instant::now());
                state.live = Some(Live { number, since, connection: connection.clone() });
                Ok((number, connection))
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
        let mut made = client.get_multiplexed_async_connection_with_config(&config).await?;
        // Without a password where one is asked for: to a script the server's answer would be that it
        // is too long for a stranger. All else is said by the call that follows.
        let known = redis::cmd("PING").query_async::<Value>(&mut made).await;
        match known.err().filter(|error| error.code() == Some("NOAUTH")) {
            Some(unknown) => Err(unknown),
            None => Ok(made),
        }
    }
}

/// What came of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Published {
    /// It was made, or made anew: what was published before is unknown.
    Subscribed,
    /// It has ended: what is published from now on is not heard until it is made anew.
    Lost,
    /// It could not be made, and the server said why.
    Denied(String),
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
                let since = Instant::now();
                pass_on(made, timeout, &sender).await;
                if sender.send(Published::Lost).await.is_err() {
                    return;
                }
                pause.ended(since);
            }
            Err(error) => {
                if !matches!(error, CallError::Away(_)) {
                    // If the receiver is behind, the next attempt says it.
                    drop(sender.try_send(Published::Denied(error.to_string())));
                }
                pause.failed();
            }
        }
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

/// Only what is of another type says something of what the server holds.
fn error_of(error: &RedisError) -> CallError {
    let is_answer =
        matches!(error.kind(), redis::ErrorKind::Server(_) | redis::ErrorKind::Extension);
    // In the server's own words.
    let said = || format!("{} {}", error.code().unwrap_or("ERR"), error.detail().unwrap_or("-"));
    if error.kind() == redis::ErrorKind::AuthenticationFailed {
        return CallError::Denied("the user or the password of `store` is wrong".to_owned());
    }
    match is_answer {
        true if error.code() == Some("WRONGTYPE") => CallError::Refused(said()),
        true => CallError::Denied(said()),
        false => CallError::Away(error.to_string()),
    }
}

/// Whether an answer says that another server may be the one to ask, or this one after a new
/// introduction: then a new connection is made.
fn asks_for_another(error: &RedisError) -> bool {
    const CODES: [&str; 6] = ["LOADING", "MASTERDOWN", "READONLY", "MOVED", "NOAUTH", "WRONGPASS"];
    error.code().is_some_and(|code| CODES.contains(&code))
}
