//! What this process routes by, and how far its workers are.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use ringmaster_core::{
    fleet::{ids::InstanceId, table::RoutingTable},
    roles::{ids::Version, publication::Publication},
};
use tokio::sync::watch;

use crate::control::{Publisher, own::OwnPorts};

/// The data plane of a process that takes part in a shared fleet.
pub trait Traffic: Publisher {
    /// Counts the tables that were published here; of the last one.
    fn number(&self) -> u64;

    /// The number of the oldest table that a worker still routes by.
    fn acknowledged(&self) -> u64;

    /// Open requests, of the instances that have any.
    fn open_requests(&self) -> BTreeMap<InstanceId, u64>;
}

/// The table that is in force here.
#[derive(Clone, Debug, Default)]
pub struct InForce {
    /// `None`: none has come yet.
    pub publication: Option<Arc<Publication>>,
    /// What the data plane calls it.
    pub number: u64,
}

impl InForce {
    /// The version of it; the lowest, where there is none.
    pub fn version(&self) -> Version {
        self.publication.as_ref().map(|publication| publication.version()).unwrap_or_default()
    }
}

/// Where tables come into force, from the supervisor in this process or from the store.
pub struct Local {
    traffic: Option<Arc<dyn Traffic>>,
    in_force: watch::Sender<InForce>,
    own: OwnPorts,
    /// Whether the addresses of the last table are ports of this process.
    are_own: Mutex<BTreeMap<SocketAddr, bool>>,
}

impl Local {
    /// A process without a table. `traffic`: its data plane, if it has one.
    pub(super) fn new(traffic: Option<Arc<dyn Traffic>>, own: OwnPorts) -> Self {
        let in_force = watch::Sender::new(InForce::default());
        Self { traffic, in_force, own, are_own: Mutex::default() }
    }

    pub(super) fn traffic(&self) -> Option<&Arc<dyn Traffic>> {
        self.traffic.as_ref()
    }

    /// Follows what is in force.
    pub fn subscribe(&self) -> watch::Receiver<InForce> {
        self.in_force.subscribe()
    }

    /// What is in force now.
    pub fn now(&self) -> InForce {
        self.in_force.borrow().clone()
    }

    /// Puts a table into force, unless one of this version or a later one is.
    pub(super) fn apply(&self, publication: &Publication) {
        self.in_force.send_if_modified(|in_force| {
            let is_newer = publication.version() > in_force.version();
            if is_newer {
                if let Some(traffic) = &self.traffic {
                    traffic.publish(self.without_own(publication.table().clone()));
                    in_force.number = traffic.number();
                }
                in_force.publication = Some(Arc::new(publication.clone()));
            }
            is_newer
        });
    }

    /// A table without the targets that are this process itself: another process may have found them
    /// well, through this one.
    fn without_own(&self, mut table: RoutingTable) -> RoutingTable {
        // It is replaced as a whole.
        let mut are_own = self.are_own.lock().unwrap_or_else(PoisonError::into_inner);
        let mut now = BTreeMap::new();
        for slot in &mut table.targets {
            let Some(target) = slot else { continue };
            let address = target.address;
            let known = are_own.get(&address).copied();
            let is_own = known.unwrap_or_else(|| self.own.include(address));
            now.insert(address, is_own);
            if is_own {
                if known.is_none() {
                    let name = &target.name;
                    tracing::warn!(
                        "'{name}' at {address} is a port of this process, and gets no requests from it"
                    );
                }
                *slot = None;
            }
        }
        *are_own = now;
        table
    }
}
