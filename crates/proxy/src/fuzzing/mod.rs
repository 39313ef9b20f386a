//! What must hold for any bytes that clients and replicas send: one function for each thing that we
//! parse ourselves, called by the fuzz targets in `fuzz/` and, with the seeds that are kept there, by
//! this crate's tests. Part of the crate because what they look at is private to it.

mod announced;
mod head;
mod interim;
mod key;
mod log;

pub use self::{
    announced::{forwarded_for, proxy_protocol},
    head::head,
    interim::interim,
    key::key,
    log::access_log,
};

/// All of them by the name of their target, which is that of its corpus.
#[cfg(test)]
const CHECKS: [(&str, replay::Check); 6] = [
    ("access_log", access_log),
    ("forwarded_for", forwarded_for),
    ("head", head),
    ("interim", interim),
    ("key", key),
    ("proxy_protocol", proxy_protocol),
];

/// Lines up to an empty one, and what follows that. Line ends are `\n`: a seed is a text file.
fn lines_and_rest(data: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let mut lines = Vec::new();
    let mut rest = data;
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        let line = &rest[..end];
        rest = rest.get(end + 1..).unwrap_or_default();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    (lines, rest)
}

/// Header fields from their lines. What is none is left out, as hyper would never show it.
fn header_map(lines: &[&[u8]]) -> http::HeaderMap {
    let mut headers = http::HeaderMap::new();
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = http::HeaderName::from_bytes(&line[..colon]);
        let value = http::HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}

#[cfg(test)]
#[path = "../../../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn every_seed_and_what_is_like_it_holds() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
        super::replay::replay(&corpus, &super::CHECKS);
    }
}
