//! The traffic port and the admin port.

use std::net::SocketAddr;

use super::{Checked, wrong};

/// Checks that both can be bound: they must neither be the same address, nor one include the other.
pub(super) fn differ(listen: SocketAddr, admin: SocketAddr) -> Checked<()> {
    // Port 0 stands for any free port.
    if listen.port() != admin.port() || listen.port() == 0 || !overlap(listen, admin) {
        return Ok(());
    }
    let why = match listen == admin {
        true => format!("{admin} is `listen` too; each needs a port of its own"),
        false => format!("{admin} and `listen` ({listen}) overlap; each needs a port of its own"),
    };
    wrong("admin", why)
}

fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let (one, other) = (one.ip().to_canonical(), other.ip().to_canonical());
    // [::] includes IPv4 as well.
    let includes = |wide: std::net::IpAddr, narrow: std::net::IpAddr| {
        wide.is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4())
    };
    one == other || includes(one, other) || includes(other, one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_must_not_overlap() {
        let differ = |one: &str, other: &str| {
            let differ = differ(one.parse().unwrap(), other.parse().unwrap());
            differ.map_err(|error| error.to_string())
        };
        for (one, other) in [
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("127.0.0.1:1", "0.0.0.0:1"),
            ("[::]:1", "127.0.0.1:1"),
            ("[::]:1", "[::1]:1"),
            ("0.0.0.0:1", "[::]:1"),
            ("[::ffff:10.0.0.1]:1", "10.0.0.1:1"),
        ] {
            let message = differ(one, other).unwrap_err();
            assert!(message.starts_with("`admin`: ") && message.contains("`listen`"), "{message}");
        }
        for (one, other) in [
            ("0.0.0.0:1", "127.0.0.1:2"),
            ("127.0.0.1:1", "127.0.0.2:1"),
            ("0.0.0.0:1", "[::1]:1"),
            ("127.0.0.1:0", "127.0.0.1:0"),
        ] {
            assert_eq!(differ(one, other), Ok(()), "{one} {other}");
        }
    }
}
