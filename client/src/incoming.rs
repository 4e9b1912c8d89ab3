//! Receiving: from the bytes on `inbox/<me>` to a stored message, or to a reason why not. No sockets here.

use sealpost_core::{
    BurstCache, Content, Envelope, EnvelopeError, FileChunk, FileEnd, FileOffer, FileRequest,
    MessageId, OpenError, Recipient, Timestamp, UserId, open,
};
use sha2::{Digest, Sha256};

use crate::account::Account;
use crate::contact;
use crate::event::Event;
use crate::keystore::KeystoreError;
use crate::store::{
    Acceptance, ChunkTaken, Failures, Hold, Incoming, OutboxEntry, SUSPENDED_AFTER, Store,
    StoreError, WaitingFor, Wanted, stored_content,
};

/// After so many envelopes of all senders that did not decrypt, and at every multiple of it, there is an alarm.
const MANY_FAILURES: u32 = 10;

/// A message that was opened and stored, to be shown and then marked shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who sent it.
    pub from: UserId,
    /// Its name.
    pub id: MessageId,
    /// The sender's clock.
    pub ts: Timestamp,
    /// What it says.
    pub content: Content,
}

/// What became of an envelope. Whatever it was, it may be acknowledged now: it is stored, kept waiting, or refused for
/// good.
#[derive(Debug)]
pub enum Received {
    /// Opened and stored.
    Message(Message),
    /// A receipt: these messages of ours got further.
    Receipted(Vec<OutboxEntry>),
    /// Stored, for when its sender, a stranger until now, is let in.
    Asks(UserId),
    /// Something about a file: a chunk of it came, or was asked for, or it ended.
    File(FileNews),
    /// Received before, or refused before: nothing to say.
    Nothing,
    /// It waits in the store.
    Waiting {
        /// Who says they sent it: their bundle is wanted.
        from: UserId,
        /// Its name.
        id: MessageId,
        /// For what.
        reason: WaitingFor,
        /// Whether it waits only since now.
        fresh: bool,
    },
    /// Not opened, not kept, and not reported before.
    Refused(Refused),
}

/// What came about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileNews {
    /// Which one.
    pub number: i64,
    /// What of it.
    pub what: FileEvent,
}

/// See [`FileNews`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileEvent {
    /// A chunk is here.
    Chunk,
    /// There is no room for one.
    Held,
    /// The last chunk is here.
    Whole,
    /// More chunks of ours are asked for.
    More,
    /// Chunks of ours are asked for, whatever was asked for before.
    Again,
    /// The other side says how it ended.
    Ended,
}

/// Which envelope was refused, and why.
#[derive(Debug)]
pub struct Refused {
    /// Who says they sent it, when that much could be read.
    pub from: Option<UserId>,
    /// Its name, when that much could be read.
    pub id: Option<MessageId>,
    /// Why.
    pub cause: Cause,
    /// How many did not decrypt, when this is one of them.
    pub failures: Option<Failures>,
}

/// Why an envelope is refused for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// It is no envelope.
    Malformed(EnvelopeError),
    /// The core does not open it.
    Unopenable(OpenError),
    /// The third one that did not decrypt: from now on nothing of this sender is opened.
    Suspended,
    /// Too many wait already.
    TooManyWaiting,
    /// A copy of a received message comes again and again, more often than its sender repeats it.
    Replay,
}

/// Why receiving stopped: nothing may be acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keystore, when it was looked at again.
    #[error(transparent)]
    Keystore(#[from] KeystoreError),
}

/// Receives one envelope. `duplicate` is the broker's word that it may have delivered it before.
pub fn receive(
    store: &mut Store,
    account: &mut Account,
    cache: &mut BurstCache,
    payload: &[u8],
    duplicate: bool,
    now: Timestamp,
) -> Result<Received, ReceiveError> {
    let digest: [u8; 32] = Sha256::digest(payload).into();
    let envelope = match Envelope::parse(payload) {
        Ok(envelope) => envelope,
        Err(error) => {
            let refused = Refused {
                from: None,
                id: None,
                cause: Cause::Malformed(error),
                failures: None,
            };
            return refuse(store, &digest, refused, now);
        }
    };
    let refused = |cause| Refused {
        from: Some(envelope.from().clone()),
        id: Some(*envelope.id()),
        cause,
        failures: None,
    };
    // What does not concern a secret or a contact comes first, so that no stranger fills the waiting room with it.
    let shape = if envelope.to() != account.user() {
        Err(OpenError::NotForMe)
    } else if envelope.realm() != account.realm() {
        Err(OpenError::WrongRealm)
    } else if envelope.verify_signature().is_err() {
        Err(OpenError::BadSignature)
    } else {
        Ok(())
    };
    if let Err(error) = shape {
        return refuse(store, &digest, refused(Cause::Unopenable(error)), now);
    }
    // Nothing of theirs costs more than this.
    if store.is_blocked(envelope.from())? {
        store.note_dropped(envelope.from())?;
        return Ok(Received::Nothing);
    }
    let seen = store.seen(envelope.from(), envelope.id())?;
    let Some(contact) = store.contact(envelope.from())? else {
        return hold(store, &digest, &envelope, WaitingFor::Bundle, now);
    };
    let signer = *envelope.signer();
    if signer != contact.pin.identity && !contact::is_predecessor(&contact, &signer, now) {
        return hold(store, &digest, &envelope, WaitingFor::Decision, now);
    }
    if contact.is_suspended() && !seen.contains {
        return hold(store, &digest, &envelope, WaitingFor::Suspension, now);
    }
    if store.was_refused(&digest)? {
        return Ok(Received::Nothing);
    }
    let pinned = signer;
    let opened = match open_with(account, &envelope, &pinned, &seen, cache) {
        // Another process may have rotated the key since this one read the keystore.
        Err(OpenError::UnknownKey) => {
            account.reload()?;
            open_with(account, &envelope, &pinned, &seen, cache)
        }
        other => other,
    };
    let content = match opened {
        Ok(content) => content,
        Err(OpenError::AlreadySeen) => {
            // Its sender has perhaps not got our receipt. A broker that was not sure of our acknowledgement says so.
            store.receipt_again(envelope.from(), envelope.id())?;
            if !duplicate && store.note_copy(envelope.from(), envelope.id())? {
                return Ok(Received::Refused(refused(Cause::Replay)));
            }
            return Ok(Received::Nothing);
        }
        Err(OpenError::CannotDecrypt) => {
            let Some(failures) = store.note_failure(envelope.from(), &digest, now)? else {
                return Ok(Received::Nothing);
            };
            let cause = if failures.of_sender == SUSPENDED_AFTER {
                Cause::Suspended
            } else {
                Cause::Unopenable(OpenError::CannotDecrypt)
            };
            return Ok(Received::Refused(Refused {
                failures: Some(failures),
                ..refused(cause)
            }));
        }
        Err(error) => return refuse(store, &digest, refused(Cause::Unopenable(error)), now),
    };
    if let Content::Receipt(receipt) = &content {
        let name = (envelope.id(), envelope.ts());
        let messages = receipt.messages();
        let further = store.receipted(envelope.from(), name, receipt.state(), messages, now)?;
        return Ok(Received::Receipted(further));
    }
    if let Some(received) = about_a_file(store, &envelope, &content, now)? {
        return Ok(received);
    }
    let body = match content.to_json() {
        Ok(json) => zeroize::Zeroizing::new(json),
        Err(reason) => {
            let cause = Cause::Unopenable(OpenError::BadContent { reason });
            return refuse(store, &digest, refused(cause), now);
        }
    };
    let message = Incoming {
        from: envelope.from(),
        id: envelope.id(),
        prev: envelope.prev(),
        ts: envelope.ts(),
        body: body.as_bytes(),
        digest: envelope.digest(),
        signer: Some(signer),
    };
    match store.accept(&message, now)? {
        Acceptance::Stored => {
            if let Some(offer) = FileOffer::read(&content) {
                store.file_offered(envelope.from(), envelope.id(), &offer, now)?;
            }
            Ok(Received::Message(Message {
                from: envelope.from().clone(),
                id: *envelope.id(),
                ts: envelope.ts(),
                content,
            }))
        }
        Acceptance::Seen | Acceptance::Quiet => Ok(Received::Nothing),
        Acceptance::Asks => {
            // It is listed, and fetched, once they are let in.
            if let Some(offer) = FileOffer::read(&content) {
                store.file_offered(envelope.from(), envelope.id(), &offer, now)?;
            }
            Ok(Received::Asks(envelope.from().clone()))
        }
        Acceptance::AsksTooMuch => {
            store.note_stranger_dropped()?;
            Ok(Received::Nothing)
        }
    }
}

/// What programs say to each other about files; nothing when it is none of that.
fn about_a_file(
    store: &mut Store,
    envelope: &Envelope,
    content: &Content,
    now: Timestamp,
) -> Result<Option<Received>, StoreError> {
    let (from, name) = (envelope.from(), (envelope.id(), envelope.ts()));
    let news = if let Some(chunk) = FileChunk::read(content) {
        match store.take_chunk(from, &chunk, now)? {
            ChunkTaken::Dropped => None,
            ChunkTaken::Held(number) => Some((number, FileEvent::Held)),
            ChunkTaken::Stored(number) => Some((number, FileEvent::Chunk)),
            ChunkTaken::Whole(number) => Some((number, FileEvent::Whole)),
        }
    } else if let Some(request) = FileRequest::read(content) {
        let asked = store.chunks_requested(from, name, &request, now)?;
        asked.map(|(number, again)| match again {
            true => (number, FileEvent::Again),
            false => (number, FileEvent::More),
        })
    } else if let Some(end) = FileEnd::read(content) {
        let ended = store.file_ended(from, name, &end, now)?;
        ended.map(|number| (number, FileEvent::Ended))
    } else {
        return Ok(None);
    };
    Ok(Some(news.map_or(Received::Nothing, |(number, what)| {
        Received::File(FileNews { number, what })
    })))
}

/// Receives several, in order, each with the broker's word whether it is a duplicate: with one write to the disk for all,
/// before which none may be acknowledged.
pub fn receive_all<'a>(
    store: &mut Store,
    account: &mut Account,
    cache: &mut BurstCache,
    envelopes: impl Iterator<Item = (&'a [u8], bool)>,
    now: Timestamp,
) -> Result<Vec<Received>, ReceiveError> {
    store.group(|store| {
        let received = envelopes
            .map(|(payload, duplicate)| receive(store, account, cache, payload, duplicate, now))
            .collect();
        // Chunks first, then that they are there.
        store.sync_parts()?;
        received
    })
}

/// Tries everything of one sender that waits, after something about them changed, with one write to the disk.
pub fn retry(
    store: &mut Store,
    account: &mut Account,
    cache: &mut BurstCache,
    from: &UserId,
    now: Timestamp,
) -> Result<Vec<Received>, ReceiveError> {
    // Nobody opens anything of somebody unknown, and reading all that strangers can leave here takes seconds.
    if store.contact(from)?.is_none() {
        return Ok(Vec::new());
    }
    let held = store.held(from)?;
    store.group(|store| {
        let mut outcomes = Vec::new();
        for envelope in held {
            let outcome = receive(store, account, cache, &envelope, true, now)?;
            if !matches!(outcome, Received::Waiting { .. }) {
                store.release(&Sha256::digest(&envelope).into())?;
                outcomes.push(outcome);
            }
        }
        store.sync_parts()?;
        Ok(outcomes)
    })
}

/// Messages that were stored by an earlier run, which did not get to show them. At most `limit`; ask again.
pub fn unshown(store: &Store, limit: u32) -> Result<Vec<Message>, StoreError> {
    let messages = unshown_after(store, 0, limit)?;
    Ok(messages.into_iter().map(|(_, message)| message).collect())
}

/// The same behind the one with this number, each with its own.
pub fn unshown_after(
    store: &Store,
    after: i64,
    limit: u32,
) -> Result<Vec<(i64, Message)>, StoreError> {
    let wanted = Wanted {
        since: None,
        unshown: true,
    };
    let stored = stored(store, wanted, after, limit)?;
    let numbered = |stored: Stored| (stored.number, stored.message);
    Ok(stored.into_iter().map(numbered).collect())
}

/// A message as it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its place in the order of arrival, from 1.
    pub number: i64,
    /// What it is.
    pub message: Message,
    /// Whether it was shown.
    pub shown: bool,
}

/// Messages that were stored, of those that are wanted, behind the one with this number.
pub fn stored(
    store: &Store,
    wanted: Wanted,
    after: i64,
    limit: u32,
) -> Result<Vec<Stored>, StoreError> {
    let stored = store.received(wanted, after, limit)?;
    stored
        .into_iter()
        .map(|stored| {
            let content = stored_content(&stored.body)
                .ok_or(StoreError::Damaged("a stored message is malformed"))?;
            Ok(Stored {
                number: stored.number,
                message: Message {
                    from: stored.from,
                    id: stored.id,
                    ts: stored.ts,
                    content,
                },
                shown: stored.shown,
            })
        })
        .collect()
}

/// The event for what is missing before a message, when something is. Look only when it is shown, for what is missing
/// may have come until then.
pub fn gap_event(store: &Store, message: &Message) -> Result<Option<Event>, StoreError> {
    let prev = store.gap_before(&message.from, &message.id)?;
    Ok(prev.map(|prev| Event::Gap {
        from: message.from.to_string(),
        id: message.id.to_string(),
        prev: prev.to_string(),
    }))
}

/// The event that shows a message, with what it answers, where that is here.
pub fn event(store: &Store, message: &Message) -> Result<Event, StoreError> {
    let quote = match &message.content {
        Content::Reply(reply) => store.quote(&message.from, &reply.to)?,
        _ => None,
    };
    let Message {
        from,
        id,
        ts,
        content,
    } = message;
    Ok(Event::message_in(from, id, *ts, content, |_| quote))
}

fn open_with(
    account: &Account,
    envelope: &Envelope,
    pinned: &sealpost_core::IdentityKey,
    seen: &crate::store::SeenState,
    cache: &mut BurstCache,
) -> Result<Content, OpenError> {
    let mut opened = Err(OpenError::UnknownKey);
    // What was sealed to an identity that we have replaced opens with its keys, as long as they are kept.
    for (identity, keys) in account.addressees() {
        let recipient = Recipient {
            realm: account.realm(),
            user: account.user(),
            identity: &identity,
            keys: &keys,
        };
        opened = open(envelope, &recipient, pinned, seen, cache);
        if opened != Err(OpenError::UnknownKey) {
            break;
        }
    }
    opened
}

fn hold(
    store: &mut Store,
    digest: &[u8; 32],
    envelope: &Envelope,
    reason: WaitingFor,
    now: Timestamp,
) -> Result<Received, ReceiveError> {
    let held = store.hold(envelope.from(), digest, envelope.as_bytes(), reason, now)?;
    let waiting = |fresh| Received::Waiting {
        from: envelope.from().clone(),
        id: *envelope.id(),
        reason,
        fresh,
    };
    match held {
        Hold::Held => Ok(waiting(true)),
        Hold::AlreadyHeld => Ok(waiting(false)),
        // Not noted: the same bytes may find room when they are sent again.
        Hold::Full => Ok(Received::Refused(Refused {
            from: Some(envelope.from().clone()),
            id: Some(*envelope.id()),
            cause: Cause::TooManyWaiting,
            failures: None,
        })),
    }
}

fn refuse(
    store: &mut Store,
    digest: &[u8; 32],
    refused: Refused,
    now: Timestamp,
) -> Result<Received, ReceiveError> {
    Ok(if store.note_refused(digest, now)? {
        Received::Refused(refused)
    } else {
        Received::Nothing
    })
}

/// The event for a message that waits.
#[must_use]
pub fn waiting_event(from: &UserId, id: &MessageId, reason: WaitingFor) -> Event {
    let (reason, hint) = match reason {
        WaitingFor::Bundle => (
            "bundle",
            format!("It is opened as soon as {from} publishes keys; nothing needs to be done."),
        ),
        WaitingFor::Decision => (
            "decision",
            format!(
                "If {from} has new keys, accept them: sealpost contacts trust {from}. If that finds nothing to \
                 decide, they are not published: {from} must connect once."
            ),
        ),
        WaitingFor::Suspension => (
            "suspension",
            format!("If you think it was an accident: sealpost contacts trust {from}"),
        ),
    };
    Event::Waiting {
        from: from.to_string(),
        id: id.to_string(),
        reason,
        hint,
    }
}

/// A warning when messages of several senders do not decrypt: where names are free, one attacker can have many.
#[must_use]
pub fn many_failures_event(account: &Account, refused: &Refused) -> Option<Event> {
    let failures = refused.failures?;
    if failures.of_all < MANY_FAILURES || failures.of_all % MANY_FAILURES != 0 {
        return None;
    }
    Some(Event::Alarm {
        cause: "many_undecryptable",
        user: account.user().to_string(),
        pinned: None,
        offered: None,
        message: format!(
            "{} messages of several senders did not decrypt",
            failures.of_all
        ),
        hint: "This is how an attack on your private key looks that uses many names. Replace the key: \
               sealpost keys rotate"
            .to_owned(),
    })
}

/// The event for a refused one.
#[must_use]
pub fn refused_event(refused: &Refused) -> Event {
    let sender = refused
        .from
        .as_ref()
        .map_or_else(|| "the sender".to_owned(), ToString::to_string);
    let again = format!("Ask {sender} to send it again.");
    let (cause, message, hint) = match &refused.cause {
        Cause::Malformed(error) => (
            "malformed",
            error.to_string(),
            "Somebody sends something else than Sealpost messages to your inbox; the broker should have stopped it."
                .to_owned(),
        ),
        Cause::Replay => (
            "replay",
            "copies of a message that was received keep coming".to_owned(),
            format!(
                "Nothing is lost. Perhaps {sender} gets no receipts of yours (sealpost contacts accept {sender}); otherwise somebody \
                 replays old messages: tell the broker's operator."
            ),
        ),
        Cause::TooManyWaiting => (
            "too_many_waiting",
            format!("too many messages of {sender} wait already"),
            format!("Decide about {sender} first (sealpost contacts), then ask them to send it again."),
        ),
        Cause::Suspended => (
            "suspended",
            format!("the third one of {sender} that does not decrypt; nothing of {sender} is opened any more"),
            format!("This is how an attack on your private key looks. Talk to {sender}; to go on: sealpost contacts trust {sender}"),
        ),
        Cause::Unopenable(error) => {
            let (cause, hint) = match error {
                OpenError::NotForMe => ("not_for_me", "The broker delivered somebody else's message.".to_owned()),
                OpenError::WrongRealm => (
                    "wrong_realm",
                    format!("{sender} uses another --realm than you."),
                ),
                OpenError::SignerIsNotPinned { .. } => (
                    "wrong_signer",
                    format!("If {sender} has new keys: sealpost contacts trust {sender}"),
                ),
                OpenError::BadSignature => (
                    "bad_signature",
                    format!("It was changed on its way or does not come from {sender}."),
                ),
                OpenError::AlreadySeen => ("replay", String::new()),
                OpenError::BelowFloor => (
                    "too_old",
                    format!("It is older than what is remembered of {sender}. {again}"),
                ),
                OpenError::UnknownKey => (
                    "unknown_key",
                    format!("It was sealed to a key that you no longer have, or never had. {again}"),
                ),
                OpenError::CannotDecrypt => ("cannot_decrypt", again),
                OpenError::BadContent { .. } => (
                    "bad_content",
                    format!("{sender} uses a program that writes messages in another way."),
                ),
                _ => ("cannot_open", again),
            };
            (cause, error.to_string(), hint)
        }
    };
    Event::Refused {
        from: refused.from.as_ref().map(ToString::to_string),
        id: refused.id.as_ref().map(ToString::to_string),
        cause,
        message,
        hint,
    }
}

#[cfg(test)]
mod tests;
