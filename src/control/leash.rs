//! Whether effects may begin: always, or only under the lease of the fleet.

use std::sync::{Arc, Mutex, PoisonError};

use ringmaster_core::roles::{ids::Fence, lease::Lease};

use super::CoreClock;

/// The permission to act, checked right before each effect. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Leash(Option<Held>);

#[derive(Clone, Debug)]
struct Held {
    lease: Arc<Mutex<Lease>>,
    fence: Fence,
    clock: CoreClock,
}

impl Leash {
    /// For a process that is the only supervisor of its fleet.
    pub fn unlimited() -> Self {
        Self(None)
    }

    /// For one term of a lease.
    pub fn of_term(lease: Arc<Mutex<Lease>>, fence: Fence, clock: CoreClock) -> Self {
        Self(Some(Held { lease, fence, clock }))
    }

    /// Whether the permission can never end.
    pub fn is_unlimited(&self) -> bool {
        self.0.is_none()
    }

    /// Whether an effect may begin now.
    pub fn may_act(&self) -> bool {
        self.0.as_ref().is_none_or(|held| {
            // A lease is replaced as a whole, so that it is valid also after a panic.
            let lease = held.lease.lock().unwrap_or_else(PoisonError::into_inner);
            lease.may_act(held.clock.now()) == Some(held.fence)
        })
    }

    /// The fencing number of every write to the store.
    pub fn fence(&self) -> Fence {
        self.0.as_ref().map(|held| held.fence).unwrap_or_default()
    }
}
