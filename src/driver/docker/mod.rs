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
    client::{CallError, Connection},
    init::Init,
    labels::Names,
};
use super::{Driver, Signal};

/// How many containers we remember the instances of; more than a fleet can have.
const MOST_KNOWN: usize = 1024;

/// What containers are made from, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerConfig {
    /// The engine: `unix:///path` or `tcp://host:port`.
    pub host: String,
    /// The fleet; all that we touch bears its label.
    pub fleet: String,
    /// Image of the replicas. It is not pulled.
    pub image: String,
    /// The port that replicas listen on.
    pub port: u16,
    /// More environment. What the contract gives to every container wins over it.
    pub env: Vec<(String, String)>,
    /// Arguments instead of the image's own.
    pub command: Option<Vec<String>>,
    /// A network instead of the fleet's own. Used as it is when it exists.
    pub network: Option<String>,
    /// Whether containers start with an init.
    pub init: Init,
    /// Time between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// How long a new container is watched for an end right after its start, unless it listens.
    pub settle: Duration,
    /// When calls are given up.
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

/// When calls to the engine are given up. A stop has the grace on top of `ordinary`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// Looking at things.
    pub ordinary: Duration,
    /// Creating, starting and removing containers and networks.
    pub create: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { ordinary: Duration::from_secs(5), create: Duration::from_secs(20) }
    }
}

/// Whether an engine is meant to be here, even if it does not answer yet.
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
    connection: Connection,
    fleet_network: ArcSwapOption<FleetNetwork>,
    network_turn: tokio::sync::Mutex<()>,
    /// Whose a container is; network events name only the container.
    known: Mutex<HashMap<String, InstanceId>>,
    init: init::Known,
}

/// A build of the replicas' image.
struct Build {
    revision: Revision,
    /// Whether its own program is an init.
    has_init: bool,
}

impl DockerDriver {
    /// A driver. The engine is not asked for anything yet.
    pub fn new(config: DockerConfig) -> Self {
        let names = Names::of(&config.fleet);
        let network = config.network.clone().unwrap_or_else(|| names.network());
        Self {
            connection: Connection::new(config.host.clone(), config.deadlines.ordinary),
            fleet_network: ArcSwapOption::empty(),
            network_turn: tokio::sync::Mutex::new(()),
            known: Mutex::default(),
            init: init::Known::default(),
            names,
            network,
            config,
        }
    }

    /// Gets the engine ready: the network is there, our own container is on it, and the image's
    /// id is known. To be called before the first `list`, and again until it succeeds.
    ///
    /// # Errors
    /// When the engine is away, or refuses the network. A missing image is none: there may be
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

    /// The address ranges of the fleet's network, and of those that our own container is on; `None`:
    /// the engine has not said yet.
    pub fn fleet_network(&self) -> Option<Arc<FleetNetwork>> {
        self.fleet_network.load_full()
    }

    /// What the configuration asks for, with the build that the tag names at the moment.
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
        // Full only after many containers that ended unseen; the next list fills it again.
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
