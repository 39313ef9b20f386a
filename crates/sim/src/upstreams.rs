//! Registered servers: their addresses fail, move and come back, under names that are looked up. They
//! are not started or stopped, and no engine reports events of them.

use std::net::{Ipv4Addr, SocketAddr};

use ringmaster_core::fleet::{
    ids::{Moment, ReplicaName},
    message::ProbeOutcome,
    server::{Registration, Server, Source},
};

use super::engine::Behaviour;

/// Number of hosts. Those with an even number are registered by address.
pub(super) const HOSTS: u8 = 12;
/// The port of all servers.
const PORT: u16 = 5_000;

#[derive(Clone, Debug)]
pub(super) struct Host {
    /// The host name or address of the registration.
    pub(super) text: String,
    /// The current address; `None` if the name does not resolve.
    pub(super) address: Option<SocketAddr>,
    pub(super) home: SocketAddr,
    pub(super) behaviour: Behaviour,
    /// No fault has affected it.
    pub(super) is_undisturbed: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Upstreams {
    pub(super) hosts: Vec<Host>,
}

pub(super) fn text_of(number: u8) -> String {
    if number.is_multiple_of(2) { format!("10.0.1.{number}") } else { format!("host-{number}") }
}

pub(super) fn registration(number: u8, bearer: u32, weight: u32) -> Option<Registration> {
    let server = Server::new(&text_of(number), PORT, Source::Operator).ok()?;
    Some(Registration { name: ReplicaName::numbered(bearer), weight, server })
}

/// The first `count` servers, as in a configuration.
pub(super) fn configured(count: usize) -> Vec<Registration> {
    let numbers = (1..=HOSTS).take(count);
    numbers.filter_map(|number| registration(number, number.into(), 1)).collect()
}

impl Upstreams {
    pub(super) fn new() -> Self {
        let hosts = (1..=HOSTS).map(|number| {
            let home = SocketAddr::from((Ipv4Addr::new(10, 0, 1, number), PORT));
            Host {
                text: text_of(number),
                address: Some(home),
                home,
                behaviour: Behaviour::Good { from: Moment(0) },
                is_undisturbed: true,
            }
        });
        Self { hosts: hosts.collect() }
    }

    /// Ends all faults: every host has its first address and responds.
    pub(super) fn restore(&mut self, now: Moment) {
        for host in &mut self.hosts {
            host.address = Some(host.home);
            host.behaviour = Behaviour::Good { from: now };
        }
    }

    pub(super) fn all_fail(&mut self, behaviour: impl Fn() -> Behaviour) {
        for host in &mut self.hosts {
            host.is_undisturbed = false;
            host.behaviour = behaviour();
        }
    }

    pub(super) fn all_recover(&mut self, now: Moment) {
        self.hosts.iter_mut().for_each(|host| host.behaviour = Behaviour::Good { from: now });
    }

    /// The result of a heartbeat; `None` if no host has the address.
    pub(super) fn answer_at(&self, address: SocketAddr, now: Moment) -> Option<ProbeOutcome> {
        let holder = self.hosts.iter().find(|host| host.home == address)?;
        Some(Behaviour::answer(Some(holder.behaviour), now))
    }

    /// Whether no fault has affected a host, nor another one that had its address.
    pub(super) fn is_undisturbed(&self, server: &Server) -> bool {
        let host = self.hosts.iter().find(|host| host.text == *server.host);
        host.is_some_and(|host| host.is_undisturbed)
    }

    /// Notes that a heartbeat to an address was lost.
    pub(super) fn disturb(&mut self, address: SocketAddr) {
        for host in self.hosts.iter_mut().filter(|host| host.address == Some(address)) {
            host.is_undisturbed = false;
        }
    }
}
