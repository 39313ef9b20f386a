//! A fleet that several processes share: what both ports answer from, and what the status says of it.

use std::sync::Arc;

use axum::extract::FromRef;
use ringmaster_core::roles::ids::Version;
use serde::Serialize;
use serde_json::{Value, json};

use super::{relay::Relay, traffic::Traffic};
use crate::control::roles::{BalancerView, Roles, Term};

/// What both ports of a process with a shared fleet answer from.
#[derive(Clone)]
pub struct Shared {
    /// The process's part in its fleet.
    pub roles: Arc<Roles>,
    /// What there is of the data plane.
    pub traffic: Traffic,
    /// The way to the supervising process.
    pub relay: Relay,
}

impl FromRef<Shared> for Traffic {
    fn from_ref(shared: &Shared) -> Self {
        shared.traffic.clone()
    }
}

#[derive(Serialize)]
struct BalancerWire {
    id: String,
    /// Of the table that all of its workers route by.
    version: String,
    digest: String,
    heartbeat_age_ms: u64,
    /// Whether a drain waits for it.
    live: bool,
}

/// Fields of the status, beside those of every fleet.
pub(super) fn status(shared: &Shared, term: &Term) -> Vec<(&'static str, Value)> {
    let me = shared.roles.me();
    let mut balancers: Vec<BalancerWire> = term.balancers().iter().map(balancer).collect();
    let in_force = shared.roles.local().now();
    if let Some(publication) = in_force.publication.filter(|_| shared.roles.carries_traffic()) {
        balancers.push(BalancerWire {
            id: me.id.0.to_string(),
            version: text_of(publication.version()),
            digest: format!("{:016x}", publication.table().ring.digest()),
            heartbeat_age_ms: 0,
            live: true,
        });
    }
    balancers.sort_by(|one, other| one.id.cmp(&other.id));
    let lease = json!({ "holder": &*me.id.0, "admin": &*me.admin, "fence": term.fence.0 });
    let store = shared.roles.store().trouble().unwrap_or_else(|| "up".to_owned());
    vec![
        ("lease", lease),
        ("store", store.into()),
        ("balancers_disagreeing", term.disagreeing().into()),
        // It is made of texts and numbers only.
        ("balancers", serde_json::to_value(balancers).unwrap_or_default()),
    ]
}

fn balancer(view: &BalancerView) -> BalancerWire {
    let report = &view.known.report;
    BalancerWire {
        id: report.balancer.0.to_string(),
        version: text_of(report.acknowledged),
        digest: format!("{:016x}", report.digest),
        heartbeat_age_ms: u64::try_from(view.age.as_millis()).unwrap_or(u64::MAX),
        live: view.is_live,
    }
}

fn text_of(version: Version) -> String {
    format!("{}.{}", version.fence.0, version.number)
}
