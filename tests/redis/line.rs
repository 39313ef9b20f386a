//! A line to the Redis that can be cut, frozen or made slow, for one process alone.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{harness::Balancer, shared::Fleet};

#[derive(Default)]
pub(crate) struct Line {
    is_cut: AtomicBool,
    /// Nothing goes on, in any direction.
    is_frozen: AtomicBool,
    /// Milliseconds that each piece takes on its way.
    delay: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
}

impl Line {
    /// A line to an address, and where it begins.
    pub(crate) fn to(server: SocketAddr) -> (Arc<Self>, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let line = Arc::new(Self::default());
        let shared = Arc::clone(&line);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.is_cut.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(upstream) = TcpStream::connect(server) else { continue };
                shared.carry(&client, &upstream);
                shared.carry(&upstream, &client);
                shared.open.lock().unwrap().extend([client, upstream]);
            }
        });
        (line, address)
    }

    fn carry(self: &Arc<Self>, from: &TcpStream, to: &TcpStream) {
        let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        let line = Arc::clone(self);
        std::thread::spawn(move || {
            let mut buffer = [0; 16_384];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                std::thread::sleep(Duration::from_millis(line.delay.load(Ordering::SeqCst)));
                while line.is_frozen.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(5));
                }
                if to.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Both);
        });
    }

    /// Ends all connections, and each new one.
    pub(crate) fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Leaves connections and what is sent without an answer.
    pub(crate) fn freeze(&self) {
        self.is_frozen.store(true, Ordering::SeqCst);
    }

    pub(crate) fn slow_down(&self, delay: Duration) {
        let delay = u64::try_from(delay.as_millis()).unwrap();
        self.delay.store(delay, Ordering::SeqCst);
    }

    pub(crate) fn mend(&self) {
        self.is_cut.store(false, Ordering::SeqCst);
        self.is_frozen.store(false, Ordering::SeqCst);
    }
}

/// A process whose line to the Redis is the returned one.
pub(crate) fn through(fleet: &Fleet, process: &str) -> (Arc<Line>, Balancer) {
    let (line, address) = Line::to(fleet.redis.address);
    let url = format!("redis://{address}");
    (line, Balancer::spawn(fleet.command(process, "both", &url)))
}
