//! `ringmaster`: parses the command line, runs what was asked for, and turns the result into an
//! exit code: 0 clean, 1 failed while running, 2 unusable flags or configuration.

use std::{io::IsTerminal, process::ExitCode};

use clap::{Parser, error::ErrorKind};
use ringmaster::{
    cli::{
        Cli, Command, Serve,
        simulate::{self, Simulate},
    },
    client,
    config::{Config, ConfigError, Options},
    serve,
};

/// Whoever says nothing at all is shown what there is.
const MISSING_SUBCOMMAND: ErrorKind = ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;

/// Holds less memory per connection than the C library's, and gives and takes it faster.
#[global_allocator]
static GLOBAL: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.kind() == MISSING_SUBCOMMAND => {
            eprint!("{error}");
            return ExitCode::from(2);
        }
        Err(error) if error.use_stderr() => {
            // One line: what is wrong, without the usage.
            let text = error.to_string();
            eprintln!("{}", text.lines().next().unwrap_or("error: unusable arguments"));
            return ExitCode::from(2);
        }
        Err(help) => {
            print!("{help}");
            return ExitCode::SUCCESS;
        }
    };
    match cli.command {
        Command::Serve(serve) => match config_of(serve) {
            Ok(config) => run_serve(config),
            Err(error) => unusable(&error),
        },
        Command::Check(serve) => match config_of(serve) {
            Ok(config) => {
                println!("{config:#?}");
                ExitCode::SUCCESS
            }
            Err(error) => unusable(&error),
        },
        Command::Simulate(asked) => run_simulate(&asked, cli.json),
        other => run_client(other, cli.json),
    }
}

fn run_simulate(asked: &Simulate, as_json: bool) -> ExitCode {
    match simulate::answer(asked, as_json) {
        Ok(text) => finish(simulate::deliver(asked, text)),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn config_of(serve: Serve) -> Result<Config, ConfigError> {
    let file = serve.config.as_deref().map(Options::from_file).transpose()?;
    let options = serve.options.or(file.unwrap_or_default());
    Config::check(options, ringmaster::driver::docker::is_here())
}

fn unusable(error: &ConfigError) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(2)
}

fn run_serve(config: Config) -> ExitCode {
    raise_descriptor_limit();
    let filter = tracing_subscriber::EnvFilter::try_from_env("RINGMASTER_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build();
    let served = match runtime {
        Ok(runtime) => runtime.block_on(serve::serve(config)),
        Err(error) => Err(error.into()),
    };
    finish(served.map(|()| String::new()))
}

/// Each proxied connection needs two descriptors; what we are allowed we take.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        eprintln!("the limit of open files stays as it is: {error}");
    }
}

fn run_client(command: Command, as_json: bool) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return finish(Err(error.into())),
    };
    finish(runtime.block_on(async {
        match &command {
            Command::Replicas(options) => client::replicas(options, as_json).await,
            Command::Add(scale) => client::add(scale, as_json).await,
            Command::Rm(scale) => client::rm(scale, as_json).await,
            Command::Ring(options) => client::ring(options, as_json).await,
            Command::Status(options) => client::status(options, as_json).await,
            Command::Logs(options) => client::logs(options, as_json).await,
            Command::Serve(_) | Command::Check(_) | Command::Simulate(_) => {
                unreachable!("handled by main")
            }
        }
    }))
}

fn finish(result: anyhow::Result<String>) -> ExitCode {
    match result {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(1)
        }
    }
}
