//! One child process. Only the task that owns it signals and reaps it, so that a signal never goes
//! to a process id that the system has reused.

use std::{os::unix::process::ExitStatusExt, process::ExitStatus, time::Duration};

use ringmaster_core::fleet::{
    ids::{Handle, InstanceId},
    message::{Sighting, StopManner},
};
use rustix::process::{Pid, Signal as Kill, kill_process, kill_process_group};
use tokio::{
    process::Child,
    sync::{broadcast, mpsc, watch},
    time,
};

use crate::driver::Signal;

/// A child that runs, or has ended and is still in the list.
#[derive(Debug)]
pub(super) struct Running {
    stops: mpsc::UnboundedSender<StopManner>,
    exit: watch::Receiver<Option<i64>>,
    announced: watch::Sender<bool>,
}

impl Running {
    /// Gives a child to a task that owns it until it has ended.
    pub(super) fn keep(
        child: Child,
        instance: InstanceId,
        handle: Handle,
        signals: broadcast::Sender<Signal>,
        grace: Duration,
    ) -> Self {
        let (stops, orders) = mpsc::unbounded_channel();
        let (exit_sender, exit) = watch::channel(None);
        let (announced, mut may_announce) = watch::channel(false);
        tokio::spawn(async move {
            let code = keep(child, orders, grace).await;
            exit_sender.send_replace(Some(code));
            // An end during the start is reported as the result of the start only.
            if may_announce.wait_for(|announce| *announce).await.is_ok() {
                let exit_code = Some(code);
                let died = Signal::Saw(instance, handle, Sighting::Died { exit_code });
                // Without a receiver the end is found by the next list.
                let _ = signals.send(died);
            }
        });
        Self { stops, exit, announced }
    }

    /// Begins to stop the child; a later call can be more forceful. See [`Running::ended`].
    pub(super) fn stop(&self, manner: StopManner) {
        // An error means that the child has ended.
        let _ = self.stops.send(manner);
    }

    /// From now on the end is sent as a signal.
    pub(super) fn announce_end(&self) {
        self.announced.send_replace(true);
    }

    /// The exit status as in a shell (128 + signal); `None` while the child runs.
    pub(super) fn exit_code(&self) -> Option<i64> {
        *self.exit.borrow()
    }

    /// Completes with the exit status when the child has ended.
    pub(super) async fn ended(&self) -> i64 {
        let mut exit = self.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(code) => code.unwrap_or_default(),
            // The runtime has dropped the task, which killed the child.
            Err(_) => 128 + 9,
        }
    }
}

async fn keep(
    mut child: Child,
    mut orders: mpsc::UnboundedReceiver<StopManner>,
    grace: Duration,
) -> i64 {
    let mut kill_at = None;
    loop {
        let deadline = async {
            match kill_at {
                Some(at) => time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            ended = child.wait() => return ended.map_or(-1, exit_code),
            () = deadline => {
                kill_at = None;
                kill(&child);
            }
            Some(manner) = orders.recv() => match manner {
                StopManner::Graceful => {
                    if let Some(pid) = pid(&child) {
                        let _ = kill_process(pid, Kill::TERM);
                    }
                    kill_at.get_or_insert_with(|| time::Instant::now() + grace);
                }
                StopManner::Kill | StopManner::Collect => kill(&child),
            },
        }
    }
}

/// Kills a child and its process group. It is not reaped yet, so its process id is not reused.
fn kill(child: &Child) {
    if let Some(pid) = pid(child) {
        let _ = kill_process_group(pid, Kill::KILL);
        let _ = kill_process(pid, Kill::KILL);
    }
}

fn pid(child: &Child) -> Option<Pid> {
    Pid::from_raw(i32::try_from(child.id()?).ok()?)
}

fn exit_code(status: ExitStatus) -> i64 {
    let by_signal = || status.signal().map(|signal| 128 + signal);
    i64::from(status.code().or_else(by_signal).unwrap_or(-1))
}
