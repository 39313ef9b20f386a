//! Everything of a fleet, and the names that others bear.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use bollard::{
    models::{ContainerSummary, ContainerSummaryStateEnum as State, EndpointSettings},
    query_parameters::ListContainersOptions,
};
use futures_util::{StreamExt, stream};

use super::{
    DockerDriver,
    labels::{self, Names},
};
use crate::fleet::{
    ids::{Handle, ReplicaName},
    message::{EngineError, Found, FoundState, Listing},
};

/// How many containers are inspected at the same time.
const INSPECTIONS: usize = 4;

impl DockerDriver {
    pub(super) async fn list_containers(&self) -> Result<Listing, EngineError> {
        match self.refresh_spec().await {
            // The last known image stays the wanted one while it is missing.
            Ok(_) => {}
            Err(error) if error.is_status(404) => {}
            Err(error) => return Err(error.into()),
        }
        let options = ListContainersOptions {
            all: true,
            ..Default::default()
        };
        let containers = self
            .connection
            .call(
                "list",
                self.config.deadlines.ordinary,
                |client| async move { client.list_containers(Some(options)).await },
            )
            .await?;
        let (ours, others): (Vec<_>, Vec<_>) = containers.into_iter().partition(|container| {
            let labels = container.labels.as_ref();
            labels.is_some_and(|labels| self.names.owns(labels))
        });
        let found = stream::iter(ours)
            .map(|container| self.read(container))
            .buffered(INSPECTIONS)
            .collect()
            .await;
        let mut foreign_names: Vec<ReplicaName> = others
            .iter()
            .flat_map(|other| own_names(other).filter_map(|name| self.names.bare(name)))
            .collect();
        foreign_names.sort();
        Ok(Listing {
            found,
            foreign_names,
        })
    }

    async fn read(&self, container: ContainerSummary) -> Found {
        let id = container.id.clone().unwrap_or_default();
        let mut found = read_summary(&container, &self.names, &self.network, self.config.port);
        if let Some(identity) = &found.identity {
            self.remember(&id, identity.instance);
        }
        if let FoundState::Running(address @ None) | FoundState::Paused(address @ None) =
            &mut found.state
        {
            // The list is taken from a copy that can be a moment behind.
            if let Ok(container) = self.inspect(&id).await {
                let networks = container.network_settings.and_then(|set| set.networks);
                *address = address_of(networks.as_ref(), &self.network, self.config.port);
            }
        }
        found
    }
}

fn read_summary(container: &ContainerSummary, names: &Names, network: &str, port: u16) -> Found {
    let networks = container
        .network_settings
        .as_ref()
        .and_then(|settings| settings.networks.as_ref());
    let address = || address_of(networks, network, port);
    let status = container.status.as_deref().unwrap_or_default();
    let state = match container.state {
        Some(State::CREATED) => FoundState::Created,
        Some(State::RUNNING | State::STOPPING) => FoundState::Running(address()),
        Some(State::PAUSED) => FoundState::Paused(address()),
        _ => FoundState::Exited {
            exit_code: exit_code(status),
        },
    };
    let name = own_names(container).find_map(|name| names.bare(name));
    let labels = container.labels.as_ref();
    Found {
        handle: Handle(container.id.as_deref().unwrap_or_default().into()),
        identity: labels.and_then(|labels| labels::identity(labels, name)),
        state,
    }
}

/// Names like `/a`; those like `/a/b` are what another container calls it.
fn own_names(container: &ContainerSummary) -> impl Iterator<Item = &str> {
    let names = container.names.iter().flatten();
    names
        .map(|name| name.strip_prefix('/').unwrap_or(name))
        .filter(|name| !name.contains('/'))
}

/// The code in a status like `Exited (137) 3 seconds ago`; lists have it nowhere else.
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
    use bollard::models::ContainerSummaryNetworkSettings;

    use super::*;

    fn summary(state: State, status: &str, ip: &str) -> ContainerSummary {
        let endpoint = EndpointSettings {
            ip_address: Some(ip.into()),
            ..Default::default()
        };
        ContainerSummary {
            id: Some("c0ffee".into()),
            names: Some(vec!["/web/alias".into(), "/blue-S5".into()]),
            state: Some(state),
            status: Some(status.into()),
            network_settings: Some(ContainerSummaryNetworkSettings {
                networks: Some(HashMap::from([("blue-net".to_owned(), endpoint)])),
            }),
            ..Default::default()
        }
    }

    fn state(state: State, status: &str, ip: &str) -> FoundState {
        let names = Names::of("blue");
        read_summary(&summary(state, status, ip), &names, "blue-net", 5000).state
    }

    #[test]
    fn states_are_read() {
        let at = "172.18.0.2:5000".parse().ok();
        assert_eq!(
            state(State::RUNNING, "Up 1 second", "172.18.0.2"),
            FoundState::Running(at)
        );
        assert_eq!(
            state(State::PAUSED, "Up 1 second (Paused)", "172.18.0.2"),
            FoundState::Paused(at)
        );
        assert_eq!(
            state(State::RUNNING, "Up 1 second", ""),
            FoundState::Running(None)
        );
        assert_eq!(state(State::CREATED, "Created", ""), FoundState::Created);
        let ended = |exit_code| FoundState::Exited { exit_code };
        assert_eq!(
            state(State::EXITED, "Exited (137) 3 seconds ago", ""),
            ended(Some(137))
        );
        assert_eq!(state(State::DEAD, "Dead", ""), ended(None));
        assert_eq!(
            state(State::REMOVING, "Removal In Progress", ""),
            ended(None)
        );
    }

    #[test]
    fn a_container_without_readable_labels_is_a_stray() {
        let container = summary(State::RUNNING, "", "");
        let found = read_summary(&container, &Names::of("blue"), "blue-net", 5000);
        assert_eq!(found.identity, None);
        assert_eq!(found.handle, Handle("c0ffee".into()));
        assert_eq!(own_names(&container).collect::<Vec<_>>(), ["blue-S5"]);
    }
}
