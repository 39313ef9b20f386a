//! Stopping and removing a container.

use std::time::Duration;

use bollard::query_parameters::StopContainerOptions;
use ringmaster_core::fleet::{
    ids::Handle,
    message::{EngineError, StopManner},
};
use tokio::time;

use super::{DockerDriver, client::CallError};

/// Time between two checks whether a container is gone.
const LOOK: Duration = Duration::from_millis(25);

impl DockerDriver {
    pub(super) async fn stop_container(
        &self,
        handle: Handle,
        manner: StopManner,
    ) -> Result<(), EngineError> {
        let container = match self.inspect(&handle.0).await {
            Err(error) if error.is_status(404) => return Ok(()),
            other => other?,
        };
        let labels = container.config.and_then(|config| config.labels);
        if !labels.is_some_and(|labels| self.names.owns(&labels)) {
            let text = format!(
                "container {handle} does not bear the label of fleet '{}'; it is not touched",
                self.names.fleet()
            );
            return Err(EngineError::Refused(text.into()));
        }
        let id = container.id.unwrap_or_else(|| handle.0.to_string());
        let runs = container.state.is_some_and(|s| s.running == Some(true));
        if manner == StopManner::Graceful && runs {
            self.end_gracefully(&id).await?;
        }
        self.remove_and_wait(&id).await.map_err(Into::into)
    }

    /// SIGTERM, the grace, SIGKILL. A refusal of the engine is not returned: the removal that follows
    /// kills too, and returns its own error.
    async fn end_gracefully(&self, id: &str) -> Result<(), CallError> {
        let grace = self.config.grace;
        let seconds = grace.as_millis().div_ceil(1000);
        let options = StopContainerOptions {
            signal: None,
            t: Some(i32::try_from(seconds).unwrap_or(i32::MAX)),
        };
        let deadline = grace.saturating_add(self.config.deadlines.ordinary);
        let stopped = self
            .connection
            .call("stop", deadline, |client| async move {
                client.stop_container(id, Some(options)).await
            })
            .await;
        match stopped {
            Err(CallError::Refused { message, .. }) => {
                tracing::debug!(container = id, "stop: {message}");
                Ok(())
            }
            other => other,
        }
    }

    /// Removes a container, also a running one; `Ok` when it is gone.
    pub(super) async fn remove_and_wait(&self, id: &str) -> Result<(), CallError> {
        match self.remove(id).await {
            Ok(()) => Ok(()),
            Err(error) if error.is_status(404) => Ok(()),
            Err(error) if error.is_status(409) && error.text().contains("already in progress") => {
                self.until_gone(id).await
            }
            Err(error) => Err(error),
        }
    }

    /// Waits until a removal that is already under way has ended.
    async fn until_gone(&self, id: &str) -> Result<(), CallError> {
        let limit = self.config.deadlines.create;
        let gone = async {
            loop {
                match self.inspect(id).await {
                    Err(error) if error.is_status(404) => return Ok(()),
                    Err(error) => return Err(error),
                    Ok(_) => time::sleep(LOOK).await,
                }
            }
        };
        time::timeout(limit, gone).await.unwrap_or_else(|_| {
            Err(CallError::Away(format!("a removal has not ended within {limit:?}").into()))
        })
    }
}
