//! Removes the network of a fleet without containers.

use std::collections::HashMap;

use bollard::{models::NetworkDisconnectRequest, query_parameters::ListContainersOptions};
use ringmaster_core::fleet::message::EngineError;

use super::{DockerDriver, client::CallError};

impl DockerDriver {
    /// Removes the network, if it has the fleet's label and no other container is on it.
    pub(super) async fn remove_network(&self) -> Result<(), EngineError> {
        let Some(network) = self.find_network().await? else { return Ok(()) };
        let is_ours = network.labels.as_ref().is_some_and(|labels| self.names.owns(labels));
        let (true, Some(id)) = (is_ours, network.id) else { return Ok(()) };
        let guests = self.guests(&id).await?;
        if !guests.is_empty() && !self.leave(&id, &guests).await? {
            tracing::info!(network = self.network, "the network stays: containers are on it");
            return Ok(());
        }
        let removed = self
            .connection
            .call("remove network", self.config.deadlines.ordinary, |client| async move {
                client.remove_network(&id).await
            })
            .await;
        match removed {
            Ok(()) => tracing::info!(network = self.network, "network removed"),
            Err(error) if error.is_status(404) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Containers on the network, also stopped ones: they could not start without it.
    async fn guests(&self, id: &str) -> Result<Vec<String>, CallError> {
        let options = ListContainersOptions {
            all: true,
            filters: Some(HashMap::from([("network".to_owned(), vec![id.to_owned()])])),
            ..Default::default()
        };
        let found = self
            .connection
            .call("list", self.config.deadlines.ordinary, |client| async move {
                client.list_containers(Some(options)).await
            })
            .await?;
        Ok(found.into_iter().filter_map(|container| container.id).collect())
    }

    /// Disconnects the balancer's own container, if it is the only one on the network. A container
    /// that was started on it stays: it could not be started again without it. Returns whether the
    /// network is empty then.
    async fn leave(&self, id: &str, guests: &[String]) -> Result<bool, CallError> {
        let Some(own) = self.own_container().await? else { return Ok(false) };
        let mode = own.host_config.and_then(|config| config.network_mode).unwrap_or_default();
        let own = own.id.unwrap_or_default();
        let is_alone = guests.iter().all(|guest| *guest == own);
        if !is_alone || mode == self.network || mode == id {
            return Ok(false);
        }
        let request = NetworkDisconnectRequest { container: own, force: Some(true) };
        self.connection
            .call("disconnect network", self.config.deadlines.ordinary, |client| async move {
                client.disconnect_network(id, request).await
            })
            .await?;
        Ok(true)
    }
}
