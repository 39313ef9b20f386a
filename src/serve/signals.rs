//! The signals of the process.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The handled signals, registered at the start so that none is lost.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user: [Signal; 2],
}

impl Signals {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user: [signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?],
        })
    }

    /// Waits for SIGTERM or SIGINT, and handles the others meanwhile.
    pub(super) async fn stopped(&mut self, reopen_logs: impl Fn()) {
        let [first, second] = &mut self.user;
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => {
                    reopen_logs();
                    tracing::info!("SIGHUP: the log files are opened anew");
                }
                _ = first.recv() => tracing::info!("SIGUSR1: nothing is done"),
                _ = second.recv() => tracing::info!("SIGUSR2: nothing is done"),
            }
        }
    }
}
