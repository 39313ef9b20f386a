//! Interim answers (1xx): what a replica says before its answer, passed on to the client; and the
//! client's body, held back until the replica asks for it.
//!
//! hyper reads over interim answers and has no way to send one, so the replica's socket is listened
//! to, and the client's is written to between two messages of hyper's. `101` is no interim answer.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use http::{
    HeaderMap, HeaderName, HeaderValue, Version,
    header::{CONNECTION, CONTENT_LENGTH, EXPECT, TE, TRAILER, TRANSFER_ENCODING, UPGRADE},
};
use tokio::time::{Sleep, sleep};

use super::headers;

/// Bytes of interim answers that one request may lead to; what comes beyond is not passed on.
pub(super) const BYTES_MAX: usize = 32 * 1024;
/// Where a status line says the first digit of its status.
const CLASS: usize = 9;
const STATUS: std::ops::Range<usize> = 9..12;

/// Listens to what a replica sends, from the beginning of an answer to its final head.
#[derive(Debug, Default)]
pub(crate) struct Listener {
    /// Whether the beginning of a head is awaited, or the rest of an interim one.
    listens: Cell<bool>,
    heard: RefCell<Vec<u8>>,
    /// Complete interim heads that nobody has taken yet.
    heads: RefCell<Vec<Vec<u8>>>,
    bytes: Cell<usize>,
}

impl Listener {
    /// Another answer is awaited.
    pub(crate) fn begin(&self) {
        self.listens.set(true);
        self.bytes.set(0);
        self.heard.borrow_mut().clear();
        self.heads.borrow_mut().clear();
    }

    /// Whether bytes are wanted.
    pub(crate) fn listens(&self) -> bool {
        self.listens.get()
    }

    /// Takes in what was read.
    pub(crate) fn hear(&self, bytes: &[u8]) {
        let mut heard = self.heard.borrow_mut();
        if heard.is_empty() && bytes.get(CLASS).is_some_and(|&class| class != b'1') {
            // The usual case: the final head, of which nothing is copied.
            self.listens.set(false);
            return;
        }
        heard.extend_from_slice(bytes);
        // Nothing below depends on how much came at once: it is the network that cuts.
        while heard.len() > CLASS {
            let end = heard.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
            let is_too_much = end.unwrap_or(heard.len()) + self.bytes.get() > BYTES_MAX;
            if heard[CLASS] != b'1' || heard.get(STATUS) == Some(b"101") || is_too_much {
                self.listens.set(false);
                heard.clear();
                return;
            }
            match end.filter(|_| heard.len() >= STATUS.end) {
                Some(end) => {
                    self.bytes.set(self.bytes.get() + end);
                    self.heads.borrow_mut().push(heard.drain(..end).collect());
                }
                None => return,
            }
        }
    }

    /// The interim heads since the last time.
    pub(crate) fn take(&self) -> Vec<Vec<u8>> {
        self.heads.take()
    }

    /// Whether there are some.
    pub(crate) fn has_heads(&self) -> bool {
        !self.heads.borrow().is_empty()
    }
}

/// Whether an interim head asks for the body.
pub(crate) fn is_continue(head: &[u8]) -> bool {
    head.get(STATUS) == Some(b"100")
}

/// An interim head as a client may see it: without what belongs to the replica's connection. `None`
/// when it is none.
pub(crate) fn translate(head: &[u8]) -> Option<Vec<u8>> {
    const HOP: [HeaderName; 6] =
        [CONNECTION, CONTENT_LENGTH, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];
    let mut lines = head.strip_suffix(b"\r\n\r\n")?.split(|&byte| byte == b'\n');
    let status = lines.next()?.trim_ascii_end();
    let is_plain = status.starts_with(b"HTTP/1.1 1")
        && status.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    if !is_plain {
        return None;
    }
    let mut out = [status, b"\r\n"].concat();
    for line in lines {
        let colon = line.iter().position(|&byte| byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        if !HOP.contains(&name) {
            out.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
    }
    out.extend_from_slice(b"\r\n");
    Some(out)
}

/// Whether a client waits to be asked for its body.
pub(crate) fn is_awaited(version: Version, headers: &HeaderMap) -> bool {
    let waits = |value: &HeaderValue| headers::names(value, "100-continue");
    version == Version::HTTP_11 && headers.get_all(EXPECT).iter().any(waits)
}

/// How long a replica may take to ask for a body before it is sent anyway: it may be one that does
/// not know the question.
const PATIENCE: Duration = Duration::from_secs(1);

/// Holds a body back until it is asked for.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    is_open: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    patience: RefCell<Option<Pin<Box<Sleep>>>>,
}

impl Gate {
    /// The body may go.
    pub(crate) fn open(&self) {
        self.is_open.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Ready once the body may go.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_open.get() {
            return Poll::Ready(());
        }
        let mut patience = self.patience.borrow_mut();
        let sleeping = patience.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
        if sleeping.as_mut().poll(cx).is_ready() {
            self.is_open.set(true);
            return Poll::Ready(());
        }
        *self.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x\r\n\r\n";
    const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";
    const FINAL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 26\r\n\r\nHTTP/1.1 103 in the body";

    fn heard(pieces: &[&str]) -> (Vec<String>, bool) {
        let listener = Listener::default();
        listener.begin();
        for piece in pieces {
            if listener.listens() {
                listener.hear(piece.as_bytes());
            }
        }
        let heads = listener.take().into_iter().map(|head| String::from_utf8(head).unwrap());
        (heads.collect(), listener.listens())
    }

    #[test]
    fn interim_heads_are_heard_however_they_are_cut() {
        assert_eq!(heard(&[FINAL]), (vec![], false));
        let all = format!("{HINTS}{CONTINUE}{FINAL}");
        let expected = vec![HINTS.to_owned(), CONTINUE.to_owned()];
        assert_eq!(heard(&[&all]), (expected.clone(), false));
        for cut in 1..all.len() {
            let (one, other) = all.split_at(cut);
            assert_eq!(heard(&[one, other]), (expected.clone(), false), "cut at {cut}");
        }
        // What comes with them, however long, takes nothing away from them.
        let large = format!("{all}{}", "x".repeat(BYTES_MAX));
        assert_eq!(heard(&[&large]), (expected.clone(), false));
        let letters: Vec<String> = all.chars().map(String::from).collect();
        let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
        assert_eq!(heard(&letters), (expected, false));
        let switch = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n";
        assert_eq!(heard(&[switch]), (vec![], false));
    }

    #[test]
    fn a_replica_cannot_hint_for_ever() {
        let many = HINTS.repeat(2_000);
        let (heads, listens) = heard(&[&many]);
        assert!(heads.len() <= BYTES_MAX / HINTS.len() && !listens);
        let endless = format!("HTTP/1.1 103 Early Hints\r\nLink: {}", "x".repeat(BYTES_MAX));
        assert_eq!(heard(&[&endless]), (vec![], false));
    }

    #[test]
    fn a_client_sees_only_what_is_meant_for_it() {
        let text =
            |head: &str| translate(head.as_bytes()).map(|out| String::from_utf8(out).unwrap());
        let expected = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
        assert_eq!(text(HINTS).as_deref(), Some(expected));
        assert_eq!(text(CONTINUE).as_deref(), Some(CONTINUE));
        for odd in [
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 103 \u{7}\r\n\r\n",
            "HTTP/1.1 103 Hi\r\nno colon\r\n\r\n",
            "HTTP/1.1 103 Hi\r\nbad name: 1\r\n\r\n",
            "HTTP/1.1 103 Hi\r\nx: a\rb\r\n\r\n",
            "HTTP/1.1 103 Hi\r\n",
        ] {
            assert_eq!(text(odd), None, "{odd:?}");
        }
        assert!(is_continue(CONTINUE.as_bytes()) && !is_continue(HINTS.as_bytes()));
    }
}
