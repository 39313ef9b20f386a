//! Lists the containers of a fleet, and the names that other containers have.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use bollard::{
    models::{
        ContainerInspectResponse, ContainerStateStatusEnum as Status, ContainerSummary,
        ContainerSummaryStateEnum as State, EndpointSettings,
    },
    query_parameters::ListContainersOptions,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use ringmaster_core::fleet::{
    ids::{Handle, ImageId, ReplicaName},
    message::{EngineError, Found, FoundState, Listing},
};

use super::{DockerDriver, client::CallError, labels};

/// Containers that are inspected at the same time.
const INSPECTIONS: usize = 8;

impl DockerDriver {
    pub(super) async fn list_containers(&self) -> Result<Listing, EngineError> {
        if self.fleet_network.load().is_none() {
            self.prepare_network().await?;
        } else {
            // Continue with the last known ranges: without them the engine would count as away.
            if let Err(error) = self.refresh_ranges().await {
                tracing::warn!("the networks of our own container are not known: {}", error.text());
            }
        }
        let wanted = match self.wanted_revision().await {
            Ok(revision) => Some(revision),
            // Without the image no container can be replaced, so none counts as outdated.
            Err(error) if error.is_status(404) => None,
            Err(error) => return Err(error.into()),
        };
        let options = ListContainersOptions { all: true, ..Default::default() };
        let containers = self
            .connection
            .call("list", self.config.deadlines.ordinary, |client| async move {
                client.list_containers(Some(options)).await
            })
            .await?;
        let (ours, others): (Vec<_>, Vec<_>) = containers.into_iter().partition(|container| {
            let labels = container.labels.as_ref();
            labels.is_some_and(|labels| self.names.owns(labels))
        });
        let found: Vec<Option<Found>> = stream::iter(ours)
            .map(|container| self.read(container))
            .buffered(INSPECTIONS)
            .try_collect()
            .await?;
        let found = found.into_iter().flatten().collect();
        let mut foreign_names: Vec<ReplicaName> = others
            .iter()
            .flat_map(|other| own_names(other).filter_map(|name| self.names.bare(name)))
            .collect();
        foreign_names.sort();
        Ok(Listing { wanted, found, foreign_names })
    }

    /// Reads the state of one container; `None` if it has been removed meanwhile.
    ///
    /// The engine's list comes from a copy that it updates *after* it has sent the event of an end
    /// (some 70 ms later, seen with 20.10). So a container listed as running is inspected as well:
    /// that waits until the end is complete.
    ///
    /// # Errors
    /// When it cannot be inspected: an incomplete list would look like containers that are gone.
    async fn read(&self, container: ContainerSummary) -> Result<Option<Found>, CallError> {
        let id = container.id.as_deref().unwrap_or_default();
        let name = own_names(&container).find_map(|name| self.names.bare(name));
        let labels = container.labels.as_ref();
        let image = container.image_id.as_deref().map(|id| ImageId(id.into()));
        let identity = labels.and_then(|labels| labels::identity(labels, name, image));
        let mut state = listed_state(&container);
        if !matches!(state, FoundState::Exited { .. }) {
            match self.inspect(id).await {
                Ok(container) => {
                    state = inspected_state(container, &self.network, self.config.port)
                }
                Err(error) if error.is_status(404) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        match (&identity, state) {
            (_, FoundState::Exited { .. }) | (None, _) => {}
            (Some(identity), _) => self.remember(id, identity.instance),
        }
        Ok(Some(Found { handle: Handle(id.into()), identity, state }))
    }
}

fn listed_state(container: &ContainerSummary) -> FoundState {
    match container.state {
        Some(State::CREATED) => FoundState::Created,
        Some(State::RUNNING | State::STOPPING) => FoundState::Running(None),
        Some(State::PAUSED) => FoundState::Paused(None),
        _ => FoundState::Exited {
            exit_code: exit_code(container.status.as_deref().unwrap_or_default()),
        },
    }
}

fn inspected_state(container: ContainerInspectResponse, network: &str, port: u16) -> FoundState {
    let networks = container.network_settings.and_then(|set| set.networks);
    let address = address_of(networks.as_ref(), network, port);
    let state = container.state.unwrap_or_default();
    match state.status {
        Some(Status::CREATED) => FoundState::Created,
        Some(Status::RUNNING | Status::STOPPING) => FoundState::Running(address),
        Some(Status::PAUSED) => FoundState::Paused(address),
        _ => FoundState::Exited { exit_code: state.exit_code },
    }
}

/// Names like `/a`; one like `/a/b` is a link, the name under which container `a` knows it.
fn own_names(container: &ContainerSummary) -> impl Iterator<Item = &str> {
    let names = container.names.iter().flatten();
    names.map(|name| name.strip_prefix('/').unwrap_or(name)).filter(|name| !name.contains('/'))
}

/// The exit code in a status like `Exited (137) 3 seconds ago`; a list has no field for it.
fn exit_code(status: &str) -> Option<i64> {
    let (code, _) = status.strip_prefix("Exited (")?.split_once(')')?;
    code.parse().ok()
}

/// Where a container listens on a network.
pub(super) fn address_of(
    networks: Option<&HashMap<String, EndpointSettings>>,
    network: &str,
    port: u16,
) -> Option<SocketAddr> {
    let endpoint = networks?.get(network)?;
    let ip: IpAddr = endpoint.ip_address.as_deref()?.parse().ok()?;
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use bollard::models::{ContainerState, NetworkSettings};

    use super::*;

    fn listed(state: State, status: &str) -> FoundState {
        listed_state(&ContainerSummary {
            state: Some(state),
            status: Some(status.into()),
            ..Default::default()
        })
    }

    fn inspected(status: Status, ip: &str) -> FoundState {
        let endpoint = EndpointSettings { ip_address: Some(ip.into()), ..Default::default() };
        let container = ContainerInspectResponse {
            state: Some(ContainerState {
                status: Some(status),
                exit_code: Some(137),
                ..Default::default()
            }),
            network_settings: Some(NetworkSettings {
                networks: Some(HashMap::from([("net1".to_owned(), endpoint)])),
                ..Default::default()
            }),
            ..Default::default()
        };
        inspected_state(container, "net1", 5000)
    }

    #[test]
    fn listed_states_are_read() {
        assert_eq!(listed(State::CREATED, "Created"), FoundState::Created);
        let runs = FoundState::Running(None);
        assert_eq!(listed(State::RUNNING, "Up 1 second"), runs);
        let paused = FoundState::Paused(None);
        assert_eq!(listed(State::PAUSED, "Up 1 second (Paused)"), paused);
        let ended = |exit_code| FoundState::Exited { exit_code };
        let status = "Exited (137) 3 seconds ago";
        assert_eq!(listed(State::EXITED, status), ended(Some(137)));
        assert_eq!(listed(State::DEAD, "Dead"), ended(None));
        let status = "Removal In Progress";
        assert_eq!(listed(State::REMOVING, status), ended(None));
    }

    #[test]
    fn inspected_states_are_read() {
        let at = "172.18.0.2:5000".parse().ok();
        let ip = "172.18.0.2";
        assert_eq!(inspected(Status::RUNNING, ip), FoundState::Running(at));
        assert_eq!(inspected(Status::PAUSED, ip), FoundState::Paused(at));
        assert_eq!(inspected(Status::RUNNING, ""), FoundState::Running(None));
        assert_eq!(inspected(Status::CREATED, ""), FoundState::Created);
        let exit_code = Some(137);
        assert_eq!(inspected(Status::EXITED, ""), FoundState::Exited { exit_code });
        assert_eq!(inspected(Status::DEAD, ""), FoundState::Exited { exit_code });
    }

    #[test]
    fn a_link_of_another_container_is_not_a_name() {
        let container = ContainerSummary {
            names: Some(vec!["/web/alias".into(), "/blue-S5".into()]),
            ..Default::default()
        };
        assert_eq!(own_names(&container).collect::<Vec<_>>(), ["blue-S5"]);
    }
}
