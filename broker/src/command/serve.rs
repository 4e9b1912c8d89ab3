//! `serve`: runs the broker until a signal ends it.

use std::io::{IsTerminal, Write};

use sealpost_service::endpoint::Endpoint;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::GlobalArguments;
use super::failure::{Code, Failure};
use crate::server::{self, Ends};
use crate::settings::{Level, LogFormat, Overrides, Settings};
use crate::transport::listeners::Listeners;

/// What serving takes besides.
#[derive(Debug, Default, Clone, PartialEq, Eq, clap::Args)]
pub(super) struct ServeArguments {
    /// Listen here; port 0 takes a free one. [default: 127.0.0.1:1883]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Let this archiver read every inbox: its name, and its key as `sealpost-archiver key` prints it. May be repeated.
    #[arg(long, value_name = "NAME=KEY")]
    archiver: Vec<String>,
    /// Let this operator read $SYS and replay archived mail: its name, and its identity key. May be repeated.
    #[arg(long, value_name = "NAME=KEY")]
    operator: Vec<String>,
    /// Serve any topic to anyone without checks, on loopback only: for conformance suites and load tools.
    #[arg(long)]
    open: bool,
}

impl ServeArguments {
    /// Adds the flags to what overrides the settings.
    pub(super) fn add_to(self, overrides: &mut Overrides) {
        let ServeArguments {
            listen,
            archiver,
            operator,
            open,
        } = self;
        overrides.listen = listen;
        overrides.archivers = archiver;
        overrides.operators = operator;
        overrides.open = open;
    }
}

/// Serves until SIGTERM or SIGINT.
pub(super) fn run(global: GlobalArguments, arguments: ServeArguments) -> Result<(), Failure> {
    let (file, mut overrides) = global.into_overrides();
    arguments.add_to(&mut overrides);
    let settings = Settings::load(file, overrides)?;
    start_logging(settings.log, settings.log_format);
    raise_file_limit(settings.limits.connections);
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| Failure::new(Code::Failed, format!("cannot start: {error}"), ""))?;
    runtime.block_on(serve(settings))
}

fn start_logging(level: Level, format: LogFormat) {
    // The router reports on itself at length; what matters of it ends the process and is reported then.
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| {
        let level = level.word();
        format!("sealpost_broker={level},sealpost_service={level},rumqttd=off")
    });
    let log = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
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

async fn serve(settings: Settings) -> Result<(), Failure> {
    let listeners = Listeners::bind(&settings).await?;
    let (address, tls_address) = (listeners.plain_address(), listeners.tls_address());
    if settings.open {
        eprintln!(
            "sealpost-broker: OPEN: no login, no checks, any topic for anyone who can reach {address}. For tests only."
        );
    }

    let endpoint = match settings.metrics {
        Some(address) => Some(Endpoint::bind(address).await.map_err(|error| {
            Failure::new(
                Code::Failed,
                format!("cannot listen for metrics on {address}: {error}"),
                "another program may listen there: [metrics] in the settings chooses another port",
            )
        })?),
        None => None,
    };
    let metrics_address = endpoint.as_ref().map(Endpoint::address);
    let ends = Ends::default();
    let (terminate, interrupt) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    );
    let (Ok(mut terminate), Ok(mut interrupt)) = (terminate, interrupt) else {
        return Err(Failure::new(Code::Failed, "cannot wait for signals", ""));
    };
    let announce = move || {
        // Standard output carries these lines alone, so that whoever started the broker on port 0 learns the port.
        let mut stdout = std::io::stdout();
        let mut lines = format!("listening on {address}\n");
        if let Some(address) = tls_address {
            lines += &format!("listening on {address} with TLS\n");
        }
        if let Some(address) = metrics_address {
            lines += &format!("metrics on http://{address}/metrics\n");
        }
        if stdout
            .write_all(lines.as_bytes())
            .and_then(|()| stdout.flush())
            .is_err()
        {
            tracing::debug!("nobody reads standard output");
        }
    };
    let serving = server::run(listeners, endpoint, settings, ends.clone(), announce);
    let serving = tokio::spawn(serving);
    tokio::pin!(serving);
    let ended = loop {
        tokio::select! {
            ended = &mut serving => break ended,
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        // Whoever asks twice does not want to wait.
        if ends.drain.is_cancelled() {
            ends.hurry.cancel();
        }
        ends.drain.cancel();
    };
    match ended {
        Ok(ended) => Ok(ended?),
        Err(_) => Err(Failure::new(
            Code::Failed,
            "the broker has failed; the reason is above",
            "",
        )),
    }
}
