//! A line to the Redis that can be cut or made slow, for one process alone.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    harness::{Balancer, Load, ask, eventually, get, within},
    shared::{Fleet, leads, metric, owners, serves},
};

#[derive(Default)]
struct Line {
    is_cut: AtomicBool,
    /// Milliseconds that each piece takes on its way.
    delay: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
}

impl Line {
    /// A line to an address, and where it begins.
    fn to(server: SocketAddr) -> (Arc<Self>, SocketAddr) {
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
                if to.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Both);
        });
    }

    fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn mend(&self) {
        self.is_cut.store(false, Ordering::SeqCst);
    }
}

fn through(fleet: &Fleet, process: &str) -> (Arc<Line>, Balancer) {
    let (line, address) = Line::to(fleet.redis.address);
    let url = format!("redis://{address}");
    (line, Balancer::spawn(fleet.command(process, "both", &url)))
}

#[test]
fn a_supervisor_that_is_cut_off_stops_before_another_begins() {
    let Some(fleet) = Fleet::new(3) else { return };
    let (line, first) = through(&fleet, "a");
    eventually("it supervises", || leads(&first));
    let second = fleet.start("b", "both");
    for process in [&first, &second] {
        serves(process, 3);
    }
    let before = owners(&first);
    let loads = [Load::start(first.traffic, 1), Load::start(second.traffic, 1)];
    line.cut();
    let begin = Instant::now();
    within(Duration::from_secs(4), "another one supervises", || {
        let other_leads = leads(&second);
        // Asked later: whoever had it before must have stopped by then.
        assert!(!(other_leads && leads(&first)), "two supervise");
        other_leads
    });
    println!("takeover of one that is cut off: {:?}", begin.elapsed());
    assert_eq!(get(first.admin, "/readyz").status, 200);
    let said = ask(first.admin, "POST", "/rm", r#"{"n":1}"#).refusal(503);
    assert!(said.contains("the store does not answer"), "{said}");
    // A change of the new one reaches the old one when the line is mended.
    let changed = ask(second.admin, "PUT", "/api/servers/s1/weight", r#"{"weight":2}"#);
    assert_eq!(changed.status, 200, "{}", changed.text());
    line.mend();
    eventually("it follows", || first.ring()["digest"] == second.ring()["digest"]);
    assert!(!leads(&first) && leads(&second));
    for load in loads {
        load.all_answered();
    }
    let after = owners(&first);
    assert_eq!(after, owners(&second));
    let elsewhere = before.iter().zip(&after).filter(|(was, is)| was != is);
    assert!(elsewhere.clone().all(|(_, is)| is == "s1"), "more moved than the weight asks for");
}

#[test]
fn a_slow_store_deposes_no_one() {
    let Some(fleet) = Fleet::new(2) else { return };
    let (line, first) = through(&fleet, "a");
    eventually("it supervises", || leads(&first));
    let second = fleet.start("b", "both");
    for process in [&first, &second] {
        serves(process, 2);
    }
    let fence = metric(&first, "ringmaster_table_fence");
    // There and back; the deadline of a call is 500 ms.
    line.delay.store(80, Ordering::SeqCst);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(4) {
        assert!(leads(&first) && !leads(&second), "{}", first.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    let changed = ask(second.admin, "PUT", "/api/servers/s1/weight", r#"{"weight":2}"#);
    assert_eq!(changed.status, 200, "{}", changed.text());
    eventually("both have the new ring", || first.ring()["digest"] == second.ring()["digest"]);
    assert_eq!(metric(&second, "ringmaster_table_fence"), fence);
}
