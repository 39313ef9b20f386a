//! Messages that are nearly right: derived from a grammar, then damaged.

use proptest::prelude::*;

/// At least so many cases; more where `PROPTEST_CASES` asks for more.
pub(crate) fn at_least(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases.max(cases), ..default }
}

pub(crate) fn pick(choices: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::sample::select(choices).prop_map(str::to_owned)
}

fn field() -> impl Strategy<Value = String> {
    let special = pick(&[
        "Content-Length: 3",
        "content-length: 03",
        "Content-Length: 4",
        "Content-Length:3",
        "Transfer-Encoding: chunked",
        "transfer-encoding:Chunked ",
        "Transfer-Encoding: gzip, chunked",
        "Connection: close",
        "Connection: keep-alive, X-A",
        "Connection: upgrade, te",
        "Connection: upgrade",
        "Connection: x_request_id, expect",
        "Upgrade: websocket",
        "Upgrade: h2c;q=1, websocket",
        "TE: trailers",
        "Expect: 100-continue",
        "Keep-Alive: timeout=5",
        "X-Forwarded-For: 1.2.3.4",
        "X_Forwarded_For: 1.2.3.4",
        "X-Request-ID: 7",
        "X_Request_ID: 7",
        "Content_Length: 3",
        "Transfer_Encoding: chunked",
        "Keep_Alive: 3",
        "Trailer: X-Sum",
    ]);
    let plain = ("[A-Za-z][A-Za-z0-9-]{0,8}", ":[ \t]{0,2}", "[ -~]{0,12}")
        .prop_map(|(name, colon, value)| format!("{name}{colon}{value}"));
    prop_oneof![2 => special, 1 => plain]
}

fn fields() -> impl Strategy<Value = String> {
    prop::collection::vec((field(), pick(&["\r\n", "\r\n", "\r\n", "\n"])), 0..6)
        .prop_map(|lines| lines.into_iter().map(|(line, end)| line + &end).collect())
}

pub(crate) fn body() -> impl Strategy<Value = String> {
    pick(&[
        "",
        "abc",
        "3\r\nabc\r\n0\r\n\r\n",
        "1\r\na\r\n2;x=\"y\"\r\nbc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0\r\nX-Sum: 1\r\nHost: evil\r\n\r\n",
    ])
}

pub(crate) fn requests() -> impl Strategy<Value = String> {
    let line = pick(&[
        "GET / HTTP/1.1\r\n",
        "POST /a?b HTTP/1.1\r\n",
        "PUT http://t:80/a HTTP/1.1\r\n",
        "OPTIONS * HTTP/1.1\r\n",
        "POST / HTTP/1.0\r\n",
        "\r\nHEAD /#x HTTP/1.1\n",
    ]);
    let host = pick(&["Host: h\r\n", "Host: h\r\n", "host:h_1:80\r\n", ""]);
    (line, host, fields(), body())
        .prop_map(|(line, host, fields, body)| format!("{line}{host}{fields}\r\n{body}"))
}

pub(crate) fn responses() -> impl Strategy<Value = String> {
    let line = pick(&[
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 204 No Content\r\n",
        "HTTP/1.1 304 Not Modified\r\n",
        "HTTP/1.1 103 Early Hints\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n",
        "HTTP/1.0 200 OK\r\n",
        "HTTP/1.1 404\n",
    ]);
    (line, fields(), body()).prop_map(|(line, fields, body)| format!("{line}{fields}\r\n{body}"))
}

/// A change of bytes, at a place given as a part of 65,536.
#[derive(Clone, Debug)]
pub(crate) enum Damage {
    Insert(u16, u8),
    Replace(u16, u8),
    Remove(u16, u8),
    Repeat(u16, u8),
    Recase(u16),
    SwapLines(u16, u16),
    RepeatLine(u16),
    Cut(u16),
}

const TELLING: &[u8] = b"\0\t\x0b\r\n ;:,+_=\"\\#/*0aAx\x7f\x80\xff";

fn damage() -> impl Strategy<Value = Damage> {
    let telling = || prop::sample::select(TELLING);
    prop_oneof![
        (any::<u16>(), telling()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        (any::<u16>(), telling()).prop_map(|(at, byte)| Damage::Replace(at, byte)),
        (any::<u16>(), 1..8_u8).prop_map(|(at, length)| Damage::Remove(at, length)),
        (any::<u16>(), 1..24_u8).prop_map(|(at, length)| Damage::Repeat(at, length)),
        any::<u16>().prop_map(Damage::Recase),
        any::<(u16, u16)>().prop_map(|(one, other)| Damage::SwapLines(one, other)),
        any::<u16>().prop_map(Damage::RepeatLine),
        any::<u16>().prop_map(Damage::Cut),
    ]
}

pub(crate) fn damaged(message: &str, damages: &[Damage]) -> Vec<u8> {
    let mut bytes = message.as_bytes().to_vec();
    for damage in damages {
        let place = |at: u16, length: usize| usize::from(at) * length / 65_536;
        match *damage {
            Damage::Insert(at, byte) => bytes.insert(place(at, bytes.len() + 1), byte),
            Damage::Repeat(at, length) => {
                let at = place(at, bytes.len() + 1);
                let piece = bytes[at..(at + usize::from(length)).min(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
            Damage::Cut(at) => bytes.truncate(place(at, bytes.len() + 1)),
            Damage::SwapLines(one, other) => {
                let mut lines: Vec<&[u8]> = bytes.split_inclusive(|b| *b == b'\n').collect();
                if !lines.is_empty() {
                    let length = lines.len();
                    lines.swap(place(one, length), place(other, length));
                    bytes = lines.concat();
                }
            }
            Damage::RepeatLine(at) => {
                let mut lines: Vec<&[u8]> = bytes.split_inclusive(|b| *b == b'\n').collect();
                if !lines.is_empty() {
                    let at = place(at, lines.len());
                    lines.insert(at, lines[at]);
                    bytes = lines.concat();
                }
            }
            _ if bytes.is_empty() => {}
            Damage::Replace(at, byte) => {
                let at = place(at, bytes.len());
                bytes[at] = byte;
            }
            Damage::Recase(at) => {
                let at = place(at, bytes.len());
                bytes[at] ^= 0x20;
            }
            Damage::Remove(at, length) => {
                let at = place(at, bytes.len());
                let end = (at + usize::from(length)).min(bytes.len());
                bytes.drain(at..end);
            }
        }
    }
    bytes
}

pub(crate) fn damages() -> impl Strategy<Value = Vec<Damage>> {
    prop::collection::vec(damage(), 0..4)
}
