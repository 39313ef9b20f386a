//! Passes a response on to its end.

use std::{
    future::poll_fn,
    task::{Context, Poll},
    time::Duration,
};

use super::{
    super::{errors::Failure, pool::InFlight, upstream::Connection, watch::Order},
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
            self.discard().await;
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
        if let Some(pool) = self.in_flight.as_ref().map(InFlight::shared) {
            // Its own head has gone, so that nothing can be said of a body that breaks off.
            if self.poll_upload(cx, &pool).is_err() {
                return Poll::Ready(Err(Stop::Gone));
            }
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
                    own.pool().put_raw(link);
                }
                *in_flight = None;
            }
        };
        download.poll(cx, (worker, client), link, came)
    }

    /// Reads an answer that is not passed on, so that its connection can be used again.
    async fn discard(&mut self) {
        let until = self.client.watch.time_after(DISCARD_TIME);
        let (Some(mut link), Some(mut download)) = (self.link.take(), self.download.take()) else {
            return;
        };
        let (worker, watch) = (self.worker, &self.client.watch);
        let is_reusable = poll_fn(|cx| {
            watch.remember(cx.waker());
            watch.set_alarm(until);
            match download.poll_discard(cx, worker, &mut link, DISCARD_MAX) {
                Poll::Pending if watch.has_come(until) => Poll::Ready(false),
                polled => polled,
            }
        })
        .await;
        if let Some(pool) = self.in_flight.as_ref().map(InFlight::shared) {
            self.give_back(&pool, link, is_reusable);
        }
    }
}
