//! Starting a container.

use std::{collections::HashMap, net::SocketAddr};

use bollard::{
    models::{
        ContainerCreateBody, ContainerInspectResponse, EndpointSettings, HostConfig,
        NetworkingConfig, RestartPolicy, RestartPolicyNameEnum,
    },
    query_parameters::{
        CreateContainerOptions, InspectContainerOptions, StartContainerOptions,
        WaitContainerOptions,
    },
};
use futures_util::StreamExt;
use ringmaster_core::fleet::{
    ids::{Handle, ImageId, InstanceId},
    message::{StartError, StartRequest, Started},
};

use super::{
    Build, DockerDriver, FleetNetwork,
    client::{CallError, cut},
    labels,
    list::address_of,
};
use crate::driver::settle::settle;

/// One attempt may end at a name in use and one at a missing network; the third is for a race with
/// another process.
const ATTEMPTS: usize = 3;

/// What a container is made from.
struct Source {
    /// The tag or id that the engine knows the image by.
    reference: String,
    build: Build,
}

/// Why one attempt failed, and with that, what the next one needs.
enum CreateFailure {
    /// Another container has the name.
    NameInUse(CallError),
    /// The network does not exist.
    NoNetwork(CallError),
    /// The engine has no init.
    NoInit(CallError),
    /// Another attempt would fail in the same way.
    Final(StartError),
}

impl From<CallError> for CreateFailure {
    fn from(error: CallError) -> Self {
        let words = error.text();
        if error.is_status(404) && words.contains("network") && words.contains("not found") {
            Self::NoNetwork(error)
        } else {
            Self::Final(error.into())
        }
    }
}

impl DockerDriver {
    pub(super) async fn start_container(
        &self,
        request: StartRequest,
    ) -> Result<Started, StartError> {
        let source = self.source_of(request.image.as_ref()).await?;
        let mut last = None;
        for _ in 0..ATTEMPTS {
            last = Some(match self.attempt(&request, &source).await {
                Ok(started) => return Ok(started),
                Err(CreateFailure::Final(error)) => return Err(error),
                Err(CreateFailure::NameInUse(error)) => {
                    self.clear_name(&request).await?;
                    error
                }
                Err(CreateFailure::NoNetwork(error)) => {
                    self.prepare_network().await?;
                    error
                }
                Err(CreateFailure::NoInit(error)) => error,
            });
        }
        Err(last.map_or_else(|| StartError::Unclear("no attempt".into()), Into::into))
    }

    /// What an instance of a certain build is made from. A build that the tag names is referred to
    /// by the tag, which reads better than an id in the engine's lists.
    async fn source_of(&self, image: Option<&ImageId>) -> Result<Source, StartError> {
        let tagged = match self.build(&self.config.image).await {
            Ok(build) => Some(build),
            Err(error) if error.is_status(404) => None,
            Err(error) => return Err(error.into()),
        };
        let is_meant = |build: &Build| image.is_none() || build.revision.image.as_ref() == image;
        if let Some(build) = tagged.filter(is_meant) {
            return Ok(Source { reference: self.config.image.clone(), build });
        }
        let Some(image) = image else {
            return Err(StartError::NoImage(self.missing_image().into()));
        };
        match self.build(&image.0).await {
            Ok(build) => Ok(Source { reference: image.to_string(), build }),
            Err(error) if error.is_status(404) => Err(StartError::NoImage(error.text().into())),
            Err(error) => Err(error.into()),
        }
    }

    async fn attempt(
        &self,
        request: &StartRequest,
        source: &Source,
    ) -> Result<Started, CreateFailure> {
        let id = self.create(request, source).await?;
        self.remember(&id, request.instance);
        match self.run(&id).await {
            Ok(address) => {
                let revision = source.build.revision.clone();
                Ok(Started { handle: Handle(id.into()), address, revision })
            }
            Err(failure) => Err(self.abandon(&id, failure).await),
        }
    }

    async fn create(
        &self,
        request: &StartRequest,
        source: &Source,
    ) -> Result<String, CreateFailure> {
        let options = CreateContainerOptions {
            name: Some(self.names.container(&request.name)),
            ..Default::default()
        };
        let body = self.body(request, source);
        let created = self
            .connection
            .call("create", self.config.deadlines.create, |client| async move {
                client.create_container(Some(options), body).await
            })
            .await;
        match created {
            Ok(created) => Ok(created.id),
            Err(error) if error.is_status(409) => Err(CreateFailure::NameInUse(error)),
            Err(error) if error.is_status(404) && error.text().contains("No such image") => {
                Err(CreateFailure::Final(StartError::NoImage(error.text().into())))
            }
            Err(error) => Err(self.read_failure(error)),
        }
    }

    fn body(&self, request: &StartRequest, source: &Source) -> ContainerCreateBody {
        let name = request.name.to_string();
        let replica = request.instance.replica;
        let endpoint = EndpointSettings {
            aliases: Some(vec![name.clone(), format!("replica-{replica}")]),
            ..Default::default()
        };
        ContainerCreateBody {
            hostname: Some(name),
            env: Some(environment(&self.config.env, request, self.config.port)),
            cmd: self.config.command.clone(),
            image: Some(source.reference.clone()),
            labels: Some(labels::of_request(&self.names, request, &source.build.revision.spec)),
            host_config: Some(HostConfig {
                network_mode: Some(self.network.clone()),
                // Always sent: engines have different defaults.
                init: Some(self.init.is_wanted(self.config.init, source.build.has_init)),
                // Only the supervisor decides what happens after a container has ended.
                restart_policy: Some(RestartPolicy {
                    name: Some(RestartPolicyNameEnum::NO),
                    maximum_retry_count: None,
                }),
                ..Default::default()
            }),
            networking_config: Some(NetworkingConfig {
                endpoints_config: Some(HashMap::from([(self.network.clone(), endpoint)])),
            }),
            ..Default::default()
        }
    }

    /// Classifies an engine's refusal to create or start.
    fn read_failure(&self, error: CallError) -> CreateFailure {
        if self.init.is_for_missing_init(self.config.init, &error) {
            return CreateFailure::NoInit(error);
        }
        error.into()
    }

    /// Starts a created container, and checks that it does not end at once.
    async fn run(&self, id: &str) -> Result<SocketAddr, CreateFailure> {
        let deadline = self.config.deadlines.create;
        self.connection
            .call("start", deadline, |client| async move {
                client.start_container(id, None::<StartContainerOptions>).await
            })
            .await
            .map_err(|error| self.read_failure(error))?;
        let container = self.inspect(id).await?;
        self.still_runs(id, &container).await?;
        let networks = container.network_settings.and_then(|set| set.networks);
        let address = address_of(networks.as_ref(), &self.network, self.config.port);
        let Some(address) = address else {
            // A container that has just ended has lost its address: then report that end.
            self.still_runs(id, &self.inspect(id).await?).await?;
            let text = format!("it has no address on network {}", self.network);
            return Err(CreateFailure::Final(StartError::Refused(text.into())));
        };
        let is_known = |ranges: &FleetNetwork| ranges.may_be_replica(address.ip());
        if !self.fleet_network().is_some_and(|ranges| is_known(&ranges)) {
            // The replica may send a request as soon as it runs, and the guard of the API must
            // recognise its address then.
            self.refresh_ranges().await?;
        }
        if settle(address, self.ended(id), self.config.settle).await.is_some() {
            self.still_runs(id, &self.inspect(id).await?).await?;
        }
        Ok(address)
    }

    /// Completes when the container has ended; never when the engine cannot report that.
    async fn ended(&self, id: &str) {
        if let Ok(client) = self.connection.client().await {
            let mut end = client.wait_container(id, None::<WaitContainerOptions>);
            // The client library reports an exit status other than zero as this error.
            match end.next().await {
                Some(Ok(_))
                | Some(Err(bollard::errors::Error::DockerContainerWaitError { .. })) => {
                    return;
                }
                _ => {}
            }
        }
        std::future::pending().await
    }

    pub(super) async fn inspect(&self, id: &str) -> Result<ContainerInspectResponse, CallError> {
        self.connection
            .call("inspect", self.config.deadlines.ordinary, |client| async move {
                client.inspect_container(id, None::<InspectContainerOptions>).await
            })
            .await
    }

    /// An error that says how the container ended, unless it runs.
    async fn still_runs(
        &self,
        id: &str,
        container: &ContainerInspectResponse,
    ) -> Result<(), CreateFailure> {
        let Some(state) = &container.state else {
            return Ok(());
        };
        if state.running != Some(false) {
            return Ok(());
        }
        let error = state.error.clone().unwrap_or_default();
        let last_words = self.collect_last_words(id).await.unwrap_or_default();
        let why = crate::driver::describe_end(cut(&error), &last_words).into();
        Err(CreateFailure::Final(StartError::Ended { why, last_words: last_words.into() }))
    }

    /// Removes what a failed attempt left. If that fails, the outcome of the start is unclear.
    async fn abandon(&self, id: &str, failure: CreateFailure) -> CreateFailure {
        match self.remove(id).await {
            Err(error) if !error.is_status(404) => {
                let why = match &failure {
                    CreateFailure::NameInUse(error)
                    | CreateFailure::NoNetwork(error)
                    | CreateFailure::NoInit(error) => error.text().into(),
                    CreateFailure::Final(error) => error.to_string(),
                };
                let text = format!("{why}; and what is left cannot be removed: {}", error.text());
                CreateFailure::Final(StartError::Unclear(text.into()))
            }
            _ => {
                self.forget(id);
                failure
            }
        }
    }

    /// Removes the container with the name if it belongs to the fleet and is stale.
    async fn clear_name(&self, request: &StartRequest) -> Result<(), StartError> {
        let name = &request.name;
        let holder = match self.inspect(&self.names.container(name)).await {
            Err(error) if error.is_status(404) => return Ok(()),
            other => other?,
        };
        let labels = holder.config.and_then(|config| config.labels);
        let (Some(id), true) = (holder.id, labels.as_ref().is_some_and(|set| self.names.owns(set)))
        else {
            return Err(StartError::NameTaken(name.clone()));
        };
        let runs = holder.state.is_some_and(|state| state.running == Some(true));
        if runs && !is_outdated(labels.as_ref(), request.instance) {
            // Another process has become the supervisor of the fleet and has started it.
            return Err(StartError::NameTaken(name.clone()));
        }
        tracing::info!(%name, "a stale container of ours is in the way and removed");
        self.remove_and_wait(&id).await.map_err(Into::into)
    }
}

/// Whether a container with these labels is an earlier run of the replica that is to be started, or
/// has labels that no supervisor writes.
fn is_outdated(labels: Option<&HashMap<String, String>>, wanted: InstanceId) -> bool {
    labels.and_then(labels::instance).is_none_or(|found| {
        found.replica == wanted.replica && found.incarnation < wanted.incarnation
    })
}

/// The configured environment, and the variables of the contract, which win.
fn environment(configured: &[(String, String)], request: &StartRequest, port: u16) -> Vec<String> {
    let ours = crate::driver::contract_env(request, port);
    configured
        .iter()
        .filter(|(key, _)| ours.iter().all(|(reserved, _)| reserved != key))
        .map(|(key, value)| format!("{key}={value}"))
        .chain(ours.iter().map(|(key, value)| format!("{key}={value}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use ringmaster_core::fleet::ids::{Incarnation, ReplicaId, ReplicaName};

    use super::*;

    fn request() -> StartRequest {
        StartRequest {
            instance: InstanceId { replica: ReplicaId(7), incarnation: Incarnation(3) },
            name: ReplicaName::new("S5").unwrap(),
            ordinal: 1,
            weight: 1,
            positions: vec![1],
            image: None,
        }
    }

    #[test]
    fn our_environment_wins() {
        let configured =
            vec![("PORT".to_owned(), "1".to_owned()), ("DELAY".to_owned(), "a=b".to_owned())];
        assert_eq!(
            environment(&configured, &request(), 5000),
            [
                "DELAY=a=b",
                "SERVER_ID=S5",
                "PORT=5000",
                "RINGMASTER_REPLICA=7",
                "RINGMASTER_INCARNATION=3"
            ]
        );
    }
}
