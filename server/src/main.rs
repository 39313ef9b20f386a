//! The companion server's process: reads the environment and the arguments, listens, handles signals.
//!
//! Exit codes: 0 stopped by a signal, 1 cannot listen or run, 2 unusable environment or arguments,
//! 3 `EXIT_AFTER_MS` has passed.

use std::ffi::OsString;
use std::future::Future;
use std::io::{self, Write};
use std::process::ExitCode;

use ringmaster_server::{Limits, Settings, serve};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "\
ringmaster-server [--delay TIME|TIME..TIME]
It is configured by its environment:
  SERVER_ID               the replica's name, part of most answers (default unknown)
  HOST                    IP address to listen on (default 0.0.0.0)
  PORT                    port to listen on (default 5000, 0 = any free one)
  PROCESS_DELAY           how long /process takes: 100ms, or drawn from a range like
                          50ms..200ms (default 100ms, at most 60s); --delay beats it
  PROCESS_DELAY_MS        the same as a number of milliseconds, where PROCESS_DELAY is not set
  EXIT_AFTER_MS           end by itself with status 3 after so long (default never)
  RINGMASTER_REPLICA      ring identity, a number
  RINGMASTER_INCARNATION  which run of the replica this is, a number";

/// The parsed arguments.
#[derive(Debug)]
enum Arguments {
    Help,
    Serve { delay: Option<String> },
}

/// `None` for unusable arguments.
fn parse(arguments: impl Iterator<Item = OsString>) -> Option<Arguments> {
    let mut arguments = arguments.map(|argument| argument.into_string().ok());
    let mut delay = None;
    while let Some(argument) = arguments.next() {
        match argument?.as_str() {
            "--help" | "-h" => return Some(Arguments::Help),
            "--delay" => delay = Some(arguments.next()??),
            other => delay = Some(other.strip_prefix("--delay=")?.to_owned()),
        }
    }
    Some(Arguments::Serve { delay })
}

fn main() -> ExitCode {
    let delay = match parse(std::env::args_os().skip(1)) {
        Some(Arguments::Serve { delay }) => delay,
        Some(Arguments::Help) => {
            say(&mut io::stdout(), USAGE);
            return ExitCode::SUCCESS;
        }
        None => return fail(2, USAGE),
    };
    let settings = Settings::from_env().and_then(|settings| match &delay {
        Some(delay) => settings.with_delay(delay),
        None => Ok(settings),
    });
    let settings = match settings {
        Ok(settings) => settings,
        Err(error) => return fail(2, &format!("ringmaster-server: {error}")),
    };
    // One thread is enough for an example replica, and its cost per request is
    // the smallest; several replicas use several cores.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, &format!("ringmaster-server: cannot start: {error}")),
    };
    match runtime.block_on(run(&settings)) {
        Ok(End::Signal) => ExitCode::SUCCESS,
        Ok(End::ExitAfter) => fail(3, "ringmaster-server: EXIT_AFTER_MS has passed"),
        Err(sentence) => fail(1, &format!("ringmaster-server: {sentence}")),
    }
}

/// Why the process ends.
enum End {
    Signal,
    ExitAfter,
}

async fn run(settings: &Settings) -> Result<End, String> {
    // Before listening: as PID 1 a signal without a handler is ignored, and
    // a signal may be sent as soon as the port is open.
    let stop = stop_signal().map_err(|error| format!("cannot watch signals: {error}"))?;
    let listener = TcpListener::bind(settings.listen)
        .await
        .map_err(|error| format!("cannot listen on {}: {error}", settings.listen))?;
    let address = listener
        .local_addr()
        .map_err(|error| format!("cannot learn the address listened on: {error}"))?;
    say(&mut io::stdout(), &format!("listening on {address}"));
    let exit = async {
        match settings.exit_after {
            Some(after) => tokio::time::sleep(after).await,
            None => std::future::pending().await,
        }
    };
    // Open requests are dropped at `EXIT_AFTER_MS`, as with a program that crashes.
    tokio::select! {
        () = serve(listener, settings, Limits::default(), stop) => Ok(End::Signal),
        () = exit => Ok(End::ExitAfter),
    }
}

/// Completes at the first SIGTERM or SIGINT.
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn fail(code: u8, sentence: &str) -> ExitCode {
    say(&mut io::stderr(), sentence);
    ExitCode::from(code)
}

/// A closed pipe is no reason to stop serving, so unlike `println!` this never panics.
fn say(stream: &mut impl Write, line: &str) {
    let _ = writeln!(stream, "{line}").and_then(|()| stream.flush());
}
