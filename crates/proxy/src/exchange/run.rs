//! The stages of one exchange: admit, route, send, respond; and all that follows from how it ended.
//! What was read before lies in the [`Request`], what is counted and logged of it is in `record`.

use std::{mem, rc::Rc};

use ringmaster_http1::{Framing, Method, Version, connection, write::Connection as Persistence};

use super::{
    super::{errors::Failure, watch::Phase, worker::Worker},
    answer::{self, Audience},
    client::Client,
    record,
    request::Request,
    state::{Exchange, Next},
    upload::Stop,
};

/// Carries one exchange out.
pub(super) async fn run(worker: &Rc<Worker>, client: &mut Client, request: Box<Request>) -> Next {
    let mut exchange = Exchange::new(worker, client, request);
    let end = exchange.stages().await;
    exchange.conclude(end).await
}

impl Exchange<'_> {
    async fn stages(&mut self) -> Result<(), Stop> {
        self.admit()?;
        let slot = self.route().await?;
        self.send(slot).await?;
        self.respond().await
    }

    /// Refuses what no replica is asked for.
    fn admit(&mut self) -> Result<(), Stop> {
        match self.request.refusal.take() {
            Some(failure) => Err(Stop::Failure(failure)),
            None => Ok(()),
        }
    }

    /// All that follows from how it ended.
    async fn conclude(mut self, end: Result<(), Stop>) -> Next {
        let next = match end {
            Ok(()) => self.complete(),
            Err(Stop::Failure(failure)) => self.fail(&failure).await,
            Err(stop) => {
                self.break_off(&stop);
                Next::Close
            }
        };
        if let (Some(entry), Some(download)) = (&mut self.request.entry, &self.download) {
            entry.bytes = download.bytes;
        }
        self.worker.buffers.give(mem::take(&mut self.request.message));
        next
    }

    fn complete(&mut self) -> Next {
        if let Some(entry) = &mut self.request.entry {
            entry.is_complete = true;
        }
        let connection = self.download.as_ref().map(|download| download.connection);
        let known = &self.request.known;
        let Request { upload, message, version, .. } = &*self.request;
        match connection {
            Some(Persistence::Keep) => Next::Again,
            // It has said itself that nothing more comes.
            _ if (known.close || *version == Version::Http10)
                && upload.is_done(message)
                && self.client.input.is_empty() =>
            {
                Next::Close
            }
            _ => Next::Linger,
        }
    }

    /// Counts a response that ends before its end, or that the client does not wait for any more.
    /// Called before the client can see it.
    fn break_off(&mut self, stop: &Stop) {
        let counters = &self.worker.counters;
        if matches!(stop, Stop::Cut) {
            counters.cut_short.bump();
        }
        let Some(download) = &mut self.download else {
            if matches!(stop, Stop::Gone) {
                record::status(self.worker, &mut self.request, 499);
                if let Some(entry) = &mut self.request.entry {
                    entry.is_complete = false;
                }
            }
            return;
        };
        if download.is_open_ended
            && let Err(error) = self.client.socket.end_in_reset()
        {
            tracing::debug!(%error, "a client cannot tell that its response has broken off");
        }
        let is_the_clients = match stop {
            Stop::Gone => true,
            Stop::Cut => false,
            Stop::Closed | Stop::Failure(_) => self.client.is_half_closed(),
        };
        let is_error = mem::take(&mut download.can_fail) && !is_the_clients;
        if let Some(in_flight) = self.in_flight.as_ref().filter(|_| is_error) {
            in_flight.pool().counters.served.break_off();
        }
    }

    /// Tells the client why there is no answer of a replica.
    async fn fail(&mut self, failure: &Failure) -> Next {
        let worker = self.worker;
        let unwanted = self.take_unwanted();
        self.link = None;
        self.in_flight = None;
        self.download = None;
        worker.count_failure(failure);
        record::status(worker, &mut self.request, failure.status().as_u16());
        // What is here of the body is no reason to close.
        let mut nowhere = Vec::new();
        let Request { upload, known, version, method, .. } = &mut *self.request;
        let is_broken = upload.take_here(worker, self.client, &mut nowhere).is_err();
        let closes = failure.closes()
            || is_broken
            || !upload.has_ended()
            || self.client.watch.is_last()
            || self.client.has_finished();
        let framing = Framing::Length(0);
        let connection = connection::toward_client(*version, known, framing, closes);
        let audience = Audience {
            version: *version,
            is_head: *method == Method::Head,
            connection,
            no_replica_text: worker.config.no_replica_text.as_deref(),
            told: self.translated.take().unwrap_or_default(),
        };
        let out = self.client.output.end(&worker.buffers);
        let bytes = answer::failure(failure, audience, out);
        if let Some(entry) = &mut self.request.entry {
            (entry.bytes, entry.is_complete) = (bytes, true);
        }
        self.client.watch.enter(Phase::Response);
        match self.client.flush(worker).await {
            Err(_) => Next::Close,
            Ok(()) if connection == Persistence::Keep => {
                // The client has its answer, and waits for nothing.
                if let Some(unwanted) = unwanted {
                    self.discard(unwanted).await;
                }
                Next::Again
            }
            Ok(()) => Next::Linger,
        }
    }
}
