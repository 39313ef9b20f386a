//! The simulated engine: containers with addresses that are reused at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
};

use ringmaster_core::fleet::{
    ids::{Handle, ImageId, InstanceId, Moment, ReplicaName, SpecDigest},
    message::{
        Found, FoundIdentity, FoundState, LastWords, Listing, ProbeOutcome, Revision, StartRequest,
    },
};

/// How a simulated container responds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behaviour {
    /// Responds from this moment on.
    Good { from: Moment },
    /// Accepts connections, and never responds.
    Hangs,
    /// Responds with an error.
    Fails,
    /// Refuses connections.
    Refuses,
}

impl Behaviour {
    /// The result of a heartbeat; `None` if nothing listens.
    pub(super) fn answer(behaviour: Option<Self>, now: Moment) -> ProbeOutcome {
        match behaviour {
            Some(Self::Good { from }) if from <= now => ProbeOutcome::Passed,
            Some(Self::Fails) => ProbeOutcome::BadAnswer("500".into()),
            Some(Self::Good { .. } | Self::Refuses) | None => {
                ProbeOutcome::NoAnswer("refused".into())
            }
            Some(Self::Hangs) => ProbeOutcome::Silent("timeout".into()),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Container {
    pub(super) identity: FoundIdentity,
    pub(super) address: SocketAddr,
    pub(super) state: FoundState,
    pub(super) behaviour: Behaviour,
    /// Ignores a graceful stop.
    pub(super) is_stubborn: bool,
    /// No fault has affected it.
    pub(super) is_undisturbed: bool,
    /// Created after the supervisor had given up the start.
    pub(super) is_late: bool,
}

/// The engine and what it holds.
#[derive(Clone, Debug)]
pub(super) struct Engine {
    pub(super) is_up: bool,
    pub(super) containers: BTreeMap<Handle, Container>,
    /// The image that the tag names.
    pub(super) image: ImageId,
    /// Builds whose containers end by themselves.
    pub(super) bad: BTreeSet<ImageId>,
    /// Names of containers that do not belong to the fleet.
    pub(super) foreign: Vec<ReplicaName>,
    created: u64,
}

impl Engine {
    pub(super) fn new() -> Self {
        Self {
            is_up: true,
            containers: BTreeMap::new(),
            image: ImageId("0".into()),
            bad: BTreeSet::new(),
            foreign: Vec::new(),
            created: 0,
        }
    }

    /// Creates and starts a container on the lowest free address, as real engines do.
    pub(super) fn create(&mut self, request: &StartRequest, ready_at: Moment) -> Handle {
        self.created += 1;
        let handle = Handle(format!("c{:06}", self.created).into());
        let address = self.free_address();
        let image = request.image.clone().unwrap_or_else(|| self.image.clone());
        let identity = FoundIdentity {
            instance: request.instance,
            name: request.name.clone(),
            ordinal: request.ordinal,
            weight: request.weight,
            positions: request.positions.clone(),
            spec: spec_of(&image),
            image: Some(image),
        };
        // A container of the fleet with the same name is removed first.
        self.containers.retain(|_, container| container.identity.name != request.name);
        let container = Container {
            identity,
            address,
            state: FoundState::Running(Some(address)),
            behaviour: Behaviour::Good { from: ready_at },
            is_stubborn: false,
            is_undisturbed: true,
            is_late: false,
        };
        self.containers.insert(handle.clone(), container);
        handle
    }

    /// Whether the driver refuses a start because of what bears the name: only what does not run, and
    /// earlier runs of the same replica, make way.
    pub(super) fn refuses(&self, request: &StartRequest) -> bool {
        let wanted = request.instance;
        self.running_bearers(&request.name)
            .any(|found| found.replica != wanted.replica || found.incarnation >= wanted.incarnation)
    }

    /// What runs under a name.
    pub(super) fn running_bearers(&self, name: &ReplicaName) -> impl Iterator<Item = InstanceId> {
        let runs = |container: &&Container| {
            matches!(container.state, FoundState::Running(_) | FoundState::Paused(_))
        };
        let bearers = self.containers.values().filter(move |one| one.identity.name == *name);
        bearers.filter(runs).map(|container| container.identity.instance)
    }

    pub(super) fn free_address(&self) -> SocketAddr {
        let holds = |address: SocketAddr| {
            self.containers.values().any(|container| {
                container.address == address
                    && !matches!(container.state, FoundState::Exited { .. })
            })
        };
        let address = |last: u8| SocketAddr::from((Ipv4Addr::new(10, 0, 0, last), 5000));
        (2..=254).map(address).find(|&address| !holds(address)).unwrap_or(address(255))
    }

    pub(super) fn listing(&self) -> Listing {
        let found = self.containers.iter().map(|(handle, container)| Found {
            handle: handle.clone(),
            identity: Some(container.identity.clone()),
            state: container.state,
        });
        Listing {
            wanted: Some(Revision { spec: spec_of(&self.image), image: Some(self.image.clone()) }),
            found: found.collect(),
            foreign_names: self.foreign.clone(),
        }
    }

    /// The result of a heartbeat: from the container that has the address now.
    pub(super) fn answer_at(&self, address: SocketAddr, now: Moment) -> ProbeOutcome {
        let holder = self
            .containers
            .values()
            .find(|c| c.state == FoundState::Running(Some(address)) && c.address == address);
        Behaviour::answer(holder.map(|container| container.behaviour), now)
    }

    /// Whether a container runs and no fault has affected it.
    pub(super) fn is_undisturbed(&self, handle: &Handle) -> bool {
        let container = self.containers.get(handle);
        container
            .is_some_and(|c| c.is_undisturbed && matches!(c.state, FoundState::Running(Some(_))))
    }

    /// Whether a container is of a build whose containers end by themselves.
    pub(super) fn is_bad(&self, handle: &Handle) -> bool {
        let image = self.containers.get(handle).and_then(|c| c.identity.image.as_ref());
        image.is_some_and(|image| self.bad.contains(image))
    }

    /// Notes that a fault has affected an instance.
    pub(super) fn disturb(&mut self, id: InstanceId) {
        for container in self.containers.values_mut().filter(|c| c.identity.instance == id) {
            container.is_undisturbed = false;
        }
    }

    /// How a container has ended.
    pub(super) fn last_words(&self, handle: &Handle) -> Option<LastWords> {
        match self.containers.get(handle)?.state {
            FoundState::Exited { exit_code } => Some(LastWords {
                lines: vec![format!("{handle} says goodbye")],
                ..LastWords::of_exit(exit_code)
            }),
            _ => None,
        }
    }

    /// Handles of running containers, for faults to choose from.
    pub(super) fn running(&self) -> Vec<Handle> {
        let runs = |container: &Container| matches!(container.state, FoundState::Running(_));
        let running = self.containers.iter().filter(|(_, container)| runs(container));
        running.map(|(handle, _)| handle.clone()).collect()
    }
}

/// The settings never change in a run, so revisions differ only in their image.
fn spec_of(image: &ImageId) -> SpecDigest {
    SpecDigest(format!("spec-{image}").into())
}
