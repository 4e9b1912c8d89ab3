//! The program `sealpost-device`.

use std::process::ExitCode;
use std::sync::atomic::Ordering;

use clap::Parser;
use sealpost::event::Printer;
use sealpost::exit::{Code, Failure};
use sealpost::home::Home;
use sealpost::own_link::own_link;
use sealpost::reaching::become_receiver;
use sealpost::session::Manner;
use sealpost::settings::{
    DeviceSettings, check_device_environment, check_environment, process_environment,
};
use sealpost::signals;
use sealpost::store::Store;
use sealpost_device::cli::{Cli, Command};
use sealpost_device::machine::{Machine, manner, parts_and_ring};
use sealpost_device::{beginnings, input};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.json;
    if cli.verbose {
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_writer(std::io::stderr)
            .with_ansi(false)
            .init();
    }
    // One thread for all of it: a second would have memory of its own.
    let ended = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::from)
        .and_then(|runtime| {
            let stop = CancellationToken::new();
            let ended = runtime.block_on(async {
                let started = signals::watch(stop.clone());
                started.store(true, Ordering::SeqCst);
                Box::pin(run(cli, stop)).await
            });
            // A read of standard input may still block its thread: do not wait for it.
            runtime.shutdown_background();
            ended
        });
    match ended {
        Ok(()) => Code::Done.into(),
        Err(failure) => {
            if json {
                let _ = Printer::standard(true).print(&failure.event());
            }
            let _ = Printer::standard(false).print(&failure.event());
            failure.code.into()
        }
    }
}

async fn run(cli: Cli, stop: CancellationToken) -> Result<(), Failure> {
    check_environment()?;
    check_device_environment()?;
    let (settings, device) =
        DeviceSettings::load(&cli.global(), &cli.device(), &process_environment)?;
    let mut log = Printer::standard(cli.json);
    log.let_remarks_go();
    let home = Home::open(&settings.home)?;
    let (account, made) = beginnings::keys(&home, &settings)?;
    if made {
        log.note(
            "sealpost-device: new keys. They lie unencrypted in the home, for its owner alone: whoever can read them is this device",
        )?;
    }
    let link = own_link(&account, &settings.broker)?;
    if cli.command == Some(Command::Link) {
        log.print(&link)?;
        return Ok(());
    }
    let open = || Store::open(&home.store(), account.store_key());
    let (session_store, mut store) = (open()?, open()?);
    let to = beginnings::recipient(&mut store, &account, device.to.as_ref(), &mut log)?;
    let _only_one = become_receiver(&home).await?;
    if made {
        // For the one who reads.
        log.print(&link)?;
    }
    let (parts, ring, store, events) =
        parts_and_ring(session_store, store, account, &to, device.limits)?;
    let machine = Machine {
        ring,
        store,
        events,
        log,
        lines: input::read(device.input)?,
        gather: device.gather,
        timeout: cli.timeout.unwrap_or(settings.timeout),
        stop,
    };
    let manner = Manner {
        receipts: settings.receipts,
        ..manner()
    };
    machine.run(parts, &settings.broker, manner).await
}
