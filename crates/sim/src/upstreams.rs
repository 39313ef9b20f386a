//! Servers that others keep: addresses that fail, move and come back under names that are looked up.
//! Nothing of them is started or stopped, and no engine says anything of them.

use std::net::{Ipv4Addr, SocketAddr};

use ringmaster_core::fleet::{
    ids::{Moment, ReplicaName},
    message::ProbeOutcome,
    server::{Registration, Server, Source},
};

use super::engine::Conduct;

/// Hosts of the world; those of an even number are named by their address.
pub(super) const HOSTS: u8 = 12;
/// Where they listen.
const PORT: u16 = 5_000;

/// One host.
#[derive(Clone, Debug)]
pub(super) struct Host {
    /// As it is registered.
    pub(super) text: String,
    /// Where it is now; `None`: its name stands for nothing.
    pub(super) address: Option<SocketAddr>,
    pub(super) home: SocketAddr,
    pub(super) conduct: Conduct,
    /// Nothing has ever happened to it.
    pub(super) is_blameless: bool,
}

/// All hosts.
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

/// The servers of a configuration that names so many.
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
                conduct: Conduct::Good { from: Moment(0) },
                is_blameless: true,
            }
        });
        Self { hosts: hosts.collect() }
    }

    /// All are where they were at first, and well.
    pub(super) fn restore(&mut self, now: Moment) {
        for host in &mut self.hosts {
            host.address = Some(host.home);
            host.conduct = Conduct::Good { from: now };
        }
    }

    pub(super) fn all_fail(&mut self, conduct: impl Fn() -> Conduct) {
        for host in &mut self.hosts {
            host.is_blameless = false;
            host.conduct = conduct();
        }
    }

    pub(super) fn all_recover(&mut self, now: Moment) {
        self.hosts.iter_mut().for_each(|host| host.conduct = Conduct::Good { from: now });
    }

    /// What a heartbeat to an address meets; `None`: that is no address of these.
    pub(super) fn answer_at(&self, address: SocketAddr, now: Moment) -> Option<ProbeOutcome> {
        let holder = self.hosts.iter().find(|host| host.home == address)?;
        Some(Conduct::answer(Some(holder.conduct), now))
    }

    /// Whether nothing has ever happened to a host, nor to another one that came to its address.
    pub(super) fn is_blameless(&self, server: &Server) -> bool {
        let host = self.hosts.iter().find(|host| host.text == *server.host);
        host.is_some_and(|host| host.is_blameless)
    }

    /// A heartbeat to an address was lost.
    pub(super) fn blame(&mut self, address: SocketAddr) {
        for host in self.hosts.iter_mut().filter(|host| host.address == Some(address)) {
            host.is_blameless = false;
        }
    }
}
