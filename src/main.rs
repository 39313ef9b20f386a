//! `ringmaster`: parses the command line, runs what was asked for, and turns the result into an
//! exit code: 0 clean, 1 failed while running, 2 unusable flags or configuration; of `status` 3 where
//! the fleet is degraded, 4 where no replica passes.

use std::{
    io::{self, ErrorKind as IoError, Write},
    process::ExitCode,
    time::Duration,
};

use clap::{CommandFactory, FromArgMatches, error::ErrorKind};
use ringmaster::{
    cli::{
        self, Cli, Command, Given, Serve, check, print,
        simulate::{self, Simulate},
    },
    client,
    config::{Config, ConfigError, log_filter},
    logging::{self, Log},
    serve,
};
use ringmaster_core::fleet::view::Health;
use tracing_subscriber::EnvFilter;

/// Which lines are logged.
const LOG: &str = "RINGMASTER_LOG";

/// Whoever says nothing at all is shown what there is.
const MISSING_SUBCOMMAND: ErrorKind = ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;

/// Holds less memory per connection than the C library's, and gives and takes it faster.
#[global_allocator]
static GLOBAL: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let parsed = Cli::command().try_get_matches().and_then(|given| {
        let warning = cli::secret_on_command_line(&given);
        Ok((Cli::from_arg_matches(&given)?, warning))
    });
    let (cli, warning) = match parsed {
        Ok(parsed) => parsed,
        Err(error) if error.kind() == MISSING_SUBCOMMAND => {
            complain(&error.to_string());
            return ExitCode::from(2);
        }
        Err(error) if error.use_stderr() => {
            // One line: what is wrong, without the usage.
            let text = error.to_string();
            complain(text.lines().next().unwrap_or("error: unusable arguments"));
            return ExitCode::from(2);
        }
        Err(help) => return deliver(&help.to_string()),
    };
    match cli.command {
        Command::Serve(asked) | Command::Check(asked) if asked.print_config => {
            match print::print(asked) {
                Ok(text) => deliver(&text),
                Err(error) => unusable(&error),
            }
        }
        Command::Serve(asked) => match config_of(asked, warning) {
            Ok((config, filter)) => run_serve(config, filter),
            Err(error) => unusable(&error),
        },
        Command::Check(asked) => run_check(asked, warning, cli.json),
        Command::Simulate(asked) => run_simulate(&asked, cli.json),
        other => {
            if let Some(warning) = warning {
                // One that cannot be written is no reason not to go on.
                let _ = writeln!(io::stderr(), "warning: {warning}");
            }
            run_client(other, cli.json)
        }
    }
}

fn run_simulate(asked: &Simulate, as_json: bool) -> ExitCode {
    match simulate::answer(asked, as_json) {
        Ok(text) => finish(simulate::deliver(asked, text)),
        Err(error) => {
            complain(&format!("error: {error}"));
            ExitCode::from(2)
        }
    }
}

fn config_of(asked: Serve, warning: Option<String>) -> Result<(Config, EnvFilter), ConfigError> {
    let filter = log_filter(std::env::var_os(LOG).as_deref())?;
    let Given { options, warnings } = asked.given()?;
    let mut config = Config::check(options, ringmaster::driver::docker::is_here())?;
    config.notices.extend(warnings.into_iter().chain(warning));
    Ok((config, filter))
}

fn run_check(asked: Serve, warning: Option<String>, as_json: bool) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return finish(Err(error.into())),
    };
    let log = std::env::var_os(LOG);
    let checked = runtime.block_on(check::check(asked, warning, log.as_deref()));
    // A resolver that was given up may still wait for its server.
    runtime.shutdown_background();
    match checked {
        Ok(report) => finish(Ok(if as_json { report.json() } else { report.text() })),
        Err(error) => {
            if as_json {
                // Whether it was read or not, the exit code tells what it says.
                deliver(&check::refusal_json(&error));
            }
            unusable(&error)
        }
    }
}

fn unusable(error: &ConfigError) -> ExitCode {
    complain(&format!("error: {error}"));
    ExitCode::from(2)
}

/// How long a write to a disk that hangs may keep the program from ending.
const LAST_WRITE: Duration = Duration::from_secs(2);
/// How long the last lines of the log may take.
const LOG_DEADLINE: Duration = Duration::from_secs(1);

fn run_serve(config: Config, filter: EnvFilter) -> ExitCode {
    raise_descriptor_limit();
    let log = match Log::open(config.log_file.as_deref()) {
        Ok(log) => log,
        Err(error) => return finish(Err(error.into())),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(log.clone())
        // It would be told to standard error, and panic where that is closed.
        .log_internal_errors(false)
        .with_ansi(logging::is_colourful(config.log_file.as_deref()))
        .with_target(false)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build();
    let served = match runtime {
        Ok(runtime) => {
            let served = runtime.block_on(serve::serve(config, &log));
            runtime.shutdown_timeout(LAST_WRITE);
            served
        }
        Err(error) => Err(error.into()),
    };
    log.flush(LOG_DEADLINE);
    finish(served.map(|()| String::new()))
}

/// Each proxied connection needs two descriptors; what we are allowed we take.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        complain(&format!("the limit of open files stays as it is: {error}"));
    }
}

fn run_client(command: Command, as_json: bool) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return finish(Err(error.into())),
    };
    if let Command::Status(options) = &command {
        return match runtime.block_on(client::status(options, as_json)) {
            Ok((text, health)) => {
                let told = deliver(&text);
                match health {
                    Health::Ok => told,
                    Health::Degraded => ExitCode::from(3),
                    Health::Down => ExitCode::from(4),
                }
            }
            Err(error) => finish(Err(error)),
        };
    }
    finish(runtime.block_on(async {
        match &command {
            Command::Replicas(options) => client::replicas(options, as_json).await,
            Command::Add(scale) => client::add(scale, as_json).await,
            Command::Rm(scale) => client::rm(scale, as_json).await,
            Command::Ring(options) => client::ring(options, as_json).await,
            Command::Servers(options) => client::servers(options, as_json).await,
            Command::Retry(options) => client::retry(options, as_json).await,
            Command::Logs(options) => client::logs(options, as_json).await,
            Command::Status(_) | Command::Serve(_) | Command::Check(_) | Command::Simulate(_) => {
                unreachable!("handled before")
            }
        }
    }))
}

fn finish(result: anyhow::Result<String>) -> ExitCode {
    match result {
        Ok(text) => deliver(&text),
        Err(error) => {
            complain(&format!("error: {error:#}"));
            ExitCode::from(if error.is::<ConfigError>() { 2 } else { 1 })
        }
    }
}

/// Writes an answer. Who closes a pipe early has read enough.
fn deliver(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != IoError::BrokenPipe => {
            complain(&format!("error: the answer cannot be written: {error}"));
            ExitCode::from(1)
        }
        _ => ExitCode::SUCCESS,
    }
}

/// One message for people. `eprintln!` would panic where standard error is closed or full.
fn complain(text: &str) {
    // There is nowhere left to say that it could not be said; the exit code still tells.
    let _ = writeln!(io::stderr(), "{}", text.trim_end());
}
