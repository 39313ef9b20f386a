//! The thread that starts all children.

use std::{io, sync::mpsc, thread};

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use tokio::{
    process::{Child, Command},
    runtime::Handle,
    sync::oneshot,
};

struct SpawnRequest {
    command: Command,
    runtime: Handle,
    reply: oneshot::Sender<io::Result<Child>>,
}

/// Starts children from a thread of its own. The kernel ties a child's parent-death signal to the
/// *thread* that forked it, and a runtime's threads may come and go.
#[derive(Debug)]
pub(super) struct Spawner {
    requests: mpsc::Sender<SpawnRequest>,
}

impl Spawner {
    pub(super) fn new() -> io::Result<Self> {
        let (requests, received) = mpsc::channel::<SpawnRequest>();
        // Ends when the driver is dropped; its children end with it.
        thread::Builder::new().name("spawner".into()).spawn(move || {
            for mut request in received {
                end_with_parent(&mut request.command);
                let _runtime = request.runtime.enter();
                // If the caller has been dropped, the child is dropped here, which kills it.
                let _ = request.reply.send(request.command.spawn());
            }
        })?;
        Ok(Self { requests })
    }

    pub(super) async fn spawn(&self, command: Command) -> io::Result<Child> {
        let (reply, answer) = oneshot::channel();
        let runtime = Handle::current();
        let gone = |_| io::Error::other("the thread that starts processes is gone");
        self.requests
            .send(SpawnRequest { command, runtime, reply })
            .map_err(|_| io::Error::other("the thread that starts processes is gone"))?;
        answer.await.map_err(gone)?
    }
}

/// Makes the kernel kill the child when the balancer ends, even by SIGKILL, and gives it a process
/// group of its own, so that a Ctrl-C in the balancer's terminal is the balancer's to handle.
#[allow(unsafe_code)]
fn end_with_parent(command: &mut Command) {
    command.process_group(0);
    let parent = Pid::from_raw(i32::try_from(std::process::id()).unwrap_or(0));
    let before_exec = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // If the balancer ended before the line above, the signal would never be sent.
        if getppid() == parent { Ok(()) } else { Err(rustix::io::Errno::SRCH.into()) }
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed. The closure makes
    // two plain system calls, takes no lock and does not allocate.
    unsafe {
        command.pre_exec(before_exec);
    }
}
