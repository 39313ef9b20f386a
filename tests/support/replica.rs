//! A replica for tests of drivers: one static program that answers every request with its
//! environment, ends at SIGTERM, or ends at once. Compiled by the tests themselves, not by cargo.

use std::{
    env, fs,
    io::{Read, Write},
    net::TcpListener,
    process,
};

unsafe extern "C" {
    fn signal(number: i32, handler: extern "C" fn(i32)) -> usize;
    fn _exit(status: i32) -> !;
}

extern "C" fn end(_: i32) {
    // SAFETY: `_exit` may be called in a signal handler.
    unsafe { _exit(0) }
}

/// Takes memory until there is none.
fn eat() -> ! {
    let mut eaten = Vec::new();
    loop {
        eaten.push(vec![1_u8; 1 << 20]);
    }
}

fn main() {
    match env::args().nth(1).as_deref() {
        Some("exit") => {
            eprintln!("the sky is falling");
            process::exit(3);
        }
        Some("stubborn" | "hungry") => {}
        Some("talkative") => {
            (0..200).for_each(|number| println!("line {number}"));
            println!("\x1b[31mred\x1b[0m alert");
        }
        // SAFETY: the handler calls nothing but `_exit`.
        _ => unsafe {
            signal(15, end);
        },
    }
    let port = env::var("PORT").unwrap();
    let listener = TcpListener::bind(format!("0.0.0.0:{port}")).unwrap();
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        if env::args().nth(1).as_deref() == Some("hungry") {
            eat();
        }
        let mut request = [0; 2048];
        let _ = stream.read(&mut request);
        let host = fs::read_to_string("/etc/hostname").unwrap_or_default();
        let mut body = format!("HOSTNAME_FILE={host}");
        for (key, value) in env::vars() {
            body += &format!("{key}={value}\n");
        }
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
    }
}
