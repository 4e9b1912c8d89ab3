//! `sealpost outbox`: what was sent and has not arrived. Needs no connection.

use sealpost_core::MessageId;

use super::Start;
use crate::cli::OutboxCommand;
use crate::clock;
use crate::event::Event;
use crate::exit::{Code, Failure};

/// How many are listed at once.
const LISTED: u32 = 100_000;

pub(super) fn run(mut start: Start, command: Option<OutboxCommand>) -> Result<(), Failure> {
    let account = start.unlock()?;
    let mut store = start.open_store(&account)?;
    match command.unwrap_or(OutboxCommand::List) {
        OutboxCommand::List => {
            let entries = store.unfinished(LISTED)?;
            if entries.is_empty() {
                start
                    .printer
                    .note("sealpost: everything has arrived, as far as the recipients tell")?;
            }
            for entry in &entries {
                start.printer.print(&Event::outbox(entry))?;
            }
            Ok(())
        }
        OutboxCommand::Retry { id } if id == "all" => {
            for entry in store.unfinished(LISTED)? {
                store.retry_outgoing(&entry.id, clock::now())?;
            }
            start
                .printer
                .note("sealpost: they go with whatever connects next")?;
            Ok(())
        }
        OutboxCommand::Retry { id } => {
            let id = parse(&id)?;
            if !store.retry_outgoing(&id, clock::now())? {
                return Err(unknown(&id));
            }
            start
                .printer
                .note("sealpost: it goes with whatever connects next")?;
            Ok(())
        }
        OutboxCommand::Drop { id } => {
            let id = parse(&id)?;
            match store.drop_outgoing(&id)? {
                true => Ok(()),
                false => Err(unknown(&id)),
            }
        }
    }
}

fn parse(id: &str) -> Result<MessageId, Failure> {
    MessageId::parse(id).map_err(|error| {
        Failure::new(
            Code::Usage,
            error.to_string(),
            "Copy it whole from: sealpost outbox",
        )
    })
}

fn unknown(id: &MessageId) -> Failure {
    Failure::new(
        Code::Failed,
        format!("{id} is not waiting in the outbox"),
        "It has arrived, or was never there. See: sealpost outbox",
    )
}
