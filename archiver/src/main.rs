//! `sealpost-archiver`: see the library for what it does.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use sealpost_archive::layout::LogName;
use sealpost_archive::storage::Directory;
use sealpost_archiver::archive;
use sealpost_archiver::cli::{Cli, Command, DirArgs, HoldCommand, KeyArgs, RunArgs, StatusArgs};
use sealpost_archiver::command;
use sealpost_archiver::control::request::Request;
use sealpost_archiver::exit::ProgramError;
use sealpost_archiver::key::{self, KeyError};
use sealpost_archiver::operate;
use sealpost_archiver::settings::{LogFormat, Settings, SettingsError};
use sealpost_archiver::status::Status;
use sealpost_service::endpoint::Endpoint;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(flags) => run(&flags),
        Command::Key(flags) => print_key(&flags),
        Command::Status(flags) => print_status(&flags),
        Command::Verify(flags) => command::verify::run(&flags),
        Command::Replay(flags) => command::replay::run(&flags),
        Command::Erase(flags) => operate(&flags.dir.clone(), flags.into()),
        Command::Retire(flags) => operate(&flags.dir.clone(), flags.into()),
        Command::Hold(command) => hold(command),
        Command::Seal(dir) => operate(&dir, Request::Seal {}),
        Command::Prove(flags) => command::prove::prove(&flags),
        Command::CheckProof(flags) => command::prove::check(&flags),
        Command::Consistency(flags) => command::prove::consistency(&flags),
        Command::Gaps(flags) => command::gaps::run(&flags),
        Command::Query(flags) => command::query::run(&flags),
        Command::Export(flags) => command::export::run(&flags),
        Command::Stats(flags) => command::stats::run(&flags),
        Command::Merge(flags) => command::merge::run(&flags),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sealpost-archiver: {error}");
            if let Some(hint) = error.hint() {
                eprintln!("  {hint}");
            }
            error.exit_code()
        }
    }
}

fn run(flags: &RunArgs) -> Result<(), ProgramError> {
    let settings = Settings::gather(flags)?;
    let broker = settings.broker()?.clone();
    let filter = EnvFilter::try_new(&settings.log).map_err(|error| SettingsError::Invalid {
        setting: "log",
        reason: error.to_string(),
    })?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    match settings.log_format {
        LogFormat::Text => log.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    let setup = |what| move |error: io::Error| ProgramError::Setup(what, error.to_string());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(setup("start the runtime"))?;
    broker.check()?;
    if broker.is_exposed() {
        tracing::warn!(
            "this connection is not encrypted: who writes to whom shows, and it can be taken over; use mqtts:// or wss://"
        );
    }
    runtime.block_on(async {
        let stop = CancellationToken::new();
        stop_at_signal(stop.clone()).map_err(setup("listen for signals"))?;
        let endpoint = match settings.metrics {
            Some(address) => Some(
                Endpoint::bind(address)
                    .await
                    .map_err(setup("listen for metrics"))?,
            ),
            None => None,
        };
        if let Some(endpoint) = &endpoint {
            print_line(&format!("metrics on http://{}/metrics", endpoint.address()));
        }
        let mut announcement = Some(format!(
            "archiving inbox/+ into {}",
            settings.dir.join(LogName::EncryptedLogs.active()).display()
        ));
        let on_subscribed = Box::new(move || match announcement.take() {
            Some(line) => print_line(&line),
            None => tracing::info!("subscribed again"),
        });
        Ok(archive::run(settings, broker, stop, endpoint, on_subscribed).await?)
    })
}

/// SIGTERM and Ctrl-C end the work in order. A second one ends the process at once, as without a
/// handler: nothing is lost by that either.
fn stop_at_signal(stop: CancellationToken) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        for attempt in 1.. {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if attempt > 1 {
                tracing::warn!("told twice: ending without waiting for the disk or the broker");
                std::process::exit(sealpost_archiver::exit::FAILED.into());
            }
            tracing::info!("stopping: what has arrived is archived and acknowledged first");
            stop.cancel();
        }
    });
    Ok(())
}

fn print_key(flags: &KeyArgs) -> Result<(), ProgramError> {
    let settings = Settings::gather_for_dir(&flags.dir)?;
    Directory::open(&settings.dir)
        .map_err(|error| ProgramError::Setup("use the directory", error.to_string()))?;
    if !flags.checkpoint {
        print_line(&key::load_or_create(&settings.dir)?.key().to_string());
        return Ok(());
    }
    for log in LogName::ALL {
        let signer = match key::stored_signer(&settings.dir, log) {
            Err(KeyError::Missing(_)) => {
                let origin = key::origin(&settings.realm, &settings.name, log);
                key::load_or_create_signer(&settings.dir, log, &origin)?
            }
            other => other?,
        };
        print_line(signer.verifier_key());
    }
    Ok(())
}

fn operate(dir: &DirArgs, request: Request) -> Result<(), ProgramError> {
    let settings = Settings::gather_for_dir(dir)?;
    let answer = operate::ask(settings, request)?;
    print_line(&operate::text_of(&answer));
    Ok(())
}

fn hold(command: HoldCommand) -> Result<(), ProgramError> {
    let settings = Settings::gather_for_dir(command.dir())?;
    let json = matches!(command, HoldCommand::List { json: true, .. });
    let answer = operate::ask(settings, command.into())?;
    if json {
        print_json(&answer)
    } else {
        print_line(&operate::text_of(&answer));
        Ok(())
    }
}

fn print_json(value: &impl serde::Serialize) -> Result<(), ProgramError> {
    let json = serde_json::to_string(value)
        .map_err(|error| ProgramError::Setup("write JSON", error.to_string()))?;
    print_line(&json);
    Ok(())
}

fn print_status(flags: &StatusArgs) -> Result<(), ProgramError> {
    let settings = Settings::gather_for_dir(&flags.dir)?;
    let status = Status::of(&settings.dir)?.with_live(&settings.dir)?;
    if flags.json {
        print_json(&status)?;
    } else {
        print_line(&status.to_string());
    }
    Ok(())
}

/// Prints a line at once. Who closed the other end does not want it, and that is no reason to stop
/// archiving.
fn print_line(line: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}
