//! `sealpost contacts`: list, verify, trust. Needs no connection.

use std::io::IsTerminal;

use sealpost_core::{IdentityKey, Timestamp, UserId};

use super::{Start, ask, parse_user};
use crate::account::Account;
use crate::cli::{ContactsCommand, NotifyOf, ReceiptsOf};
use crate::comparison::Comparison;
use crate::contact::{self, Trusted, listed, offered_identity};
use crate::conversation::parse_time;
use crate::event::{ContactChangeKind, Event, counted};
use crate::exit::{Code, Failure};
use crate::settings::Receipts;
use crate::store::{Contact, Notify, Store};
use crate::{clock, qr};

pub(super) fn run(mut start: Start, command: Option<ContactsCommand>) -> Result<(), Failure> {
    let account = start.unlock()?;
    let mut store = start.open_store(&account)?;
    match command.unwrap_or(ContactsCommand::List) {
        ContactsCommand::List => list(&mut start, &store),
        ContactsCommand::Verify {
            contact,
            number,
            scan,
        } => verify(
            &mut start,
            &account,
            &mut store,
            &parse_user(&contact)?,
            Given { number, scan },
        ),
        ContactsCommand::Accept { contact } => {
            let user = parse_user(&contact)?;
            find(&store, &user)?;
            let asked = store.conversation(&user)?.request;
            store.accept_contact(&user)?;
            let let_in = if asked { " is let in, and" } else { "" };
            start.printer.note(&format!(
                "sealpost: {user}{let_in} learns from now on when their messages arrive"
            ))?;
            Ok(())
        }
        ContactsCommand::Requests => requests(&mut start, &store),
        ContactsCommand::Block { contact } => {
            let user = other(&start, &contact)?;
            store.block(&user)?;
            start.printer.note(&format!(
                "sealpost: {user} is blocked: what they send is dropped, and they are told nothing. To let them in again: sealpost \
                 contacts unblock {user}"
            ))?;
            Ok(())
        }
        ContactsCommand::Unblock { contact } => {
            let user = parse_user(&contact)?;
            let dropped = store.conversation(&user)?.dropped;
            if !store.unblock(&user)? {
                return Err(Failure::new(
                    Code::Failed,
                    format!("{user} is not blocked"),
                    "Who is: sealpost contacts",
                ));
            }
            start.printer.note(&format!(
                "sealpost: {user} is let in again; {} dropped meanwhile",
                match dropped {
                    1 => "1 message was".to_owned(),
                    more => format!("{more} messages were"),
                }
            ))?;
            Ok(())
        }
        ContactsCommand::Mute { contact, time } => {
            let user = other(&start, &contact)?;
            let until = match time {
                None => Timestamp::MAX,
                Some(time) => clock::now().saturating_add(parse_time(&time).ok_or_else(|| {
                    Failure::new(Code::Usage, "that is no such time", "Write 30m, 8h or 7d.")
                })?),
            };
            store.mute(&user, Some(until))?;
            say(&mut start, &store, &user)
        }
        ContactsCommand::Unmute { contact } => {
            let user = parse_user(&contact)?;
            store.mute(&user, None)?;
            say(&mut start, &store, &user)
        }
        ContactsCommand::Set {
            contact,
            receipts,
            notify,
        } => {
            let user = other(&start, &contact)?;
            if let Some(receipts) = receipts {
                store.set_receipts(
                    &user,
                    match receipts {
                        ReceiptsOf::Default => None,
                        ReceiptsOf::None => Some(Receipts::None),
                        ReceiptsOf::Delivered => Some(Receipts::Delivered),
                        ReceiptsOf::Read => Some(Receipts::Read),
                    },
                )?;
            }
            if let Some(notify) = notify {
                store.set_notify(
                    &user,
                    match notify {
                        NotifyOf::Default => None,
                        NotifyOf::Full => Some(Notify::Full),
                        NotifyOf::Name => Some(Notify::Name),
                        NotifyOf::None => Some(Notify::None),
                    },
                )?;
            }
            say(&mut start, &store, &user)
        }
        ContactsCommand::Trust {
            contact,
            fingerprint,
            yes,
        } => trust(
            &mut start,
            &mut store,
            &parse_user(&contact)?,
            fingerprint,
            yes,
        ),
    }
}

fn list(start: &mut Start, store: &Store) -> Result<(), Failure> {
    let contacts = store.contacts()?;
    if contacts.is_empty() {
        start
            .printer
            .note("sealpost: nobody yet; who you write to and who writes to you appears here")?;
    }
    for contact in &contacts {
        start.printer.print(&listed(contact))?;
    }
    for conversation in &store.conversations()? {
        if !conversation.is_ordinary(clock::now()) {
            start.printer.print(&Event::conversation(conversation))?;
        }
    }
    Ok(())
}

/// Somebody, who is not us.
fn other(start: &Start, name: &str) -> Result<UserId, Failure> {
    let user = parse_user(name)?;
    match user == start.settings.user {
        true => Err(super::send::is_you(&user)),
        false => Ok(user),
    }
}

/// How we deal with somebody now.
fn say(start: &mut Start, store: &Store, user: &UserId) -> Result<(), Failure> {
    let how = Event::conversation(&store.conversation(user)?);
    start.printer.print(&how)?;
    Ok(())
}

fn requests(start: &mut Start, store: &Store) -> Result<(), Failure> {
    let requests = contact::requests(store)?;
    if requests.is_empty() {
        start.printer.note("sealpost: nobody asks to be let in")?;
    }
    for request in &requests {
        start.printer.print(request)?;
    }
    let dropped = store.strangers_dropped()?;
    if dropped > 0 {
        start.printer.note(&format!(
            "sealpost: {} of strangers were dropped so far",
            counted(dropped)
        ))?;
    }
    Ok(())
}

fn find(store: &Store, user: &UserId) -> Result<Contact, Failure> {
    store.contact(user)?.ok_or_else(|| {
        Failure::new(
            Code::Failed,
            format!("{user} is not a contact yet"),
            format!("Exchange a message first: sealpost send {user} 'Hello'"),
        )
    })
}

/// What the other side sees, given on the command line.
struct Given {
    number: Option<String>,
    scan: Option<String>,
}

fn verify(
    start: &mut Start,
    account: &Account,
    store: &mut Store,
    user: &UserId,
    given: Given,
) -> Result<(), Failure> {
    let contact = find(store, user)?;
    if contact.offered.is_some() {
        return Err(Failure::new(
            Code::Untrusted,
            format!("the identity of {user} has changed"),
            format!("Decide about that first: sealpost contacts trust {user}"),
        ));
    }
    let identity = contact.pin.identity;
    let ours = account.identity_key();
    let comparison = Comparison::of(account.realm(), (account.user(), &ours), (user, &identity));
    let same = match given {
        Given {
            scan: Some(text), ..
        } => comparison.check_code(&text),
        Given {
            number: Some(number),
            ..
        } => comparison.check_number(&number),
        Given {
            number: None,
            scan: None,
        } => {
            let code = comparison.code();
            if std::io::stderr().is_terminal()
                && let Some(drawn) = qr::code(&code)
            {
                start.printer.note(&drawn)?;
            }
            start.printer.print(&Event::SafetyNumber {
                user: user.to_string(),
                number: comparison.number().to_string(),
                fingerprint: identity.fingerprint(),
                code,
            })?;
            let question = format!(
                "Let {user} read you theirs (sealpost contacts verify {}), over the phone or face to face.\n\
                 Is it the same, all sixty digits? Type yes or no: ",
                account.user()
            );
            match ask(
                start,
                &question,
                "Compare in a script with --number DIGITS or --scan TEXT.",
            )? {
                true => Ok(()),
                false => Err(comparison.differs()),
            }
        }
    };
    comparison.conclude(store, same)?;
    start.printer.print(&Event::contact(
        user,
        ContactChangeKind::Verified,
        &identity,
        true,
    ))?;
    Ok(())
}

fn trust(
    start: &mut Start,
    store: &mut Store,
    user: &UserId,
    fingerprint: Option<String>,
    yes: bool,
) -> Result<(), Failure> {
    let contact = find(store, user)?;
    let offered: Option<IdentityKey> = offered_identity(&contact);
    if let Some(offered) = &offered {
        start.printer.note(&format!(
            "Known:    {}{}\nOffered:  {}",
            contact.pin.identity.fingerprint(),
            if contact.pin.verified {
                " (verified)"
            } else {
                ""
            },
            offered.fingerprint()
        ))?;
    } else if !contact.is_suspended() {
        start.printer.note(&format!(
            "sealpost: nothing to decide: {user} is who they were"
        ))?;
        start.printer.print(&listed(&contact))?;
        return Ok(());
    }
    let subject = offered.unwrap_or(contact.pin.identity);
    match fingerprint {
        Some(fingerprint) if fingerprint != subject.fingerprint() => {
            return Err(Failure::new(
                Code::Untrusted,
                format!(
                    "the fingerprint of {user} is {}, not the one you gave",
                    subject.fingerprint()
                ),
                format!("Nothing was accepted. Ask {user} again for theirs (sealpost keys show)."),
            ));
        }
        Some(_) => {}
        None if yes => {}
        None => {
            let question = match &offered {
                Some(_) => format!(
                    "Did {user} give you the offered fingerprint in some other way? Type yes or no: "
                ),
                None => format!(
                    "Three messages of {user} did not decrypt. Open messages of {user} again? Type yes or no: "
                ),
            };
            if !ask(
                start,
                &question,
                "In a script, give --fingerprint SHA256:… or --yes.",
            )? {
                return Err(Failure::new(
                    Code::Untrusted,
                    "nothing was accepted",
                    format!("{user} stays blocked until you decide."),
                ));
            }
        }
    }
    match contact::trust(store, user, offered.as_ref(), clock::now())? {
        Some(Trusted::Accepted(identity) | Trusted::Resumed(identity)) => {
            start.printer.print(&Event::contact(
                user,
                ContactChangeKind::Trusted,
                &identity,
                false,
            ))?;
            Ok(())
        }
        Some(Trusted::Nothing(_)) => Ok(()),
        Some(Trusted::Changed) | None => Err(Failure::new(
            Code::Untrusted,
            format!("what is offered for {user} changed meanwhile, or expired"),
            "Look again.",
        )),
    }
}
