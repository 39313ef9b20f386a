//! Names that the balancer gives by itself.

use rand::RngExt;

use super::Supervisor;
use crate::fleet::{ids::ReplicaName, state::State};

impl Supervisor {
    /// `server_<6 random digits>`, free as far as is known.
    pub(super) fn draw_name(&mut self) -> ReplicaName {
        self.draw_name_beside(&[])
    }

    pub(super) fn draw_name_beside(&mut self, reserved: &[ReplicaName]) -> ReplicaName {
        let is_free = |state: &State, name: &ReplicaName| {
            !state.is_name_taken(name) && !reserved.contains(name)
        };
        while let Some(name) = self.chance.undrawn.pop_front() {
            if is_free(&self.state, &name) {
                return name;
            }
        }
        // A million numbers and at most some thousand names: a free one comes up at once.
        for _ in 0..1_000 {
            let name = ReplicaName::numbered(self.chance.names.random_range(100_000..1_000_000));
            if is_free(&self.state, &name) {
                return name;
            }
        }
        ReplicaName::numbered(self.chance.names.random_range(1_000_000..u32::MAX))
    }
}
