//! What can be read in two ways, and what becomes of it: for the proxy, and for the codec alone.

/// What becomes of a request.
pub(crate) enum Fate {
    /// Refused with this status.
    Refused(u16),
    /// Goes on, with these lines in its head, without those that begin like the others, and with
    /// this body.
    GoesOn { with: &'static [&'static str], without: &'static [&'static str], body: &'static str },
}

use Fate::{GoesOn, Refused};

const PLAIN: Fate = GoesOn { with: &[], without: &["transfer-encoding"], body: "" };
const CHUNKED: Fate =
    GoesOn { with: &["transfer-encoding: chunked"], without: &["content-length"], body: "abc" };

/// A name, what is sent, and what becomes of it.
pub(crate) const CASES: &[(&str, &str, Fate)] = &[
    // Framing.
    (
        "Content-Length beside Transfer-Encoding",
        concat!(
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\
                 Transfer-Encoding: chunked\r\n\r\n",
            "3\r\nabc\r\n0\r\n\r\n"
        ),
        CHUNKED,
    ),
    (
        "equal Content-Lengths",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        GoesOn { with: &["content-length: 3"], without: &["transfer-encoding"], body: "abc" },
    ),
    (
        "unequal Content-Lengths",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        Refused(400),
    ),
    (
        "a list of Content-Lengths",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3, 4\r\n\r\nabc",
        Refused(400),
    ),
    (
        "a signed Content-Length",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +3\r\n\r\nabc",
        Refused(400),
    ),
    (
        "a negative Content-Length",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -3\r\n\r\nabc",
        Refused(400),
    ),
    (
        "a hexadecimal Content-Length",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0x3\r\n\r\nabc",
        Refused(400),
    ),
    (
        "an empty Content-Length",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: \r\n\r\n",
        Refused(400),
    ),
    (
        "a Content-Length beyond 64 bits",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 18446744073709551616\r\n\r\n",
        Refused(400),
    ),
    (
        "a coding that is not known",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n",
        Refused(400),
    ),
    (
        "a list of codings",
        concat!(
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "3\r\nabc\r\n0\r\n\r\n"
        ),
        Refused(400),
    ),
    (
        "chunked twice",
        concat!(
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\
                 Transfer-Encoding: chunked\r\n\r\n",
            "3\r\nabc\r\n0\r\n\r\n"
        ),
        Refused(400),
    ),
    (
        "chunked before identity",
        concat!(
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
            "3\r\nabc\r\n0\r\n\r\n"
        ),
        Refused(400),
    ),
    (
        "a coding behind a vertical tab",
        concat!(
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \x0bchunked\r\n\r\n",
            "3\r\nabc\r\n0\r\n\r\n"
        ),
        Refused(400),
    ),
    (
        "a coding behind a tab",
        concat!(
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:\tchunked\r\n\r\n",
            "3\r\nabc\r\n0\r\n\r\n"
        ),
        CHUNKED,
    ),
    (
        "a coding in capitals",
        concat!(
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: CHUNKED\r\n\r\n",
            "3\r\nabc\r\n0\r\n\r\n"
        ),
        CHUNKED,
    ),
    (
        "a coding with a parameter",
        concat!(
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked;q=1\r\n\r\n",
            "3\r\nabc\r\n0\r\n\r\n"
        ),
        Refused(400),
    ),
    (
        "a coding in HTTP/1.0",
        concat!(
            "POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
            "3\r\nabc\r\n0\r\n\r\n"
        ),
        Refused(400),
    ),
    (
        "space before the colon",
        concat!(
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding : chunked\r\n\r\n",
            "3\r\nabc\r\n0\r\n\r\n"
        ),
        Refused(400),
    ),
    // Lines.
    ("bare line feeds", "GET / HTTP/1.1\nHost: h\n\n", PLAIN),
    ("a bare carriage return", "GET / HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n", Refused(400)),
    ("a folded line", "GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n", Refused(400)),
    ("a null byte", "GET / HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n", Refused(400)),
    ("a null byte in a name", "GET / HTTP/1.1\r\nHost: h\r\nX\0: a\r\n\r\n", Refused(400)),
    ("a field without a colon", "GET / HTTP/1.1\r\nHost: h\r\nX\r\n\r\n", Refused(400)),
    ("a field without a name", "GET / HTTP/1.1\r\nHost: h\r\n: x\r\n\r\n", Refused(400)),
    ("a space in the target", "GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", Refused(400)),
    ("a version to come", "GET / HTTP/3.7\r\nHost: h\r\n\r\n", Refused(400)),
    ("no version", "GET /\r\n\r\n", Refused(400)),
    // Where it goes.
    ("no Host", "GET / HTTP/1.1\r\n\r\n", Refused(400)),
    ("two Hosts", "GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", Refused(400)),
    (
        "a target that contradicts the Host",
        "GET http://target/a HTTP/1.1\r\nHost: other\r\n\r\n",
        GoesOn { with: &["host: target"], without: &["host: other"], body: "" },
    ),
    ("a target of another kind", "GET h:80 HTTP/1.1\r\nHost: h\r\n\r\n", Refused(400)),
    ("a tunnel", "CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n", Refused(405)),
    (
        "Connection that names what framing stands on",
        "POST / HTTP/1.1\r\nHost: h\r\nConnection: content-length, host\r\n\
             Content-Length: 3\r\n\r\nabc",
        GoesOn { with: &["content-length: 3", "host: h"], without: &[], body: "abc" },
    ),
    // Chunks.
    (
        "a chunk size beyond 64 bits",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
             10000000000000003\r\nabc\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "a chunk size that is none",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
             0x3\r\nabc\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "a signed chunk size",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
             +3\r\nabc\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "a chunk longer than its size",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
             3\r\nabcd\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "a chunk that ends with a bare line feed",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "a chunk extension",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
             3;a=b\r\nabc\r\n0\r\n\r\n",
        CHUNKED,
    ),
    (
        "a line feed in a chunk extension",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
             3;a\nb\r\nabc\r\n0\r\n\r\n",
        Refused(400),
    ),
];
