//! Faults, lookups and commands of registered servers.

use super::World;
use crate::{
    engine::Behaviour,
    occurrence::Fault,
    upstreams::{HOSTS, registration, text_of},
};
use rand::{RngExt, seq::IndexedRandom};
use ringmaster_core::fleet::{
    command::{Request, ScaleCommand},
    ids::{InstanceId, ReplicaName},
    message::{Event, FailureKind},
    server::ServerChange,
    state::Keeper,
};
use std::net::SocketAddr;

impl World {
    /// Whether a fault can affect a registered server; some affect only containers.
    pub(super) fn applies_to_upstreams(fault: Fault) -> bool {
        !matches!(
            fault,
            Fault::EngineRestarts
                | Fault::ImageChanges
                | Fault::BadBuild
                | Fault::ImageBreaks
                | Fault::ImageMends
                | Fault::Pauses
                | Fault::Unpauses
                | Fault::IsRemoved
                | Fault::RunsOutOfMemory
                | Fault::SeemsUnhealthy
        )
    }

    /// Draws whether a fault affects a registered server instead of a container.
    pub(super) fn hits_upstream(&mut self, fault: Fault) -> bool {
        if self.scenario.keeper == Keeper::Others {
            return true;
        }
        let mut replicas = self.supervisor.state().desired.replicas().iter();
        let is_any = replicas.any(|replica| replica.server.is_some());
        is_any && Self::applies_to_upstreams(fault) && self.rng.random_bool(0.3)
    }

    pub(super) fn hit_upstream(&mut self, fault: Fault) {
        let homes: Vec<SocketAddr> = self.upstreams.hosts.iter().map(|host| host.home).collect();
        let Some(at) = (0..homes.len()).collect::<Vec<_>>().choose(&mut self.rng).copied() else {
            return;
        };
        // Two names may resolve to one address.
        let elsewhere = homes.choose(&mut self.rng).copied();
        let host = &mut self.upstreams.hosts[at];
        let line = format!("!! {fault:?} {}", host.text);
        let is_named = host.text.parse::<std::net::IpAddr>().is_err();
        host.is_undisturbed &= matches!(fault, Fault::RequestFails);
        match fault {
            Fault::Dies => host.behaviour = Behaviour::Refuses,
            Fault::Hangs => host.behaviour = Behaviour::Hangs,
            Fault::Fails => host.behaviour = Behaviour::Fails,
            Fault::Recovers => {
                host.behaviour = Behaviour::Good { from: self.now };
                host.address = Some(host.home);
            }
            // The name no longer resolves, or resolves to another address.
            Fault::LosesNetwork if is_named => host.address = None,
            Fault::Moves if is_named => {
                host.address = elsewhere;
                // All hosts may be affected: an address belongs to the earliest name that resolves to it.
                self.upstreams.hosts.iter_mut().for_each(|host| host.is_undisturbed = false);
            }
            Fault::RequestFails => self.request_to_upstream_fails(at),
            _ => {}
        }
        self.remember(line);
    }

    fn request_to_upstream_fails(&mut self, at: usize) {
        let text = &self.upstreams.hosts[at].text;
        let mut replicas = self.supervisor.state().desired.replicas().iter();
        let replica = replicas
            .find(|replica| replica.server.as_ref().is_some_and(|server| *server.host == **text));
        if let Some(instance) = replica.map(|replica| replica.instance()) {
            self.deliver(0, Event::RequestFailed { instance, kind: FailureKind::Refused });
        }
    }

    /// A lookup: its result comes soon, late or never, or is an error.
    pub(super) fn begin_resolve(&mut self, instance: InstanceId, host: &str) {
        let address = self.upstreams.hosts.iter().find(|known| known.text == host);
        let address = address.and_then(|host| host.address);
        let is_trouble = self.is_trouble();
        if is_trouble && self.rng.random_bool(0.3) {
            return;
        }
        let is_lost = is_trouble && self.rng.random_bool(0.5);
        let result = match address.filter(|_| !is_lost) {
            Some(address) => Ok(address),
            None => Err("cannot be resolved".into()),
        };
        let delay = self.rng.random_range(0..if is_trouble { 8_000 } else { 20 });
        self.deliver(delay, Event::Resolved { instance, result });
    }

    /// Commands that register, remove, drain and enable servers.
    pub(super) fn server_commands(&mut self, fault: Fault) {
        let replicas = self.supervisor.state().desired.replicas();
        let size = replicas.len();
        let names: Vec<ReplicaName> = replicas.iter().map(|replica| replica.name.clone()).collect();
        let any = names.choose(&mut self.rng).cloned();
        let number = self.rng.random_range(1..=HOSTS);
        let command = match (fault, any) {
            (Fault::Registers, _) if size < 9 => {
                let (bearer, weight) = (self.rng.random_range(1..20), self.rng.random_range(1..3));
                let count = self.rng.random_range(1..3);
                let numbers = (number..=HOSTS).take(count).zip(bearer..);
                ScaleCommand::Register(
                    numbers.filter_map(|(host, name)| registration(host, name, weight)).collect(),
                )
            }
            (Fault::ChangesServer, Some(name)) => {
                let change = ServerChange {
                    host: self.rng.random_bool(0.7).then(|| text_of(number).into()),
                    port: None,
                    weight: self.rng.random_bool(0.3).then(|| self.rng.random_range(1..4)),
                };
                ScaleCommand::ChangeServer { name, change }
            }
            (Fault::Drains, Some(name)) => {
                ScaleCommand::SetDrained { name, is_drained: self.rng.random_bool(0.5) }
            }
            (Fault::Marks, Some(name)) => {
                ScaleCommand::SetHealth { name, is_healthy: self.rng.random_bool(0.5) }
            }
            _ => return,
        };
        let dry_run = self.rng.random_bool(0.1);
        self.command(Request { command, dry_run });
    }
}
