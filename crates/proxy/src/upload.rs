//! How the body of a request goes up: kept, so that it can be sent again, or streamed; and what of
//! it is read before, to find the key in it.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method,
    header::{EXPECT, TRANSFER_ENCODING},
    request::Parts,
};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;

use super::{
    body::{Begun, FromClient, Upload},
    downstream::Downstream,
    errors::Failure,
    headers, key,
    worker::Worker,
};

/// What was read of a body to find the key of its request.
pub(crate) enum Opening {
    /// Nothing: the key is elsewhere.
    Unread,
    /// Nothing, or too little to be of use.
    TooLarge(Option<Box<Read>>),
    /// All of it.
    Whole(Box<Read>),
}

/// The beginning of a body; it goes to the replica as it came.
pub(crate) struct Read {
    data: Bytes,
    trailers: Option<HeaderMap>,
}

impl Opening {
    /// What a key can be found in.
    pub(crate) fn for_key(&self) -> key::Body<'_> {
        match self {
            Opening::Unread => key::Body::None,
            Opening::TooLarge(_) => key::Body::TooLarge,
            Opening::Whole(read) => key::Body::Whole(&read.data),
        }
    }
}

/// Reads a body that may have the key of its request in it, up to the limit.
pub(crate) async fn open(
    worker: &Worker,
    downstream: &Downstream,
    parts: &Parts,
    body: &mut Incoming,
) -> Result<Opening, Failure> {
    let limit = worker.config.key_body_max;
    let asked = worker.asked(parts, downstream, key::Body::None);
    if !worker.config.keys.look_into_body(&asked) {
        return Ok(Opening::Unread);
    }
    if body.size_hint().lower() > limit as u64 {
        return Ok(Opening::TooLarge(None));
    }
    // Not before there is somebody to send it to: the client may wait to be asked for it.
    if !worker.has_replica() {
        return Err(Failure::NoReplica);
    }
    let mut gathered = Gathered::default();
    let mut trailers = None;
    downstream.set_starved(true);
    let mut is_whole = true;
    while let Some(frame) = poll_fn(|cx| poll_frame(downstream, body, cx)).await? {
        match frame.into_data() {
            Ok(data) => {
                worker.counters.bytes_up.add(data.len() as u64);
                downstream.body_came(data.len() as u64);
                gathered.add(data);
            }
            Err(frame) => {
                trailers = frame.into_trailers().ok();
                trailers.iter_mut().for_each(headers::clean_trailers);
            }
        }
        if gathered.len() > limit {
            is_whole = false;
            break;
        }
    }
    downstream.set_starved(false);
    if worker.config.body_max.is_some_and(|most| gathered.len() as u64 > most) {
        return Err(Failure::LargeBody);
    }
    let read = Box::new(Read { data: gathered.into_bytes(), trailers });
    Ok(if is_whole { Opening::Whole(read) } else { Opening::TooLarge(Some(read)) })
}

fn poll_frame(
    downstream: &Downstream,
    body: &mut Incoming,
    cx: &mut Context<'_>,
) -> Poll<Result<Option<Frame<Bytes>>, Failure>> {
    match Pin::new(body).poll_frame(cx) {
        Poll::Ready(None) => Poll::Ready(Ok(None)),
        Poll::Ready(Some(Ok(frame))) => Poll::Ready(Ok(Some(frame))),
        Poll::Ready(Some(Err(_))) => Poll::Ready(Err(Failure::BrokenBody)),
        Poll::Pending if downstream.verdict().is_some() => Poll::Ready(Err(Failure::SlowBody)),
        Poll::Pending => Poll::Pending,
    }
}

/// Pieces of a body. Mostly there is one, which is not copied.
#[derive(Default)]
struct Gathered {
    first: Bytes,
    joined: Vec<u8>,
}

impl Gathered {
    fn len(&self) -> usize {
        self.first.len().max(self.joined.len())
    }

    fn add(&mut self, piece: Bytes) {
        if self.len() == 0 {
            self.first = piece;
            return;
        }
        if self.joined.is_empty() {
            self.joined.extend_from_slice(&self.first);
        }
        self.joined.extend_from_slice(&piece);
    }

    fn into_bytes(self) -> Bytes {
        if self.joined.is_empty() { self.first } else { self.joined.into() }
    }
}

/// Whether a request may be sent again although a replica may have seen it.
pub(crate) fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
}

/// The body of a request for a replica, kept if that allows to repeat the request. `held`: the client
/// waits to be asked for it, which is for the replica to do.
pub(crate) async fn upload(
    worker: &Worker,
    downstream: &Rc<Downstream>,
    opening: Opening,
    parts: &mut Parts,
    body: Incoming,
    held: bool,
) -> Result<Upload, Failure> {
    let limit = worker.config.kept_body_max;
    let length = body.size_hint().exact();
    if length.is_none() {
        // Said aloud, because hyper would send a GET of unknown length without its body, and one
        // that was read already with a length, and so without its trailers.
        let chunked = HeaderValue::from_static("chunked");
        parts.headers.insert(TRANSFER_ENCODING, chunked);
    }
    if held {
        parts.headers.insert(EXPECT, HeaderValue::from_static("100-continue"));
        let mut body = from_client(worker, downstream, body);
        body.gate = Some(downstream.hold_body());
        return Ok(Upload::Streamed(body));
    }
    let is_small = length.is_some_and(|length| length <= limit as u64);
    let (read, rest) = match opening {
        Opening::Whole(read) if length.is_some() => return Ok(kept(read.data)),
        Opening::Whole(read) => (read, None),
        Opening::TooLarge(Some(read)) => (read, Some(body)),
        _ if is_idempotent(&parts.method) && is_small => {
            // As above: first somebody to send it to.
            if !worker.has_replica() {
                return Err(Failure::NoReplica);
            }
            return keep(worker, downstream, body, limit).await;
        }
        _ => return Ok(Upload::Streamed(from_client(worker, downstream, body))),
    };
    let already = read.data.len() as u64;
    Ok(Upload::Begun(Box::new(Begun {
        first: Some(read.data).filter(|data| !data.is_empty()),
        trailers: read.trailers,
        rest: rest.map(|body| {
            let mut body = from_client(worker, downstream, body);
            body.left = body.left.saturating_sub(already);
            body
        }),
    })))
}

fn from_client(worker: &Worker, downstream: &Rc<Downstream>, incoming: Incoming) -> FromClient {
    FromClient {
        incoming,
        gate: None,
        left: worker.config.body_max.unwrap_or(u64::MAX),
        downstream: Rc::clone(downstream),
        counters: worker.counters.clone(),
        replica: None,
    }
}

async fn keep(
    worker: &Worker,
    downstream: &Downstream,
    body: Incoming,
    limit: usize,
) -> Result<Upload, Failure> {
    let body = body.map_frame(|frame| {
        downstream.body_came(frame.data_ref().map_or(0, |data| data.len() as u64));
        frame
    });
    let mut collected = pin!(Limited::new(body, limit).collect());
    downstream.set_starved(true);
    let bytes: Bytes = poll_fn(|cx| match collected.as_mut().poll(cx) {
        Poll::Ready(Ok(body)) => Poll::Ready(Ok(body.to_bytes())),
        Poll::Ready(Err(_)) => Poll::Ready(Err(Failure::BrokenBody)),
        Poll::Pending if downstream.verdict().is_some() => Poll::Ready(Err(Failure::SlowBody)),
        Poll::Pending => Poll::Pending,
    })
    .await?;
    downstream.set_starved(false);
    worker.counters.bytes_up.add(bytes.len() as u64);
    Ok(kept(bytes))
}

fn kept(bytes: Bytes) -> Upload {
    Upload::Kept((!bytes.is_empty()).then_some(bytes))
}
