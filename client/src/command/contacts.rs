//! `sealpost contacts`: list, verify, trust. Needs no connection.

use std::io::{BufRead, IsTerminal};

use sealpost_core::{IdentityKey, SafetyNumber, UserId};

use super::{Start, parse_user};
use crate::account::Account;
use crate::cli::ContactsCommand;
use crate::clock;
use crate::contact::{self, Trusted, offered_identity};
use crate::event::{ContactChangeKind, Event};
use crate::exit::{Code, Failure};
use crate::store::{Contact, Store};

pub(super) fn run(mut start: Start, command: Option<ContactsCommand>) -> Result<(), Failure> {
    let account = start.unlock()?;
    let mut store = start.open_store(&account)?;
    match command.unwrap_or(ContactsCommand::List) {
        ContactsCommand::List => list(&mut start, &store),
        ContactsCommand::Verify { contact, number } => verify(
            &mut start,
            &account,
            &mut store,
            &parse_user(&contact)?,
            number,
        ),
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

/// A contact as it is listed, in `chat` too.
pub(super) fn listed(contact: &Contact) -> Event {
    let mut event = Event::contact(
        &contact.user,
        ContactChangeKind::Known,
        &contact.pin.identity,
        contact.pin.verified,
    );
    if let Event::Contact {
        offered, suspended, ..
    } = &mut event
    {
        *offered = offered_identity(contact).map(|key| key.fingerprint());
        *suspended = contact.is_suspended();
    }
    event
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

fn verify(
    start: &mut Start,
    account: &Account,
    store: &mut Store,
    user: &UserId,
    number: Option<String>,
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
    let expected = SafetyNumber::of(account.realm(), (account.user(), &ours), (user, &identity));
    match number {
        Some(number) => {
            let given = SafetyNumber::parse(&number).map_err(|error| {
                Failure::new(
                    Code::Usage,
                    format!("that is not a safety number: {error}"),
                    "Give all sixty digits; spaces between them do not matter.",
                )
            })?;
            if given != expected {
                return Err(differs(user));
            }
        }
        None => {
            start.printer.print(&Event::SafetyNumber {
                user: user.to_string(),
                number: expected.to_string(),
                fingerprint: identity.fingerprint(),
            })?;
            let question = format!(
                "Let {user} read you theirs (sealpost contacts verify {}), over the phone or face to face.\n\
                 Is it the same, all sixty digits? Type yes or no: ",
                account.user()
            );
            if !ask(
                start,
                &question,
                "Compare in a script with --number DIGITS.",
            )? {
                return Err(differs(user));
            }
        }
    }
    if !store.mark_verified(user, &identity)? {
        return Err(Failure::new(
            Code::Untrusted,
            format!("the identity of {user} changed meanwhile"),
            "Compare again.",
        ));
    }
    start.printer.print(&Event::contact(
        user,
        ContactChangeKind::Verified,
        &identity,
        true,
    ))?;
    Ok(())
}

fn differs(user: &UserId) -> Failure {
    Failure::new(
        Code::Untrusted,
        format!("the safety numbers differ: {user} is not verified"),
        format!(
            "One of you sees other keys than the other has. Do not send {user} anything that matters until you know why."
        ),
    )
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

/// How often a person is asked again who has said neither yes nor no.
const ASKED: u32 = 3;

/// What an answer means; anything but yes and no is no answer, for each of them has consequences.
fn answered(text: &str) -> Option<bool> {
    match text.trim().to_lowercase().as_str() {
        "y" | "yes" => Some(true),
        "n" | "no" => Some(false),
        _ => None,
    }
}

/// Asks a person.
fn ask(start: &mut Start, question: &str, without: &str) -> Result<bool, Failure> {
    let stdin = std::io::stdin();
    if start.printer.is_json() || !stdin.is_terminal() {
        return Err(Failure::new(Code::Usage, "there is nobody to ask", without));
    }
    start.printer.ask(question)?;
    for _ in 0..ASKED {
        let mut answer = String::new();
        if stdin.lock().read_line(&mut answer)? == 0 {
            break;
        }
        match answered(&answer) {
            Some(answer) => return Ok(answer),
            None => start.printer.ask("Please type yes or no: ")?,
        }
    }
    Err(Failure::new(
        Code::Failed,
        "that was neither yes nor no",
        "Nothing was changed. Ask again when you know.",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_yes_or_no_is_an_answer() {
        for yes in ["yes\n", "y", " YES "] {
            assert_eq!(answered(yes), Some(true));
        }
        for no in ["no\n", "N"] {
            assert_eq!(answered(no), Some(false));
        }
        for neither in ["", "\n", "yep", "ja", "1"] {
            assert_eq!(answered(neither), None);
        }
    }
}
