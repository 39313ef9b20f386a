//! One exchange: what its stages share.

use std::{rc::Rc, task::Context, time::Instant};

use http::HeaderMap;
use ringmaster_http1::{Scanner, interim::Interims};

use super::{
    super::{
        pool::{InFlight, Pool},
        upstream::Connection,
        watch::{Interruption, Order},
        worker::Worker,
    },
    attempt::{AttemptError, Progress},
    client::Client,
    download::Download,
    record::Found,
    request::Request,
    upload::{Onward, Stop},
};

/// What becomes of the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Another request may come.
    Again,
    /// It ends, once the client has read the final response.
    Linger,
    /// It ends now.
    Close,
}

/// Why an attempt has no answer.
#[derive(Debug)]
pub(super) enum Miss {
    Attempt(AttemptError),
    /// It is not the instance's doing.
    Stop(Stop),
}

impl From<AttemptError> for Miss {
    fn from(error: AttemptError) -> Self {
        Self::Attempt(error)
    }
}

/// One request and its response.
pub(super) struct Exchange<'a> {
    pub(super) worker: &'a Rc<Worker>,
    pub(super) client: &'a mut Client,
    pub(super) request: Box<Request>,
    /// The connection to the instance that is asked, and its place in that one's number. Both are
    /// given back as soon as the response has been read.
    pub(super) link: Option<Box<Connection>>,
    pub(super) in_flight: Option<InFlight>,
    pub(super) scanner: Scanner,
    pub(super) interims: Interims,
    /// Until when the replica may leave the client's body unasked for.
    pub(super) patience: Option<u64>,
    /// When the attempt began.
    pub(super) began: Instant,
    pub(super) found: Found,
    pub(super) download: Option<Download>,
    /// What is said of the replica whose 404 we translate.
    pub(super) translated: Option<HeaderMap>,
}

impl<'a> Exchange<'a> {
    /// One that begins.
    pub(super) fn new(
        worker: &'a Rc<Worker>,
        client: &'a mut Client,
        request: Box<Request>,
    ) -> Self {
        let interims = Interims::new(request.version, request.known.expects_100);
        Self {
            worker,
            client,
            request,
            link: None,
            in_flight: None,
            scanner: Scanner::response(),
            interims,
            patience: None,
            began: Instant::now(),
            found: Found::default(),
            download: None,
            translated: None,
        }
    }

    /// How far the attempt has come.
    pub(super) fn progress(&self) -> Progress {
        let link = self.link.as_deref();
        Progress {
            is_reused: link.is_some_and(|link| link.is_reused),
            has_written: self.request.upload.has_written(),
            has_begun: link.is_some_and(|link| !link.input.is_empty()),
            is_repeatable: self.request.is_repeatable && !self.request.upload.has_streamed(),
        }
    }

    pub(super) fn poll_upload(&mut self, cx: &mut Context<'_>, pool: &Pool) -> Result<(), Stop> {
        let Some(link) = &mut self.link else { return Ok(()) };
        let Request { upload, message, is_held, .. } = &mut *self.request;
        let mut onward = Onward {
            message,
            socket: &mut link.socket,
            is_held: *is_held,
            replica: &pool.counters,
        };
        upload.poll(cx, self.worker, self.client, &mut onward)
    }

    /// The response has been read: its connection can serve another request, unless it still takes
    /// this one.
    pub(super) fn give_back(&mut self, pool: &Pool, link: Box<Connection>, is_reusable: bool) {
        let Request { upload, message, .. } = &*self.request;
        if is_reusable && upload.is_done(message) {
            pool.put_h1(link);
        }
        self.in_flight = None;
    }
}

/// Counts bytes of a response's body.
pub(super) fn count_down(worker: &Worker, pool: &Pool, bytes: u64) {
    worker.counters.bytes_down.add(bytes);
    pool.counters.bytes_down.add(bytes);
}

/// What interrupts the request, if that ends the attempt.
pub(super) fn interruption(client: &Client, at: Progress) -> Option<Miss> {
    if client.watch.order() == Some(Order::Close) {
        return Some(Miss::Stop(Stop::Closed));
    }
    client.watch.interruption().map(|interruption| match interruption {
        Interruption::Ejected => AttemptError::ejected(at).into(),
        Interruption::TimedOut => AttemptError::timed_out().into(),
    })
}
