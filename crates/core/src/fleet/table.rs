//! What the data plane reads: one immutable value, derived from the state and never commanded.

use std::{net::SocketAddr, sync::Arc};

use super::ids::{Generation, InstanceId, ReplicaName};
use crate::ring::{MemberIndex, Ring};

/// The routing table: the ring of all desired replicas, and which of them are admitted.
#[derive(Clone, Debug, PartialEq)]
pub struct RoutingTable {
    /// The version of the desired state that it was derived from.
    pub generation: Generation,
    /// All desired replicas, in service or not.
    pub ring: Arc<Ring>,
    /// By member index: the admitted instance, if there is one.
    pub targets: Vec<Option<Target>>,
    /// Instances out of the table whose open requests may end: draining, stopping
    /// gracefully, or alive but failing. The requests of any other instance that is not a target
    /// are given up.
    pub finishing: Vec<InstanceId>,
}

/// Where requests of a member go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The admitted instance.
    pub instance: InstanceId,
    /// Its bare name.
    pub name: ReplicaName,
    /// Where it listens; never shared by two targets.
    pub address: SocketAddr,
}

impl RoutingTable {
    /// A table that routes nothing, on an empty ring of the given settings.
    pub fn empty(ring: Arc<Ring>) -> Self {
        let targets = vec![None; ring.members().len()];
        Self { generation: Generation(0), ring, targets, finishing: Vec::new() }
    }

    /// The admitted instance of a member.
    pub fn target(&self, member: MemberIndex) -> Option<&Target> {
        self.targets.get(member.0 as usize)?.as_ref()
    }
}
