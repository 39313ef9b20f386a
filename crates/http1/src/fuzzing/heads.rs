//! Heads, and what is decided about them.

use super::{
    Outcome, assert_known, assert_unambiguous, fields, fields_written, id_of, read_request,
    read_response, written_lines,
};
use crate::{
    FieldId,
    fault::Fault,
    field::is_twin,
    framing::{self, Asked, Framing, Lengths},
    head::{Head, HeadRef},
    message::{Method, Version},
    number::decimal,
    scan::Limits,
    write::{self, Connection, ToClient, ToReplica},
};

/// Small enough that short inputs reach them.
const LIMITS: Limits = Limits { head_bytes_max: 2048, fields_max: 12, target_bytes_max: 200 };

/// Every single cut of a short input, and all of them at once.
fn each_cut(bytes: &[u8], mut check: impl FnMut(&[usize])) {
    let all: Vec<usize> = (0..bytes.len()).collect();
    check(&all);
    for cut in all.iter().filter(|_| bytes.len() < 256) {
        check(&[*cut]);
    }
}

/// A request's head, with what may stand behind it: what is read does not depend on how it came, and
/// what goes on is read as the same request, by the strictest reader too.
pub fn http1_request_head(data: &[u8]) {
    let mut head = Head::new();
    let whole = read_request(&mut head, data, &[], &LIMITS);
    let seen = matches!(whole, Outcome::Head(_)).then(|| fields(head.over(data)));
    each_cut(data, |cuts| {
        let mut again = Head::new();
        assert_eq!(read_request(&mut again, data, cuts, &LIMITS), whole, "cut at {cuts:?}");
        if let Some(seen) = &seen {
            assert_eq!((fields(again.over(data)), again.known()), (seen.clone(), head.known()));
        }
    });
    let Outcome::Head(length) = whole else { return };
    assert!(length <= data.len() && length <= usize::from(LIMITS.head_bytes_max));
    assert_ne!(head.known().framing, Framing::UntilClose, "of a request");
    let given = head.over(data);
    assert!(given.host().is_some() || given.version() == Version::Http10);
    assert_known(given);
    let mut written = Vec::new();
    write::request(given, &ToReplica::as_read(given), &mut written);
    let lines = written_lines(&written);
    assert_unambiguous(&lines);
    let hosts = lines.iter().filter(|(name, _)| id_of(name) == FieldId::Host);
    assert_eq!(hosts.count(), 1);
    // Not even something that CGI would take for a field that is known.
    assert!(lines.iter().all(|(name, _)| !is_twin(FieldId::of(name), name)));
    assert!(given.target().starts_with(b"/") || given.target() == b"*");

    let most = Limits { head_bytes_max: u16::MAX, fields_max: u8::MAX, target_bytes_max: u16::MAX };
    let mut read_back = Head::new();
    let outcome = read_request(&mut read_back, &written, &[], &most);
    assert_eq!(outcome, Outcome::Head(written.len()));
    let back = read_back.over(&written);
    assert_same(given, back);
    let of = |head: HeadRef<'_>| {
        let known = head.known();
        (known.framing, known.expects_100, known.te_trailers, head.upgrade().map(<[u8]>::to_vec))
    };
    assert_eq!(of(back), of(given));
    let mut twice = Vec::new();
    write::request(back, &ToReplica::as_read(back), &mut twice);
    assert_eq!(twice, written, "written twice");
}

fn assert_same(given: HeadRef<'_>, back: HeadRef<'_>) {
    assert_eq!((back.method_name(), back.target()), (given.method_name(), given.target()));
    assert_eq!((back.status(), back.reason()), (given.status(), given.reason()));
    assert_eq!(fields(back), fields_written(given));
}

/// A response's head behind a byte that says what it responds to: as for a request, and what a client
/// gets has the end that its version understands.
pub fn http1_response_head(data: &[u8]) {
    let Some((&script, data)) = data.split_first() else { return };
    let method = if script & 1 == 1 { Method::Head } else { Method::Get };
    let asked = Asked { method, upgrade: (script & 2 == 2).then_some(&b"websocket, a/1"[..]) };
    let version = if script & 4 == 4 { Version::Http10 } else { Version::Http11 };
    let mut head = Head::new();
    let whole = read_response(&mut head, data, &[], &asked, &LIMITS);
    each_cut(data, |cuts| {
        let mut again = Head::new();
        assert_eq!(read_response(&mut again, data, cuts, &asked, &LIMITS), whole, "{cuts:?}");
    });
    if !matches!(whole, Outcome::Head(_)) {
        return;
    }
    let given = head.over(data);
    // Only HTTP/1.1 asks for another protocol.
    let version = if given.status() == 101 { Version::Http11 } else { version };
    let how = ToClient::as_read(given, version, Connection::Keep);
    if how.framing == Framing::UntilClose {
        assert_eq!((how.connection, version), (Connection::Close, Version::Http10));
    }
    let mut written = Vec::new();
    write::response(given, &how, &mut written);
    let lines = written_lines(&written);
    assert_unambiguous(&lines);
    let is_sized = |id| id == FieldId::TransferEncoding || id == FieldId::ContentLength;
    let has_size = lines.iter().any(|(name, _)| is_sized(id_of(name)));
    assert!(!has_size || (given.status() >= 200 && given.status() != 204));

    let most = Limits { head_bytes_max: u16::MAX, fields_max: u8::MAX, target_bytes_max: u16::MAX };
    let mut read_back = Head::new();
    let outcome = read_response(&mut read_back, &written, &[], &asked, &most);
    assert_eq!(outcome, Outcome::Head(written.len()));
    let back = read_back.over(&written);
    assert_same(given, back);
    assert_eq!(
        (back.known().framing, back.known().announced_length),
        (how.framing, how.announced_length)
    );
    let mut twice = Vec::new();
    let again = ToClient::as_read(back, version, how.connection);
    write::response(back, &again, &mut twice);
    assert_eq!(twice, written, "written twice");
}

/// Lines that begin with `c` (Content-Length) or `t` (Transfer-Encoding), behind three bytes that say
/// of what kind of message: the decision is that of the table, written down a second time here.
pub fn http1_framing(data: &[u8]) {
    let Some((&[method, version, status], text)) = data.split_first_chunk() else { return };
    let version = if version & 1 == 1 { Version::Http10 } else { Version::Http11 };
    let methods = [Method::Get, Method::Head, Method::Post, Method::Connect, Method::Other];
    let method = methods[usize::from(method) % methods.len()];
    let lines: Vec<(u8, &[u8])> = text
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split_first())
        .map(|(kind, value)| (*kind, value))
        .collect();
    let mut lengths = Lengths::default();
    add_all(&mut lengths, lines.iter());
    let mut reversed = Lengths::default();
    add_all(&mut reversed, lines.iter().rev());
    assert_eq!(lengths, reversed, "the order of lines says nothing");

    let codings: Vec<&[u8]> = of_kind(&lines, b't');
    let numbers: Vec<Option<u64>> = of_kind(&lines, b'c').into_iter().map(decimal).collect();
    let is_plain = matches!(&codings[..], [only] if only.eq_ignore_ascii_case(b"chunked"));
    let number =
        numbers.first().copied().flatten().filter(|n| numbers.iter().all(|m| *m == Some(*n)));
    let is_bad = (!codings.is_empty() && (!is_plain || version == Version::Http10))
        || (!numbers.is_empty() && number.is_none());
    let delimited = match (is_plain, number) {
        (true, _) => Some(Framing::Chunked),
        (false, Some(number)) => Some(Framing::Length(number)),
        (false, None) => None,
    };

    let decided = framing::request(method, version, lengths);
    if method == Method::Connect || is_bad {
        assert!(decided.is_err(), "{decided:?}");
    } else {
        let decided = decided.expect("it can be read in one way only");
        assert_eq!(decided.framing, delimited.unwrap_or(Framing::None));
        assert_eq!(decided.keeps, !(is_plain && number.is_some()));
    }
    assert_ne!(decided.map(|decided| decided.framing), Ok(Framing::UntilClose));

    let statuses = [100, 103, 200, 204, 206, 304, 404, 500, 101];
    let asked = Asked { method, upgrade: (status & 16 == 16).then_some(&b"a"[..]) };
    let status = statuses[usize::from(status & 15) % statuses.len()];
    let decided = framing::response(&asked, version, status, lengths);
    let has_body = status >= 200 && status != 204 && status != 304 && method != Method::Head;
    match decided {
        Ok(decided) if has_body => {
            assert!(!is_bad, "{lengths:?}");
            assert!(!is_plain || number.is_none(), "{lengths:?}");
            assert_eq!(decided.framing, delimited.unwrap_or(Framing::UntilClose));
            assert_eq!(decided.keeps, delimited.is_some());
        }
        Ok(decided) => {
            assert_eq!(decided.framing, Framing::None);
            assert_eq!(decided.keeps, status != 101, "behind a switch there is no HTTP");
            assert!(status != 101 || asked.upgrade.is_some());
            assert!(
                decided.announced_length.is_none()
                    || (decided.announced_length == number && status >= 200)
            );
        }
        Err(Fault::Switch) => assert!(status == 101 && asked.upgrade.is_none()),
        Err(Fault::TwoLengths) => assert!(has_body && is_plain && number.is_some()),
        Err(_) => assert!(has_body && is_bad),
    }
}

fn of_kind<'a>(lines: &[(u8, &'a [u8])], wanted: u8) -> Vec<&'a [u8]> {
    lines.iter().filter(|(kind, _)| *kind == wanted).map(|(_, value)| *value).collect()
}

fn add_all<'a>(lengths: &mut Lengths, lines: impl Iterator<Item = &'a (u8, &'a [u8])>) {
    for (kind, value) in lines {
        match kind {
            b'c' => lengths.add_length(value),
            b't' => lengths.add_coding(value),
            _ => {}
        }
    }
}
