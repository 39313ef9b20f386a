//! The PROXY protocol, versions 1 and 2: whoever passes connections on says first for whom.
//!
//! The header is read byte for byte and no further, so that what follows is left to HTTP.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use ppp::{HeaderResult, v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// What version 2 begins with. Version 1 is longer than that, too.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest header of version 1, its line end included.
const LINE_MAX: usize = 107;
/// The most that version 2 may say beside the addresses.
pub(super) const PAYLOAD_MAX: usize = 2_048;

/// Reads the header, and who the client is; `None` if the header does not say (a health check of the
/// sender's own, or a socket without addresses). Has no deadline of its own.
///
/// # Errors
/// What came is no header, or the connection broke.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let mut header = vec![0; SIGNATURE.len()];
    stream.read_exact(&mut header).await?;
    if header == SIGNATURE {
        let mut rest = [0; 4];
        stream.read_exact(&mut rest).await?;
        header.extend(rest);
        let length = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
        if length > PAYLOAD_MAX {
            return Err(no_header());
        }
        let start = header.len();
        header.resize(start + length, 0);
        stream.read_exact(&mut header[start..]).await?;
    } else if header.starts_with(b"PROXY ") {
        while !header.ends_with(b"\n") {
            if header.len() >= LINE_MAX {
                return Err(no_header());
            }
            header.push(stream.read_u8().await?);
        }
    }
    client(&header).ok_or_else(no_header)
}

fn no_header() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no header of the PROXY protocol")
}

/// Who a whole header says the client is. The outer `None`: it is no header.
fn client(header: &[u8]) -> Option<Option<SocketAddr>> {
    let at = |address: IpAddr, port: u16| Some(Some(SocketAddr::new(address, port)));
    match HeaderResult::parse(header) {
        HeaderResult::V1(Ok(header)) => match header.addresses {
            v1::Addresses::Tcp4(it) => at(it.source_address.into(), it.source_port),
            v1::Addresses::Tcp6(it) => at(it.source_address.into(), it.source_port),
            v1::Addresses::Unknown => Some(None),
        },
        HeaderResult::V2(Ok(header)) if header.command == v2::Command::Local => Some(None),
        HeaderResult::V2(Ok(header)) => match header.addresses {
            v2::Addresses::IPv4(it) => at(it.source_address.into(), it.source_port),
            v2::Addresses::IPv6(it) => at(it.source_address.into(), it.source_port),
            v2::Addresses::Unspecified | v2::Addresses::Unix(_) => Some(None),
        },
        HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Who is said, and what is left behind the header.
    fn read_from(bytes: &[u8]) -> (Result<Option<String>, io::ErrorKind>, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut left = bytes;
        let said = runtime.block_on(read(&mut left));
        let said = said.map(|client| client.map(|address| address.to_string()));
        (said.map_err(|error| error.kind()), left.to_vec())
    }

    fn v2(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length[..], payload].concat()
    }

    #[test]
    fn both_versions_say_who_the_client_is() {
        let ok = |address: &str| Ok(Some(address.to_owned()));
        let four = [10, 1, 2, 3, 127, 0, 0, 1, 0x30, 0x39, 0, 80];
        let with_more = [&four[..], &[4, 0, 1, 0]].concat();
        let mut six = [0; 36];
        six[15] = 1;
        six[32..].copy_from_slice(&[0x30, 0x39, 0, 80]);
        for (header, expected) in [
            (b"PROXY TCP4 10.1.2.3 127.0.0.1 12345 80\r\n".to_vec(), ok("10.1.2.3:12345")),
            (b"PROXY TCP6 ::1 ::1 12345 80\r\n".to_vec(), ok("[::1]:12345")),
            (b"PROXY UNKNOWN\r\n".to_vec(), Ok(None)),
            (b"PROXY UNKNOWN ffff:f::1 ::1 1 2\r\n".to_vec(), Ok(None)),
            (v2(0x21, 0x11, &four), ok("10.1.2.3:12345")),
            (v2(0x21, 0x11, &with_more), ok("10.1.2.3:12345")),
            (v2(0x21, 0x21, &six), ok("[::1]:12345")),
            (v2(0x20, 0x11, &four), Ok(None)),
            (v2(0x20, 0x00, &[]), Ok(None)),
        ] {
            let sent = [&header[..], b"GET / HTTP/1.1\r\n"].concat();
            let (said, left) = read_from(&sent);
            assert_eq!(said, expected, "{header:?}");
            assert_eq!(left, b"GET / HTTP/1.1\r\n", "{header:?}");
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let endless = [b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat();
        for bytes in [
            b"GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(),
            b"PROXY TCP4 10.1.2.3 127.0.0.1 12345\r\n".to_vec(),
            b"PROXY TCP4 10.1.2.300 127.0.0.1 1 2\r\n".to_vec(),
            b"PROXY TCP4 10.1.2.3 127.0.0.1 99999 2\r\n".to_vec(),
            endless,
            v2(0x31, 0x11, &[0; 12]),
            v2(0x21, 0x11, &[0; 4]),
            v2(0x21, 0x11, &[0; 3_000]),
        ] {
            assert_eq!(read_from(&bytes).0, Err(io::ErrorKind::InvalidData), "{bytes:?}");
        }
        assert_eq!(read_from(b"PROXY").0, Err(io::ErrorKind::UnexpectedEof));
        assert_eq!(read_from(b"").0, Err(io::ErrorKind::UnexpectedEof));
    }

    proptest! {
        #[test]
        fn nothing_that_comes_is_worse_than_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read_from(&bytes);
            let _ = read_from(&[&SIGNATURE[..], &bytes[..]].concat());
            let _ = read_from(&[&b"PROXY "[..], &bytes[..]].concat());
        }
    }
}
