//! Requests in the background, each of which must succeed.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::try_ask;

/// Sends requests for `/home` with changing keys until it is stopped.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Report>>,
}

/// The result of a load.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) answered: usize,
    /// The requests without a 200, with the status or the error.
    pub(crate) failed: Vec<String>,
    /// The longest time until a response.
    pub(crate) slowest: Duration,
}

impl Load {
    pub(crate) fn start(to: SocketAddr, clients: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..clients).map(|client| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || run(to, client, &stop))
        });
        let threads = threads.collect();
        Self { stop, threads }
    }

    pub(crate) fn stop(mut self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Report::default();
        for thread in self.threads.drain(..) {
            let one = thread.join().unwrap();
            all.answered += one.answered;
            all.failed.extend(one.failed);
            all.slowest = all.slowest.max(one.slowest);
        }
        all
    }

    /// Stops, and checks that all responses were a 200.
    pub(crate) fn all_answered(self) -> Report {
        let report = self.stop();
        assert!(report.answered > 0 && report.failed.is_empty(), "{report:?}");
        report
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn run(to: SocketAddr, client: usize, stop: &AtomicBool) -> Report {
    let mut report = Report::default();
    let mut number = client * 1_000_000;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let began = Instant::now();
        match try_ask(to, "GET", &format!("/home?id={number}"), &[], "") {
            Ok(answer) if answer.status == 200 => report.answered += 1,
            Ok(answer) => report.failed.push(format!("{} {}", answer.status, answer.text())),
            Err(error) => report.failed.push(error.to_string()),
        }
        report.slowest = report.slowest.max(began.elapsed());
        // A few hundred requests per second are enough to hit every short interruption.
        std::thread::sleep(Duration::from_millis(4));
    }
    report
}
