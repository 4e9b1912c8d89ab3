//! `drain`: ends the running broker as SIGTERM does.

use std::time::Duration;

use super::GlobalArguments;
use super::failure::Failure;
use super::span;
use super::target::Target;
use crate::control::answer::Item;
use crate::control::request::Request;

/// What draining takes.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub(super) struct DrainArguments {
    /// How long to wait until the broker has ended: a number and s, m, h or d.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = span::parse)]
    timeout: Duration,
    /// Return as soon as it has begun to end.
    #[arg(long, conflicts_with = "timeout")]
    no_wait: bool,
}

/// Asks the broker to drain, and returns when it has ended.
pub(super) fn run(global: GlobalArguments, arguments: DrainArguments) -> Result<(), Failure> {
    let DrainArguments { timeout, no_wait } = arguments;
    let mut target = Target::find(global)?;
    if no_wait {
        return target.ask(&Request::Drain { wait: false }, |_| {});
    }
    let mut told = None;
    target.see_off(timeout, |item| {
        let said = match item {
            Item::Draining { notice: 0 } => return,
            Item::Draining { notice } => {
                let notice = span::tell(Duration::from_secs(notice));
                format!(
                    "it says that it is not ready, and serves on for {notice} (shutdown.notice)"
                )
            }
            Item::Closing { clients: 0 } => "the clients are gone; it writes what it has".into(),
            Item::Closing { clients: 1 } => "it waits for 1 client to go".into(),
            Item::Closing { clients } => format!("it waits for {clients} clients to go"),
            Item::User(_) | Item::Writing | Item::Written { .. } => return,
        };
        if told.as_ref() != Some(&said) {
            eprintln!("{said}");
            told = Some(said);
        }
    })?;
    eprintln!("the broker has ended");
    Ok(())
}
