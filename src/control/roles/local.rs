//! What this process routes by, and how far its workers are.

use std::{collections::BTreeMap, sync::Arc};

use ringmaster_core::{
    fleet::ids::InstanceId,
    roles::{ids::Version, publication::Publication},
};
use tokio::sync::watch;

use crate::control::Publisher;

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
}

impl Local {
    /// A process without a table. `traffic`: its data plane, if it has one.
    pub(super) fn new(traffic: Option<Arc<dyn Traffic>>) -> Self {
        Self { traffic, in_force: watch::Sender::new(InForce::default()) }
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
                    traffic.publish(publication.table().clone());
                    in_force.number = traffic.number();
                }
                in_force.publication = Some(Arc::new(publication.clone()));
            }
            is_newer
        });
    }
}
