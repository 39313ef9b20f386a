//! What tables, their changes and reports look like in the store.

use std::{net::SocketAddr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::answer::EXACT_MAX;

use ringmaster_core::{
    fleet::{
        ids::{Generation, Incarnation, InstanceId, ReplicaId, ReplicaName},
        message::FailureKind,
        table::{RoutingTable, Target},
    },
    ring::{Member, Ring},
    roles::{
        acknowledgements::Report,
        ids::{Fence, ProcessId, Version},
        publication::{Delta, Publication, RingDelta},
    },
};

use crate::store::codec::{RingWire, ring_settings, ring_wire};

/// Failed requests that one report carries.
pub(super) const FAILED_MAX: usize = 256;

/// The longest address of a process, and what proves it: more than a hostname of DNS and a port.
const ADDRESS_MAX: usize = 300;

/// What cannot be understood, in words.
type Read<T> = Result<T, String>;

/// Fence and number.
type VersionWire = (u64, u64);
/// Replica and incarnation.
type InstanceWire = (u32, u32);
/// Replica, and where its requests go, if anywhere.
type TargetWire = (u32, Option<PlaceWire>);
/// Incarnation, name, address.
type PlaceWire = (u32, String, SocketAddr);

#[derive(Serialize, Deserialize)]
struct TableWire {
    version: VersionWire,
    generation: u64,
    ring: RingWire,
    members: Vec<MemberWire>,
    /// Of each member, in their order.
    targets: Vec<Option<PlaceWire>>,
    finishing: Vec<InstanceWire>,
}

#[derive(Serialize, Deserialize)]
struct MemberWire {
    id: u32,
    ordinal: u32,
    weight: u32,
    positions: Vec<u32>,
}

/// What is told on the channel of the tables.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Told {
    Changed(DeltaWire),
    /// The table is to be read.
    Newer(VersionWire),
}

#[derive(Serialize, Deserialize)]
struct DeltaWire {
    base: VersionWire,
    version: VersionWire,
    generation: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ring: Option<RingDeltaWire>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    targets: Vec<TargetWire>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    finishing: Vec<InstanceWire>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    finished: Vec<InstanceWire>,
}

#[derive(Serialize, Deserialize)]
struct RingDeltaWire {
    removed: Vec<u32>,
    changed: Vec<MemberWire>,
    /// In hexadecimal: a number of JSON may lose the last bits.
    digest: String,
}

/// What is told on the channel of the reports.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    Report(ReportWire),
    Gone(String),
}

#[derive(Serialize, Deserialize)]
struct ReportWire {
    balancer: String,
    number: u64,
    acknowledged: VersionWire,
    digest: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    in_flight: Vec<(u32, u32, u64)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    failed: Vec<(u32, u32, FailureWire)>,
    /// Where the process is reached; those of an older version do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    admin: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    authenticator: Option<String>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FailureWire {
    Refused,
    ConnectTimeout,
    Reset,
    FirstByteTimeout,
    Errors,
    ImageCheck,
}

/// A message of the channel of the tables.
pub(super) enum TableNews {
    Changed(Delta),
    Newer,
}

/// A message of the channel of the reports.
pub(super) enum ReportNews {
    Reported(Report, Vec<(InstanceId, FailureKind)>),
    Gone(ProcessId),
}

pub(super) fn table_text(publication: &Publication) -> Result<String, serde_json::Error> {
    let table = publication.table();
    let place = |target: &Target| place_wire(target);
    serde_json::to_string(&TableWire {
        version: version_wire(publication.version()),
        generation: table.generation.0,
        ring: ring_wire(table.ring.settings()),
        members: table.ring.members().iter().map(member_wire).collect(),
        targets: table.targets.iter().map(|target| target.as_ref().map(place)).collect(),
        finishing: table.finishing.iter().map(instance_wire).collect(),
    })
}

pub(super) fn read_table(text: &[u8]) -> Read<Publication> {
    let wire: TableWire = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let settings = ring_settings(wire.ring)?;
    let members: Vec<Member> = wire.members.into_iter().map(member_of).collect();
    let replicas: Vec<u32> = members.iter().map(|member| member.id.0).collect();
    let ring = Ring::new(settings, members).map_err(|error| error.to_string())?;
    let targets = replicas.into_iter().zip(wire.targets);
    let targets = targets.map(|(replica, place)| place.map(|p| target_of(replica, p)).transpose());
    let table = RoutingTable {
        generation: Generation(wire.generation),
        ring: Arc::new(ring),
        targets: targets.collect::<Read<_>>()?,
        finishing: wire.finishing.into_iter().map(instance_of).collect(),
    };
    Publication::new(version_of(wire.version)?, table).map_err(|error| error.to_string())
}

/// What is told of a table: the change, or that there is another one.
pub(super) fn news_text(
    version: Version,
    delta: Option<&Delta>,
) -> Result<String, serde_json::Error> {
    serde_json::to_string(&match delta {
        Some(delta) => Told::Changed(delta_wire(delta)),
        None => Told::Newer(version_wire(version)),
    })
}

pub(super) fn read_news(text: &[u8]) -> Read<TableNews> {
    Ok(match serde_json::from_slice(text).map_err(|error| error.to_string())? {
        Told::Changed(delta) => TableNews::Changed(delta_of(delta)?),
        Told::Newer(_) => TableNews::Newer,
    })
}

pub(super) fn report_text(
    report: &Report,
    failed: &[(InstanceId, FailureKind)],
) -> Result<String, serde_json::Error> {
    let in_flight = report.in_flight.iter();
    let failed = failed.iter().take(FAILED_MAX);
    serde_json::to_string(&Said::Report(ReportWire {
        balancer: report.balancer.0.to_string(),
        number: report.number,
        acknowledged: version_wire(report.acknowledged),
        digest: format!("{:016x}", report.digest),
        in_flight: in_flight.map(|(id, open)| (id.replica.0, id.incarnation.0, *open)).collect(),
        failed: failed
            .map(|(id, kind)| (id.replica.0, id.incarnation.0, failure_wire(*kind)))
            .collect(),
        admin: report.admin.as_deref().map(str::to_owned),
        authenticator: report.authenticator.as_deref().map(str::to_owned),
    }))
}

pub(super) fn gone_text(balancer: &ProcessId) -> Result<String, serde_json::Error> {
    serde_json::to_string(&Said::Gone(balancer.0.to_string()))
}

pub(super) fn read_report(text: &[u8]) -> Read<ReportNews> {
    let wire = match serde_json::from_slice(text).map_err(|error| error.to_string())? {
        Said::Report(wire) => wire,
        Said::Gone(balancer) => return Ok(ReportNews::Gone(ProcessId(balancer.into()))),
    };
    let in_flight = wire.in_flight.into_iter();
    let failed = wire.failed.into_iter().take(FAILED_MAX);
    let report = Report {
        balancer: ProcessId(wire.balancer.into()),
        number: wire.number,
        acknowledged: version_of(wire.acknowledged)?,
        digest: digest_of(&wire.digest)?,
        in_flight: in_flight.map(|(r, i, open)| (instance_of((r, i)), open)).collect(),
        admin: wire.admin.and_then(short),
        authenticator: wire.authenticator.and_then(short),
    };
    let failed = failed.map(|(r, i, kind)| (instance_of((r, i)), failure_of(kind))).collect();
    Ok(ReportNews::Reported(report, failed))
}

/// A text that is kept; a longer one is no address, and proves none.
fn short(text: String) -> Option<Arc<str>> {
    (text.len() <= ADDRESS_MAX).then(|| text.into())
}

fn delta_wire(delta: &Delta) -> DeltaWire {
    let target = |(replica, target): &(ReplicaId, Option<Target>)| {
        (replica.0, target.as_ref().map(place_wire))
    };
    DeltaWire {
        base: version_wire(delta.base),
        version: version_wire(delta.version),
        generation: delta.generation.0,
        ring: delta.ring.as_ref().map(|ring| RingDeltaWire {
            removed: ring.removed.iter().map(|id| id.0).collect(),
            changed: ring.changed.iter().map(member_wire).collect(),
            digest: format!("{:016x}", ring.digest),
        }),
        targets: delta.targets.iter().map(target).collect(),
        finishing: delta.finishing.iter().map(instance_wire).collect(),
        finished: delta.finished.iter().map(instance_wire).collect(),
    }
}

fn delta_of(wire: DeltaWire) -> Read<Delta> {
    let ring = wire.ring.map(|ring| {
        Ok::<_, String>(RingDelta {
            removed: ring.removed.into_iter().map(ReplicaId).collect(),
            changed: ring.changed.into_iter().map(member_of).collect(),
            digest: digest_of(&ring.digest)?,
        })
    });
    let targets = wire.targets.into_iter().map(|(replica, place)| {
        let target = place.map(|place| target_of(replica, place)).transpose()?;
        Ok((ReplicaId(replica), target))
    });
    Ok(Delta {
        base: version_of(wire.base)?,
        version: version_of(wire.version)?,
        generation: Generation(wire.generation),
        ring: ring.transpose()?,
        targets: targets.collect::<Read<_>>()?,
        finishing: wire.finishing.into_iter().map(instance_of).collect(),
        finished: wire.finished.into_iter().map(instance_of).collect(),
    })
}

fn version_wire(version: Version) -> VersionWire {
    (version.fence.0, version.number)
}

fn version_of((fence, number): VersionWire) -> Read<Version> {
    match fence.max(number) <= EXACT_MAX {
        true => Ok(Version { fence: Fence(fence), number }),
        false => Err(format!("no version has fence {fence} and number {number}")),
    }
}

fn instance_wire(id: &InstanceId) -> InstanceWire {
    (id.replica.0, id.incarnation.0)
}

fn instance_of((replica, incarnation): InstanceWire) -> InstanceId {
    InstanceId { replica: ReplicaId(replica), incarnation: Incarnation(incarnation) }
}

fn place_wire(target: &Target) -> PlaceWire {
    (target.instance.incarnation.0, target.name.to_string(), target.address)
}

fn target_of(replica: u32, (incarnation, name, address): PlaceWire) -> Read<Target> {
    let name = ReplicaName::new(&name).map_err(|error| error.to_string())?;
    Ok(Target { instance: instance_of((replica, incarnation)), name, address })
}

fn member_wire(member: &Member) -> MemberWire {
    MemberWire {
        id: member.id.0,
        ordinal: member.ordinal,
        weight: member.weight,
        positions: member.positions.clone(),
    }
}

fn member_of(wire: MemberWire) -> Member {
    let MemberWire { id, ordinal, weight, positions } = wire;
    Member { id: ReplicaId(id), ordinal, weight, positions }
}

fn digest_of(text: &str) -> Read<u64> {
    u64::from_str_radix(text, 16).map_err(|_| format!("'{text}' is no digest"))
}

fn failure_wire(kind: FailureKind) -> FailureWire {
    match kind {
        FailureKind::Refused => FailureWire::Refused,
        FailureKind::ConnectTimeout => FailureWire::ConnectTimeout,
        FailureKind::Reset => FailureWire::Reset,
        FailureKind::FirstByteTimeout => FailureWire::FirstByteTimeout,
        FailureKind::Errors => FailureWire::Errors,
        FailureKind::ImageCheck => FailureWire::ImageCheck,
    }
}

fn failure_of(wire: FailureWire) -> FailureKind {
    match wire {
        FailureWire::Refused => FailureKind::Refused,
        FailureWire::ConnectTimeout => FailureKind::ConnectTimeout,
        FailureWire::Reset => FailureKind::Reset,
        FailureWire::FirstByteTimeout => FailureKind::FirstByteTimeout,
        FailureWire::Errors => FailureKind::Errors,
        FailureWire::ImageCheck => FailureKind::ImageCheck,
    }
}
