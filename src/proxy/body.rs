//! The bodies that pass through: a request's on its way up, an answer's on its way down.

use std::{
    error::Error,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use crossbeam_utils::CachePadded;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::{
    downstream::{Downstream, State},
    metrics::Counters,
    pool::{InFlight, Link},
};

/// The body of a request for a replica.
pub(crate) enum Upload {
    /// Nothing, or all of it at once; can be sent again.
    Kept(Option<Bytes>),
    /// Streamed from the client; can be sent once.
    Streamed {
        incoming: Incoming,
        downstream: Rc<Downstream>,
        counters: Arc<CachePadded<Counters>>,
    },
}

impl Upload {
    /// The same body once more, if it is kept.
    pub(crate) fn again(&self) -> Option<Self> {
        match self {
            Upload::Kept(bytes) => Some(Upload::Kept(bytes.clone())),
            Upload::Streamed { .. } => None,
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Upload::Kept(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Upload::Streamed { incoming, downstream, counters } => {
                let polled = Pin::new(incoming).poll_frame(cx);
                downstream.set_starved(polled.is_pending());
                if let Poll::Ready(Some(Ok(frame))) = &polled {
                    downstream.progress();
                    counters.bytes_up.add(data_len(frame));
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Upload::Kept(bytes) => bytes.is_none(),
            Upload::Streamed { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Upload::Kept(bytes) => exactly(bytes.as_ref()),
            Upload::Streamed { incoming, .. } => incoming.size_hint(),
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
}

impl Streamed {
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut polled = Pin::new(&mut self.incoming).poll_frame(cx);
        if polled.is_pending()
            && let Some(link) = &mut self.link
        {
            link.drive(cx);
            polled = Pin::new(&mut self.incoming).poll_frame(cx);
        }
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.counters.bytes_down.add(data_len(frame));
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
                self.link = None;
            }
            Poll::Pending => {}
        }
        polled
    }

    /// The answer has been read to its end: the connection can serve somebody else. One that still
    /// sends the request (the replica answered early) is closed instead.
    fn settle(&mut self, cx: &mut Context<'_>) {
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
        if let Some(downstream) = &self.downstream {
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
        match self.get_mut() {
            Answer::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Answer::Streamed(streamed) => streamed.poll(cx).map_err(Into::into),
            Answer::Control(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Answer::Full(bytes) => bytes.is_none(),
            Answer::Streamed(streamed) => streamed.incoming.is_end_stream(),
            Answer::Control(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Answer::Full(bytes) => exactly(bytes.as_ref()),
            Answer::Streamed(streamed) => streamed.incoming.size_hint(),
            Answer::Control(body) => body.size_hint(),
        }
    }
}

fn exactly(bytes: Option<&Bytes>) -> SizeHint {
    SizeHint::with_exact(bytes.map_or(0, |bytes| bytes.len() as u64))
}

fn data_len(frame: &Frame<Bytes>) -> u64 {
    frame.data_ref().map_or(0, |data| data.len() as u64)
}
