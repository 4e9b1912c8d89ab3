//! `sealpost invite` and `sealpost add`: contact links, with which trust starts verified. Neither needs a connection.

use std::io::IsTerminal;

use sealpost_core::{ContactLink, UriError};

use super::Start;
use crate::contact::{self, Added};
use crate::event::{ContactChangeKind, Event};
use crate::exit::{Code, Failure};
use crate::own_link::own_link;
use crate::{clock, qr};

/// What an operator's invitation begins with, which people may take for a contact link.
const INVITATION: &str = "sealpost-invitation-";

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
        "sealpost: who gets this from you yourself and adds it (sealpost add LINK) need not trust the broker about you. It is no \
         secret.",
    )?;
    Ok(())
}

/// Takes somebody's link.
pub(super) fn add(mut start: Start, link: &str) -> Result<(), Failure> {
    let link = ContactLink::parse(link.trim()).map_err(|error| not_a_link(link, error))?;
    let account = start.unlock()?;
    if link.realm != *account.realm() {
        return Err(Failure::new(
            Code::Usage,
            format!(
                "the link is for the realm {}, and yours is {}",
                link.realm,
                account.realm()
            ),
            "Give --realm, if you are there too: everybody who talks to each other needs the same one.",
        ));
    }
    if link.user == *account.user() {
        return Err(if link.identity == account.identity_key() {
            Failure::new(Code::Usage, "that is your own link", "Give it to others.")
        } else {
            Failure::new(
                Code::Untrusted,
                format!(
                    "the link is for your name, with an identity that is not yours: {}",
                    link.identity.fingerprint()
                ),
                "Where did you get it? Somebody may stand in for you: tell your contacts your fingerprint (sealpost keys show).",
            )
        });
    }
    let mut store = start.open_store(&account)?;
    let (user, identity) = (&link.user, &link.identity);
    match contact::add(&mut store, user, identity, clock::now())? {
        Added::Pinned => {
            let added = Event::contact(user, ContactChangeKind::Added, identity, true);
            start.printer.print(&added)?;
        }
        Added::Verified => {
            let verified = Event::contact(user, ContactChangeKind::Verified, identity, true);
            start.printer.print(&verified)?;
        }
        Added::Contradicts { pinned } => {
            start
                .printer
                .print(&contact::contradiction_event(user, &pinned, identity))?;
            return Err(Failure::new(
                Code::Untrusted,
                format!("the link and what is known of {user} contradict each other"),
                "Nothing was changed.",
            ));
        }
    }
    let broker = &start.settings.broker;
    if !broker
        .brokers()
        .any(|ours| ours.to_string() == link.broker())
    {
        start.printer.note(&format!(
            "sealpost: {user} uses the broker {}, and you {broker}: are they the same, or do they share their users?",
            link.broker()
        ))?;
    }
    Ok(())
}

fn not_a_link(text: &str, error: UriError) -> Failure {
    if text.trim().starts_with(INVITATION) {
        return Failure::new(
            Code::Usage,
            "that is an operator's invitation to claim a name, not a person's contact link",
            "It is for your own first connection: give it with --invitation or SEALPOST_INVITATION, to nobody else.",
        );
    }
    Failure::new(
        Code::Usage,
        format!("that is not a contact link: {error}"),
        "Copy it whole, as `sealpost invite` printed it.",
    )
}
