//! An HTTP/2 connection as a whole: what is open on it, what is unfinished, and whether the client is
//! still there. Its streams have cells of their own.

use std::{
    cell::{Cell, RefCell},
    io,
    task::{Poll, ready},
};

use super::{
    super::frames::{Frames, PING_FRAME},
    Downstream, State,
};

/// How long a connection that was told to end may take, in milliseconds, if it has served no request. A
/// client that understands closes at once.
const GRACE: u64 = 1_000;

/// Whether the client is asked for a sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ping {
    /// It is not.
    None,
    /// It is to be, since then; so many bytes of the question are written.
    Due { since: u64, written: usize },
    /// It was asked then.
    Sent { at: u64 },
}

/// What is to be done with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Ask for a sign of life.
    Ping,
    /// Say that it ends.
    Finish,
    /// End it.
    Close,
}

/// The deadlines of a connection, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) header_read: u64,
    pub(super) client_idle: u64,
    pub(super) body_idle: u64,
}

/// See the module. All times are the worker's, in milliseconds.
#[derive(Debug)]
pub(crate) struct Http2 {
    began: u64,
    streams: Cell<usize>,
    /// Streams whose answer is on its way: as long as one is, a client may be silent.
    answers: Cell<usize>,
    frames: RefCell<Frames>,
    /// What is unfinished, and since when.
    unfinished: Cell<Option<(u64, u64)>>,
    /// When bytes came last.
    came: Cell<u64>,
    ping: Cell<Ping>,
    /// When it was told to end.
    finishing: Cell<Option<u64>>,
    has_served: Cell<bool>,
}

impl Http2 {
    pub(super) fn new(began: u64, now: u64) -> Self {
        Self {
            began,
            streams: Cell::new(0),
            answers: Cell::new(0),
            frames: RefCell::default(),
            unfinished: Cell::new(Some((0, began))),
            came: Cell::new(now),
            ping: Cell::new(Ping::None),
            finishing: Cell::new(None),
            has_served: Cell::new(false),
        }
    }

    /// Returns whether streams are open.
    pub(super) fn count_stream(&self, change: isize) -> bool {
        self.has_served.set(true);
        self.streams.set(self.streams.get().saturating_add_signed(change));
        self.streams.get() > 0
    }

    pub(super) fn count_answer(&self, change: isize) {
        self.answers.set(self.answers.get().saturating_add_signed(change));
    }

    /// It is told to end.
    pub(super) fn finish(&self, now: u64) {
        self.finishing.set(self.finishing.get().or(Some(now)));
    }

    /// Bytes came, which is a sign of life. See [`Frames::take`] for what becomes of them.
    pub(super) fn came(&self, bytes: &mut [u8], now: u64) {
        self.came.set(now);
        if !self.is_ping_torn() {
            self.ping.set(Ping::None);
        }
        let mut frames = self.frames.borrow_mut();
        frames.take(bytes, self.finishing.get().is_none());
        let before = self.unfinished.get();
        self.unfinished.set(frames.unfinished().map(|which| match before {
            Some((same, since)) if same == which => (same, since),
            _ => (which, now),
        }));
    }

    pub(super) fn begin_ping(&self, now: u64) {
        self.ping.set(Ping::Due { since: now, written: 0 });
    }

    /// The rest of a question that is to be written.
    pub(super) fn ping_rest(&self) -> Option<&'static [u8]> {
        match self.ping.get() {
            Ping::Due { written, .. } => PING_FRAME.get(written..),
            _ => None,
        }
    }

    /// Whether a part of it is written, after which only the rest may come.
    pub(super) fn is_ping_torn(&self) -> bool {
        matches!(self.ping.get(), Ping::Due { written: 1.., .. })
    }

    /// So many bytes more of it are written.
    pub(super) fn wrote_ping(&self, more: usize, now: u64) {
        if let Ping::Due { since, written } = self.ping.get() {
            let written = written + more;
            let is_whole = written >= PING_FRAME.len();
            let sent = Ping::Sent { at: now };
            self.ping.set(if is_whole { sent } else { Ping::Due { since, written } });
        }
    }

    /// What is to be done now; `since`: when the first stream was opened, or the last one ended.
    pub(super) fn step(&self, now: u64, since: u64, limits: &Limits) -> Option<Step> {
        let age = |since: u64| now.saturating_sub(since);
        if let Some((_, begun)) = self.unfinished.get()
            && age(begun) > limits.header_read
        {
            // There is no more to be understood of what this client says.
            return self.end(age(begun) > limits.header_read.saturating_add(GRACE));
        }
        if self.streams.get() > 0 {
            return self.silence(now, limits);
        }
        if !self.has_served.get() && age(self.began) > limits.header_read {
            return self.end(self.finishing.get().is_some_and(|told| age(told) > GRACE));
        }
        match self.finishing.get() {
            // It may still read the last answers, which are with hyper or with the kernel.
            Some(told) => {
                let told = told.max(since);
                let is_silent = age(told.max(self.came.get())) > limits.header_read;
                (is_silent || age(told) > limits.body_idle).then_some(Step::Close)
            }
            None => (age(since) > limits.client_idle).then_some(Step::Finish),
        }
    }

    fn end(&self, now: bool) -> Option<Step> {
        match self.finishing.get() {
            _ if now => Some(Step::Close),
            None => Some(Step::Finish),
            Some(_) => None,
        }
    }

    /// A client with open requests that neither sends nor gets anything is asked for a sign of life.
    /// It has to give one, whatever it waits for (RFC 9113, 6.7).
    fn silence(&self, now: u64, limits: &Limits) -> Option<Step> {
        let patience = limits.header_read / 2;
        if self.answers.get() > 0 {
            return None;
        }
        let age = |since: u64| now.saturating_sub(since);
        match self.ping.get() {
            Ping::None => (age(self.came.get()) > patience).then_some(Step::Ping),
            Ping::Sent { at } => (age(at) > patience).then_some(Step::Close),
            // What was sent before is not read.
            Ping::Due { since, .. } => (age(since) > limits.body_idle).then_some(Step::Close),
        }
    }
}

impl Downstream {
    /// Streams come from now on.
    pub(crate) fn begin_streams(&self) {
        // The preface is told apart only once.
        let http2 = Http2::new(self.began.get(), self.clock.now());
        let _ = self.http2.set(Box::new(http2));
        self.enter(State::NoStreams);
    }

    pub(super) fn count_stream(&self, change: isize) {
        let has_streams = self.http2.get().is_some_and(|http2| http2.count_stream(change));
        self.enter(if has_streams { State::Streams } else { State::NoStreams });
    }

    /// The answer of one more (or one less) of its streams is on its way.
    pub(crate) fn count_answer(&self, change: isize) {
        if let Some(http2) = self.http2.get() {
            http2.count_answer(change);
        }
    }

    /// Writes what of a question for a sign of life is to be written: where `torn`, only the rest of
    /// one that is half written.
    pub(crate) fn write_ping(
        &self,
        torn: bool,
        mut write: impl FnMut(&[u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<()>> {
        let Some(http2) = self.http2.get() else { return Poll::Ready(Ok(())) };
        if torn && !http2.is_ping_torn() {
            return Poll::Ready(Ok(()));
        }
        while let Some(rest) = http2.ping_rest() {
            let written = ready!(write(rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            http2.wrote_ping(written, self.clock.now());
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { header_read: 10_000, client_idle: 75_000, body_idle: 300_000 };
    const START: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

    /// A connection that began at 0, and that has sent this then.
    fn after(bytes: &[u8]) -> Http2 {
        let http2 = Http2::new(0, 0);
        http2.came(&mut bytes.to_vec(), 0);
        http2
    }

    #[test]
    fn what_asks_for_nothing_ends_as_soon_as_over_http_1() {
        for bytes in [&b""[..], &START[..12], &START[..24], START] {
            let http2 = after(bytes);
            assert_eq!(http2.step(10_000, 0, &LIMITS), None);
            assert_eq!(http2.step(10_001, 0, &LIMITS), Some(Step::Finish));
            http2.finish(10_001);
            assert_eq!(http2.step(10_900, 0, &LIMITS), None);
            assert_eq!(http2.step(11_100, 0, &LIMITS), Some(Step::Close));
        }
    }

    #[test]
    fn an_unfinished_block_ends_the_connection_whatever_else_is_open() {
        let http2 = after(START);
        http2.count_stream(1);
        http2.count_answer(1);
        http2.came(&mut b"\0\0\x03\x01\x01\0\0\0\x03abc".to_vec(), 5_000);
        // More of it is no end of it.
        http2.came(&mut b"\0\0\x01\x09\0\0\0\0\x03d".to_vec(), 14_000);
        assert_eq!(http2.step(15_000, 0, &LIMITS), None);
        assert_eq!(http2.step(15_100, 0, &LIMITS), Some(Step::Finish));
        http2.finish(15_100);
        assert_eq!(http2.step(15_200, 0, &LIMITS), None);
        assert_eq!(http2.step(16_100, 0, &LIMITS), Some(Step::Close));
        let http2 = after(START);
        http2.count_stream(1);
        http2.came(&mut b"\0\0\x03\x01\x01\0\0\0\x03abc".to_vec(), 0);
        http2.came(&mut b"\0\0\x01\x09\x04\0\0\0\x03d".to_vec(), 9_000);
        assert_eq!(http2.step(10_100, 0, &LIMITS), None, "it has ended");
    }

    #[test]
    fn a_silent_client_with_open_requests_is_asked_whether_it_lives() {
        let http2 = after(START);
        http2.count_stream(1);
        assert_eq!(http2.step(5_000, 0, &LIMITS), None);
        assert_eq!(http2.step(5_100, 0, &LIMITS), Some(Step::Ping));
        http2.begin_ping(5_100);
        assert_eq!(http2.ping_rest(), Some(&PING_FRAME[..]));
        http2.wrote_ping(10, 5_100);
        assert!(http2.is_ping_torn());
        // Bytes do not tear it further.
        http2.came(&mut [0; 9], 5_150);
        assert_eq!(http2.ping_rest(), Some(&PING_FRAME[10..]));
        http2.wrote_ping(7, 5_200);
        assert_eq!((http2.ping_rest(), http2.is_ping_torn()), (None, false));
        assert_eq!(http2.step(10_200, 0, &LIMITS), None);
        assert_eq!(http2.step(10_300, 0, &LIMITS), Some(Step::Close));
        http2.came(&mut [0; 9], 10_300);
        assert_eq!(http2.step(15_300, 0, &LIMITS), None, "it lives");
        assert_eq!(http2.step(15_400, 0, &LIMITS), Some(Step::Ping));
        http2.count_answer(1);
        assert_eq!(http2.step(1_000_000, 0, &LIMITS), None, "it has something to read");
    }

    #[test]
    fn one_that_has_served_ends_when_it_rests_for_too_long() {
        let http2 = after(START);
        http2.count_stream(1);
        http2.count_stream(-1);
        assert_eq!(http2.step(80_000, 5_000, &LIMITS), None);
        assert_eq!(http2.step(80_001, 5_000, &LIMITS), Some(Step::Finish));
        http2.finish(80_001);
        http2.came(&mut [0; 9], 85_000);
        assert_eq!(http2.step(95_000, 5_000, &LIMITS), None, "it reads the last answer");
        assert_eq!(http2.step(95_001, 5_000, &LIMITS), Some(Step::Close));
        for now in (86_000..=380_000).step_by(5_000) {
            http2.came(&mut [0; 9], now);
        }
        assert_eq!(http2.step(380_000, 5_000, &LIMITS), None);
        assert_eq!(http2.step(380_002, 5_000, &LIMITS), Some(Step::Close), "not for ever");
    }
}
