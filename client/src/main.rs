//! The command `sealpost`.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use clap::Parser;
use sealpost::cli::Cli;
use sealpost::command;
use sealpost::event::Printer;
use sealpost::exit::{Code, Failure};
use sealpost::signals;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let (json, verbose) = (cli.global.json, cli.global.verbose);
    log(verbose);
    let ended = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Failure::from)
        .and_then(|runtime| {
            let stop = CancellationToken::new();
            let ended = runtime.block_on(async {
                let started = signals::watch(stop.clone());
                Box::pin(command::run(cli, stop, || {
                    started.store(true, Ordering::SeqCst)
                }))
                .await
            });
            // A read of standard input may still block a thread: do not wait for it.
            runtime.shutdown_background();
            ended
        });
    let code = match ended {
        Ok(()) => Code::Done,
        Err(failure) => {
            if !failure.silent {
                say(&failure, json);
            }
            failure.code
        }
    };
    code.into()
}

/// The last word. Scripts get it as an event, and people in any case.
fn say(failure: &Failure, json: bool) {
    if json {
        let _ = Printer::standard(true).print(&failure.event());
    }
    let _ = Printer::standard(false).print(&failure.event());
}

/// Logs go to standard error, and only when asked for. No library of ours logs a secret or a text; rumqttc's own log
/// stays off unless RUST_LOG names it.
fn log(verbose: bool) {
    let filter = match std::env::var("RUST_LOG") {
        Ok(filter) if !filter.is_empty() => EnvFilter::new(filter),
        _ if verbose => EnvFilter::new("sealpost=debug"),
        _ => return,
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
