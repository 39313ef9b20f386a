//! What the store carries for a large fleet, as the simulation counts it.

use anyhow::{Result, ensure};
use ringmaster_core::ring::{Placement, RingSettings};
use ringmaster_sim::roles::traffic::{Fleet, Traffic};

use super::finding::Row;

const REPLICAS: u32 = 1_000;
const BALANCERS: usize = 100;

/// One change of health, and one new replica.
pub(super) fn measure() -> Result<Vec<Row>> {
    let ring =
        RingSettings { slots: 65_536, placement: Placement::Hash, ..RingSettings::default() };
    let mut fleet = Fleet::new(ring, REPLICAS, BALANCERS)?;
    let (health, added) = (fleet.eject(1), fleet.add()?);
    ensure!(fleet.agrees(), "the simulated balancers disagree");
    Ok(vec![row("one change of health", &health), row("/add of one", &added)])
}

fn row(what: &str, traffic: &Traffic) -> Row {
    let Traffic { written_bytes, messages, sent_bytes } = traffic;
    Row {
        what: format!("store traffic, {REPLICAS} replicas, {BALANCERS} balancers: {what}"),
        figure: format!(
            "{messages} messages, {sent_bytes} bytes ({} each); {written_bytes} bytes written",
            sent_bytes / BALANCERS
        ),
        goal: None,
        raw: Vec::new(),
    }
}
