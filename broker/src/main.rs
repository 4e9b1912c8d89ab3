//! `sealpost-broker`: routes sealed messages, lets in who proves an identity, and can read nothing.
#![forbid(unsafe_code)]

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use sealpost_broker::server::{self, ServeError};
use sealpost_broker::settings::{Overrides, Settings, SettingsError};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Routes Sealpost's sealed messages over MQTT 3.1.1 and 5.0.
#[derive(Debug, Parser)]
#[command(version, about, long_about = None)]
struct Arguments {
    /// Read settings from this file (TOML; see config/broker.toml).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Listen here; port 0 takes a free one. [default: 127.0.0.1:1883]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Keep users and their keys in this directory. [default: sealpost-broker]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The deployment's name, as its clients have it. [default: local]
    #[arg(long)]
    realm: Option<String>,
    /// Let this archiver read every inbox: its name, and its key as `sealpost-archiver key` prints it. May be repeated.
    #[arg(long, value_name = "NAME=KEY")]
    archiver: Vec<String>,
    /// Serve any topic to anyone without checks, on loopback only: for conformance suites and load tools.
    #[arg(long)]
    open: bool,
}

/// Wrong flags or settings, as for the other programs. Anything else that fails is 1.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    // The router reports on itself at length; what matters of it ends the process and is reported then.
    let filter =
        std::env::var("RUST_LOG").unwrap_or_else(|_| "sealpost_broker=info,rumqttd=off".into());
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();

    let Arguments {
        config,
        listen,
        data,
        realm,
        archiver,
        open,
    } = Arguments::parse();
    let overrides = Overrides {
        realm,
        listen,
        data,
        open,
        archivers: archiver,
    };
    let settings = match Settings::load(config, overrides) {
        Ok(settings) => settings,
        Err(error) => {
            fail(&error.to_string(), settings_hint(&error));
            return ExitCode::from(USAGE);
        }
    };
    raise_file_limit(settings.limits.connections);
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start: {error}"), ""),
    };
    runtime.block_on(serve(settings))
}

/// Each connection is an open file, and systems allow few by default.
fn raise_file_limit(connections: usize) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    // The listener, the router, the registry, standard streams.
    const OTHERS: u64 = 64;
    let wanted = u64::try_from(connections)
        .unwrap_or(u64::MAX)
        .saturating_add(OTHERS);
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let raised = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    limit.current = Some(raised);
    if setrlimit(Resource::Nofile, limit).is_err() || raised < wanted {
        tracing::warn!(
            "this system allows {raised} open files, fewer than limits.connections = {connections} may need"
        );
    }
}

async fn serve(settings: Settings) -> ExitCode {
    let listener = match TcpListener::bind(settings.listen).await {
        Ok(listener) => listener,
        Err(error) => {
            let hint = "another program may listen there: choose another port with --listen, or 0 for a free one";
            return fail(
                &format!("cannot listen on {}: {error}", settings.listen),
                hint,
            );
        }
    };
    let address = listener.local_addr().map_or_else(
        |_| settings.listen.to_string(),
        |address| address.to_string(),
    );
    if settings.open {
        eprintln!(
            "sealpost-broker: OPEN: no login, no checks, any topic for anyone who can reach {address}. For tests only."
        );
    }

    let shutdown = CancellationToken::new();
    let (terminate, interrupt) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    );
    let (Ok(mut terminate), Ok(mut interrupt)) = (terminate, interrupt) else {
        return fail("cannot wait for signals", "");
    };
    let announce = move || {
        // Standard output carries this one line, so that whoever started the broker on port 0 learns the port.
        let mut stdout = std::io::stdout();
        if writeln!(stdout, "listening on {address}")
            .and_then(|()| stdout.flush())
            .is_err()
        {
            tracing::debug!("nobody reads standard output");
        }
    };
    let serving = tokio::spawn(server::run(listener, settings, shutdown.clone(), announce));
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => ended,
        _ = terminate.recv() => { shutdown.cancel(); serving.await }
        _ = interrupt.recv() => { shutdown.cancel(); serving.await }
    };
    match ended {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => fail(&error.to_string(), serve_hint(&error)),
        Err(_) => fail("the broker has failed; the reason is above", ""),
    }
}

fn fail(error: &str, hint: &str) -> ExitCode {
    eprintln!("sealpost-broker: {error}");
    if !hint.is_empty() {
        eprintln!("  {hint}");
    }
    ExitCode::FAILURE
}

fn settings_hint(error: &SettingsError) -> &'static str {
    match error {
        SettingsError::Unreadable(_) => "config/broker.toml lists every key with its default",
        SettingsError::BadValue { .. } => "config/broker.toml says what each key takes",
        SettingsError::PlainRemote(_) => {
            "listen on 127.0.0.1, or accept that with plain_remote = true in the settings"
        }
        SettingsError::OpenRemote(_) => "use --open on 127.0.0.1 only",
    }
}

fn serve_hint(error: &ServeError) -> &'static str {
    match error {
        ServeError::Registry(sealpost_broker::access::registry::OpenError::InUse(_)) => {
            "stop the other broker, or give this one another directory with --data"
        }
        ServeError::Registry(_) => "look at that path; another directory can be chosen with --data",
        ServeError::Router(_) | ServeError::Dispatcher => {
            "order and delivery could not be promised any longer; start the broker again, clients come back by themselves"
        }
    }
}
