//! No engine: nothing is found and nothing can be started. The driver `static`, for fleets of
//! registered servers.

use futures_util::future::BoxFuture;
use ringmaster_core::fleet::{
    ids::{Handle, SpecDigest},
    message::{
        EngineError, LastWords, Listing, Revision, StartError, StartRequest, Started, StopManner,
    },
};
use tokio::sync::mpsc;

use super::{Driver, Signal};

/// The driver `static`.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoDriver;

impl Driver for NoDriver {
    fn start(&self, request: StartRequest) -> BoxFuture<'_, Result<Started, StartError>> {
        let text =
            format!("'{}' cannot be started: the driver `static` has no engine", request.name);
        Box::pin(async move { Err(StartError::Refused(text.into())) })
    }

    fn stop(&self, handle: Handle, _: StopManner) -> BoxFuture<'_, Result<(), EngineError>> {
        let text = format!("'{handle}' cannot be stopped: the driver `static` has no engine");
        Box::pin(async move { Err(EngineError::Refused(text.into())) })
    }

    fn last_words(&self, _: Handle) -> BoxFuture<'_, Option<LastWords>> {
        Box::pin(async { None })
    }

    fn logs(&self, handle: Handle, _: usize) -> BoxFuture<'_, Result<Vec<String>, EngineError>> {
        let text = format!("'{handle}' is kept by others, and so is its log");
        Box::pin(async move { Err(EngineError::Refused(text.into())) })
    }

    fn list(&self) -> BoxFuture<'_, Result<Listing, EngineError>> {
        Box::pin(async {
            let wanted = Revision { spec: SpecDigest("static".into()), image: None };
            Ok(Listing { wanted: Some(wanted), ..Listing::default() })
        })
    }

    fn watch(&self, signals: mpsc::Sender<Signal>) -> BoxFuture<'_, ()> {
        Box::pin(async move { signals.closed().await })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn the_list_is_empty_and_watching_ends_with_its_receiver() {
        assert_eq!(NoDriver.list().await.unwrap().found, []);
        let stopped = NoDriver.stop(Handle("one".into()), StopManner::Kill).await;
        assert!(stopped.unwrap_err().to_string().starts_with("'one' cannot be stopped"));
        let (sender, receiver) = mpsc::channel(1);
        drop(receiver);
        tokio::time::timeout(Duration::from_secs(5), NoDriver.watch(sender)).await.unwrap();
    }
}
