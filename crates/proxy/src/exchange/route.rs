//! Where a request goes: its key, for which some of its body may have to be read; and all of a small
//! body, where that allows to repeat the request.

use std::{future::poll_fn, mem, task::Poll};

use ringmaster_core::ring::Slot;
use ringmaster_http1::{Framing, Scanner, interim, request as codec};

use super::{
    super::{errors::Failure, key, watch::Order},
    begin, limits,
    request::{Key, Request},
    state::Exchange,
    upload::Stop,
};

impl Exchange<'_> {
    /// The slot of the request, for which some of its body may have to be read; and all of its body,
    /// where that allows to repeat it.
    pub(super) async fn route(&mut self) -> Result<Slot, Stop> {
        let limit = self.worker.config.key_body_max;
        match mem::replace(&mut self.request.key, Key::Found(0)) {
            Key::Found(slot) => {
                self.keep().await?;
                Ok(slot)
            }
            Key::InBody(head) => {
                let data = self.gather(limit).await?;
                let is_whole = self.request.upload.has_ended() && data.len() <= limit;
                let body = if is_whole { key::Body::Whole(&data) } else { key::Body::TooLarge };
                let slot = self.slot_in(&head, body);
                self.take_in(&data, is_whole);
                Ok(slot)
            }
        }
    }

    /// The slot of a request whose head is read once more.
    fn slot_in(&self, head: &[u8], body: key::Body<'_>) -> Slot {
        let mut heads = self.worker.buffers.heads();
        let limits = limits::limits(&self.worker.config);
        let read = codec::read(&mut heads.request, &mut Scanner::request(), head, &limits);
        // It was one before.
        if !matches!(read, Ok(codec::Read::Head(_))) {
            return 0;
        }
        let view = heads.request.over(head);
        self.worker.slot_of(&begin::asked(self.worker, self.client, view, body))
    }

    /// Reads all of a small body whose request may be repeated, so that it can be.
    async fn keep(&mut self) -> Result<(), Stop> {
        let Framing::Length(length) = self.request.known.framing else { return Ok(()) };
        let limit = self.worker.config.kept_body_max;
        let may_repeat = begin::is_repeatable(self.request.method);
        if !may_repeat || self.request.is_held || length == 0 || length > limit as u64 {
            return Ok(());
        }
        let data = self.gather(limit).await?;
        self.take_in(&data, true);
        Ok(())
    }

    /// Puts what was read of the body behind the head.
    fn take_in(&mut self, data: &[u8], is_whole: bool) {
        let Request { upload, message, message_bytes, method, is_repeatable, .. } =
            &mut *self.request;
        upload.keep(data, message);
        *message_bytes += data.len() as u64;
        *is_repeatable = is_whole && begin::is_repeatable(*method);
    }

    /// Reads the body up to a limit, and a few bytes more if there are.
    async fn gather(&mut self, limit: usize) -> Result<Vec<u8>, Stop> {
        // Not before there is a replica to send it to: the client may wait to be asked for it.
        if !self.worker.has_replica() {
            return Err(Stop::Failure(Failure::NoReplica));
        }
        if self.interims.is_awaited() {
            self.interims.settle();
            if self.client.input.is_empty() {
                self.client.output.push(interim::CONTINUE, &self.worker.buffers);
            }
        }
        let mut data = Vec::new();
        self.client.watch.set_starved(true);
        poll_fn(|cx| {
            let Self { worker, client, request, .. } = self;
            client.watch.remember(cx.waker());
            if matches!(client.poll_flush(cx, worker), Poll::Ready(Err(_))) {
                return Poll::Ready(Err(Stop::Gone));
            }
            let into = (&mut data, limit);
            let gathered = request.upload.poll_gather(cx, worker, client, into);
            match (gathered, client.watch.interruption(), client.watch.order()) {
                (Poll::Ready(result), ..) => Poll::Ready(result),
                (_, Some(_), _) => Poll::Ready(Err(Stop::Failure(Failure::SlowBody))),
                (_, _, Some(Order::Close)) => Poll::Ready(Err(Stop::Closed)),
                _ => Poll::Pending,
            }
        })
        .await?;
        self.client.watch.set_starved(false);
        Ok(data)
    }
}
