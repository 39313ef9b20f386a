//! kawa, which shares no code with httparse.

use kawa::{Block, Buffer, Kawa, Kind, SliceBuffer, StatusLine, Store, h1};

use crate::{Seen, settle};

/// The first message of these bytes, and how many of them belong to it.
fn read(kind: Kind, bytes: &[u8]) -> (Seen, usize) {
    let mut space = bytes.to_vec();
    let mut buffer = Buffer::new(SliceBuffer(&mut space));
    buffer.fill(bytes.len());
    let mut message = Kawa::new(kind, buffer);
    h1::parse(&mut message, &mut h1::NoCallbacks);
    assert!(message.is_terminated(), "{:?}: {}", message.parsing_phase, bytes.escape_ascii());
    let storage = message.storage.buffer();
    let text = |store: &Store| store.data(storage).to_vec();
    let string = |store: &Store| String::from_utf8(text(store)).unwrap();
    let start = match &message.detached.status_line {
        StatusLine::Request { method, uri, .. } => format!("{} {}", string(method), string(uri)),
        StatusLine::Response { status, .. } => string(status),
        StatusLine::Unknown => panic!("no first line"),
    };
    let (mut fields, mut body) = (Vec::new(), Vec::new());
    let mut is_head = true;
    for block in &message.blocks {
        match block {
            Block::Header(pair) if is_head && !pair.is_elided() => {
                fields.push((string(&pair.key).to_ascii_lowercase(), text(&pair.val)));
            }
            Block::Chunk(chunk) => body.extend_from_slice(chunk.data.data(storage)),
            Block::Flags(flags) if flags.end_header => is_head = false,
            _ => {}
        }
    }
    if let StatusLine::Request { authority, .. } = &message.detached.status_line {
        // It keeps Host apart.
        fields.push(("host".to_owned(), authority.data_opt(storage).unwrap_or_default().to_vec()));
    }
    settle(&mut fields);
    let length = bytes.len() - message.storage.unparsed_data().len();
    (Seen { start, fields, body }, length)
}

pub(crate) fn request(bytes: &[u8]) -> (Seen, usize) {
    read(Kind::Request, bytes)
}

pub(crate) fn response(bytes: &[u8]) -> (Seen, usize) {
    read(Kind::Response, bytes)
}
