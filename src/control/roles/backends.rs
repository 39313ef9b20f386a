//! Backends that others list in the store are registered servers of the fleet: they come and go as
//! they do there, and what our checks say of them is written back, when it changes.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, SystemTime},
};

use ringmaster_core::fleet::{
    command::{Request, ScaleCommand, ScaleError},
    ids::ReplicaName,
    server::{Registration, Server, ServerChange, Source},
    view::{FleetView, InstancePhase, ReplicaView},
};
use tokio::time::MissedTickBehavior;

use crate::{
    control::{Handle, leash::Leash},
    store::{
        StoreError,
        redis::{BackendNews, Backends, RedisStore},
    },
};

/// How often the list is read although nothing was told.
const READ_EVERY: Duration = Duration::from_secs(1);
/// Own publications that have not come back yet.
const ECHOES_MAX: usize = 1_024;

/// The backends of one term.
pub(super) struct Mirror {
    store: RedisStore,
    handle: Handle,
    leash: Leash,
    /// What the store says of each.
    said: BTreeMap<ReplicaName, bool>,
    /// What we have published: when it comes back, it is no word of another party.
    echoes: VecDeque<(ReplicaName, bool)>,
    /// Why a backend could not be registered, as it was last told.
    refused: BTreeMap<ReplicaName, String>,
}

/// What has to be done for the fleet to have the listed backends.
#[derive(Debug, Default, PartialEq)]
struct Difference {
    added: Vec<Registration>,
    changed: Vec<(ReplicaName, ServerChange)>,
    removed: Vec<ReplicaName>,
    /// Of those that stay.
    marked: Vec<(ReplicaName, bool)>,
}

impl Mirror {
    pub(super) fn new(store: RedisStore, handle: Handle, leash: Leash) -> Self {
        let (said, refused) = (BTreeMap::new(), BTreeMap::new());
        Self { store, handle, leash, said, echoes: VecDeque::new(), refused }
    }

    /// Until it is dropped with its term.
    pub(super) async fn run(mut self) {
        self.handle.until(|view| view.is_booted()).await;
        let mut news = self.store.watch_backends();
        let mut views = self.handle.views();
        let mut reads = tokio::time::interval(READ_EVERY);
        reads.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                told = news.recv() => match told {
                    Some(BackendNews::Listening) => {
                        self.echoes.clear();
                        self.read().await;
                    }
                    Some(BackendNews::Marked(name, is_healthy)) => {
                        self.told(name, is_healthy).await;
                    }
                    Some(BackendNews::Other) => {}
                    // The store's own task has ended, which is the end of the process.
                    None => return,
                },
                _ = reads.tick() => self.read().await,
                changed = views.changed() => if changed.is_err() { return },
            }
            self.write_verdicts().await;
        }
    }

    async fn told(&mut self, name: ReplicaName, is_healthy: bool) {
        let told = (name, is_healthy);
        if let Some(at) = self.echoes.iter().position(|echo| *echo == told) {
            self.echoes.remove(at);
            return;
        }
        let (name, is_healthy) = told;
        if !ours(&self.handle.view()).any(|(replica, _)| replica.name == name) {
            // A new one, perhaps; the list says it.
            return self.read().await;
        }
        self.said.insert(name.clone(), is_healthy);
        self.mark(name, is_healthy).await;
    }

    async fn read(&mut self) {
        // What went wrong is said by the store.
        let Ok(found) = self.store.backends().await else { return };
        let view = self.handle.view();
        if found.is_emptied {
            let held = ours(&view).map(|(replica, server)| (replica.name.clone(), server.clone()));
            if !self.leash.may_act() {
                return;
            }
            let restored = self.store.restore_backends(self.leash.fence(), &held.collect()).await;
            // What is gone with all the rest was not taken off the list.
            if restored.is_err() || ours(&view).next().is_some() {
                return;
            }
        }
        let difference = difference(&found, &view, &self.said);
        let listed = found.listed.iter();
        self.said = listed.filter_map(|(n, b)| Some((n.clone(), b.is_healthy?))).collect();
        self.refused.retain(|name, _| found.listed.contains_key(name));
        if !difference.removed.is_empty() {
            let (n, names) = (difference.removed.len(), difference.removed);
            self.ask(ScaleCommand::Remove { n, names }).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "backends that are listed no more could not be removed");
            });
        }
        for (name, change) in difference.changed {
            let asked = self.ask(ScaleCommand::ChangeServer { name: name.clone(), change }).await;
            self.refused(&name, asked.err());
        }
        self.register(difference.added).await;
        for (name, is_healthy) in difference.marked {
            self.mark(name, is_healthy).await;
        }
    }

    /// All at once; only where one of them is refused, each by itself.
    async fn register(&mut self, added: Vec<Registration>) {
        if added.is_empty() || self.ask(ScaleCommand::Register(added.clone())).await.is_ok() {
            return;
        }
        for one in added {
            let name = one.name.clone();
            let asked = self.ask(ScaleCommand::Register(vec![one])).await;
            self.refused(&name, asked.err());
        }
    }

    fn refused(&mut self, name: &ReplicaName, error: Option<ScaleError>) {
        match error.map(|error| error.to_string()) {
            None => drop(self.refused.remove(name)),
            Some(why) if self.refused.get(name) == Some(&why) => {}
            Some(why) => {
                tracing::warn!("the backend '{name}' cannot be registered: {why}");
                self.refused.insert(name.clone(), why);
            }
        }
    }

    async fn mark(&self, name: ReplicaName, is_healthy: bool) {
        let asked = self.ask(ScaleCommand::SetHealth { name: name.clone(), is_healthy }).await;
        if let Err(error) = asked {
            tracing::warn!("what is said of the backend '{name}' has no effect: {error}");
        }
    }

    async fn ask(&self, command: ScaleCommand) -> Result<(), ScaleError> {
        let answered = self.handle.scale(Request { command, dry_run: false }).await;
        answered.answer.map(|_| ())
    }

    async fn write_verdicts(&mut self) {
        let view = self.handle.view();
        for (replica, _) in ours(&view) {
            let Some(verdict) = verdict(replica) else { continue };
            let name = &replica.name;
            if self.said.get(name) == Some(&verdict) {
                continue;
            }
            if !self.leash.may_act() {
                return;
            }
            let fence = self.leash.fence();
            let marked = self.store.mark_backend(fence, name, verdict, SystemTime::now()).await;
            // If it fails, the next turn says it again; one that cannot be written stops no other.
            match marked {
                Ok(()) => {}
                Err(StoreError::Refused(_)) => continue,
                Err(_) => return,
            }
            self.said.insert(name.clone(), verdict);
            self.echoes.push_back((name.clone(), verdict));
            if self.echoes.len() > ECHOES_MAX {
                self.echoes.pop_front();
            }
        }
    }
}

/// The replicas that were found in the store.
fn ours(view: &FleetView) -> impl Iterator<Item = (&ReplicaView, &Server)> {
    let server = |replica: &ReplicaView| replica.server.as_ref().map(|s| s.source);
    view.replicas
        .iter()
        .filter(move |replica| server(replica) == Some(Source::Store))
        .filter_map(|replica| Some((replica, replica.server.as_ref()?)))
}

/// What our checks say; `None`: nothing yet.
fn verdict(replica: &ReplicaView) -> Option<bool> {
    let instance = replica.instances.last()?;
    match instance.phase {
        InstancePhase::Admitted => Some(instance.reason.is_none()),
        InstancePhase::Ejected => Some(false),
        _ => None,
    }
}

fn difference(
    found: &Backends,
    view: &FleetView,
    said: &BTreeMap<ReplicaName, bool>,
) -> Difference {
    let held: BTreeMap<&ReplicaName, &Server> =
        ours(view).map(|(replica, server)| (&replica.name, server)).collect();
    let mut difference = Difference::default();
    for (name, backend) in &found.listed {
        let Some(server) = held.get(name) else {
            let server = backend.server.clone();
            difference.added.push(Registration { name: name.clone(), weight: 1, server });
            continue;
        };
        if !server.is_same_place(&backend.server) {
            let (host, port) = (backend.server.host.clone(), backend.server.port);
            let change = ServerChange { host: Some(host), port: Some(port), weight: None };
            difference.changed.push((name.clone(), change));
        }
        if let (Some(is_healthy), Some(before)) = (backend.is_healthy, said.get(name))
            && is_healthy != *before
        {
            difference.marked.push((name.clone(), is_healthy));
        }
    }
    let is_gone =
        |name: &&ReplicaName| !found.listed.contains_key(*name) && !found.unusable.contains(name);
    difference.removed = held.into_keys().filter(is_gone).cloned().collect();
    difference
}
