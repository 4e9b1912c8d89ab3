//! What happens to messages after they were written: they are answered, edited, deleted, and disappear (SPEC 8.5 and 8.6).
//!
//! An answer, an edit, a deletion and a setting are contents like any other. These functions make them, of a message that is [`Named`]
//! [by its id](by_id) or as [the last one](last); whoever has one sends it as a text, with [`permit`](crate::outgoing::permit) and
//! [`enqueue`] or [`Session::post`](crate::session::Session::post), which do what it means here in the same write to the disk. What
//! *others* did is in the store when it was received: the history shows it.

use std::time::Duration;

use sealpost_core::{
    Content, Deletion, Edit, Expiry, Lifetime, MAX_EDITS, MessageId, MessageRef, Reply, Timestamp,
    UserId,
};

#[cfg(doc)]
use crate::outgoing::enqueue;
use crate::store::{HistoryRange, Place, Side, Store, StoreError, stored_content};

/// The kind of what is left of a message that was deleted: nothing but its place in the history.
pub const ERASED: &str = "deleted";

/// So many messages back, the last one to or from somebody is looked for: beyond are only edits and deletions without end.
const LOOK_BACK: u32 = 1_000;

/// Why a message is not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// There is none of that name, or no more.
    #[error("there is no such message here")]
    NotHere,
    /// Only its author changes a message.
    #[error("that message is {0}'s")]
    NotOurs(UserId),
    /// Several people sent one of that id.
    #[error("several people sent a message of that id")]
    Ambiguous,
    /// Only texts are edited.
    #[error("that is no text, which could be edited")]
    NoText,
    /// It was deleted.
    #[error("that message was deleted")]
    Deleted,
    /// It was edited as often as counts.
    #[error("that message was edited {MAX_EDITS} times, and no recipient takes more")]
    TooOften,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A message of the history, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// With whom it was exchanged.
    pub partner: UserId,
    /// Whether it is ours.
    pub ours: bool,
    /// Its id.
    pub id: MessageId,
}

/// Which message somebody means by an id. `with`: exchanged with this person.
///
/// # Errors
/// [`ChangeError::NotHere`], [`ChangeError::Ambiguous`].
pub fn by_id(store: &Store, id: &MessageId, with: Option<&UserId>) -> Result<Named, ChangeError> {
    let is_wanted = |partner: &UserId| with.is_none_or(|with| with == partner);
    if let Some(partner) = store.recipient_of(id)?.filter(is_wanted) {
        let (ours, id) = (true, *id);
        return Ok(Named { partner, ours, id });
    }
    let mut senders = store.senders_of(id)?;
    senders.retain(is_wanted);
    match senders.as_slice() {
        [] => Err(ChangeError::NotHere),
        [partner] => Ok(Named {
            partner: partner.clone(),
            ours: false,
            id: *id,
        }),
        _ => Err(ChangeError::Ambiguous),
    }
}

/// The last message to somebody (`ours`) or from them that was not deleted, among the last thousand of both; `None` when there is none.
///
/// # Errors
/// When the store cannot be read.
pub fn last(store: &Store, partner: &UserId, ours: bool) -> Result<Option<Named>, StoreError> {
    let range = HistoryRange {
        with: Some(partner.clone()),
        ..HistoryRange::default()
    };
    for place in store.history(&range, LOOK_BACK)? {
        let is_ours = match place {
            Place::Received(_) => false,
            Place::Written(_) => true,
            Place::Imported(_) => continue,
        };
        if is_ours != ours {
            continue;
        }
        let Some(entry) = store.history_entry(place)? else {
            continue;
        };
        let is_readable = stored_content(&entry.body)
            .is_some_and(|content| content.kind() != ERASED && Expiry::read(&content).is_none());
        if is_readable {
            let id = match &entry.side {
                Side::Theirs { id, .. } => *id,
                Side::Ours(entry) => entry.id,
            };
            let partner = partner.clone();
            return Ok(Some(Named { partner, ours, id }));
        }
    }
    Ok(None)
}

/// A text that answers a message, to be sent to the one with whom that was exchanged. `me`: who we are.
#[must_use]
pub fn answer(me: &UserId, to: &Named, text: String) -> Content {
    let from = match to.ours {
        true => me.clone(),
        false => to.partner.clone(),
    };
    let to = MessageRef { from, id: to.id };
    Content::Reply(Reply { text, to })
}

/// The edit of a text of ours, to be sent to the one who has that: [`enqueue`] does what it means here.
///
/// # Errors
/// [`ChangeError`].
pub fn edit(store: &Store, named: &Named, text: String) -> Result<Content, ChangeError> {
    let place = own(store, named)?;
    let entry = store.history_entry(place)?.ok_or(ChangeError::NotHere)?;
    match stored_content(&entry.body) {
        Some(Content::Text { .. } | Content::Reply(_)) => {}
        Some(Content::Other { kind, .. }) if kind == ERASED => return Err(ChangeError::Deleted),
        _ => return Err(ChangeError::NoText),
    }
    if store.own_edits(&named.partner, &named.id)? >= MAX_EDITS {
        return Err(ChangeError::TooOften);
    }
    Ok(Content::Edit(Edit { text, of: named.id }))
}

/// Deletes a message of ours that has not left this machine, and so need not be asked back: `None`. Otherwise the request to
/// delete it, to be sent to the one who has it: [`enqueue`] deletes it here. What that cannot do: SPEC 8.5.
///
/// # Errors
/// [`ChangeError`]; nothing was changed then.
pub fn delete(store: &mut Store, named: &Named) -> Result<Option<Content>, ChangeError> {
    let place = own(store, named)?;
    if store.drop_unsealed(&named.id)? {
        return Ok(None);
    }
    let entry = store.history_entry(place)?.ok_or(ChangeError::NotHere)?;
    if stored_content(&entry.body).is_some_and(|content| content.kind() == ERASED) {
        return Err(ChangeError::Deleted);
    }
    let message = named.id;
    Ok(Some(Deletion { message }.to_content()))
}

/// Removes a message, ours or theirs, from this history alone: nobody is told.
///
/// # Errors
/// [`ChangeError::NotHere`], [`ChangeError::Store`].
pub fn erase_here(store: &mut Store, named: &Named) -> Result<(), ChangeError> {
    match store.erase_here(&named.partner, named.ours, &named.id)? {
        true => Ok(()),
        false => Err(ChangeError::NotHere),
    }
}

/// The setting of how long messages that are exchanged with somebody from now on stay, on both sides, to be sent to them: [`enqueue`]
/// sets it here. `None`: for ever.
///
/// # Errors
/// When the store cannot be read.
pub fn set_lifetime(
    store: &Store,
    partner: &UserId,
    lifetime: Option<Lifetime>,
    now: Timestamp,
) -> Result<Content, StoreError> {
    let known = store.conversation(partner)?.expiry;
    Ok(Expiry::after(known.as_ref(), lifetime, now).to_content())
}

/// What who sets a lifetime is to know, in a sentence or two.
pub const LIFETIME_WARNING: &str = "That counts from when a message was read, for who wrote it from when it was sent. The other side's program keeps to it or \
     not, and an archive keeps the ciphertext.";

/// What who deletes a message is to know.
pub const DELETION_WARNING: &str =
    "That is a request: it may have been read or copied, and an archive keeps the ciphertext.";

/// Reads `off`, or a time such as `90s`, `5m`, `1h` or `7d`.
///
/// # Errors
/// In words, what can be written.
pub fn parse_lifetime(text: &str) -> Result<Option<Lifetime>, String> {
    const WORDS: &str = "give `off`, or 5s to 365d, such as 90s, 5m, 1h or 7d";
    if text == "off" {
        return Ok(None);
    }
    let seconds = parse_time(text).ok_or(WORDS)?.as_secs();
    Lifetime::from_seconds(seconds)
        .map(Some)
        .ok_or_else(|| WORDS.to_owned())
}

/// `90s`, `5m`, `8h` or `7d`; `None` when it is none of these.
#[must_use]
pub fn parse_time(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = number.parse().ok()?;
    Some(Duration::from_secs(number.checked_mul(unit)?))
}

fn own(store: &Store, named: &Named) -> Result<Place, ChangeError> {
    if !named.ours {
        return Err(ChangeError::NotOurs(named.partner.clone()));
    }
    match store.find(&named.partner, true, &named.id)? {
        Some(place @ Place::Written(_)) => Ok(place),
        // What came from a file was perhaps never sent by this home, nor by this identity.
        _ => Err(ChangeError::NotHere),
    }
}
