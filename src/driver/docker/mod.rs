//! Instances as containers of a Docker engine (API 1.41 and later).

mod client;
mod create;
mod events;
pub mod init;
pub mod labels;
mod list;
mod logs;
mod network;
mod own;
mod stop;
mod tidy;

use std::{
    collections::HashMap,
    env,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use bollard::query_parameters::RemoveContainerOptions;
use futures_util::future::BoxFuture;
use ringmaster_core::fleet::{
    ids::{Handle, ImageId, InstanceId, SpecDigest},
    message::{
        EngineError, LastWords, Listing, Revision, StartError, StartRequest, Started, StopManner,
    },
};
use tokio::sync::mpsc;

pub use self::network::FleetNetwork;
use self::{
    client::{CallError, EngineConnection},
    init::Init,
    labels::Names,
};
use super::{Driver, Signal};

/// Containers whose instance is remembered; more than a fleet can have.
const MOST_KNOWN: usize = 1024;

/// What containers are made from, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerConfig {
    /// The engine: `unix:///path` or `tcp://host:port`.
    pub host: String,
    /// The fleet; only containers and networks with its label are touched.
    pub fleet: String,
    /// Image of the replicas. It is not pulled.
    pub image: String,
    /// The port that replicas listen on.
    pub port: u16,
    /// Additional environment variables. Those of the contract win over them.
    pub env: Vec<(String, String)>,
    /// Replaces the command of the image.
    pub command: Option<Vec<String>>,
    /// Replaces the fleet's own network. An existing one is used as it is.
    pub network: Option<String>,
    /// Whether containers start with an init.
    pub init: Init,
    /// Time between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// How long a start waits for the container to listen or to end.
    pub settle: Duration,
    /// Timeouts of the calls to the engine.
    pub deadlines: Deadlines,
}

impl DockerConfig {
    /// The contract's defaults for an image, and the engine that `DOCKER_HOST` names.
    pub fn new(fleet: &str, image: &str) -> Self {
        Self {
            host: default_host(),
            fleet: fleet.into(),
            image: image.into(),
            port: 5000,
            env: Vec::new(),
            command: None,
            network: None,
            init: Init::Auto,
            grace: Duration::from_secs(10),
            settle: Duration::from_millis(500),
            deadlines: Deadlines::default(),
        }
    }
}

/// `DOCKER_HOST`, else the usual socket.
pub fn default_host() -> String {
    env::var("DOCKER_HOST")
        .ok()
        .filter(|host| !host.is_empty())
        .unwrap_or_else(|| "unix:///var/run/docker.sock".into())
}

/// Timeouts of the calls to the engine. A stop has the grace on top of `ordinary`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// Inspecting, listing and pinging.
    pub ordinary: Duration,
    /// Creating, starting and removing containers and networks.
    pub create: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { ordinary: Duration::from_secs(5), create: Duration::from_secs(20) }
    }
}

/// Whether an engine seems to be installed, even if it does not respond yet.
pub fn is_here() -> bool {
    let host = default_host();
    host.strip_prefix("unix://").is_none_or(|path| std::path::Path::new(path).exists())
}

/// The driver for a Docker engine.
#[derive(Debug)]
pub struct DockerDriver {
    config: DockerConfig,
    names: Names,
    network: String,
    connection: EngineConnection,
    fleet_network: ArcSwapOption<FleetNetwork>,
    network_turn: tokio::sync::Mutex<()>,
    /// Container ids to instances, because network events name only the container.
    known: Mutex<HashMap<String, InstanceId>>,
    init: init::InitSupport,
}

/// A build of the replicas' image.
struct Build {
    revision: Revision,
    /// Whether the image's program is an init itself.
    has_init: bool,
}

impl DockerDriver {
    /// Makes no call to the engine yet.
    pub fn new(config: DockerConfig) -> Self {
        let names = Names::of(&config.fleet);
        let network = config.network.clone().unwrap_or_else(|| names.network());
        Self {
            connection: EngineConnection::new(config.host.clone(), config.deadlines.ordinary),
            fleet_network: ArcSwapOption::empty(),
            network_turn: tokio::sync::Mutex::new(()),
            known: Mutex::default(),
            init: init::InitSupport::default(),
            names,
            network,
            config,
        }
    }

    /// Makes the network, joins the balancer's own container to it, and looks the image up. To be
    /// called before the first `list`, and again until it succeeds.
    ///
    /// # Errors
    /// When the engine is away, or refuses the network. A missing image is no error: there may be
    /// nothing to start.
    pub async fn prepare(&self) -> Result<(), EngineError> {
        self.prepare_network().await?;
        match self.wanted_revision().await {
            Err(error) if error.is_status(404) => {
                tracing::warn!(image = self.config.image, "{}", self.missing_image());
                Ok(())
            }
            Err(error) => Err(error.into()),
            Ok(_) => Ok(()),
        }
    }

    /// The address ranges of the fleet's network, and of those that the balancer's own container is
    /// on; `None` before the engine has reported them.
    pub fn fleet_network(&self) -> Option<Arc<FleetNetwork>> {
        self.fleet_network.load_full()
    }

    /// The revision of the configuration, with the build that the tag names at the moment.
    async fn wanted_revision(&self) -> Result<Revision, CallError> {
        Ok(self.build(&self.config.image).await?.revision)
    }

    /// One build of an image, by its tag or id.
    async fn build(&self, reference: &str) -> Result<Build, CallError> {
        let image = self
            .connection
            .call("inspect image", self.config.deadlines.ordinary, |client| async move {
                client.inspect_image(reference).await
            })
            .await?;
        let program = image.config.unwrap_or_default();
        let command = self.config.command.clone().or(program.cmd).unwrap_or_default();
        let has_init = init::is_init(&program.entrypoint.unwrap_or_default(), &command);
        let id = ImageId(image.id.unwrap_or_default().into());
        let revision = Revision { spec: spec_of(&self.config, &id.0), image: Some(id) };
        Ok(Build { revision, has_init })
    }

    fn missing_image(&self) -> String {
        let image = &self.config.image;
        format!("there is no image '{image}' on this engine; get it with `docker pull {image}`")
    }

    fn remember(&self, container: &str, instance: InstanceId) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // It is full only if the events of many ends were lost; the next list fills it again.
        if known.len() >= MOST_KNOWN && !known.contains_key(container) {
            known.clear();
        }
        known.insert(container.to_owned(), instance);
    }

    fn forget(&self, container: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(container);
    }

    fn known(&self, container: &str) -> Option<InstanceId> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(container).copied()
    }

    /// Kills a container if it runs, and removes it with its anonymous volumes.
    async fn remove(&self, id: &str) -> Result<(), CallError> {
        let options = RemoveContainerOptions { v: true, force: true, link: false };
        self.connection
            .call("remove", self.config.deadlines.create, |client| async move {
                client.remove_container(id, Some(options)).await
            })
            .await
    }
}

fn spec_of(config: &DockerConfig, image_id: &str) -> SpecDigest {
    let command = config.command.as_deref();
    labels::spec(&config.image, image_id, config.port, &config.env, command, config.init)
}

impl Driver for DockerDriver {
    fn start(&self, request: StartRequest) -> BoxFuture<'_, Result<Started, StartError>> {
        Box::pin(self.start_container(request))
    }

    fn stop(&self, handle: Handle, manner: StopManner) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(self.stop_container(handle, manner))
    }

    fn last_words(&self, handle: Handle) -> BoxFuture<'_, Option<LastWords>> {
        Box::pin(async move { self.collect_last_words(&handle.0).await })
    }

    fn logs(
        &self,
        handle: Handle,
        lines: usize,
    ) -> BoxFuture<'_, Result<Vec<String>, EngineError>> {
        Box::pin(async move { self.live_log(&handle, lines).await })
    }

    fn list(&self) -> BoxFuture<'_, Result<Listing, EngineError>> {
        Box::pin(self.list_containers())
    }

    fn tidy_up(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(self.remove_network())
    }

    fn watch(&self, signals: mpsc::Sender<Signal>) -> BoxFuture<'_, ()> {
        Box::pin(self.watch_events(signals))
    }
}
