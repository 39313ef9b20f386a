//! Passes a response on to its end.

use std::{
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use super::{
    super::{
        errors::Failure,
        pool::{InFlight, Pool},
        upstream::Connection,
        watch::Order,
    },
    download::Download,
    state::{Exchange, count_down},
    upload::Stop,
};

/// The most of an unwanted answer that is read to keep its connection, and for how long.
const DISCARD_MAX: u64 = 64 * 1024;
const DISCARD_TIME: Duration = Duration::from_secs(1);

impl Exchange<'_> {
    /// Passes the response on to its end.
    pub(super) async fn respond(&mut self) -> Result<(), Stop> {
        if self.translated.is_some() {
            let line = self.request.line.take();
            let (method, path) = line.unwrap_or_default();
            return Err(Stop::Failure(Failure::NotFound(method, path)));
        }
        poll_fn(|cx| self.poll_respond(cx)).await
    }

    fn poll_respond(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stop>> {
        self.client.watch.remember(cx.waker());
        if self.client.watch.order() == Some(Order::Close) {
            return Poll::Ready(Err(Stop::Closed));
        }
        let worker = self.worker;
        if let Some(pool) = self.in_flight.as_ref().map(InFlight::shared)
            && let Err(stop) = self.poll_upload(cx, &pool)
        {
            // The response has begun, so that the client cannot be told: it is only counted.
            if let Stop::Failure(failure) = &stop {
                worker.count_failure(failure);
            }
            return Poll::Ready(Err(Stop::Gone));
        }
        let is_done = self.link.is_none() || self.request.upload.has_ended();
        if is_done && self.client.poll_ahead(cx, worker).is_err() {
            return Poll::Ready(Err(Stop::Gone));
        }
        let Some(download) = &mut self.download else { return Poll::Ready(Err(Stop::Cut)) };
        let Self { client, link, in_flight, request, .. } = self;
        let came = |bytes: u64, ended: Option<(Box<Connection>, bool)>| {
            let Some(own) = in_flight.as_ref() else { return };
            count_down(worker, own.pool(), bytes);
            if let Some((link, is_reusable)) = ended {
                if is_reusable && request.upload.is_done(&request.message) {
                    own.pool().put_h1(link);
                }
                *in_flight = None;
            }
        };
        download.poll(cx, (worker, client), link, came)
    }

    /// What is left of an answer that is not passed on, where there is more of it to come.
    pub(super) fn take_unwanted(&mut self) -> Option<Unwanted> {
        let pool = self.in_flight.as_ref().map(InFlight::shared)?;
        self.translated.as_ref()?;
        Some(Unwanted { pool, link: self.link.take()?, download: self.download.take()? })
    }

    /// Reads an answer that is not passed on, so that its connection can be used again: as long as
    /// the client asks for nothing else.
    pub(super) async fn discard(&mut self, unwanted: Unwanted) {
        let Unwanted { pool, mut link, mut download } = unwanted;
        let (worker, client) = (self.worker, &mut *self.client);
        let until = client.watch.time_after(DISCARD_TIME);
        let is_reusable = poll_fn(|cx| {
            client.watch.remember(cx.waker());
            client.watch.set_alarm(until);
            if let Poll::Ready(is_reusable) =
                download.poll_discard(cx, worker, &mut link, DISCARD_MAX)
            {
                return Poll::Ready(is_reusable);
            }
            let is_over = client.poll_ahead(cx, worker).is_err()
                || !client.input.is_empty()
                || client.is_half_closed()
                || client.watch.is_last()
                || client.watch.has_come(until);
            if is_over { Poll::Ready(false) } else { Poll::Pending }
        })
        .await;
        self.give_back(&pool, link, is_reusable);
    }
}

/// An answer that is not passed on, and the connection that it comes on.
pub(super) struct Unwanted {
    pool: Rc<Pool>,
    link: Box<Connection>,
    download: Download,
}
