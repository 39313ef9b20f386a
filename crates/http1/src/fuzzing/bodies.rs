//! Bodies in chunks.

use super::written_lines;
use crate::{
    Fault, FieldId,
    chunk::{self, Decoder, Event, HEAD_SPACE, Limits, TAIL_SPACE, Trailers},
};

/// Small enough that short inputs reach them.
const LIMITS: Limits = Limits { body_max: 4096, trailer_bytes_max: 256, trailers_max: 4 };

/// A body as it was read.
#[derive(Debug, Default, PartialEq, Eq)]
struct Read {
    data: Vec<u8>,
    trailers: Vec<u8>,
    consumed: usize,
    end: Option<Result<(), Fault>>,
}

/// Reads a body of which each time so many bytes more are there.
fn read(bytes: &[u8], mut pieces: impl Iterator<Item = usize>, merges: bool) -> Read {
    let (mut decoder, mut trailers) = (Decoder::new(), Trailers::new());
    let mut read = Read::default();
    let mut here = 0;
    while read.end.is_none() {
        if read.consumed == here && !decoder.is_done() {
            if here == bytes.len() {
                break;
            }
            here = (here + pieces.next().unwrap_or(bytes.len()).max(1)).min(bytes.len());
        }
        let mut input = bytes[read.consumed..here].to_vec();
        let step = if merges {
            decoder.next_merged(&mut input, &mut trailers, &LIMITS)
        } else {
            decoder.next(&input, &mut trailers, &LIMITS)
        };
        match step {
            Ok(step) => {
                assert!(step.consumed <= input.len());
                read.consumed += step.consumed;
                match step.event {
                    Event::Data(range) => {
                        assert!(!range.is_empty() && range.end <= step.consumed);
                        read.data.extend_from_slice(&input[range]);
                    }
                    Event::More => assert_eq!(step.consumed, input.len(), "nothing is left over"),
                    Event::End => read.end = Some(Ok(())),
                }
            }
            Err(fault) => {
                assert_eq!(decoder.next(b"0\r\n\r\n", &mut trailers, &LIMITS), Err(fault), "final");
                // How far it came says nothing: nothing is read any more.
                read.consumed = 0;
                read.end = Some(Err(fault));
            }
        }
    }
    read.trailers = trailers.as_lines().to_vec();
    read
}

/// A body in chunks behind four bytes that say how it is cut: the cuts change nothing, what is read
/// has a single meaning, and what is written of it is read as the same.
pub fn http1_chunks(data: &[u8]) {
    let Some((cuts, body)) = data.split_first_chunk::<4>() else { return };
    let whole = read(body, [].into_iter(), false);
    let script = || cuts.iter().cycle().map(|cut| usize::from(*cut % 32));
    for (pieces, merges) in [(None, true), (Some(1), false), (Some(1), true)] {
        let each = std::iter::repeat(pieces.unwrap_or(body.len()));
        assert_eq!(read(body, each, merges), whole, "{pieces:?}");
    }
    assert_eq!(read(body, script(), false), whole, "cut by {cuts:?}");
    assert_eq!(read(body, script(), true), whole, "cut by {cuts:?}, moved together");
    assert!(whole.data.len() as u64 <= LIMITS.body_max);
    if whole.end != Some(Ok(())) {
        return;
    }
    assert!(body[..whole.consumed].ends_with(b"\r\n\r\n"));
    assert_eq!(crudely(&body[..whole.consumed]).as_ref(), Some(&whole.data));
    let mut buffer = vec![0; HEAD_SPACE];
    buffer.extend_from_slice(&whole.data);
    buffer.resize(buffer.len() + TAIL_SPACE, 0);
    let mut written = match chunk::enclose(&mut buffer, HEAD_SPACE..HEAD_SPACE + whole.data.len()) {
        Some(range) => buffer[range].to_vec(),
        None => Vec::new(),
    };
    chunk::push_last(None, &mut written);
    let again = read(&written, [].into_iter(), false);
    assert_eq!((again.data, again.consumed, again.end), (whole.data, written.len(), Some(Ok(()))));
}

/// The data of a body that is known to be valid, read in the simplest way there is.
fn crudely(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut data = Vec::new();
    loop {
        let end = body.windows(2).position(|two| two == b"\r\n")?;
        let line = str::from_utf8(&body[..end]).ok().or_else(|| {
            // An extension may have obs-text.
            let digits = body.iter().position(|byte| !byte.is_ascii_hexdigit())?;
            str::from_utf8(&body[..digits]).ok()
        })?;
        let size = usize::from_str_radix(line.split(';').next()?, 16).ok()?;
        body = &body[end + 2..];
        if size == 0 {
            return Some(data);
        }
        data.extend_from_slice(body.get(..size)?);
        body = body.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

/// Trailers as they stand behind the last chunk: what goes on of them are valid fields, none of which
/// belongs in a head, and they are read back as they were written.
pub fn http1_trailers(data: &[u8]) {
    let body = [b"0\r\n", data].concat();
    let whole = read(&body, [].into_iter(), false);
    assert_eq!(read(&body, std::iter::repeat(1), false), whole);
    if whole.end != Some(Ok(())) {
        assert!(whole.trailers.is_empty(), "before they are complete");
        return;
    }
    let head = [b"start\r\n", &whole.trailers[..], b"\r\n"].concat();
    if !whole.trailers.is_empty() {
        for (name, _) in written_lines(&head) {
            assert!(!FieldId::of(name).is_forbidden_in_trailers(), "{}", name.escape_ascii());
        }
    }
    let again = [b"0\r\n", &whole.trailers[..], b"\r\n"].concat();
    let again = read(&again, [].into_iter(), false);
    // Spaces may be added, which the limit counts.
    if again.end != Some(Err(Fault::Trailers)) {
        assert_eq!((again.trailers, again.end), (whole.trailers, Some(Ok(()))));
    }
}
