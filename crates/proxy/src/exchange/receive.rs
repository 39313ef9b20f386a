//! Reads the head of a response, passes interim ones on, and begins the final one for the client.

use std::{
    ops::Range,
    task::{Context, Poll, ready},
};

use http::{HeaderMap, HeaderName, HeaderValue};
use ringmaster_http1::{
    FieldId, Framing, HeadRef, Scanner, connection,
    framing::Asked,
    interim::{self, Verdict as Passes},
    response,
    write::{self, Connection as Persistence, ToClient},
};

use super::{
    super::{
        buffers::{Heads, READ},
        pool::Pool,
        upstream::Connection,
        watch::Phase,
        worker::Worker,
    },
    attempt::AttemptError,
    download::Download,
    edit::{self, Told},
    limits, record,
    request::Request,
    state::{Exchange, Miss, count_down},
    upload::Stop,
};

/// Bytes of interim responses that may wait for the client before more is read.
pub(super) const UNFLUSHED_MAX: usize = 32 * 1024;

impl Exchange<'_> {
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        pool: &Pool,
    ) -> Poll<Result<(), Miss>> {
        let worker = self.worker;
        loop {
            if self.client.output.len() > UNFLUSHED_MAX {
                let flushed = ready!(self.client.poll_flush(cx, worker));
                flushed.map_err(|_| Miss::Stop(Stop::Gone))?;
            }
            let mut scratch = worker.buffers.scratch();
            let read = match &mut self.link {
                Some(link) => ready!(poll_link(cx, worker, link, &mut scratch)),
                None => None,
            };
            let Some(part) = read else {
                return Poll::Ready(Err(AttemptError::lost(self.progress()).into()));
            };
            if self.look(pool, &mut scratch, part)? {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Looks at what came of the response: passes interim ones on. Whether the final one has begun.
    fn look(&mut self, pool: &Pool, scratch: &mut [u8], part: Range<usize>) -> Result<bool, Miss> {
        let worker = self.worker;
        let asked = Asked::by(self.request.method);
        let limits = limits::limits(&worker.config);
        let mut heads = worker.buffers.heads();
        let mut at = part.start;
        while at < part.end {
            let bytes = &scratch[at..part.end];
            let read =
                response::read(&mut heads.response, &mut self.scanner, bytes, &asked, &limits);
            let length = match read.map_err(|_| AttemptError::bad_answer())? {
                response::Read::Head(length) => length,
                response::Read::More => {
                    if let Some(link) = &mut self.link {
                        link.input.push(bytes, &worker.buffers);
                    }
                    return Ok(false);
                }
            };
            self.scanner = Scanner::response();
            let head = at..at + length;
            let view = heads.response.over(&scratch[head.clone()]);
            if !interim::is_interim(view) {
                if self.is_late_close(view) {
                    return Err(AttemptError::lost(self.progress()).into());
                }
                self.take_head(pool, &mut heads, scratch, (head, part.end))?;
                return Ok(true);
            }
            self.pass_interim(&heads, &scratch[head])?;
            at += length;
        }
        Ok(false)
    }

    /// Whether this says only that the connection has rested for too long: it has crossed our request.
    fn is_late_close(&self, view: HeadRef<'_>) -> bool {
        let at = self.progress();
        view.status() == 408 && view.known().close && at.is_reused && at.is_repeatable
    }

    fn pass_interim(&mut self, heads: &Heads, bytes: &[u8]) -> Result<(), AttemptError> {
        let view = heads.response.over(bytes);
        let passes = self.interims.next(view.status()).map_err(|_| AttemptError::bad_answer())?;
        if view.status() == 100 {
            self.request.is_held = false;
        }
        if passes != Passes::Stop {
            let to = ToClient::as_read(view, self.request.version, Persistence::Keep);
            write::response(view, &to, self.client.output.end(&self.worker.buffers));
        }
        Ok(())
    }

    /// Takes the head of the response, and what came with it, for the client.
    fn take_head(
        &mut self,
        pool: &Pool,
        heads: &mut Heads,
        scratch: &mut [u8],
        (head, end): (Range<usize>, usize),
    ) -> Result<(), AttemptError> {
        let worker = self.worker;
        let micros = record::micros_since(self.began);
        let view = heads.response.over(&scratch[head.clone()]);
        let (status, known) = (view.status(), *view.known());
        let keeps_status = view
            .fields()
            .any(|field| field.id == FieldId::RingmasterKeepStatus && field.value == b"1");
        let told = Told {
            config: &worker.config,
            replica: pool.name().as_str(),
            attempts: self.found.attempts,
            micros,
        };
        edit::to_client(heads, &scratch[head.clone()], &told)
            .map_err(|_| AttemptError::bad_answer())?;
        let is_translated = status == 404 && !keeps_status && self.request.line.is_some();
        let to = self.onward(heads.response.over(&scratch[head.clone()]));
        // What we say instead has nothing to do with how this goes on.
        let (framing, persistence) = match is_translated {
            true => (Framing::UntilClose, Persistence::Keep),
            false => (to.framing, to.connection),
        };
        let onward = (framing, self.request.known.te_trailers);
        // Before anything is counted or written of it.
        let mut download = Download::new(known.framing, onward, persistence, status >= 500)
            .map_err(|_| AttemptError::bad_answer())?;
        download.is_reusable = known.persists;
        record::answer(worker, pool, status, micros);
        pool.counters.bytes_up.add(self.request.message_bytes);
        record::route(worker, &mut self.request, pool, micros, self.found);
        // Here, while it is in flight: an instance that is drained has nothing left to count.
        pool.counters.served.pass_on(micros, status >= 500);
        self.client.watch.enter(Phase::Response);
        match is_translated {
            true => {
                self.translated = Some(self.told_of(pool, micros));
                download.drop_here(scratch, head.end..end);
            }
            false => {
                let view = heads.response.over(&scratch[head.clone()]);
                write::response(view, &to, self.client.output.end(&worker.buffers));
                record::status(worker, &mut self.request, status);
                download.take_here(scratch, head.end..end, (self.client, worker));
            }
        }
        self.begin_download(pool, download);
        Ok(())
    }

    /// How a response goes on to the client.
    fn onward(&self, view: HeadRef<'_>) -> ToClient {
        let Request { version, known, upload, message, .. } = &*self.request;
        let is_last = self.client.watch.is_last() || self.client.has_finished();
        let closes = is_last || !upload.is_done(message);
        let mut to = ToClient::as_read(view, *version, Persistence::Keep);
        to.connection = connection::toward_client(*version, known, to.framing, closes);
        to
    }

    /// What is said of the replica whose words we replace.
    fn told_of(&self, pool: &Pool, micros: u64) -> HeaderMap {
        let mut told = HeaderMap::new();
        if self.worker.config.server_headers {
            let fields = [
                (edit::SERVER, HeaderValue::try_from(pool.name().as_str())),
                (edit::RESPONSE_TIME, HeaderValue::try_from(edit::seconds(micros))),
            ];
            told.extend(
                fields
                    .into_iter()
                    .filter_map(|(name, value)| Some((HeaderName::from_static(name), value.ok()?))),
            );
        }
        told
    }

    fn begin_download(&mut self, pool: &Pool, download: Download) {
        count_down(self.worker, pool, download.bytes);
        if download.has_ended() {
            let is_reusable = download.is_reusable;
            if let Some(link) = self.link.take() {
                self.give_back(pool, link, is_reusable);
            }
        }
        if let Some(entry) = &mut self.request.entry {
            entry.is_complete = false;
        }
        self.download = Some(download);
    }
}

/// What came on a connection, in the buffer, behind the part of a head that waits. `None` at its end.
fn poll_link(
    cx: &mut Context<'_>,
    worker: &Worker,
    link: &mut Connection,
    scratch: &mut [u8],
) -> Poll<Option<Range<usize>>> {
    let waiting = link.input.len().min(READ.len());
    let room = READ.start + waiting..READ.end;
    let count = match ready!(link.socket.poll_read(cx, &mut scratch[room])) {
        Ok(0) | Err(_) => return Poll::Ready(None),
        Ok(count) => count,
    };
    if waiting > 0 {
        let before = READ.start..READ.start + waiting;
        scratch[before].copy_from_slice(&link.input.as_slice()[..waiting]);
        link.input.clear(&worker.buffers);
    }
    Poll::Ready(Some(READ.start..READ.start + waiting + count))
}
