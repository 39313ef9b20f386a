//! A simulation as JSON. Shares are parts of 1; a value that does not apply is `null`.
//!
//! ```text
//! {"settings": {algorithm, slots, virtual_servers, placement, collision, hash},
//!  "victim", "keys", "distribution", "seed", "bounded", "in_flight",
//!  "steps": [{change, N, added, removed, peak_to_average, deviation, keys_peak_to_average,
//!             share: {min, mean, max}, moved_share, minimum_share, displaced,
//!             spill_share, peak_load_to_average, digest,
//!             replicas: [{id, share, positions}]}]}
//! ```
//!
//! `deviation` is the standard deviation of the shares, in the same unit; `positions` are empty
//! for algorithms that keep none.

use ringmaster_core::ring::RingId;
use serde::Serialize;

use super::{change_text, shares};
use crate::simulate::{Distribution, Question, Step};

#[derive(Serialize)]
struct SimulationWire {
    settings: SettingsWire,
    victim: &'static str,
    keys: u32,
    distribution: String,
    seed: u64,
    bounded: Option<f64>,
    in_flight: Option<u32>,
    steps: Vec<StepWire>,
}

#[derive(Serialize)]
struct SettingsWire {
    algorithm: &'static str,
    slots: u64,
    virtual_servers: u32,
    placement: &'static str,
    collision: &'static str,
    hash: &'static str,
}

#[derive(Serialize)]
struct StepWire {
    change: String,
    #[serde(rename = "N")]
    n: usize,
    added: Vec<u32>,
    removed: Vec<u32>,
    peak_to_average: Option<f64>,
    deviation: Option<f64>,
    keys_peak_to_average: Option<f64>,
    share: Option<ShareWire>,
    moved_share: Option<f64>,
    minimum_share: Option<f64>,
    displaced: usize,
    spill_share: Option<f64>,
    peak_load_to_average: Option<f64>,
    digest: String,
    replicas: Vec<ReplicaWire>,
}

#[derive(Serialize)]
struct ShareWire {
    min: f64,
    mean: f64,
    max: f64,
}

#[derive(Serialize)]
struct ReplicaWire {
    id: u32,
    share: f64,
    positions: Vec<u32>,
}

pub(super) fn write(question: &Question, steps: &[Step]) -> String {
    let ring = &question.ring;
    let wire = SimulationWire {
        settings: SettingsWire {
            algorithm: ring.algorithm.name(),
            // The effective number: some algorithms choose their own.
            slots: ring.circle(),
            virtual_servers: ring.virtual_servers,
            placement: ring.placement.name(),
            collision: ring.collision.name(),
            hash: ring.hash.name(),
        },
        victim: question.victim.name(),
        keys: question.keys,
        distribution: match question.distribution {
            Distribution::Uniform => "uniform".to_owned(),
            Distribution::Zipf { exponent } => format!("zipf:{exponent}"),
        },
        seed: question.seed,
        bounded: question.bounded.map(|bounded| bounded.factor),
        in_flight: question.bounded.map(|bounded| bounded.in_flight),
        steps: steps.iter().map(step_wire).collect(),
    };
    // Serialising numbers and texts cannot fail.
    serde_json::to_string_pretty(&wire).map(|text| text + "\n").unwrap_or_default()
}

fn step_wire(step: &Step) -> StepWire {
    let ids = |ids: &[RingId]| ids.iter().map(|id| id.0).collect();
    let share = shares(step).map(|(min, mean, max)| ShareWire { min, mean, max });
    let members = step.ring.members().iter().zip(step.ring.shares());
    StepWire {
        change: change_text(step.change),
        n: step.ring.members().len(),
        added: ids(&step.added),
        removed: ids(&step.removed),
        peak_to_average: step.slots.map(|slots| slots.peak_to_average),
        deviation: step
            .slots
            .zip(share.as_ref())
            .map(|(slots, share)| slots.deviation * share.mean),
        keys_peak_to_average: step.keys.map(|keys| keys.peak_to_average),
        share,
        moved_share: step.moves.as_ref().map(|moves| moves.moved_share),
        minimum_share: step.moves.as_ref().map(|moves| moves.minimum_share),
        displaced: step.displaced,
        spill_share: step.spilled.map(|spilled| spilled.spill_share),
        peak_load_to_average: step.spilled.map(|spilled| spilled.peak_to_average),
        digest: format!("{:016x}", step.ring.digest()),
        replicas: members
            .map(|(member, share)| ReplicaWire {
                id: member.id.0,
                share,
                positions: member.positions.clone(),
            })
            .collect(),
    }
}
