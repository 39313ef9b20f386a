//! The connection to the engine: made when first needed, and every call with a deadline.

use std::{
    error::Error as _,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bollard::{API_DEFAULT_VERSION, Docker, errors::Error as ClientError};
use ringmaster_core::fleet::message::{EngineError, StartError};
use tokio::time;

/// The longest text of the engine that is passed on, in bytes.
const LONGEST_TEXT: usize = 500;

/// The client library has one timeout for all calls, in whole seconds. It is so long that the
/// deadline of each call always ends first.
const CLIENT_TIMEOUT_SECONDS: u64 = 3600;

/// Why a call to the engine failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CallError {
    /// The engine was not reached, did not respond in time, or sent an unreadable response.
    Away(Arc<str>),
    /// The engine responded with an error.
    Refused {
        status: u16,
        /// The engine's error message.
        message: Arc<str>,
    },
}

impl CallError {
    pub(super) fn is_status(&self, wanted: u16) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == wanted)
    }

    pub(super) fn text(&self) -> &str {
        match self {
            Self::Away(text) | Self::Refused { message: text, .. } => text,
        }
    }
}

impl From<CallError> for EngineError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Away(text) => Self::Away(text),
            CallError::Refused { message, .. } => Self::Refused(message),
        }
    }
}

impl From<CallError> for StartError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Away(text) => Self::Unclear(format!("the engine is away: {text}").into()),
            CallError::Refused { message, .. } => Self::Refused(message),
        }
    }
}

/// The client of the engine, made when first needed: it exists once its API version is known.
#[derive(Debug)]
pub(super) struct EngineConnection {
    host: String,
    negotiation: Duration,
    client: Mutex<Option<Docker>>,
}

impl EngineConnection {
    pub(super) fn new(host: String, negotiation: Duration) -> Self {
        Self { host, negotiation, client: Mutex::new(None) }
    }

    /// Negotiates the API version again before the next call: the engine may have been replaced.
    pub(super) fn reset(&self) {
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Makes one call. Dropping the future closes the connection of the call.
    pub(super) async fn call<T, F, Fut>(
        &self,
        what: &str,
        deadline: Duration,
        call: F,
    ) -> Result<T, CallError>
    where
        F: FnOnce(Docker) -> Fut,
        Fut: Future<Output = Result<T, ClientError>>,
    {
        let client = self.client().await?;
        let result = bounded(what, deadline, call(client)).await;
        if let Err(CallError::Refused { status: 400, message }) = &result
            && message.contains("is too new")
        {
            self.reset();
        }
        result
    }

    pub(super) async fn client(&self) -> Result<Docker, CallError> {
        let known = self.client.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(client) = known {
            return Ok(client);
        }
        let fresh = connect(&self.host).map_err(read_error)?;
        let client = bounded("version", self.negotiation, fresh.negotiate_version()).await?;
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = Some(client.clone());
        Ok(client)
    }
}

fn connect(host: &str) -> Result<Docker, ClientError> {
    if host.starts_with("tcp://") || host.starts_with("http://") {
        Docker::connect_with_http(host, CLIENT_TIMEOUT_SECONDS, API_DEFAULT_VERSION)
    } else if host.starts_with("unix://") || host.starts_with('/') {
        Docker::connect_with_unix(host, CLIENT_TIMEOUT_SECONDS, API_DEFAULT_VERSION)
    } else {
        Docker::connect_with_host(host)
    }
}

async fn bounded<T>(
    what: &str,
    deadline: Duration,
    call: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, CallError> {
    match time::timeout(deadline, call).await {
        Ok(result) => result.map_err(read_error),
        Err(_) => Err(CallError::Away(format!("no answer to '{what}' within {deadline:?}").into())),
    }
}

/// The engine's error message; for a failed connection the innermost cause, which names the reason.
pub(super) fn read_error(error: ClientError) -> CallError {
    match error {
        ClientError::DockerResponseServerError { status_code, message } => {
            CallError::Refused { status: status_code, message: cut(message.trim()).into() }
        }
        other => {
            let mut text = other.to_string();
            let mut cause = other.source();
            while let Some(inner) = cause {
                text = inner.to_string();
                cause = inner.source();
            }
            CallError::Away(cut(&text).into())
        }
    }
}

/// At most [`LONGEST_TEXT`] bytes of a text, ended at a character.
pub(super) fn cut(text: &str) -> &str {
    let mut end = text.len().min(LONGEST_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_at_a_character() {
        assert_eq!(cut("short"), "short");
        let long = "ä".repeat(400);
        assert_eq!(cut(&long).len(), 500);
        assert_eq!(cut(&format!("x{long}")).len(), 499);
    }

    #[test]
    fn the_engines_own_words_are_kept() {
        let error = read_error(ClientError::DockerResponseServerError {
            status_code: 404,
            message: "No such image: nothing:latest\n".into(),
        });
        assert!(error.is_status(404));
        assert_eq!(error.text(), "No such image: nothing:latest");
    }

    #[tokio::test]
    async fn an_engine_that_is_not_there_is_away_and_not_an_error_of_new() {
        let connection =
            EngineConnection::new("unix:///nowhere/docker.sock".into(), Duration::ZERO);
        let error = connection
            .call("ping", Duration::from_secs(1), |c| async move { c.ping().await })
            .await
            .unwrap_err();
        assert!(matches!(&error, CallError::Away(t) if t.contains("/nowhere/docker.sock")));
    }
}
