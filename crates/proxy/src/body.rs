//! The bodies that pass through: a request's on its way up, an answer's on its way down.

use std::{
    error::Error,
    io, mem,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use crossbeam_utils::CachePadded;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::{
    access_log::Entry,
    converse::Stream,
    downstream::{Downstream, State},
    h2::Streaming,
    headers,
    interim::Gate,
    link::Link,
    metrics::{Counters, InstanceCounters},
    pool::InFlight,
    splice::{Plan, Splice},
};

/// The body of a request for a replica.
pub(crate) enum Upload {
    /// Nothing, or all of it at once; can be sent again.
    Kept(Option<Bytes>),
    /// Streamed from the client; can be sent once.
    Streamed(FromClient),
    /// Begun to be read for the request's key.
    Begun(Box<Begun>),
}

/// A client's body on its way.
pub(crate) struct FromClient {
    pub(crate) incoming: Incoming,
    /// Holds it back until it is asked for.
    pub(crate) gate: Option<Rc<Gate>>,
    /// Bytes that may still come.
    pub(crate) left: u64,
    pub(crate) downstream: Rc<Downstream>,
    pub(crate) counters: Arc<CachePadded<Counters>>,
    /// Those of the instance that it goes to, once that is known.
    pub(crate) replica: Option<Arc<CachePadded<InstanceCounters>>>,
}

/// What was read already, then the rest. Where nothing is left to read it can be sent again.
pub(crate) struct Begun {
    pub(crate) first: Option<Bytes>,
    /// Only where all of it has been read.
    pub(crate) trailers: Option<HeaderMap>,
    pub(crate) rest: Option<FromClient>,
}

impl Upload {
    /// Says which instance it is sent to, which counts what is still to come. Returns the number of
    /// bytes that are here already: whether they are sent is not known yet.
    pub(crate) fn is_for(&mut self, replica: &Arc<CachePadded<InstanceCounters>>) -> u64 {
        let (here, rest) = match self {
            Upload::Kept(bytes) => (bytes.as_ref(), None),
            Upload::Streamed(body) => (None, Some(body)),
            Upload::Begun(begun) => (begun.first.as_ref(), begun.rest.as_mut()),
        };
        if let Some(rest) = rest {
            rest.replica = Some(Arc::clone(replica));
        }
        here.map_or(0, |bytes| bytes.len() as u64)
    }

    /// The same body once more, if it is kept.
    pub(crate) fn again(&self) -> Option<Self> {
        match self {
            Upload::Kept(bytes) => Some(Upload::Kept(bytes.clone())),
            Upload::Streamed(_) => None,
            Upload::Begun(begun) => match **begun {
                Begun { ref first, ref trailers, rest: None } => {
                    Some(Upload::Begun(Box::new(Begun {
                        first: first.clone(),
                        trailers: trailers.clone(),
                        rest: None,
                    })))
                }
                _ => None,
            },
        }
    }
}

/// Why a body does not go on to the replica.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    /// The client broke off.
    #[error(transparent)]
    Broken(#[from] hyper::Error),
    /// It is larger than the limit.
    #[error("the body is too large")]
    TooLarge,
}

type PolledAnswer = Poll<Option<Result<Frame<Bytes>, Box<dyn Error + Send + Sync>>>>;
type Polled = Poll<Option<Result<Frame<Bytes>, UploadError>>>;

impl FromClient {
    fn poll(&mut self, cx: &mut Context<'_>) -> Polled {
        if let Some(gate) = &self.gate {
            ready!(gate.poll(cx));
            self.gate = None;
        }
        let mut polled = Pin::new(&mut self.incoming).poll_frame(cx);
        self.downstream.set_starved(polled.is_pending());
        if let Poll::Ready(Some(Ok(frame))) = &mut polled {
            clean(frame);
            self.downstream.progress();
            let length = data_len(frame);
            let Some(left) = self.left.checked_sub(length) else {
                self.downstream.set_too_large();
                return Poll::Ready(Some(Err(UploadError::TooLarge)));
            };
            self.left = left;
            self.downstream.body_came(length);
            self.counters.bytes_up.add(length);
            if let Some(replica) = &self.replica {
                replica.bytes_up.add(length);
            }
        }
        polled.map_err(UploadError::Broken)
    }
}

impl Begun {
    fn poll(&mut self, cx: &mut Context<'_>) -> Polled {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        if let Some(rest) = &mut self.rest {
            return rest.poll(cx);
        }
        Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        let is_read = self.rest.as_ref().is_none_or(|rest| rest.incoming.is_end_stream());
        self.first.is_none() && self.trailers.is_none() && is_read
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().map_or(0, |first| first.len() as u64);
        let Some(rest) = &self.rest else { return SizeHint::with_exact(first) };
        let rest = rest.incoming.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(first + rest.lower());
        if let Some(upper) = rest.upper() {
            hint.set_upper(first + upper);
        }
        hint
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        match self.get_mut() {
            Upload::Kept(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Upload::Streamed(body) => body.poll(cx),
            Upload::Begun(body) => body.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Upload::Kept(bytes) => bytes.is_none(),
            Upload::Streamed(body) => body.incoming.is_end_stream(),
            Upload::Begun(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Upload::Kept(bytes) => exactly(bytes.as_ref()),
            Upload::Streamed(body) => body.incoming.size_hint(),
            Upload::Begun(body) => body.size_hint(),
        }
    }
}

/// The body of an answer to a client.
pub(crate) enum Answer {
    /// Nothing, or all of it at once: our own words.
    Full(Option<Bytes>),
    /// A replica's.
    Streamed(Streamed),
    /// The control router's.
    Control(axum::body::Body),
    /// A replica's, the rest of which passes inside the kernel.
    Spliced,
}

impl Answer {
    /// Leaves the rest of a replica's body to the client's connection, once hyper has written what
    /// comes before it.
    fn hand_over(&mut self, cx: &mut Context<'_>) -> PolledAnswer {
        let mut streamed = match mem::replace(self, Answer::Spliced) {
            Answer::Streamed(streamed) => streamed,
            other => {
                *self = other;
                return Poll::Pending;
            }
        };
        let plan = streamed.plan.take();
        let link = streamed.link.take_if(|link| link.is_quiet());
        let (Some(plan), Some(link), Some(downstream)) = (plan, link, streamed.downstream.clone())
        else {
            // Some of the request is still to be sent, and only hyper knows what.
            let polled = streamed.poll(cx).map_err(Into::into);
            *self = Answer::Streamed(streamed);
            return polled;
        };
        let Some(splice) = Splice::begin(streamed, *plan, *link) else {
            return Poll::Ready(Some(Err(io::Error::from(io::ErrorKind::NotConnected).into())));
        };
        downstream.set_splice(splice);
        Poll::Pending
    }
}

/// A replica's body on its way, with all that must last as long as it does.
///
/// The upstream connection is polled in here, and only when the client's side wants more: that is
/// the back-pressure. It goes back to its pool as soon as it has read the end, which for small
/// answers is before the client gets the first byte.
pub(crate) struct Streamed {
    pub(crate) incoming: Incoming,
    /// `None` once the connection is done with this answer.
    pub(crate) link: Option<Box<Link>>,
    /// Released when the body ends, or is dropped.
    pub(crate) in_flight: InFlight,
    /// `None` when nobody reads the body but ourselves.
    pub(crate) downstream: Option<Rc<Downstream>>,
    pub(crate) counters: Arc<CachePadded<Counters>>,
    /// The HTTP/2 stream that it comes on; ends with it.
    pub(crate) _streaming: Option<Streaming>,
    /// The HTTP/2 stream that it goes to; ends with it.
    pub(crate) stream: Option<Stream>,
    /// Its request's entry in the access log.
    pub(crate) entry: Option<Box<Entry>>,
    /// Whether, and how, the rest may pass inside the kernel.
    pub(crate) plan: Option<Box<Plan>>,
    /// Whether it would become an error by breaking off: it is for a client, is none already, and has
    /// not ended.
    pub(crate) can_fail: bool,
}

impl Streamed {
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut polled = match &mut self.link {
            Some(link) if self.plan.is_none() => link.poll_frame(&mut self.incoming, cx),
            _ => Pin::new(&mut self.incoming).poll_frame(cx),
        };
        match &mut polled {
            Poll::Ready(Some(Ok(frame))) => {
                clean(frame);
                let length = data_len(frame);
                self.passed(length);
                self.plan.take_if(|plan| !plan.passed(length));
                if let Some(downstream) = &self.downstream {
                    downstream.progress();
                }
                if self.incoming.is_end_stream() {
                    self.settle(cx);
                }
            }
            Poll::Ready(None) => self.settle(cx),
            Poll::Ready(Some(Err(_))) => {
                self.counters.cut_short.bump();
                self.broke_off();
                self.link = None;
            }
            Poll::Pending => {}
        }
        polled
    }

    /// Counts bytes of the body.
    pub(crate) fn passed(&mut self, length: u64) {
        self.counters.bytes_down.add(length);
        self.in_flight.pool().counters.bytes_down.add(length);
        if let Some(entry) = &mut self.entry {
            entry.bytes += length;
        }
    }

    /// It ends before its end, and not because the client went away. Called before the client can
    /// see it.
    pub(crate) fn broke_off(&mut self) {
        if std::mem::take(&mut self.can_fail) {
            self.in_flight.pool().counters.served.break_off();
        }
    }

    /// All of the body has passed.
    pub(crate) fn complete(&mut self) {
        self.can_fail = false;
        if let Some(entry) = &mut self.entry {
            entry.is_complete = true;
        }
    }

    /// The answer has been read to its end: the connection can serve somebody else. One that still
    /// sends the request (the replica answered early) is closed instead.
    fn settle(&mut self, cx: &mut Context<'_>) {
        self.complete();
        if let Some(mut link) = self.link.take() {
            if !link.is_reusable() {
                link.drive(cx);
            }
            self.in_flight.pool().put(link);
        }
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        if let Some(downstream) = self.downstream.take() {
            if downstream.is_closed() {
                self.broke_off();
            }
            downstream.enter(State::Idle);
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        match this {
            Answer::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Answer::Streamed(streamed) => match streamed.poll(cx) {
                Poll::Pending if streamed.plan.is_some() => this.hand_over(cx),
                polled => polled.map_err(Into::into),
            },
            Answer::Control(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Answer::Spliced => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Answer::Full(bytes) => bytes.is_none(),
            Answer::Streamed(streamed) => streamed.incoming.is_end_stream(),
            Answer::Control(body) => body.is_end_stream(),
            Answer::Spliced => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Answer::Full(bytes) => exactly(bytes.as_ref()),
            Answer::Streamed(streamed) => streamed.incoming.size_hint(),
            Answer::Control(body) => body.size_hint(),
            Answer::Spliced => SizeHint::new(),
        }
    }
}

fn exactly(bytes: Option<&Bytes>) -> SizeHint {
    SizeHint::with_exact(bytes.map_or(0, |bytes| bytes.len() as u64))
}

fn clean(frame: &mut Frame<Bytes>) {
    if let Some(trailers) = frame.trailers_mut() {
        headers::clean_trailers(trailers);
    }
}

fn data_len(frame: &Frame<Bytes>) -> u64 {
    frame.data_ref().map_or(0, |data| data.len() as u64)
}
