//! `sealpost invite` and `sealpost add`: contact links, with which trust starts verified. Neither needs a connection.

use std::io::IsTerminal;

use super::Start;
use crate::event::Event;
use crate::exit::Failure;
use crate::own_link::own_link;
use crate::{qr, their_link};

/// Prints our own link.
pub(super) fn invite(mut start: Start) -> Result<(), Failure> {
    let account = start.unlock()?;
    let event = own_link(&account, &start.settings.broker)?;
    if std::io::stderr().is_terminal()
        && let Event::ContactLink { link, .. } = &event
        && let Some(code) = qr::code(link)
    {
        start.printer.note(&code)?;
    }
    start.printer.print(&event)?;
    start.printer.note(
        "sealpost: who gets this from you yourself and adds it (sealpost add 'LINK', in quotes) need not trust the broker about you. It is no \
         secret.",
    )?;
    Ok(())
}

/// Takes somebody's link.
pub(super) fn add(mut start: Start, link: &str) -> Result<(), Failure> {
    let link = their_link::parse(link)?;
    let account = start.unlock()?;
    let mut store = start.open_store(&account)?;
    let me = (account.realm(), account.user(), &account.identity_key());
    let taken = their_link::take(&mut store, me, &start.settings.broker, &link)?;
    start.printer.print(&taken.event)?;
    if let Some(contradiction) = taken.contradicts {
        return Err(contradiction);
    }
    if let Some(elsewhere) = taken.elsewhere {
        start.printer.note(&format!("sealpost: {elsewhere}"))?;
    }
    Ok(())
}
