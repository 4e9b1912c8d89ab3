//! What of the store is shown, and in which words.

use sealpost_core::{Content, FileOffer, KeyBundle, UserId};

use super::super::attachment::Attachment;
use super::super::hint::in_the_chat;
use super::super::state::{Person, Trust};
use super::super::transcript::{Item, PAGE};
use crate::clock;
use crate::event::readable;
use crate::store::{
    Contact, Edge, HistoryEntry, Mark, Notify, OutboxEntry, Place, Side, Store, StoreError,
};
use crate::terminal::{clean_line, clean_text};

pub(super) fn mark_of(place: Place, entry: &HistoryEntry) -> Mark {
    let (kind, number) = match place {
        Place::Imported(number) => (0, number),
        Place::Received(number) => (1, number),
        Place::Written(number) => (2, number),
    };
    Mark {
        at: i64::try_from(entry.at().millis()).unwrap_or(i64::MAX),
        kind,
        number,
    }
}

/// What a message says, clean.
pub(super) fn words(body: &[u8]) -> String {
    let content = std::str::from_utf8(body)
        .ok()
        .and_then(|json| Content::parse(json).ok());
    match content {
        Some(content) => clean_text(&readable(&content)),
        None => "[unreadable]".to_owned(),
    }
}

pub(super) fn items(store: &Store, with: &UserId, edge: Edge) -> Result<Vec<Item>, StoreError> {
    let page = store.page(with, edge, PAGE)?;
    page.into_iter()
        .map(|(mark, entry)| item(store, mark, &entry))
        .collect()
}

fn item(store: &Store, mark: Mark, entry: &HistoryEntry) -> Result<Item, StoreError> {
    let (id, state, problem) = match &entry.side {
        Side::Theirs { id, .. } => (*id, None, None),
        Side::Ours(ours) => (ours.id, Some(ours.state), problem(ours)),
    };
    let content = std::str::from_utf8(&entry.body)
        .ok()
        .and_then(|json| Content::parse(json).ok());
    let quote = match &content {
        Some(Content::Reply(reply)) => {
            let quote = store.quote(entry.partner(), &reply.to)?;
            Some(clean_line(
                quote.as_deref().unwrap_or("a message that is not here"),
            ))
        }
        _ => None,
    };
    let offer = content.as_ref().and_then(FileOffer::read);
    let file = match offer.filter(|_| !entry.imported) {
        Some(_) => store.file_of(entry.partner(), &id, state.is_some())?,
        None => None,
    };
    Ok(Item {
        mark,
        id: id.to_string(),
        state,
        problem,
        at: entry.at(),
        text: words(&entry.body),
        imported: entry.imported,
        quote,
        edits: entry.revised.as_ref().map_or(0, |revised| revised.edits),
        expires: entry.expires,
        file: file.as_ref().map(Attachment::of),
    })
}

/// What keeps a message of ours, for people.
#[must_use]
pub fn problem(entry: &OutboxEntry) -> Option<(String, String)> {
    let problem = entry.problem.as_ref()?;
    Some((clean_line(&problem.message), in_the_chat(&problem.hint)))
}

/// Contacts, and who is only written to.
pub(super) fn everybody(store: &Store) -> Result<Vec<Person>, StoreError> {
    let mut people: Vec<Person> = store.contacts()?.iter().map(person).collect();
    for partner in store.partners()? {
        let at = people.iter().position(|person| person.user == partner.user);
        let at = at.unwrap_or_else(|| {
            people.push(Person::new(partner.user.clone()));
            people.len() - 1
        });
        if let Some(person) = people.get_mut(at) {
            (person.unread, person.last) = (partner.unshown, partner.last);
        }
    }
    let now = clock::now();
    for how in store.conversations()? {
        let Some(person) = people.iter_mut().find(|person| person.user == how.partner) else {
            continue;
        };
        person.muted = how.is_muted(now) || how.notify == Some(Notify::None);
        person.notify = how.notify;
        if how.request {
            person.trust = Trust::Asks;
            person.asks = store.requested_beginning(&how.partner)?;
        } else if how.blocked {
            person.trust = Trust::Blocked;
        }
    }
    Ok(people)
}

fn person(contact: &Contact) -> Person {
    let offered = contact
        .offered
        .as_deref()
        .and_then(|bundle| KeyBundle::parse(bundle).ok());
    let trust = if contact.offered.is_some() {
        Trust::Changed
    } else if contact.is_suspended() {
        Trust::Suspended
    } else if contact.pin.verified {
        Trust::Verified
    } else {
        Trust::Known
    };
    Person {
        user: contact.user.clone(),
        trust,
        was_verified: contact.pin.verified,
        fingerprint: Some(contact.pin.identity.fingerprint()),
        offered: offered.map(|bundle| bundle.identity().fingerprint()),
        unread: 0,
        asks: None,
        muted: false,
        notify: None,
        last: None,
    }
}
