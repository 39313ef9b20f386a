//! HTTP/2 from outside: what the client's bytes are in the middle of. Pure; hyper reads the same bytes
//! and decides what they mean, but has no deadline for what never ends.

/// The client's preface (RFC 9113, 3.4).
const PREFACE: u8 = 24;
const HEAD: usize = 9;
const KIND: usize = 3;
const FLAGS: usize = 4;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
/// A kind that does not exist, and that its reader ignores (RFC 9113, 4.1).
const UNKNOWN: u8 = 0xfe;

/// Asks the client for a sign of life.
pub(crate) const PING_FRAME: [u8; HEAD + 8] = *b"\0\0\x08\x06\0\0\0\0\0ringmstr";

/// Follows the frames of one connection, however they are cut.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// Bytes of the preface so far.
    preface: u8,
    head: [u8; HEAD],
    /// Bytes of the head so far.
    held: u8,
    /// Bytes of the payload that are still to come.
    left: u32,
    in_block: bool,
    /// Frames that are whole; all of a header block are one.
    whole: u64,
}

impl Frames {
    /// Takes in what came. An answer to a PING becomes a frame that is ignored: where `all`, any, else
    /// ours. hyper would log each that answers none of its own.
    pub(crate) fn take(&mut self, bytes: &mut [u8], all: bool) {
        let mut at = usize::from((PREFACE - self.preface).min(clamp(bytes.len())));
        self.preface += clamp(at);
        while at < bytes.len() {
            if usize::from(self.held) < HEAD {
                let begin = usize::from(self.held);
                let more = (HEAD - begin).min(bytes.len() - at);
                self.head[begin..begin + more].copy_from_slice(&bytes[at..at + more]);
                self.held += clamp(more);
                at += more;
                if usize::from(self.held) < HEAD {
                    return;
                }
                self.left = u32::from_be_bytes([0, self.head[0], self.head[1], self.head[2]]);
                if begin == 0 {
                    self.silence(&mut bytes[at - HEAD..], all);
                }
            }
            let passed = (bytes.len() - at).min(usize::try_from(self.left).unwrap_or(usize::MAX));
            self.left -= u32::try_from(passed).unwrap_or(self.left);
            at += passed;
            if self.left == 0 {
                self.end_frame();
            }
        }
    }

    fn silence(&self, frame: &mut [u8], all: bool) {
        let is_answer = self.head[KIND] == PING && self.head[FLAGS] & ACK != 0;
        let is_ours = || frame.get(HEAD..PING_FRAME.len()) == PING_FRAME.get(HEAD..);
        if is_answer && (all || is_ours()) {
            frame[KIND] = UNKNOWN;
        }
    }

    fn end_frame(&mut self) {
        self.held = 0;
        let ends_block = self.head[FLAGS] & END_HEADERS != 0;
        match self.head[KIND] {
            HEADERS => self.in_block = !ends_block,
            CONTINUATION if ends_block => self.in_block = false,
            _ => {}
        }
        if !self.in_block {
            self.whole += 1;
        }
    }

    /// The number of what has begun and is not whole: the preface with the first frame, a frame, or a
    /// header block. The rest of a body's piece is for the deadlines of bodies.
    pub(crate) fn unfinished(&self) -> Option<u64> {
        let is_whole_head = usize::from(self.held) == HEAD;
        let in_frame = self.held > 0 && !(is_whole_head && self.head[KIND] == DATA);
        (self.whole == 0 || self.in_block || in_frame).then_some(self.whole)
    }
}

/// A small number as a byte.
fn clamp(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    /// After all of these bytes, cut everywhere, nothing or something is unfinished.
    fn unfinished(bytes: &[u8]) -> Option<u64> {
        let mut whole = Frames::default();
        whole.take(&mut bytes.to_vec(), true);
        for cut in 0..=bytes.len() {
            let mut frames = Frames::default();
            frames.take(&mut bytes[..cut].to_vec(), true);
            frames.take(&mut bytes[cut..].to_vec(), true);
            assert_eq!(frames.unfinished(), whole.unfinished(), "cut at {cut}");
        }
        let mut single = Frames::default();
        bytes.iter().for_each(|byte| single.take(&mut [*byte], true));
        assert_eq!(single.unfinished(), whole.unfinished(), "byte by byte");
        whole.unfinished()
    }

    #[test]
    fn what_has_begun_is_unfinished_until_it_is_whole() {
        let settings = frame(4, 0, &[]);
        assert_eq!(unfinished(b""), Some(0));
        assert_eq!(unfinished(&START[..10]), Some(0));
        assert_eq!(unfinished(START), Some(0));
        assert_eq!(unfinished(&[START, &settings[..8]].concat()), Some(0));
        let begun = [START, &settings].concat();
        assert_eq!(unfinished(&begun), None);
        let after = |more: &[&[u8]]| unfinished(&[&begun[..], &more.concat()].concat());
        assert_eq!(after(&[&frame(1, 5, b"abc")]), None, "a whole block");
        assert_eq!(after(&[&frame(1, 5, b"abc")[..11]]), Some(1));
        assert_eq!(after(&[&frame(1, 1, b"abc")]), Some(1), "a block without its end");
        assert_eq!(after(&[&frame(1, 1, b"abc"), &frame(9, 0, b"d")]), Some(1), "nor here");
        assert_eq!(after(&[&frame(1, 1, b"abc"), &frame(9, 4, b"d")]), None);
        assert_eq!(after(&[&frame(1, 5, b"abc"), &frame(0, 0, b"abc")[..10]]), None, "a body");
        assert_eq!(after(&[&frame(1, 5, b"abc"), &frame(0, 0, b"abc")[..5]]), Some(2), "a head");
        assert_eq!(after(&[&frame(4, 0, &[0; 6])[..12]]), Some(1));
        assert_eq!(after(&[&frame(0, 0, &[0; 70_000]), &frame(8, 0, &[0; 4])]), None);
    }

    #[test]
    fn answers_to_pings_are_hidden_and_nothing_else_is_touched() {
        let ours = frame(6, 1, &PING_FRAME[HEAD..]);
        let other = frame(6, 1, b"shutdown");
        let asked = frame(6, 0, &PING_FRAME[HEAD..]);
        let taken = |answer: &[u8], all| {
            let mut bytes = [START, &frame(4, 0, &[]), answer, &frame(1, 5, b"abc")].concat();
            let before = bytes.clone();
            Frames::default().take(&mut bytes, all);
            let changed: Vec<_> = (0..bytes.len())
                .filter(|&at| before[at] != bytes[at])
                .map(|at| bytes[at])
                .collect();
            changed
        };
        assert_eq!(taken(&ours, false), [UNKNOWN]);
        assert_eq!(taken(&ours, true), [UNKNOWN]);
        assert_eq!(taken(&other, true), [UNKNOWN]);
        assert!(taken(&other, false).is_empty());
        assert!(taken(&asked, true).is_empty());
    }
}
