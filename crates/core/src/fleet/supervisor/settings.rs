//! What a supervisor is made from.

use crate::{
    fleet::{limits::Limits, server::Registration, values::Keeper, victim::VictimRule},
    ring::RingSettings,
};

/// What a supervisor is made from.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bounds.
    pub limits: Limits,
    /// Whether there is a driver that starts replicas; [`Keeper::Others`]: there is none.
    pub keeper: Keeper,
    /// The registered servers of the configuration.
    pub servers: Vec<Registration>,
    /// The ring.
    pub ring: RingSettings,
    /// The size of a fleet without state.
    pub replicas: usize,
    /// Which replicas leave when none is named.
    pub victim: VictimRule,
    /// For names, victims, and the jitter of back-offs.
    pub seed: u64,
}
