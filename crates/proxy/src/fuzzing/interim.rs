//! What a replica says before its answer.

use crate::interim::{BYTES_MAX, Listener, translate};

/// Where to cut, then what a replica sends. What is heard does not depend on how it was cut, stays
/// below the limit, and leads to well-formed heads only.
pub fn interim(data: &[u8]) {
    let Some((&seed, sent)) = data.split_first() else { return };
    let (heads, listens) = heard([sent].into_iter());
    assert!(heads.iter().map(Vec::len).sum::<usize>() <= BYTES_MAX);
    // Byte by byte where there are few: each piece looks at all that came before.
    let step = (usize::from(seed) + 1).max(sent.len() / 512);
    let cut = heard(sent.chunks(step));
    assert_eq!(cut, (heads.clone(), listens), "cut into pieces of {step}");
    // Somewhere, and near the beginning, where the class of the status is.
    for at in (8..14).chain([usize::from(seed) * sent.len() / 256]) {
        let at = at.min(sent.len());
        let (one, other) = sent.split_at(at);
        assert_eq!(heard([one, other].into_iter()), (heads.clone(), listens), "cut at {at}");
    }
    assert!(sent.starts_with(&heads.concat()), "one after the other, and nothing else");
    for head in heads {
        if let Some(shown) = translate(&head) {
            well_formed(&shown);
        }
    }
}

fn heard<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, bool) {
    let listener = Listener::default();
    listener.begin();
    for piece in pieces.filter(|piece| !piece.is_empty()) {
        if listener.listens() {
            listener.hear(piece);
        }
    }
    (listener.take(), listener.listens())
}

/// A client can read it in one way only, and what it reads is the same when it is passed on again.
fn well_formed(shown: &[u8]) {
    assert!(shown.starts_with(b"HTTP/1.1 1"));
    let body = shown.strip_suffix(b"\r\n\r\n").expect("it ends");
    for line in body.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        assert!(!line.is_empty(), "an empty line in the middle");
        let is_plain = |byte: &u8| !byte.is_ascii_control() || *byte == b'\t';
        assert!(line.iter().all(is_plain), "{}", line.escape_ascii());
    }
    let ends = |byte| shown.iter().filter(|other| **other == byte).count();
    assert_eq!(ends(b'\r'), ends(b'\n'));
    let text = shown.to_ascii_lowercase();
    for hop in ["connection:", "content-length:", "transfer-encoding:", "upgrade:"] {
        let line = format!("\r\n{hop}");
        assert!(!text.windows(line.len()).any(|window| window == line.as_bytes()), "{hop}");
    }
    assert_eq!(translate(shown).as_deref(), Some(shown));
}
