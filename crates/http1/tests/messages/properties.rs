//! Messages that are nearly right: derived from a grammar, then damaged.

use proptest::prelude::*;
use ringmaster_http1::{
    Limits, Method,
    framing::Asked,
    fuzzing::{http1_chunks, http1_edits, http1_framing, http1_request_head, http1_response_head},
};

use crate::support::{End, pass_request, pass_response};

fn pick(choices: &'static [&'static str]) -> impl Strategy<Value = String> {
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
        "Upgrade: websocket",
        "TE: trailers",
        "Expect: 100-continue",
        "Keep-Alive: timeout=5",
        "X-Forwarded-For: 1.2.3.4",
        "X_Forwarded_For: 1.2.3.4",
        "X-Request-ID: 7",
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

fn body() -> impl Strategy<Value = String> {
    pick(&[
        "",
        "abc",
        "3\r\nabc\r\n0\r\n\r\n",
        "1\r\na\r\n2;x=\"y\"\r\nbc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0\r\nX-Sum: 1\r\nHost: evil\r\n\r\n",
    ])
}

fn requests() -> impl Strategy<Value = String> {
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

fn responses() -> impl Strategy<Value = String> {
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
enum Damage {
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

fn damaged(message: &str, damages: &[Damage]) -> Vec<u8> {
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

fn damages() -> impl Strategy<Value = Vec<Damage>> {
    prop::collection::vec(damage(), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    /// What goes on of a request is, in all its bytes, the same request again; and how it was cut
    /// changes nothing.
    #[test]
    fn requests_go_on_as_they_were_read(
        message in requests(),
        damages in damages(),
        cuts in prop::collection::vec(0..400_usize, 0..5),
    ) {
        let bytes = damaged(&message, &damages);
        http1_request_head(&bytes);
        let limits = Limits::default();
        let passed = pass_request(&bytes, &[], &limits);
        prop_assert_eq!(&pass_request(&bytes, &cuts, &limits), &passed);
        let each: Vec<usize> = (0..bytes.len()).collect();
        prop_assert_eq!(&pass_request(&bytes, &each, &limits), &passed);
        if passed.end == End::Done && passed.lines().iter().any(|line| line.starts_with("host:")) {
            let written = passed.written();
            let again = pass_request(&written, &[], &limits);
            prop_assert_eq!((again.end, again.consumed), (End::Done, written.len()));
            prop_assert_eq!((&again.head, &again.body), (&passed.head, &passed.body));
            prop_assert_eq!(&again.trailers, &passed.trailers);
            // Trailers may be dropped, so they are written only here.
            prop_assert_eq!(again.written(), written);
        }
    }

    #[test]
    fn responses_go_on_as_they_were_read(
        message in responses(),
        damages in damages(),
        cuts in prop::collection::vec(0..400_usize, 0..5),
        script in any::<u8>(),
    ) {
        let bytes = damaged(&message, &damages);
        http1_response_head(&[&[script], &bytes[..]].concat());
        let method = if script & 1 == 1 { Method::Head } else { Method::Get };
        let asked = Asked { method, upgrade: (script & 2 == 2).then_some(&b"websocket"[..]) };
        let limits = Limits::default();
        let passed = pass_response(&bytes, &[], &asked, &limits);
        prop_assert_eq!(&pass_response(&bytes, &cuts, &asked, &limits), &passed);
        if passed.end == End::Done {
            let written = passed.written();
            let again = pass_response(&written, &[], &asked, &limits);
            prop_assert_eq!((again.end, again.consumed), (End::Done, written.len()));
            prop_assert_eq!((&again.head, &again.body), (&passed.head, &passed.body));
        }
    }

    #[test]
    fn chunks_are_read_as_they_were_written(
        body in body(),
        damages in damages(),
        script in any::<[u8; 4]>(),
    ) {
        http1_chunks(&[&script[..], &damaged(&body, &damages)].concat());
    }

    #[test]
    fn framing_follows_its_table(
        kind in any::<[u8; 3]>(),
        lines in prop::collection::vec(
            pick(&["c3", "c03", "c4", "c", "c+3", "c3,3", "tchunked", "tCHUNKED", "t", "tgzip", "tx, chunked"]),
            0..4,
        ),
    ) {
        http1_framing(&[&kind[..], lines.join("\n").as_bytes()].concat());
    }

    #[test]
    fn edits_write_what_they_say(
        message in requests(),
        edits in prop::collection::vec((any::<u8>(), 0..12_u8, "[a-zA-Z-]{0,8}", "[ -~\r\n]{0,8}"), 0..5),
    ) {
        let mut data = message.into_bytes();
        for (what, line, name, value) in edits {
            data.extend_from_slice(&[0, what, line]);
            data.extend_from_slice(format!("{name}={value}").as_bytes());
        }
        http1_edits(&data);
    }
}
