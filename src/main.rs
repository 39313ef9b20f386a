//! `ringmaster`: parses the command line, runs the command, and turns the result into an exit code:
//! 0 success, 1 failed while running, 2 unusable flags or configuration; for `status` also 3 if the
//! fleet is degraded and 4 if no replica passes.

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

/// The variable that sets which lines are logged.
const LOG: &str = "RINGMASTER_LOG";

/// Without any argument the help is shown.
const MISSING_SUBCOMMAND: ErrorKind = ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;

/// Faster than the allocator of the C library, and with less memory per connection.
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
            print_error(&error.to_string());
            return ExitCode::from(2);
        }
        Err(error) if error.use_stderr() => {
            // Only the line with the error, without the usage.
            let text = error.to_string();
            print_error(text.lines().next().unwrap_or("error: unusable arguments"));
            return ExitCode::from(2);
        }
        Err(help) => return write_output(&help.to_string()),
    };
    match cli.command {
        Command::Serve(arguments) | Command::Check(arguments) if arguments.print_config => {
            match print::print(arguments) {
                Ok(text) => write_output(&text),
                Err(error) => unusable(&error),
            }
        }
        Command::Serve(arguments) => match config_of(arguments, warning) {
            Ok((config, filter)) => run_serve(config, filter),
            Err(error) => unusable(&error),
        },
        Command::Check(arguments) => run_check(arguments, warning, cli.json),
        Command::Simulate(arguments) => run_simulate(&arguments, cli.json),
        other => {
            if let Some(warning) = warning {
                // A warning that cannot be written must not stop the command.
                let _ = writeln!(io::stderr(), "warning: {warning}");
            }
            run_client(other, cli.json)
        }
    }
}

fn run_simulate(arguments: &Simulate, as_json: bool) -> ExitCode {
    match simulate::simulate(arguments, as_json) {
        Ok(text) => finish(simulate::write_output(arguments, text)),
        Err(error) => {
            print_error(&format!("error: {error}"));
            ExitCode::from(2)
        }
    }
}

fn config_of(
    arguments: Serve,
    warning: Option<String>,
) -> Result<(Config, EnvFilter), ConfigError> {
    let filter = log_filter(std::env::var_os(LOG).as_deref())?;
    let Given { options, warnings } = arguments.given()?;
    let mut config = Config::check(options, ringmaster::driver::docker::is_here())?;
    config.notices.extend(warnings.into_iter().chain(warning));
    Ok((config, filter))
}

fn run_check(arguments: Serve, warning: Option<String>, as_json: bool) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return finish(Err(error.into())),
    };
    let log = std::env::var_os(LOG);
    let checked = runtime.block_on(check::check(arguments, warning, log.as_deref()));
    // A lookup that has timed out may still occupy a thread: do not wait for it.
    runtime.shutdown_background();
    match checked {
        Ok(report) => finish(Ok(if as_json { report.json() } else { report.text() })),
        Err(error) => {
            if as_json {
                // A write error is ignored: the exit code reports the refusal too.
                write_output(&check::refusal_json(&error));
            }
            unusable(&error)
        }
    }
}

fn unusable(error: &ConfigError) -> ExitCode {
    print_error(&format!("error: {error}"));
    ExitCode::from(2)
}

/// How long a write to a hanging disk may delay the end of the program.
const LAST_WRITE: Duration = Duration::from_secs(2);
/// How long writing the last lines of the log may take.
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
        // They would be printed to standard error, and panic where that is closed.
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

/// Raises the limit to the allowed maximum, because each proxied connection needs two descriptors.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        print_error(&format!("the limit of open files stays as it is: {error}"));
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
                let printed = write_output(&text);
                match health {
                    Health::Ok => printed,
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
        Ok(text) => write_output(&text),
        Err(error) => {
            print_error(&format!("error: {error:#}"));
            ExitCode::from(if error.is::<ConfigError>() { 2 } else { 1 })
        }
    }
}

/// Writes the output of a command. A reader that closes the pipe early is no error.
fn write_output(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != IoError::BrokenPipe => {
            print_error(&format!("error: the answer cannot be written: {error}"));
            ExitCode::from(1)
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Writes a message to standard error. `eprintln!` would panic where that is closed or full.
fn print_error(text: &str) {
    // An error here cannot be reported anywhere; the exit code still says that something failed.
    let _ = writeln!(io::stderr(), "{}", text.trim_end());
}
