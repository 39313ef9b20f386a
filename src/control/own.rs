//! Which addresses lead to this process itself: a server there would get its own requests back, again
//! and again.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::Arc,
};

use ringmaster_core::fleet::{
    command::{ScaleCommand, ScaleError},
    ids::ReplicaName,
    server::Server,
    view::FleetView,
};

/// The addresses that this process listens on. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct OwnPorts(Arc<[SocketAddr]>);

impl OwnPorts {
    /// Of a process that listens here. A port that the system is yet to choose is not known.
    pub fn new(traffic: Option<SocketAddr>, admin: SocketAddr) -> Self {
        let listens = traffic.into_iter().chain([admin]);
        Self(listens.filter(|address| address.port() > 0).collect())
    }

    /// Whether a connection to an address comes to this process.
    pub fn include(&self, address: SocketAddr) -> bool {
        let at = self.0.iter().filter(|own| own.port() == address.port());
        let to = address.ip().to_canonical();
        at.map(|own| own.ip().to_canonical()).any(|own| match to {
            // The system takes that for this machine.
            to if to.is_unspecified() => own.is_unspecified() || own.is_loopback(),
            // One that listens on all IPv6 addresses of Linux listens on those of IPv4, too.
            to if own.is_unspecified() => (own.is_ipv6() || to.is_ipv4()) && is_here(to),
            to => own == to,
        })
    }

    /// The first of the places that a command names where this process itself is. Names are looked up
    /// later, and judged then.
    pub(super) fn refuse(&self, command: &ScaleCommand, view: &FleetView) -> Option<ScaleError> {
        let place = |server: &Server| server.address().filter(|address| self.include(*address));
        let found = match command {
            ScaleCommand::Register(servers) => servers.iter().find_map(|one| place(&one.server)),
            ScaleCommand::ChangeServer { name, change } => {
                let now = server_named(view, name);
                let host = change.host.as_ref().or(now.map(|now| &now.host));
                let port = change.port.or(now.map(|now| now.port));
                let host = host.and_then(|host| host.parse::<IpAddr>().ok());
                let moved = host.zip(port).map(|(host, port)| SocketAddr::new(host, port));
                moved.filter(|address| self.include(*address))
            }
            _ => None,
        };
        found.map(|address| ScaleError::OwnPort(address.to_string()))
    }
}

fn server_named<'a>(view: &'a FleetView, name: &ReplicaName) -> Option<&'a Server> {
    view.replicas.iter().find(|replica| &replica.name == name)?.server.as_ref()
}

/// Whether an address is one of this machine. The system is asked which address it would speak from:
/// it speaks to itself from the address that it speaks to. Nothing is sent. A second address of an
/// interface is not found this way.
fn is_here(ip: IpAddr) -> bool {
    let any: IpAddr = match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let spoken_from = || {
        let socket = UdpSocket::bind((any, 0)).ok()?;
        // Any port will do.
        socket.connect((ip, 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    ip.is_loopback() || spoken_from() == Some(ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(traffic: &str) -> OwnPorts {
        OwnPorts::new(Some(traffic.parse().unwrap()), "127.0.0.1:1".parse().unwrap())
    }

    #[test]
    fn what_comes_back_is_found_however_it_is_written() {
        let includes = |listens: &str, to: &str| own(listens).include(to.parse().unwrap());
        for (listens, to) in [
            ("127.0.0.1:5000", "127.0.0.1:5000"),
            ("127.0.0.1:5000", "[::ffff:127.0.0.1]:5000"),
            ("127.0.0.1:5000", "0.0.0.0:5000"),
            ("0.0.0.0:5000", "127.0.0.1:5000"),
            ("0.0.0.0:5000", "127.9.9.9:5000"),
            ("0.0.0.0:5000", "0.0.0.0:5000"),
            ("[::]:5000", "127.0.0.1:5000"),
            ("[::]:5000", "[::1]:5000"),
            ("192.0.2.1:5000", "192.0.2.1:5000"),
        ] {
            assert!(includes(listens, to), "{to} at {listens}");
            assert!(includes(listens, "127.0.0.1:1"), "the admin port beside {listens}");
        }
        for (listens, to) in [
            ("127.0.0.1:5000", "127.0.0.1:5001"),
            ("127.0.0.1:5000", "127.0.0.2:5000"),
            ("0.0.0.0:5000", "192.0.2.1:5000"),
            ("0.0.0.0:5000", "[::1]:5000"),
            ("[::]:5000", "192.0.2.1:5000"),
            ("192.0.2.1:5000", "127.0.0.1:5000"),
            ("192.0.2.1:5000", "0.0.0.0:5000"),
            ("127.0.0.1:0", "127.0.0.1:2"),
        ] {
            assert!(!includes(listens, to), "{to} at {listens}");
        }
    }

    #[test]
    fn an_address_of_an_interface_is_here() {
        // What the system would speak to the outside from, where there is an outside.
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        if socket.connect("192.0.2.1:9").is_err() {
            return;
        }
        let mine = socket.local_addr().unwrap().ip();
        assert!(own("0.0.0.0:5000").include(SocketAddr::new(mine, 5000)), "{mine}");
    }
}
