//! A hand-driven world around a [`Supervisor`]: it obeys every action at once, unless a test holds
//! the answer back. A scenario reads as what happened: `world.kill("server_1"); world.wait(100)`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
};

use crate::{
    fleet::{
        command::{CommandId, CommandResult, Done, Request, ScaleCommand},
        desired::Desired,
        ids::{Handle, ImageId, InstanceId, Moment, ReplicaName, SpecDigest},
        message::{
            Action, EngineError, Event, Found, FoundIdentity, FoundState, Listing, ProbeOutcome,
            Revision, Sighting, StartError, StartRequest, Started,
        },
        notes::Note,
        server::{Registration, Server, Source},
        state::Keeper,
        supervisor::{Settings, Supervisor},
        victim::VictimRule,
    },
    ring::RingSettings,
};

/// Kinds of action whose answer a test may hold back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Start,
    Probe,
    Stop,
    List,
    Persist,
    Drain,
    Resolve,
}

pub(super) struct World {
    pub(super) supervisor: Supervisor,
    pub(super) now: Moment,
    pub(super) containers: Vec<Found>,
    pub(super) foreign: Vec<ReplicaName>,
    /// What the tag names.
    pub(super) image: ImageId,
    pub(super) disk: Option<Desired>,
    /// The system's words while writes fail.
    pub(super) disk_error: Option<&'static str>,
    /// The engine's words while it is away.
    pub(super) engine_error: Option<&'static str>,
    /// What starts end with, if not well.
    pub(super) start_error: Option<StartError>,
    /// Where hosts are; one that is missing has no address.
    pub(super) hosts: BTreeMap<String, SocketAddr>,
    /// What heartbeats to a name meet, if not a pass.
    pub(super) ill: BTreeMap<String, ProbeOutcome>,
    /// Every action so far, but for heartbeats and lists.
    pub(super) acts: Vec<Action>,
    pub(super) notes: Vec<Note>,
    answers: BTreeMap<CommandId, CommandResult>,
    held: BTreeSet<Kind>,
    /// Actions whose answer is held back, with their kind.
    waiting: Vec<(Kind, Action)>,
    wake_at: Option<Moment>,
    created: u8,
    commands: u64,
}

pub(super) fn settings(replicas: usize) -> Settings {
    Settings {
        limits: Default::default(),
        keeper: Keeper::Ringmaster,
        servers: Vec::new(),
        ring: RingSettings::default(),
        victim: VictimRule::Newest,
        replicas,
        seed: 7,
    }
}

pub(super) fn registration(name: &str, host: &str) -> Registration {
    let server = Server::new(host, 5000, Source::Operator).unwrap();
    Registration { name: self::name(name), weight: 1, server }
}

pub(super) fn name(name: &str) -> ReplicaName {
    ReplicaName::new(name).unwrap()
}

pub(super) fn address(last: u8) -> SocketAddr {
    (Ipv4Addr::new(10, 0, 0, last), 5000).into()
}

/// The same settings with a certain build.
pub(super) fn revision(image: &ImageId) -> Revision {
    Revision { spec: SpecDigest(format!("spec of {image}").into()), image: Some(image.clone()) }
}

pub(super) fn no_answer() -> ProbeOutcome {
    ProbeOutcome::NoAnswer("timeout".into())
}

impl World {
    /// A fleet of so many replicas, all in service: `server_1`, `server_2`, …
    pub(super) fn of(replicas: usize) -> Self {
        let mut world = Self::before_boot(settings(replicas), None, Vec::new());
        world.wait(100);
        assert_eq!(world.rep().len(), replicas);
        world.forget();
        world
    }

    /// A balancer that has not had a moment yet.
    pub(super) fn before_boot(
        settings: Settings,
        stored: Option<Desired>,
        containers: Vec<Found>,
    ) -> Self {
        Self {
            supervisor: Supervisor::new(settings, stored.clone(), Moment(0)).unwrap(),
            now: Moment(0),
            // Above the addresses that a test gives away itself.
            created: 50 + containers.len() as u8,
            containers,
            foreign: Vec::new(),
            image: ImageId("first".into()),
            disk: stored,
            disk_error: None,
            engine_error: None,
            start_error: None,
            hosts: BTreeMap::new(),
            ill: BTreeMap::new(),
            acts: Vec::new(),
            notes: Vec::new(),
            answers: BTreeMap::new(),
            held: BTreeSet::new(),
            waiting: Vec::new(),
            wake_at: Some(Moment(0)),
            commands: 0,
        }
    }

    /// The balancer is killed and started again with what is left.
    pub(super) fn restart(self, replicas: usize) -> Self {
        self.restart_as(settings(replicas))
    }

    /// The same with a configuration of its own.
    pub(super) fn restart_as(self, settings: Settings) -> Self {
        let mut next = Self::before_boot(settings, self.disk, self.containers);
        next.hosts = self.hosts;
        next.foreign = self.foreign;
        next.image = self.image;
        next.created = self.created;
        next
    }

    /// Lets so many milliseconds pass.
    pub(super) fn wait(&mut self, millis: u64) {
        let until = Moment(self.now.0 + millis);
        while let Some(at) = self.wake_at.filter(|&at| at <= until) {
            self.now = at.max(self.now);
            self.tell(Event::Tick);
        }
        self.now = until;
    }

    /// One event, and all that follows from it at once.
    pub(super) fn tell(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let turn = self.supervisor.handle(event, self.now);
            self.wake_at = turn.wake_at;
            self.notes.extend(turn.notes);
            for action in turn.actions {
                if !matches!(
                    action,
                    Action::Probe { .. } | Action::List { .. } | Action::Resolve { .. }
                ) {
                    self.acts.push(action.clone());
                }
                events.extend(self.take(action));
            }
        }
    }

    fn take(&mut self, action: Action) -> Option<Event> {
        let kind = match &action {
            Action::Start(_) => Kind::Start,
            Action::Probe { .. } => Kind::Probe,
            Action::AwaitDrain { .. } => Kind::Drain,
            Action::Stop { .. } | Action::Reap { .. } => Kind::Stop,
            Action::List { .. } => Kind::List,
            Action::Persist { .. } => Kind::Persist,
            Action::Resolve { .. } => Kind::Resolve,
            Action::Respond(command, answer) => {
                let earlier = self.answers.insert(*command, answer.clone());
                assert!(earlier.is_none(), "{command:?} is answered twice");
                return None;
            }
        };
        if self.held.contains(&kind) {
            self.waiting.push((kind, action));
            return None;
        }
        self.obey(action)
    }

    fn obey(&mut self, action: Action) -> Option<Event> {
        Some(match action {
            Action::Start(request) => {
                let instance = request.instance;
                let result = match self.start_error.clone() {
                    Some(error) => Err(error),
                    None => Ok(self.create(&request)),
                };
                Event::Started { instance, result }
            }
            Action::Probe { instance, .. } => {
                let bearer = self.supervisor.state().instances.get(&instance);
                let ill = bearer.and_then(|known| self.ill.get(known.name.as_str()).cloned());
                Event::Probed { instance, outcome: ill.unwrap_or(ProbeOutcome::Passed) }
            }
            Action::AwaitDrain { instance } => Event::Drained { instance },
            Action::Stop { instance, handle, .. } => {
                self.containers.retain(|found| found.handle != handle);
                Event::Stopped { instance, last_words: None, result: Ok(()) }
            }
            Action::Reap { handle } => {
                self.containers.retain(|found| found.handle != handle);
                Event::Reaped { handle, result: Ok(()) }
            }
            Action::List { requested_at } => Event::Listed { requested_at, result: self.list() },
            Action::Persist { write, desired } => {
                let result = match self.disk_error {
                    Some(error) => Err(error.into()),
                    None => {
                        self.disk = Some(desired);
                        Ok(())
                    }
                };
                Event::Persisted { write, result }
            }
            Action::Resolve { instance, host, .. } => {
                let found = self.hosts.get(&*host).copied();
                let why = || format!("'{host}' cannot be resolved").into();
                Event::Resolved { instance, result: found.ok_or_else(why) }
            }
            Action::Respond(..) => return None,
        })
    }

    pub(super) fn list(&self) -> Result<Listing, EngineError> {
        if let Some(error) = self.engine_error {
            return Err(EngineError::Away(error.into()));
        }
        Ok(Listing {
            wanted: Some(revision(&self.image)),
            found: self.containers.clone(),
            foreign_names: self.foreign.clone(),
        })
    }

    pub(super) fn create(&mut self, request: &StartRequest) -> Started {
        self.created += 1;
        let address = address(self.created);
        let handle = Handle(format!("c{}", self.created).into());
        let image = request.image.clone().unwrap_or_else(|| self.image.clone());
        self.containers.push(Found {
            handle: handle.clone(),
            identity: Some(FoundIdentity {
                instance: request.instance,
                name: request.name.clone(),
                ordinal: request.ordinal,
                weight: request.weight,
                positions: request.positions.clone(),
                spec: revision(&image).spec,
                image: Some(image.clone()),
            }),
            state: FoundState::Running(Some(address)),
        });
        Started { handle, address, revision: revision(&image) }
    }

    /// Answers of this kind are held back from now on.
    pub(super) fn hold(&mut self, kind: Kind) {
        self.held.insert(kind);
    }

    /// Gives the answers that were held back, oldest first.
    pub(super) fn release(&mut self, kind: Kind) {
        self.held.remove(&kind);
        for action in self.held_back(kind) {
            if let Some(event) = self.obey(action) {
                self.tell(event);
            }
        }
    }

    /// Takes the actions that were held back, to answer them by hand.
    pub(super) fn held_back(&mut self, kind: Kind) -> Vec<Action> {
        let waiting = std::mem::take(&mut self.waiting);
        let (taken, rest): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(k, _)| *k == kind);
        self.waiting = rest;
        taken.into_iter().map(|(_, action)| action).collect()
    }

    pub(super) fn add(&mut self, n: usize, names: &[&str]) -> CommandId {
        let names = names.iter().copied().map(name).collect();
        self.ask(ScaleCommand::add(n, names, 1).unwrap(), false)
    }

    pub(super) fn rm(&mut self, n: usize, names: &[&str]) -> CommandId {
        let names = names.iter().copied().map(name).collect();
        self.ask(ScaleCommand::remove(n, names).unwrap(), false)
    }

    pub(super) fn ask(&mut self, command: ScaleCommand, dry_run: bool) -> CommandId {
        self.commands += 1;
        let id = CommandId(self.commands);
        self.tell(Event::Scale(id, Request { command, dry_run }));
        id
    }

    /// The answer, if there is one: names of what was added or removed, or the error's text.
    pub(super) fn answer(&self, id: CommandId) -> Option<Result<Vec<String>, String>> {
        Some(match self.answers.get(&id)? {
            Ok(Done::Added(names) | Done::Removed(names)) => {
                Ok(names.iter().map(ToString::to_string).collect())
            }
            Ok(Done::Preview(_) | Done::Changed(_) | Done::Retried { .. } | Done::Marked) => {
                Ok(Vec::new())
            }
            Err(error) => Err(error.to_string()),
        })
    }

    pub(super) fn full_answer(&self, id: CommandId) -> &CommandResult {
        &self.answers[&id]
    }

    fn see(&mut self, bearer: &str, state: Option<FoundState>, sighting: Sighting) {
        let index = self.index_of(bearer);
        let handle = self.containers[index].handle.clone();
        let Some(identity) = self.containers[index].identity.clone() else { return };
        match state {
            Some(state) => self.containers[index].state = state,
            None => drop(self.containers.remove(index)),
        }
        self.tell(Event::EngineSaw { instance: identity.instance, handle, sighting });
    }

    fn index_of(&self, bearer: &str) -> usize {
        let bears =
            |found: &Found| found.identity.as_ref().is_some_and(|i| i.name.as_str() == bearer);
        self.containers.iter().position(bears).unwrap_or_else(|| panic!("no container '{bearer}'"))
    }

    pub(super) fn kill(&mut self, bearer: &str) {
        let exit_code = Some(137);
        let state = FoundState::Exited { exit_code };
        self.see(bearer, Some(state), Sighting::Died { exit_code });
    }

    /// Removed without a trace, by another program.
    pub(super) fn remove(&mut self, bearer: &str) {
        self.see(bearer, None, Sighting::Removed);
    }

    pub(super) fn pause(&mut self, bearer: &str) {
        let at = self.address_of(bearer);
        self.see(bearer, Some(FoundState::Paused(Some(at))), Sighting::Paused);
    }

    pub(super) fn unpause(&mut self, bearer: &str) {
        let at = self.address_of(bearer);
        self.see(bearer, Some(FoundState::Running(Some(at))), Sighting::Unpaused);
    }

    pub(super) fn disconnect(&mut self, bearer: &str) {
        self.see(bearer, Some(FoundState::Running(None)), Sighting::Disconnected);
    }

    /// Its heartbeats fail from now on.
    pub(super) fn sicken(&mut self, bearer: &str, outcome: ProbeOutcome) {
        self.ill.insert(bearer.to_owned(), outcome);
    }

    pub(super) fn heal(&mut self, bearer: &str) {
        self.ill.remove(bearer);
    }

    pub(super) fn address_of(&self, bearer: &str) -> SocketAddr {
        match self.containers[self.index_of(bearer)].state {
            FoundState::Running(Some(address)) | FoundState::Paused(Some(address)) => address,
            other => panic!("'{bearer}' has no address: {other:?}"),
        }
    }

    pub(super) fn handle_of(&self, bearer: &str) -> Handle {
        self.containers[self.index_of(bearer)].handle.clone()
    }

    pub(super) fn instance_of(&self, bearer: &str) -> InstanceId {
        self.containers[self.index_of(bearer)].identity.as_ref().unwrap().instance
    }

    /// Names in service, as `/rep` gives them.
    pub(super) fn rep(&self) -> Vec<String> {
        self.supervisor.state().in_service().iter().map(ToString::to_string).collect()
    }

    /// Names of the desired replicas.
    pub(super) fn desired(&self) -> Vec<String> {
        let replicas = self.supervisor.state().desired.replicas().iter();
        replicas.map(|replica| replica.name.to_string()).collect()
    }

    /// Forgets what was done and noted so far.
    pub(super) fn forget(&mut self) {
        self.acts.clear();
        self.notes.clear();
    }

    pub(super) fn starts(&self) -> Vec<&StartRequest> {
        let mut starts = Vec::new();
        for action in &self.acts {
            if let Action::Start(request) = action {
                starts.push(request);
            }
        }
        starts
    }

    /// How often something was stopped or reaped.
    pub(super) fn ends(&self) -> usize {
        let ends = |a: &&Action| matches!(a, Action::Stop { .. } | Action::Reap { .. });
        self.acts.iter().filter(ends).count()
    }
}
