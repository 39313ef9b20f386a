//! What the keys and channels of a fleet are called. The braces keep all of them in one slot where
//! Redis shards, since a script sees one shard only.

/// The names of one fleet.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    /// Hash: the committed state.
    pub(super) state: String,
    /// Hash with an expiry: who supervises.
    pub(super) lease: String,
    /// None that was given out is higher.
    pub(super) fence: String,
    /// With an expiry: the store was emptied a moment ago, and this is the highest fence shown since.
    pub(super) quiet: String,
    /// Hash: the routing table in full.
    pub(super) table: String,
    /// Channel: what has changed of the table, and that the lease is free.
    pub(super) tables: String,
    /// Channel: what balancers report.
    pub(super) reports: String,
    /// There as long as the store has not been emptied since the list of backends was read first.
    pub(super) backends: String,
}

impl Keys {
    pub(super) fn of(fleet: &str) -> Self {
        let key = |name: &str| format!("ringmaster:{{{fleet}}}:{name}");
        Self {
            state: key("state"),
            lease: key("lease"),
            fence: key("fence"),
            quiet: key("quiet"),
            table: key("table"),
            tables: key("tables"),
            reports: key("reports"),
            backends: key("backends"),
        }
    }
}
