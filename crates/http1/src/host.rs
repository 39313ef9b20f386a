//! What a request may be for: `host[:port]` (RFC 3986, 3.2.2).

use core::net::Ipv6Addr;

/// Whether this is a host with or without a port, or nothing: a target without an authority has an
/// empty Host (RFC 9110, 7.2).
pub(crate) fn is_host(value: &[u8]) -> bool {
    value.is_empty() || is_authority(value)
}

/// Whether this is a host with or without a port.
pub(crate) fn is_authority(value: &[u8]) -> bool {
    let (host, port) = match value {
        [b'[', rest @ ..] => {
            let Some(end) = rest.iter().position(|byte| *byte == b']') else { return false };
            let is_address = str::from_utf8(&rest[..end])
                .is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok());
            (is_address, &rest[end + 1..])
        }
        _ => {
            let end = value.iter().position(|byte| *byte == b':').unwrap_or(value.len());
            (is_name(&value[..end]), &value[end..])
        }
    };
    host && is_port(port)
}

/// Whether this is a name or an address of version 4, with its escapes whole.
fn is_name(name: &[u8]) -> bool {
    let mut rest = name;
    while let [first, after @ ..] = rest {
        rest = match (first, after) {
            (b'%', [high, low, after @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                after
            }
            (byte, _) if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(byte) => after,
            _ => return false,
        };
    }
    !name.is_empty()
}

/// Whether this is nothing, or a colon with a port, which may be empty.
fn is_port(port: &[u8]) -> bool {
    match port {
        [] | [b':'] => true,
        [b':', digits @ ..] => {
            let number = |number: u32, digit: &u8| number * 10 + u32::from(digit - b'0');
            // Five digits at most, so the number fits.
            digits.len() <= 5
                && digits.iter().all(u8::is_ascii_digit)
                && digits.iter().fold(0, number) <= u16::MAX.into()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_a_name_or_an_address_and_at_most_a_port() {
        for host in [
            "h",
            "a_b.example",
            "1.2.3.4:80",
            "[::1]",
            "[2001:db8::1]:443",
            "h:",
            "a%2db",
            "h:65535",
        ] {
            assert!(is_authority(host.as_bytes()), "{host}");
        }
        for odd in [
            "",
            ":",
            ":80",
            "a b",
            "u@h",
            "h:80:80",
            "h:x",
            "h:65536",
            "h:000080",
            "h:99999999999999999999",
            "h:xxxxxxxxxxxxxxxxxxxx",
            "[::1",
            "::1",
            "[::1]x",
            "[]",
            "[v1.a]",
            "[fe80::1%25eth0]",
            "a%2",
            "a%zz",
            "h/",
            "h?",
            "\u{e4}",
            "a\tb",
            "h\\",
            "[::1]:x",
        ] {
            assert!(!is_authority(odd.as_bytes()), "{odd}");
        }
        assert!(is_host(b"") && is_host(b"h:80") && !is_host(b":80"));
    }
}
