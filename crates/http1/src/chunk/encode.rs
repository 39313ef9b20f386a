//! Writes chunks around data where it lies.

use std::ops::Range;

use super::trailers::Trailers;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Bytes that are kept free before data for the line of its chunk.
pub const HEAD_SPACE: usize = 18;
/// Bytes that are kept free behind data for the line end of its chunk.
pub const TAIL_SPACE: usize = 2;

/// Makes a chunk of data that lies in a buffer, with [`HEAD_SPACE`] free before it and
/// [`TAIL_SPACE`] behind it. Returns where the chunk lies; `None` where there is no room, and of no
/// data, for an empty chunk would end the body.
///
/// What lies in these spaces is overwritten. Where bytes that are still to be read follow the data,
/// give it the buffer up to the first of them: it then refuses rather than overwriting them.
pub fn enclose(buffer: &mut [u8], data: Range<usize>) -> Option<Range<usize>> {
    let end = data.end.checked_add(TAIL_SPACE)?;
    if data.start < HEAD_SPACE || data.is_empty() || buffer.len() < end {
        return None;
    }
    buffer[data.end..end].copy_from_slice(b"\r\n");
    buffer[data.start - 2..data.start].copy_from_slice(b"\r\n");
    // A size has sixteen digits at most.
    let mut start = data.start - 2;
    let mut size = data.len();
    while 0 < size {
        start -= 1;
        buffer[start] = HEX[size & 15];
        size >>= 4;
    }
    Some(start..end)
}

/// Appends data as a chunk: for what is small enough to go with the head. Of no data nothing, for an
/// empty chunk would end the body.
pub fn push(data: &[u8], out: &mut Vec<u8>) {
    if data.is_empty() {
        return;
    }
    push_hex(data.len(), out);
    for part in [b"\r\n", data, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

fn push_hex(size: usize, out: &mut Vec<u8>) {
    let digits = size.checked_ilog(16).map_or(1, |last| last + 1);
    out.extend((0..digits).rev().map(|digit| HEX[size >> (4 * digit) & 15]));
}

/// Appends the last chunk, with the trailers that go on.
pub fn push_last(trailers: Option<&Trailers>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    out.extend_from_slice(trailers.map_or(&[], Trailers::as_lines));
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_data_is_copied_into_a_chunk() {
        for length in [1, 9, 15, 16, 17, 255, 256, 4095, 4096, 70_000] {
            let mut out = Vec::new();
            push(&vec![b'x'; length], &mut out);
            let expected = format!("{length:x}\r\n{}\r\n", "x".repeat(length));
            assert_eq!(out, expected.into_bytes());
        }
        let mut out = Vec::new();
        push(b"", &mut out);
        assert!(out.is_empty(), "it would be the last");
    }

    #[test]
    fn data_becomes_a_chunk_where_it_lies() {
        let mut buffer = vec![b'-'; HEAD_SPACE];
        buffer.extend_from_slice(&[b'x'; 300]);
        buffer.extend_from_slice(b"--");
        let data = HEAD_SPACE..HEAD_SPACE + 300;
        let chunk = enclose(&mut buffer, data.clone()).unwrap();
        let expected = [b"12c\r\n", &[b'x'; 300][..], b"\r\n"].concat();
        assert_eq!(buffer[chunk], expected);
        let one = enclose(&mut buffer, 50..51).unwrap();
        assert_eq!(buffer[one], *b"1\r\nx\r\n");
        // Bytes that follow, of which only the first is read.
        let mut shared = [&[b'-'; HEAD_SPACE][..], b"abc", b"\rXY"].concat();
        let (three, untouched) = (HEAD_SPACE..HEAD_SPACE + 3, shared.clone());
        assert_eq!(enclose(&mut shared[..three.end + 1], three.clone()), None);
        assert_eq!(shared, untouched);
        assert!(enclose(&mut shared[..three.end + 2], three).is_some());
        assert_eq!(enclose(&mut buffer, 50..50), None, "it would be the last");
        assert_eq!(enclose(&mut buffer, HEAD_SPACE - 1..30), None, "no room before it");
        assert_eq!(enclose(&mut buffer, data.start..data.end + 1), None, "no room behind it");
    }
}
