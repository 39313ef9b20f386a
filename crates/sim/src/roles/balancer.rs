//! A simulated balancer: it follows tables, its workers load each of them after a delay, and requests
//! finish at the instance where they began.

use std::collections::BTreeMap;

use ringmaster_core::{
    fleet::ids::InstanceId,
    roles::{
        ids::{ProcessId, Version},
        publication::{Follower, Publication},
    },
};

pub(super) const REPORT_MS: u64 = 500;
pub(super) const READ_MS: u64 = 1_000;

pub(super) struct Balancer {
    pub(super) is_alive: bool,
    /// The number of the run.
    pub(super) epoch: u32,
    pub(super) is_cut: bool,
    pub(super) follower: Follower,
    /// The table that all its workers have loaded.
    pub(super) routing: Option<Publication>,
    /// Open requests of each instance.
    pub(super) open: BTreeMap<InstanceId, u64>,
    pub(super) reports: u64,
}

impl Balancer {
    pub(super) fn new() -> Self {
        Self {
            is_alive: true,
            epoch: 0,
            is_cut: false,
            follower: Follower::default(),
            routing: None,
            open: BTreeMap::new(),
            reports: 0,
        }
    }

    pub(super) fn id(&self, index: usize) -> ProcessId {
        ProcessId(format!("balancer-{index}-{}", self.epoch).into())
    }

    pub(super) fn version(&self) -> Version {
        self.routing.as_ref().map(Publication::version).unwrap_or_default()
    }

    /// Whether it sends requests to an instance or has one open.
    pub(super) fn uses(&self, instance: InstanceId) -> bool {
        let targets = self.routing.iter().flat_map(|routing| &routing.table().targets).flatten();
        self.open.contains_key(&instance)
            || targets.into_iter().any(|target| target.instance == instance)
    }
}
