//! The engine's event stream.

use std::{
    collections::HashMap,
    pin::pin,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bollard::{
    errors::Error as ClientError,
    models::{EventMessage, EventMessageTypeEnum as Kind},
    query_parameters::EventsOptions,
};
use futures_util::{Stream, StreamExt};
use ringmaster_core::fleet::{
    ids::{Handle, InstanceId},
    message::{EngineError, Sighting},
};
use tokio::{sync::mpsc, time};

use super::{
    DockerDriver,
    client::{CallError, read_error},
    labels,
};
use crate::driver::Signal;

const WANTED: [&str; 7] =
    ["die", "oom", "pause", "unpause", "destroy", "health_status", "disconnect"];
/// The shortest and the longest pause between two subscriptions.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// A subscription that has not been refused within this time is taken as accepted.
const REFUSAL: Duration = Duration::from_millis(50);
/// After this time without an event the engine is pinged.
const SILENCE: Duration = Duration::from_secs(10);
/// After a stream that has lived for this long, the pause starts at its shortest again.
const GOOD_LIFE: Duration = Duration::from_secs(5);

/// The receiver of the signals is gone.
struct ReceiverGone;

impl DockerDriver {
    /// Subscribes, and subscribes again, until the receiver is gone.
    pub(super) async fn watch_events(&self, signals: mpsc::Sender<Signal>) {
        let mut pause = PAUSES.0;
        let mut had_stream = false;
        loop {
            let begin = Instant::now();
            let lost = tokio::select! {
                () = signals.closed() => return,
                ended = self.follow(&signals, &mut had_stream) => match ended {
                    Err(ReceiverGone) => return,
                    Ok(why) => why,
                },
            };
            if begin.elapsed() > GOOD_LIFE {
                pause = PAUSES.0;
            }
            tracing::debug!(?pause, "no event stream: {}", lost.text());
            tokio::select! {
                () = signals.closed() => return,
                () = time::sleep(pause) => {}
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Reads one stream to its end, with a [`Signal::StreamChanged`] before and after it.
    async fn follow(
        &self,
        signals: &mpsc::Sender<Signal>,
        had_stream: &mut bool,
    ) -> Result<CallError, ReceiverGone> {
        if let Err(error) = self.get_ready(*had_stream).await {
            return Ok(error);
        }
        let events = match self.subscribe().await {
            Ok(events) => events,
            Err(error) => return Ok(error),
        };
        let mut events = pin!(events);
        let first = match time::timeout(REFUSAL, events.next()).await {
            Err(_) => None,
            Ok(Some(Ok(event))) => Some(event),
            Ok(end) => return Ok(end_of(end)),
        };
        *had_stream = true;
        send(signals, Signal::StreamChanged).await?;
        if let Some(event) = first {
            self.report(&event, signals).await?;
        }
        let why = loop {
            match time::timeout(SILENCE, events.next()).await {
                Ok(Some(Ok(event))) => self.report(&event, signals).await?,
                Ok(end) => break end_of(end),
                // A connection to a remote engine can be lost without any packet.
                Err(_) => {
                    if let Err(error) = self.ping().await {
                        break error;
                    }
                }
            }
        };
        send(signals, Signal::StreamChanged).await?;
        Ok(why)
    }

    /// Checks that the engine responds, and after an interruption restores the fleet's network.
    async fn get_ready(&self, again: bool) -> Result<(), CallError> {
        self.connection.reset();
        self.ping().await?;
        if again && let Err(error) = self.prepare().await {
            match error {
                EngineError::Away(text) => return Err(CallError::Away(text)),
                EngineError::Refused(text) => tracing::warn!("the fleet's network: {text}"),
            }
        }
        Ok(())
    }

    async fn ping(&self) -> Result<(), CallError> {
        self.connection
            .call("ping", self.config.deadlines.ordinary, |client| async move {
                client.ping().await.map(drop)
            })
            .await
    }

    /// The engine sends the response before the subscription is active; `since` makes it send the
    /// events in between. Network events do not carry the labels of the network, so they are
    /// filtered by name in `interpret`.
    async fn subscribe(
        &self,
    ) -> Result<impl Stream<Item = Result<EventMessage, ClientError>> + use<>, CallError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let options = EventsOptions {
            since: Some(format!("{}.{:09}", now.as_secs(), now.subsec_nanos())),
            until: None,
            filters: Some(HashMap::from([
                ("type".to_owned(), owned(&["container", "network"])),
                ("event".to_owned(), owned(&WANTED)),
            ])),
        };
        let client = self.connection.client().await?;
        // This timeout covers the head of the response, not the stream.
        let client = client.with_timeout(self.config.deadlines.ordinary.max(REFUSAL * 20));
        Ok(client.events(Some(options)))
    }

    async fn report(
        &self,
        event: &EventMessage,
        signals: &mpsc::Sender<Signal>,
    ) -> Result<(), ReceiverGone> {
        match self.interpret(event) {
            Some((instance, handle, sighting)) => {
                send(signals, Signal::Saw(instance, handle, sighting)).await
            }
            None => Ok(()),
        }
    }

    fn interpret(&self, event: &EventMessage) -> Option<(InstanceId, Handle, Sighting)> {
        let actor = event.actor.as_ref()?;
        let (id, attributes) = (actor.id.as_ref()?, actor.attributes.as_ref()?);
        let action = event.action.as_deref()?;
        match event.typ? {
            Kind::CONTAINER => {
                if !self.names.owns(attributes) {
                    return None;
                }
                let instance = labels::instance(attributes)?;
                // A container that has ended also leaves its networks: that event is ignored.
                if matches!(action, "die" | "destroy") {
                    self.forget(id);
                } else {
                    self.remember(id, instance);
                }
                Some((instance, Handle(id.as_str().into()), sighting(action, attributes)?))
            }
            Kind::NETWORK if action == "disconnect" => {
                let ours = attributes.get("name") == Some(&self.network);
                let container = attributes.get("container")?;
                let instance = self.known(container)?;
                ours.then(|| (instance, Handle(container.as_str().into()), Sighting::Disconnected))
            }
            _ => None,
        }
    }
}

fn sighting(action: &str, attributes: &HashMap<String, String>) -> Option<Sighting> {
    Some(match action {
        "die" => {
            Sighting::Died { exit_code: attributes.get("exitCode").and_then(|c| c.parse().ok()) }
        }
        "oom" => Sighting::OutOfMemory,
        "pause" => Sighting::Paused,
        "unpause" => Sighting::Unpaused,
        "destroy" => Sighting::Removed,
        "health_status: unhealthy" => Sighting::Unhealthy,
        _ => return None,
    })
}

fn end_of(end: Option<Result<EventMessage, ClientError>>) -> CallError {
    match end {
        Some(Err(error)) => read_error(error),
        _ => CallError::Away("the event stream ended".into()),
    }
}

async fn send(signals: &mpsc::Sender<Signal>, signal: Signal) -> Result<(), ReceiverGone> {
    signals.send(signal).await.map_err(|_| ReceiverGone)
}

#[cfg(test)]
mod tests {
    use bollard::models::EventActor;
    use ringmaster_core::fleet::ids::{Incarnation, ReplicaId};

    use super::*;
    use crate::driver::docker::{DockerConfig, MOST_KNOWN};

    fn event(kind: Kind, action: &str, id: &str, attributes: &[(&str, &str)]) -> EventMessage {
        EventMessage {
            typ: Some(kind),
            action: Some(action.into()),
            actor: Some(EventActor {
                id: Some(id.into()),
                attributes: Some(
                    attributes.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
                ),
            }),
            ..Default::default()
        }
    }

    const OURS: [(&str, &str); 3] =
        [(labels::FLEET, "blue"), (labels::REPLICA, "4"), (labels::INCARNATION, "2")];

    fn instance() -> InstanceId {
        InstanceId { replica: ReplicaId(4), incarnation: Incarnation(2) }
    }

    fn c1() -> Handle {
        Handle("c1".into())
    }

    fn driver() -> DockerDriver {
        DockerDriver::new(DockerConfig::new("blue", "image"))
    }

    #[test]
    fn container_events_are_read_by_their_labels() {
        let driver = driver();
        let read = |action: &str| {
            let event = event(Kind::CONTAINER, action, "c1", &OURS);
            driver.interpret(&event).map(|(who, which, what)| {
                assert_eq!((who, which), (instance(), c1()));
                what
            })
        };
        assert_eq!(read("die"), Some(Sighting::Died { exit_code: None }));
        assert_eq!(read("oom"), Some(Sighting::OutOfMemory));
        assert_eq!(read("pause"), Some(Sighting::Paused));
        assert_eq!(read("unpause"), Some(Sighting::Unpaused));
        assert_eq!(read("health_status: unhealthy"), Some(Sighting::Unhealthy));
        assert_eq!(read("health_status: healthy"), None);
        assert_eq!(read("destroy"), Some(Sighting::Removed));
        assert_eq!(driver.known("c1"), None);
        let mut died = OURS.to_vec();
        died.push(("exitCode", "137"));
        let died = driver.interpret(&event(Kind::CONTAINER, "die", "c1", &died));
        let exit_code = Some(137);
        assert_eq!(died, Some((instance(), c1(), Sighting::Died { exit_code })));
    }

    #[test]
    fn events_of_other_fleets_are_ignored() {
        let driver = driver();
        let mut other = OURS;
        other[0].1 = "green";
        for attributes in [&other[..], &OURS[..2], &OURS[1..], &[]] {
            let event = event(Kind::CONTAINER, "die", "c1", attributes);
            assert_eq!(driver.interpret(&event), None);
        }
        assert_eq!(driver.interpret(&EventMessage::default()), None);
    }

    #[test]
    fn a_disconnect_counts_on_our_network_for_a_known_container() {
        let driver = driver();
        let lost = |container: &str, network: &str| {
            let attributes = [("container", container), ("name", network)];
            driver.interpret(&event(Kind::NETWORK, "disconnect", "n1", &attributes))
        };
        assert_eq!(lost("c1", "blue-net"), None);
        driver.remember("c1", instance());
        let expected = Some((instance(), c1(), Sighting::Disconnected));
        assert_eq!(lost("c1", "blue-net"), expected);
        assert_eq!(lost("c1", "bridge"), None);
        driver.interpret(&event(Kind::CONTAINER, "die", "c1", &OURS));
        assert_eq!(lost("c1", "blue-net"), None);
    }

    #[test]
    fn the_map_of_known_containers_is_bounded() {
        let driver = driver();
        for number in 0..3 * MOST_KNOWN {
            driver.remember(&number.to_string(), instance());
        }
        assert!(driver.known.lock().unwrap().len() <= MOST_KNOWN);
        assert_eq!(driver.known(&(3 * MOST_KNOWN - 1).to_string()), Some(instance()));
    }
}
