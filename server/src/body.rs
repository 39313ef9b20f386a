//! Bodies: reads request bodies within limits, and builds response bodies.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Either, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::EXPECT;
use hyper::{HeaderMap, Request};

/// The largest request body that is read into memory, in bytes.
pub(crate) const MAX_BODY: usize = 1024 * 1024;

/// Timeout for reading a request body.
const READ_DEADLINE: Duration = Duration::from_secs(30);

/// Bytes of a too large body that are read and dropped before the
/// response. Closing a socket with unread bytes resets the connection, and the
/// client would see the reset instead of the 413.
const MAX_DISCARD: usize = 16 * 1024 * 1024;
const DISCARD_DEADLINE: Duration = Duration::from_secs(2);

/// The body of a response: a text, the request's own body, or a pattern.
pub(crate) type Payload = Either<Full<Bytes>, Either<Incoming, Pattern>>;

/// Why a body could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyError {
    TooLarge,
    TooSlow,
    /// The client has closed the connection or broken the framing; it may not read a response.
    Broken,
}

/// Reads the whole body, at most [`MAX_BODY`] bytes.
pub(crate) async fn read(request: Request<Incoming>) -> Result<Bytes, BodyError> {
    let (head, mut body) = request.into_parts();
    if body.size_hint().lower() > MAX_BODY as u64 {
        discard(&head.headers, &mut body).await;
        return Err(BodyError::TooLarge);
    }
    let limited = Limited::new(&mut body, MAX_BODY).collect();
    match tokio::time::timeout(READ_DEADLINE, limited).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            discard(&head.headers, &mut body).await;
            Err(BodyError::TooLarge)
        }
        Ok(Err(_)) => Err(BodyError::Broken),
        Err(_) => Err(BodyError::TooSlow),
    }
}

async fn discard(headers: &HeaderMap, body: &mut Incoming) {
    // A client that waits for "100 Continue" sends nothing before the response.
    if headers.contains_key(EXPECT) {
        return;
    }
    let mut left = MAX_DISCARD;
    let _ = tokio::time::timeout(DISCARD_DEADLINE, async {
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    })
    .await;
}

/// A body of `left` bytes in pieces of at most one chunk. Its length is not
/// announced, so it goes out chunked; it is produced only as fast as it is read.
#[derive(Debug)]
pub(crate) struct Pattern {
    left: u64,
    chunk: Bytes,
}

impl Pattern {
    /// `chunk` must not be zero.
    pub(crate) fn new(bytes: u64, chunk: usize) -> Pattern {
        debug_assert!(chunk > 0);
        let text: Vec<u8> = (b'a'..=b'z').cycle().take(chunk).collect();
        Pattern { left: bytes, chunk: Bytes::from(text) }
    }
}

impl Body for Pattern {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let size = self.left.min(self.chunk.len() as u64);
        self.left -= size;
        // `size` is at most the chunk's length, a usize.
        Poll::Ready(Some(Ok(Frame::data(self.chunk.slice(..size as usize)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }
}
