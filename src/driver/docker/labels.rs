//! Labels and names: how a container is identified.

use std::collections::HashMap;

use ringmaster_core::fleet::{
    ids::{ImageId, Incarnation, InstanceId, ReplicaId, ReplicaName, Slot, SpecDigest},
    message::{FoundIdentity, StartRequest},
};

use super::init::Init;
use crate::driver::spec_digest;

/// Which fleet a container or network belongs to. Nothing without this label is touched.
pub const FLEET: &str = "ringmaster.fleet";
/// The replica's id in the ring.
pub const REPLICA: &str = "ringmaster.replica";
/// The incarnation: which run of the replica this is.
pub const INCARNATION: &str = "ringmaster.incarnation";
/// The replica's positions when the container was created, separated by commas.
pub const SLOTS: &str = "ringmaster.slots";
/// The replica's place in the order of joining.
pub const ORDINAL: &str = "ringmaster.ordinal";
/// The replica's weight.
pub const WEIGHT: &str = "ringmaster.weight";
/// Digest of the settings that the container was made from.
pub const SPEC: &str = "ringmaster.spec";
/// On the balancer's own container, with the value [`ROLE_BALANCER`].
pub const ROLE: &str = "ringmaster.role";
/// The value of [`ROLE`] on the balancer's own container.
pub const ROLE_BALANCER: &str = "balancer";
/// On the balancer's own container: the fleet that it supervises.
pub const BALANCES: &str = "ringmaster.balances";

/// The fleet whose containers have bare names, without the fleet as a prefix.
pub const DEFAULT_FLEET: &str = "default";

/// The names that one fleet uses on an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    fleet: String,
    prefix: String,
}

impl Names {
    /// The names of a fleet.
    pub fn of(fleet: &str) -> Self {
        let prefix = if fleet == DEFAULT_FLEET { String::new() } else { format!("{fleet}-") };
        Self { fleet: fleet.into(), prefix }
    }

    /// The name of the fleet.
    pub fn fleet(&self) -> &str {
        &self.fleet
    }

    /// The container name of a replica.
    pub fn container(&self, name: &ReplicaName) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The replica's name in a container's name (with or without the leading slash), if this fleet
    /// could have given it.
    pub fn bare(&self, container: &str) -> Option<ReplicaName> {
        let name = container.strip_prefix('/').unwrap_or(container);
        ReplicaName::new(name.strip_prefix(&self.prefix)?).ok()
    }

    /// The fleet's network when none is configured.
    pub fn network(&self) -> String {
        if self.prefix.is_empty() { "net1".into() } else { format!("{}net", self.prefix) }
    }

    /// Whether a container or event with these labels belongs to the fleet.
    pub fn owns(&self, labels: &HashMap<String, String>) -> bool {
        labels.get(FLEET).is_some_and(|fleet| *fleet == self.fleet)
    }
}

/// The labels of a new container.
pub(super) fn of_request(
    names: &Names,
    request: &StartRequest,
    spec: &SpecDigest,
) -> HashMap<String, String> {
    let positions: Vec<String> = request.positions.iter().map(Slot::to_string).collect();
    [
        (FLEET, names.fleet.clone()),
        (REPLICA, request.instance.replica.0.to_string()),
        (INCARNATION, request.instance.incarnation.0.to_string()),
        (SLOTS, positions.join(",")),
        (ORDINAL, request.ordinal.to_string()),
        (WEIGHT, request.weight.to_string()),
        (SPEC, spec.0.to_string()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

/// Replica and incarnation, from labels or from an event's attributes.
pub(super) fn instance(labels: &HashMap<String, String>) -> Option<InstanceId> {
    Some(InstanceId {
        replica: ReplicaId(number(labels, REPLICA)?),
        incarnation: Incarnation(number(labels, INCARNATION)?),
    })
}

/// The identity of a container of the fleet; `None` when a label is missing or unreadable.
pub(super) fn identity(
    labels: &HashMap<String, String>,
    name: Option<ReplicaName>,
    image: Option<ImageId>,
) -> Option<FoundIdentity> {
    Some(FoundIdentity {
        instance: instance(labels)?,
        name: name?,
        ordinal: number(labels, ORDINAL)?,
        weight: number(labels, WEIGHT)?,
        positions: positions(labels.get(SLOTS)?)?,
        spec: SpecDigest(labels.get(SPEC)?.as_str().into()),
        image,
    })
}

fn number(labels: &HashMap<String, String>, key: &str) -> Option<u32> {
    labels.get(key)?.parse().ok()
}

fn positions(text: &str) -> Option<Vec<Slot>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    text.split(',').map(|slot| slot.parse().ok()).collect()
}

/// Digest of what containers are made from. It contains the image's id, so that a rebuilt image
/// under the same reference makes running containers outdated. It leaves out settings at their
/// default, so that containers started by an older balancer, which did not have such a setting, stay
/// current.
pub(super) fn spec(
    image: &str,
    image_id: &str,
    port: u16,
    env: &[(String, String)],
    command: Option<&[String]>,
    init: Init,
) -> SpecDigest {
    let port = port.to_string();
    let kind = match init {
        Init::Auto => "docker",
        Init::On => "docker, init on",
        Init::Off => "docker, init off",
    };
    let mut parts = vec![kind, image, image_id, &port];
    parts.push(if command.is_some() { "command" } else { "" });
    parts.extend(command.unwrap_or_default().iter().map(String::as_str));
    spec_digest(&parts, env)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> StartRequest {
        StartRequest {
            instance: InstanceId { replica: ReplicaId(7), incarnation: Incarnation(3) },
            name: ReplicaName::new("S5").unwrap(),
            ordinal: 2,
            weight: 4,
            positions: vec![511, 0, 17],
            image: None,
        }
    }

    #[test]
    fn labels_hold_the_start_request() {
        let names = Names::of("blue");
        let spec = SpecDigest("abc".into());
        let labels = of_request(&names, &request(), &spec);
        assert!(names.owns(&labels) && !Names::of("default").owns(&labels));
        assert_eq!(labels[SLOTS], "511,0,17");
        let found = identity(&labels, names.bare("/blue-S5"), None).unwrap();
        assert_eq!(found.instance, request().instance);
        assert_eq!(found.name, request().name);
        assert_eq!((found.ordinal, found.weight), (2, 4));
        assert_eq!(found.positions, request().positions);
        assert_eq!(found.spec, spec);
    }

    #[test]
    fn a_missing_or_broken_label_makes_a_stray() {
        let names = Names::of("default");
        let whole = of_request(&names, &request(), &SpecDigest("abc".into()));
        let name = || ReplicaName::new("S5").ok();
        for key in [REPLICA, INCARNATION, SLOTS, ORDINAL, WEIGHT, SPEC] {
            let mut labels = whole.clone();
            labels.remove(key);
            assert_eq!(identity(&labels, name(), None), None, "{key}");
        }
        for (key, value) in [(REPLICA, "-1"), (INCARNATION, "x"), (SLOTS, "1,,2"), (WEIGHT, "")] {
            let mut labels = whole.clone();
            labels.insert(key.into(), value.into());
            assert_eq!(identity(&labels, name(), None), None, "{key}={value}");
        }
        assert_eq!(identity(&whole, None, None), None);
    }

    #[test]
    fn only_the_default_fleet_uses_bare_names() {
        let name = ReplicaName::new("server_1").unwrap();
        let (bare, blue) = (Names::of("default"), Names::of("blue"));
        assert_eq!(bare.container(&name), "server_1");
        assert_eq!(blue.container(&name), "blue-server_1");
        assert_eq!(bare.network(), "net1");
        assert_eq!(blue.network(), "blue-net");
        assert_eq!(blue.bare("/blue-server_1"), Some(name.clone()));
        assert_eq!(blue.bare("/server_1"), None);
        assert_eq!(bare.bare("/server_1"), Some(name));
        assert_eq!(bare.bare("/-x"), None);
    }

    #[test]
    fn the_digest_depends_on_every_part_and_not_on_the_order_of_the_environment() {
        let env = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()
        };
        let base = spec("img", "sha256:1", 5000, &env(&[("A", "1"), ("B", "2")]), None, Init::Auto);
        let same = spec("img", "sha256:1", 5000, &env(&[("B", "2"), ("A", "1")]), None, Init::Auto);
        assert_eq!(base, same);
        let others = [
            spec("img2", "sha256:1", 5000, &env(&[("A", "1"), ("B", "2")]), None, Init::Auto),
            spec("img", "sha256:2", 5000, &env(&[("A", "1"), ("B", "2")]), None, Init::Auto),
            spec("img", "sha256:1", 5001, &env(&[("A", "1"), ("B", "2")]), None, Init::Auto),
            spec("img", "sha256:1", 5000, &env(&[("A", "1B")]), None, Init::Auto),
            spec("img", "sha256:1", 5000, &env(&[("A", "1"), ("B", "2")]), Some(&[]), Init::Auto),
            spec("img", "sha256:1", 5000, &env(&[("A", "1"), ("B", "2")]), None, Init::On),
            spec("img", "sha256:1", 5000, &env(&[("A", "1"), ("B", "2")]), None, Init::Off),
        ];
        for other in others {
            assert_ne!(base, other);
        }
    }

    /// The value is from a version that had only image, port, environment and command: an upgrade of
    /// the balancer must not make running containers outdated.
    #[test]
    fn the_digest_of_a_default_configuration_stays_as_it_was() {
        let env = [("DELAY".to_owned(), "5".to_owned())];
        let command = ["serve".to_owned(), "-v".to_owned()];
        assert_eq!(
            &*spec("ringmaster-server", "sha256:abc", 5000, &[], None, Init::Auto).0,
            "ea43165d5b058e75"
        );
        assert_eq!(
            &*spec("app:1", "sha256:def", 80, &env, Some(&command), Init::Auto).0,
            "a0e34fd6244a6290"
        );
    }
}
