//! The text of a state: one envelope with version and checksum, whatever keeps it.

use std::io;

use ringmaster_core::{
    fleet::{
        desired::{Desired, Replica},
        ids::{Generation, ImageId, Incarnation, ReplicaId, ReplicaName, SpecDigest},
        message::Revision,
        server::{Registration, Server, Source},
    },
    ring::{Member, RingOptions, RingSettings, hash},
};
use serde::{Deserialize, Serialize};

/// The version that is written.
pub(super) const VERSION: u32 = 4;

/// All that can be relied on in a file of any version.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Envelope {
    pub(super) version: u32,
    /// XXH3 of the text of `state`, in hexadecimal.
    pub(super) checksum: String,
    pub(super) state: Box<serde_json::value::RawValue>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StateFile {
    pub(super) fleet: String,
    generation: u64,
    next_id: u32,
    ring: RingWire,
    /// Since version 2: what the configuration said when it last took effect; where it is missing,
    /// the ring itself.
    configured: Option<RingWire>,
    /// Since version 3: what the fleet is made from, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revision: Option<RevisionWire>,
    /// Since version 3: digest of what a roll was given up for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rejected: Option<String>,
    /// Since version 4: the servers of the configuration when they last took effect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    registered: Vec<RegistrationWire>,
    replicas: Vec<ReplicaWire>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RevisionWire {
    spec: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RingWire {
    slots: u32,
    virtual_servers: u32,
    placement: String,
    // Since version 2.
    algorithm: Option<String>,
    collision: Option<String>,
    hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash_key: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplicaWire {
    id: u32,
    name: String,
    weight: u32,
    ordinal: u32,
    positions: Vec<u32>,
    incarnation: u32,
    /// Since version 4: where it is, if others keep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    server: Option<ServerWire>,
    /// Since version 4.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    drained: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServerWire {
    host: String,
    port: u16,
    /// Whether it was found in a store, and goes when it is gone from there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    discovered: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RegistrationWire {
    name: String,
    weight: u32,
    server: ServerWire,
}

pub(super) enum Unreadable {
    Newer(u32),
    Corrupt(String),
}

pub(super) fn read_envelope(text: &[u8]) -> Result<StateFile, Unreadable> {
    let corrupt = |error: serde_json::Error| Unreadable::Corrupt(error.to_string());
    let Versioned { version } = serde_json::from_slice(text).map_err(corrupt)?;
    if version > VERSION {
        return Err(Unreadable::Newer(version));
    }
    let envelope: Envelope = serde_json::from_slice(text).map_err(corrupt)?;
    if checksum(envelope.state.get()) != envelope.checksum {
        return Err(Unreadable::Corrupt("its checksum is wrong".to_owned()));
    }
    serde_json::from_str(envelope.state.get()).map_err(corrupt)
}

pub(super) fn text_of(fleet: &str, desired: &Desired) -> io::Result<Vec<u8>> {
    let settings = desired.ring().settings();
    let file = StateFile {
        fleet: fleet.to_owned(),
        generation: desired.generation().0,
        next_id: desired.next_id().0,
        ring: ring_wire(settings),
        configured: Some(ring_wire(desired.configured())),
        revision: desired.revision().map(|revision| RevisionWire {
            spec: revision.spec.0.to_string(),
            image: revision.image.as_ref().map(ToString::to_string),
        }),
        rejected: desired.rejected().map(|spec| spec.0.to_string()),
        registered: desired.registered().iter().map(registration_wire).collect(),
        replicas: desired
            .replicas()
            .iter()
            .map(|replica| ReplicaWire {
                id: replica.id().0,
                name: replica.name.as_str().to_owned(),
                weight: replica.member.weight,
                ordinal: replica.member.ordinal,
                positions: replica.member.positions.clone(),
                incarnation: replica.incarnation.0,
                server: replica.server.as_ref().map(server_wire),
                drained: replica.is_drained,
            })
            .collect(),
    };
    let state = serde_json::value::to_raw_value(&file)?;
    let envelope = Envelope { version: VERSION, checksum: checksum(state.get()), state };
    Ok(serde_json::to_vec(&envelope)?)
}

pub(super) fn checksum(text: &str) -> String {
    format!("{:016x}", hash::xxh3(text.as_bytes()))
}

pub(super) fn desired_of(file: StateFile) -> Result<Desired, String> {
    let settings = ring_settings(file.ring)?;
    let configured = file.configured.map_or_else(|| Ok(settings.clone()), ring_settings)?;
    let replicas = file.replicas.into_iter().map(|wire| {
        let name = ReplicaName::new(&wire.name).map_err(|error| error.to_string())?;
        let member = Member {
            id: ReplicaId(wire.id),
            ordinal: wire.ordinal,
            weight: wire.weight,
            positions: wire.positions,
        };
        let incarnation = Incarnation(wire.incarnation);
        let server = wire.server.map(server_of).transpose()?;
        Ok(Replica { member, name, incarnation, server, is_drained: wire.drained })
    });
    let replicas: Vec<Replica> = replicas.collect::<Result<_, String>>()?;
    let (generation, next_id) = (Generation(file.generation), ReplicaId(file.next_id));
    let desired = Desired::restore(settings, generation, next_id, replicas);
    let revision = file.revision.map(|wire| Revision {
        spec: SpecDigest(wire.spec.into()),
        image: wire.image.map(|image| ImageId(image.into())),
    });
    let rejected = file.rejected.map(|spec| SpecDigest(spec.into()));
    let desired = desired.map_err(|error| error.to_string())?;
    let registered = file.registered.into_iter().map(registration_of).collect::<Result<_, _>>()?;
    let desired = desired.configured_as(configured).registered_as(registered);
    Ok(desired.made_from(revision, rejected))
}

fn server_wire(server: &Server) -> ServerWire {
    ServerWire {
        host: server.host.to_string(),
        port: server.port,
        discovered: server.source == Source::Store,
    }
}

fn server_of(wire: ServerWire) -> Result<Server, String> {
    let source = if wire.discovered { Source::Store } else { Source::Operator };
    Server::new(&wire.host, wire.port, source).map_err(|error| error.to_string())
}

fn registration_wire(registration: &Registration) -> RegistrationWire {
    RegistrationWire {
        name: registration.name.to_string(),
        weight: registration.weight,
        server: server_wire(&registration.server),
    }
}

fn registration_of(wire: RegistrationWire) -> Result<Registration, String> {
    let name = ReplicaName::new(&wire.name).map_err(|error| error.to_string())?;
    Ok(Registration { name, weight: wire.weight.max(1), server: server_of(wire.server)? })
}

pub(super) fn ring_wire(settings: &RingSettings) -> RingWire {
    let options = RingOptions::of(settings);
    RingWire {
        slots: settings.slots,
        virtual_servers: settings.virtual_servers,
        placement: settings.placement.name().to_owned(),
        algorithm: options.algorithm,
        collision: options.collision,
        hash: options.hash,
        hash_key: options.hash_key,
    }
}

pub(super) fn ring_settings(wire: RingWire) -> Result<RingSettings, String> {
    let options = RingOptions {
        algorithm: wire.algorithm,
        slots: Some(wire.slots),
        virtual_servers: Some(wire.virtual_servers),
        placement: Some(wire.placement),
        collision: wire.collision,
        hash: wire.hash,
        hash_key: wire.hash_key,
    };
    options.on(&RingSettings::default()).map_err(|error| error.to_string())
}
