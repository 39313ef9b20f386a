//! Backends that others list in the store are registered servers of the fleet: they come and go as
//! they do there, and what our checks say of them is written back, when it changes.
//!
//! To register and to remove may take as long as a drain. Meanwhile what is told of other backends
//! takes effect; what is told of those that are under way waits for them.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, SystemTime},
};

use futures_util::future::BoxFuture;
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
    /// The changes that are under way; the core carries out one at a time, so more would not help.
    changes: Option<Changes>,
    /// Whether others have to be changed when they are done.
    has_more: bool,
}

/// Changes of who there is, and where, that are under way.
struct Changes {
    names: BTreeSet<ReplicaName>,
    /// What was said of them meanwhile.
    marks: BTreeMap<ReplicaName, bool>,
    outcome: BoxFuture<'static, Outcome>,
}

/// Why backends could not be registered or changed; `None`: they were.
type Outcome = Vec<(ReplicaName, Option<ScaleError>)>;

/// What came of the changes, when they are done.
async fn done(changes: &mut Option<Changes>) -> Outcome {
    match changes {
        Some(changes) => changes.outcome.as_mut().await,
        None => std::future::pending().await,
    }
}

/// What has to be done for the fleet to have the listed backends.
#[derive(Debug, Default, PartialEq)]
struct Difference {
    added: Vec<Registration>,
    changed: Vec<(ReplicaName, ServerChange)>,
    removed: Vec<ReplicaName>,
    /// Of those of which something else was said before.
    marked: Vec<(ReplicaName, bool)>,
}

impl Mirror {
    pub(super) fn new(store: RedisStore, handle: Handle, leash: Leash) -> Self {
        Self {
            store,
            handle,
            leash,
            said: BTreeMap::new(),
            echoes: VecDeque::new(),
            refused: BTreeMap::new(),
            changes: None,
            has_more: false,
        }
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
                outcome = done(&mut self.changes) => self.changed(outcome).await,
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
        if self.waits(&name, is_healthy) {
            self.said.insert(name, is_healthy);
            return;
        }
        if !is_held(&self.handle.view(), &name) {
            // A new one, perhaps; the list says it.
            return self.read().await;
        }
        self.said.insert(name.clone(), is_healthy);
        mark(&self.handle, name, is_healthy).await;
    }

    fn is_changing(&self, name: &ReplicaName) -> bool {
        self.changes.as_ref().is_some_and(|changes| changes.names.contains(name))
    }

    /// Keeps what is said of a backend until its change is done, if one is under way.
    fn waits(&mut self, name: &ReplicaName, is_healthy: bool) -> bool {
        let changes = self.changes.as_mut().filter(|changes| changes.names.contains(name));
        changes.map(|changes| changes.marks.insert(name.clone(), is_healthy)).is_some()
    }

    async fn changed(&mut self, outcome: Outcome) {
        for (name, error) in outcome {
            self.refused(&name, error);
        }
        let marks = self.changes.take().map(|changes| changes.marks).unwrap_or_default();
        let view = self.handle.view();
        // What could not be registered, or is gone, cannot be marked.
        for (name, is_healthy) in marks {
            if is_held(&view, &name) {
                mark(&self.handle, name, is_healthy).await;
            }
        }
        if std::mem::take(&mut self.has_more) {
            self.read().await;
        }
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
        let Difference { added, changed, removed, marked } = difference(&found, &view, &self.said);
        self.begin(added, changed, removed);
        for (name, is_healthy) in marked {
            if !self.waits(&name, is_healthy) && is_held(&view, &name) {
                mark(&self.handle, name, is_healthy).await;
            }
        }
        let listed = found.listed.iter();
        self.said = listed.filter_map(|(n, b)| Some((n.clone(), b.is_healthy?))).collect();
        self.refused.retain(|name, _| found.listed.contains_key(name));
    }

    /// Begins to change who there is, unless that is under way: then what is missing comes later.
    fn begin(
        &mut self,
        added: Vec<Registration>,
        changed: Vec<(ReplicaName, ServerChange)>,
        removed: Vec<ReplicaName>,
    ) {
        let names = added.iter().map(|one| &one.name).chain(changed.iter().map(|(name, _)| name));
        let names: BTreeSet<ReplicaName> = names.chain(&removed).cloned().collect();
        if let Some(running) = &self.changes {
            self.has_more |= !names.is_subset(&running.names);
        } else if !names.is_empty() {
            let outcome = change(self.handle.clone(), added, changed, removed);
            let (marks, outcome) = (BTreeMap::new(), Box::pin(outcome));
            self.changes = Some(Changes { names, marks, outcome });
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

    async fn write_verdicts(&mut self) {
        let view = self.handle.view();
        for (replica, _) in ours(&view) {
            let Some(verdict) = verdict(replica) else { continue };
            let name = &replica.name;
            if self.said.get(name) == Some(&verdict) || self.is_changing(name) {
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

async fn ask(handle: &Handle, command: ScaleCommand) -> Result<(), ScaleError> {
    let answered = handle.scale(Request { command, dry_run: false }).await;
    answered.answer.map(|_| ())
}

async fn mark(handle: &Handle, name: ReplicaName, is_healthy: bool) {
    let command = ScaleCommand::SetHealth { name: name.clone(), is_healthy };
    if let Err(error) = ask(handle, command).await {
        tracing::warn!("what is said of the backend '{name}' has no effect: {error}");
    }
}

/// First those that are gone: another one may be at their place.
async fn change(
    handle: Handle,
    added: Vec<Registration>,
    changed: Vec<(ReplicaName, ServerChange)>,
    removed: Vec<ReplicaName>,
) -> Outcome {
    if !removed.is_empty() {
        let command = ScaleCommand::Remove { n: removed.len(), names: removed };
        ask(&handle, command).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "backends that are listed no more could not be removed");
        });
    }
    let mut outcome = Vec::new();
    for (name, change) in changed {
        let command = ScaleCommand::ChangeServer { name: name.clone(), change };
        outcome.push((name, ask(&handle, command).await.err()));
    }
    outcome.extend(register(&handle, added).await);
    outcome
}

/// All at once; only where one of them is refused, each by itself.
async fn register(handle: &Handle, added: Vec<Registration>) -> Outcome {
    let is_empty = added.is_empty();
    if is_empty || ask(handle, ScaleCommand::Register(added.clone())).await.is_ok() {
        return added.into_iter().map(|one| (one.name, None)).collect();
    }
    let mut outcome = Vec::new();
    for one in added {
        let name = one.name.clone();
        outcome.push((name, ask(handle, ScaleCommand::Register(vec![one])).await.err()));
    }
    outcome
}

/// The replicas that were found in the store.
fn ours(view: &FleetView) -> impl Iterator<Item = (&ReplicaView, &Server)> {
    let server = |replica: &ReplicaView| replica.server.as_ref().map(|s| s.source);
    view.replicas
        .iter()
        .filter(move |replica| server(replica) == Some(Source::Store))
        .filter_map(|replica| Some((replica, replica.server.as_ref()?)))
}

fn is_held(view: &FleetView, name: &ReplicaName) -> bool {
    ours(view).any(|(replica, _)| &replica.name == name)
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
        if let (Some(is_healthy), Some(before)) = (backend.is_healthy, said.get(name))
            && is_healthy != *before
        {
            difference.marked.push((name.clone(), is_healthy));
        }
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
    }
    let is_gone =
        |name: &&ReplicaName| !found.listed.contains_key(*name) && !found.unusable.contains(name);
    difference.removed = held.into_keys().filter(is_gone).cloned().collect();
    difference
}
