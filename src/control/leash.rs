//! Whether effects may be begun: always, or only under the lease of the fleet.

use std::sync::{Arc, Mutex, PoisonError};

use ringmaster_core::roles::{ids::Fence, lease::Lease};

use super::Clock;

/// Asked right before each effect. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Leash(Option<Held>);

#[derive(Clone, Debug)]
struct Held {
    lease: Arc<Mutex<Lease>>,
    fence: Fence,
    clock: Clock,
}

impl Leash {
    /// Of a process that shares its fleet with no other.
    pub fn unlimited() -> Self {
        Self(None)
    }

    /// Under one term of a lease.
    pub fn of_term(lease: Arc<Mutex<Lease>>, fence: Fence, clock: Clock) -> Self {
        Self(Some(Held { lease, fence, clock }))
    }

    /// Whether no other process can take over.
    pub fn is_unlimited(&self) -> bool {
        self.0.is_none()
    }

    /// Whether an effect may be begun now.
    pub fn may_act(&self) -> bool {
        self.0.as_ref().is_none_or(|held| {
            // It is changed by pure functions as a whole; a panic in between cannot be.
            let lease = held.lease.lock().unwrap_or_else(PoisonError::into_inner);
            lease.may_act(held.clock.now()) == Some(held.fence)
        })
    }

    /// Under which all that is written is written.
    pub fn fence(&self) -> Fence {
        self.0.as_ref().map(|held| held.fence).unwrap_or_default()
    }
}
