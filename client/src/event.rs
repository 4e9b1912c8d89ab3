//! What a command says: one JSON object a line for scripts, or words for people.
//!
//! The JSON form is a stable interface, described in this crate's README: members are added, never renamed or removed.
//! In the human form a message goes to standard output and everything else to standard error.

mod human;
mod printer;
mod time;

use schemars::JsonSchema;
use sealpost_core::{
    Content, Deletion, Expiry, FileOffer, IdentityKey, Lifetime, MessageId, MessageRef, Reading,
    ReadingGap, Timestamp, UserId, saved_name,
};
use serde::Serialize;

use crate::settings::Receipts;
use crate::store::{
    Conversation, FileCause, FileEntry, FileState, Notify, OutboxEntry, SendState, hex,
};

pub use human::date;
pub use human::lifetime_words;
pub(crate) use human::{counted, readable, relation_words};
pub use printer::{Printer, json};
pub use time::Time;

/// Something to say.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A message arrived.
    Message {
        /// Who sent it.
        from: String,
        /// Its name, a UUID.
        id: String,
        /// The sender's clock, seconds since the epoch.
        ts: Time,
        /// What it is, `text` or something else.
        kind: String,
        /// The text, for kind `text`.
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<String>,
        /// The whole content, for every other kind.
        #[serde(skip_serializing_if = "Option::is_none")]
        content: Option<serde_json::Value>,
        /// What a device measured, for kind `reading`.
        #[serde(skip_serializing_if = "Option::is_none")]
        reading: Option<ReadingInfo>,
        /// Which readings a device dropped unsent, for kind `reading-gap`.
        #[serde(skip_serializing_if = "Option::is_none")]
        reading_gap: Option<ReadingGapInfo>,
        /// Which other message it is about, and what it says of the conversation.
        #[serde(flatten)]
        relation: Box<Relation>,
        /// Which file is offered, for kind `file`.
        #[serde(skip_serializing_if = "Option::is_none")]
        file: Option<FileInfo>,
    },
    /// A file got further, or does not: one of somebody's (`from`) or of ours (`to`).
    File {
        /// What it is called in commands.
        number: i64,
        /// Who offers it.
        #[serde(skip_serializing_if = "Option::is_none")]
        from: Option<String>,
        /// Whom we offer it.
        #[serde(skip_serializing_if = "Option::is_none")]
        to: Option<String>,
        /// The name of the message that offers it, a UUID.
        id: String,
        /// Its name, as it is saved where nothing has that name.
        name: String,
        /// Bytes of it.
        size: u64,
        /// How many of them its recipient has.
        done: u64,
        /// `offered`, `moving`, `checking`, `arrived`, `saved` or `ended`.
        #[schemars(extend("enum" = ["offered", "moving", "checking", "arrived", "saved", "ended"]))]
        state: &'static str,
        /// A stable word, see the README: why it goes no further, or not yet.
        #[serde(skip_serializing_if = "Option::is_none")]
        cause: Option<&'static str>,
        /// The same in words.
        #[serde(skip_serializing_if = "Option::is_none")]
        problem: Option<&'static str>,
        /// Where it was saved, when it was.
        #[serde(skip_serializing_if = "Option::is_none")]
        path: Option<String>,
    },
    /// Readings of this device are on disk, up to this one. Written at the start, and after each write.
    Taken {
        /// Whom they are for.
        to: String,
        /// The number of the last one, 0 before the first.
        number: u64,
        /// How many were written just now.
        count: u64,
    },
    /// Readings of this device were dropped unsent, for there was no room for newer ones. Their recipient is told, too.
    Dropped {
        /// Whom they were for.
        to: String,
        /// The number of the first one.
        first: u64,
        /// The number of the last one.
        last: u64,
        /// How many.
        count: u64,
        /// Our clock when the first one was taken over, seconds since the epoch.
        first_at: Time,
        /// Our clock when the last one was.
        last_at: Time,
    },
    /// A message of ours is on disk here, and on its way.
    Queued {
        /// Whom it is for.
        to: String,
        /// Its name, a UUID.
        id: String,
        /// Our clock when it was written, seconds since the epoch.
        ts: Time,
        /// What keeps it from going on, when something does.
        #[serde(skip_serializing_if = "Option::is_none")]
        problem: Option<String>,
        /// What to do about that.
        #[serde(skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    },
    /// The recipient has stored a message of ours.
    Delivered {
        /// Whom it is for.
        to: String,
        /// Its name, a UUID.
        id: String,
        /// Our clock when it was written, seconds since the epoch.
        ts: Time,
    },
    /// The recipient was shown a message of ours.
    Read {
        /// Whom it is for.
        to: String,
        /// Its name, a UUID.
        id: String,
        /// Our clock when it was written, seconds since the epoch.
        ts: Time,
    },
    /// A message of ours was given up. It is kept.
    Failed {
        /// Whom it is for.
        to: String,
        /// Its name, a UUID.
        id: String,
        /// Our clock when it was written, seconds since the epoch.
        ts: Time,
        /// Why.
        problem: String,
        /// What to do.
        hint: String,
    },
    /// The broker has a message of ours on its disk.
    Sent {
        /// Whom it is for.
        to: String,
        /// Its name, a UUID.
        id: String,
        /// Our clock when it was written, seconds since the epoch.
        ts: Time,
    },
    /// How the connection is.
    Status {
        /// `connected` or `disconnected`.
        #[schemars(extend("enum" = ["connected", "disconnected"]))]
        state: &'static str,
        /// The broker.
        broker: String,
        /// What happened, when disconnected.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// What to do about it, when that is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
        /// Seconds until the next attempt, when disconnected.
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_in: Option<f64>,
    },
    /// A contact, listed or changed.
    Contact {
        /// Who.
        user: String,
        /// `known`, `pinned`, `replaced` (linked change of identity), `trusted`, `verified`, `added`, `retired`.
        change: ContactChangeKind,
        /// The fingerprint of the pinned identity.
        fingerprint: String,
        /// Whether the safety number was compared.
        verified: bool,
        /// The fingerprint that was pinned before.
        #[serde(skip_serializing_if = "Option::is_none")]
        previous: Option<String>,
        /// The fingerprint of a changed identity that waits for `contacts trust`.
        #[serde(skip_serializing_if = "Option::is_none")]
        offered: Option<String>,
        /// Whether nothing of this contact is opened any more, until `contacts trust`.
        suspended: bool,
        /// Whether they have withdrawn their keys: nothing can be sent to them.
        withdrawn: bool,
    },
    /// Somebody new has written, and waits to be let in: `contacts accept` or `contacts block`.
    Request {
        /// Who.
        user: String,
        /// The fingerprint of their identity.
        fingerprint: String,
        /// How many messages they wrote, where requests are listed.
        #[serde(skip_serializing_if = "Option::is_none")]
        messages: Option<u64>,
        /// The beginning of the first one, on one line, where requests are listed.
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<String>,
        /// What to do.
        hint: String,
    },
    /// How we deal with somebody.
    Conversation {
        /// With whom.
        user: String,
        /// After how many seconds messages disappear; absent when they stay.
        #[serde(skip_serializing_if = "Option::is_none")]
        expiry: Option<u32>,
        /// They wait to be let in.
        request: bool,
        /// Nothing of theirs is let in.
        blocked: bool,
        /// How many messages were dropped for that.
        dropped: u64,
        /// Until when nobody is alerted of their messages, seconds since the epoch.
        #[serde(skip_serializing_if = "Option::is_none")]
        muted_until: Option<Time>,
        /// What they are told of their messages: `none`, `delivered` or `read`; absent when it is as for everybody.
        #[serde(skip_serializing_if = "Option::is_none")]
        receipts: Option<&'static str>,
        /// What is said of their messages, where somebody is alerted; absent when it is as for everybody.
        #[serde(skip_serializing_if = "Option::is_none")]
        notify: Option<Notify>,
    },
    /// A contact's safety number.
    SafetyNumber {
        /// Who.
        user: String,
        /// Sixty digits in groups of five.
        number: String,
        /// The fingerprint it was computed from.
        fingerprint: String,
        /// The same in full, for the contact to scan: a verification text.
        code: String,
    },
    /// Our contact link.
    ContactLink {
        /// Who we are.
        user: String,
        /// Where.
        realm: String,
        /// The broker it names.
        broker: String,
        /// The fingerprint of our identity.
        fingerprint: String,
        /// The link.
        link: String,
    },
    /// The message before one, by its sender's word, was not received: it is late, was lost, or was kept from us.
    Gap {
        /// Who sent them.
        from: String,
        /// The name of the message that arrived, a UUID.
        id: String,
        /// The name of the one before it, a UUID.
        prev: String,
    },
    /// A message that cannot be opened yet, and is kept.
    Waiting {
        /// Who says they sent it.
        from: String,
        /// Its name, a UUID.
        id: String,
        /// `bundle`, `decision` or `suspension`.
        #[schemars(extend("enum" = ["bundle", "decision", "suspension"]))]
        reason: &'static str,
        /// What to do.
        hint: String,
    },
    /// A message that was not opened, and is not kept.
    Refused {
        /// Who says they sent it, when that much could be read.
        from: Option<String>,
        /// Its name, when that much could be read.
        id: Option<String>,
        /// A stable word, see the README.
        cause: &'static str,
        /// The same in words.
        message: String,
        /// What to do.
        hint: String,
    },
    /// A command has dealt with a message.
    Handled {
        /// Who sent it.
        from: String,
        /// Its name, a UUID.
        id: String,
        /// How often the command was run for it.
        attempts: u32,
    },
    /// A command has not dealt with a message.
    Unhandled {
        /// Who sent it.
        from: String,
        /// Its name, a UUID.
        id: String,
        /// How often the command was run for it.
        attempts: u32,
        /// How it ended.
        problem: String,
        /// What becomes of the message.
        hint: String,
        /// Seconds until it is tried again; absent when it was given up.
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_in: Option<f64>,
    },
    /// Something that may be an attack.
    Alarm {
        /// A stable word, see the README.
        cause: &'static str,
        /// Whose keys it is about.
        user: String,
        /// The fingerprint we believe in.
        #[serde(skip_serializing_if = "Option::is_none")]
        pinned: Option<String>,
        /// The fingerprint that was offered instead.
        #[serde(skip_serializing_if = "Option::is_none")]
        offered: Option<String>,
        /// What happened, in words.
        message: String,
        /// What to do.
        hint: String,
    },
    /// Our own keys.
    Keys {
        /// Who we are.
        user: String,
        /// The deployment.
        realm: String,
        /// The fingerprint of our identity.
        fingerprint: String,
        /// The identity itself, Ed25519, base64.
        identity: String,
        /// The number of the current bundle.
        seq: u64,
        /// Until when it is valid, seconds since the epoch.
        expires: Time,
        /// The RSA keys that open messages, the current one first.
        encryption: Vec<KeyInfo>,
        /// Whether a passphrase protects them.
        passphrase: bool,
        /// Whether they are revoked: nobody seals to them any more.
        revoked: bool,
        /// Whether this command brought them to the broker; absent where it did not try.
        #[serde(skip_serializing_if = "Option::is_none")]
        published: Option<bool>,
    },
    /// The agent.
    Agent {
        /// Until when it holds the key, seconds since the epoch; absent when there is none.
        #[serde(skip_serializing_if = "Option::is_none")]
        until: Option<Time>,
    },
    /// A backup was made, or one was looked at.
    Backup {
        /// Whose it is.
        user: String,
        /// Where.
        realm: String,
        /// The file.
        file: String,
        /// When it was made, seconds since the epoch.
        created: Time,
        /// How many messages the history in it has.
        messages: u64,
    },
    /// A home was made of a backup.
    Restored {
        /// Whose it is.
        user: String,
        /// Where.
        realm: String,
        /// The folder.
        home: String,
        /// When the backup was made, seconds since the epoch.
        created: Time,
        /// How many messages the history has.
        messages: u64,
        /// The fingerprint of the identity.
        fingerprint: String,
    },
    /// What an archive has for us and could not be opened. Said after all that could be, if there is any.
    Unopened {
        /// How many messages are sealed to a key that is not here, or no longer.
        key_gone: u64,
        /// How many are signed by somebody who is not known to be their sender.
        not_the_senders: u64,
        /// How many are damaged.
        damaged: u64,
    },
    /// Something that `doctor` looked at.
    Finding {
        /// What.
        check: Check,
        /// How it is.
        verdict: Verdict,
        /// The same in words.
        message: String,
        /// What to do.
        #[serde(skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    },
    /// The command failed, or one line of a chat did.
    Error {
        /// The exit code that belongs to it.
        code: u8,
        /// What went wrong.
        message: String,
        /// What to do.
        hint: String,
    },
}

/// What `doctor` looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// The folder and its files.
    Home,
    /// The keys on this machine.
    Keys,
    /// The agent.
    Agent,
    /// This machine's clock.
    Clock,
    /// Whether a broker answers.
    Broker,
    /// How it proves who it is.
    Tls,
    /// Whether it lets us in.
    Login,
    /// What keys it gives out for us.
    Published,
    /// What was sent and has not arrived.
    Outbox,
    /// Whom we know.
    Contacts,
    /// The free space.
    Disk,
}

/// How `doctor` found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Well.
    Good,
    /// Worth knowing, and nothing needs to be done.
    Note,
    /// It must be mended.
    Problem,
}

/// How a contact came to be mentioned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ContactChangeKind {
    /// Listed.
    Known,
    /// First contact: the identity was pinned.
    Pinned,
    /// The identity changed, signed over by the one before.
    Replaced,
    /// A changed identity or a suspended contact was accepted by hand.
    Trusted,
    /// The safety number was compared.
    Verified,
    /// Taken from their link: pinned and verified.
    Added,
    /// They have withdrawn their keys.
    Retired,
}

/// What a message says of others.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct Relation {
    /// Which message it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<ReplyInfo>,
    /// The name of the earlier message of its sender in whose place its text is to be read, a UUID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edits: Option<String>,
    /// The name of the earlier message that its sender takes back, a UUID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletes: Option<String>,
    /// After how long messages of this conversation disappear.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiry: Option<ExpiryInfo>,
}

/// What a message answers.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ReplyInfo {
    /// Who wrote it.
    pub from: String,
    /// Its name, a UUID.
    pub id: String,
    /// The beginning of what it says here, on one line; absent when it is not here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quote: Option<String>,
}

/// How long messages stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ExpiryInfo {
    /// In seconds; 0: for ever.
    pub seconds: u32,
    /// The number of the setting.
    pub seq: u64,
}

impl Relation {
    /// Of a content. `quote` finds what a message says, where it is here.
    pub fn of(content: &Content, quote: impl FnOnce(&MessageRef) -> Option<String>) -> Relation {
        match content {
            Content::Reply(reply) => Relation {
                reply: Some(ReplyInfo {
                    from: reply.to.from.to_string(),
                    id: reply.to.id.to_string(),
                    quote: quote(&reply.to),
                }),
                ..Relation::default()
            },
            Content::Edit(edit) => Relation {
                edits: Some(edit.of.to_string()),
                ..Relation::default()
            },
            other => Relation {
                deletes: Deletion::read(other).map(|deletion| deletion.message.to_string()),
                expiry: Expiry::read(other).map(|expiry| ExpiryInfo {
                    seconds: expiry.lifetime().map_or(0, Lifetime::seconds),
                    seq: expiry.seq(),
                }),
                ..Relation::default()
            },
        }
    }
}

/// A file that is offered in a message.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct FileInfo {
    /// Its name, as it is saved where nothing has that name; the sender's own word is in `content`.
    pub name: String,
    /// Bytes of it.
    pub size: u64,
    /// The SHA-256 of all of it, hexadecimal.
    pub sha256: String,
}

/// A reading of a device.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ReadingInfo {
    /// Counts the readings of the device, from 1.
    pub number: u64,
    /// The device's clock when it took it over, seconds since the epoch.
    pub at: Time,
    /// What was read; as a string of JSON where it nests deeper than 127 levels or a number does not fit a double.
    pub value: serde_json::Value,
}

/// Readings that a device dropped unsent.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ReadingGapInfo {
    /// The number of the first one.
    pub first: u64,
    /// The number of the last one.
    pub last: u64,
    /// How many.
    pub count: u64,
    /// The device's clock when it took the first one over, seconds since the epoch.
    pub first_at: Time,
    /// The device's clock when it took the last one over.
    pub last_at: Time,
}

/// One of our RSA keys.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct KeyInfo {
    /// Seconds since the epoch.
    pub created: Time,
    /// Seconds since the epoch; absent for the current key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaced: Option<Time>,
    /// When it is destroyed, seconds since the epoch; absent for the current key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destroyed: Option<Time>,
}

impl Event {
    /// A message.
    #[must_use]
    pub fn message(from: &UserId, id: &MessageId, ts: Timestamp, content: &Content) -> Event {
        Event::message_in(from, id, ts, content, |_| None)
    }

    /// A message in its conversation: `quote` finds what a message that it answers says, where that is here.
    #[must_use]
    pub fn message_in(
        from: &UserId,
        id: &MessageId,
        ts: Timestamp,
        content: &Content,
        quote: impl FnOnce(&MessageRef) -> Option<String>,
    ) -> Event {
        let (text, other) = Event::text_and_content(content);
        Event::Message {
            from: from.to_string(),
            id: id.to_string(),
            ts: Time(ts),
            kind: content.kind().to_owned(),
            text,
            content: other,
            reading: Reading::read(content).map(|reading| ReadingInfo {
                number: reading.number(),
                at: Time(reading.at()),
                value: value(reading.value().to_owned()),
            }),
            reading_gap: ReadingGap::read(content).map(|gap| ReadingGapInfo {
                first: gap.first(),
                last: gap.last(),
                count: gap.count(),
                first_at: Time(gap.first_at()),
                last_at: Time(gap.last_at()),
            }),
            relation: Box::new(Relation::of(content, quote)),
            file: FileOffer::read(content).map(|offer| FileInfo {
                name: saved_name(offer.name()),
                size: offer.chunking().size(),
                sha256: hex(offer.sha256()),
            }),
        }
    }

    /// How far a file is.
    #[must_use]
    pub fn file(entry: &FileEntry) -> Event {
        let peer = entry.peer.to_string();
        let (from, to) = match entry.ours {
            true => (None, Some(peer)),
            false => (Some(peer), None),
        };
        let saved = entry
            .place
            .as_ref()
            .filter(|_| entry.state == FileState::Saved);
        Event::File {
            number: entry.number,
            from,
            to,
            id: entry.id.to_string(),
            name: saved_name(&entry.name),
            size: entry.chunking.size(),
            done: entry.done,
            state: entry.state.as_str(),
            cause: entry.cause.map(FileCause::as_str),
            problem: entry.cause.map(FileCause::words),
            path: saved.map(|path| path.display().to_string()),
        }
    }

    /// Readings of ours that were dropped.
    #[must_use]
    pub fn dropped(to: &UserId, gap: &ReadingGap) -> Event {
        Event::Dropped {
            to: to.to_string(),
            first: gap.first(),
            last: gap.last(),
            count: gap.count(),
            first_at: Time(gap.first_at()),
            last_at: Time(gap.last_at()),
        }
    }

    /// The members `text` and `content` of a message.
    pub(crate) fn text_and_content(
        content: &Content,
    ) -> (Option<String>, Option<serde_json::Value>) {
        match content.text() {
            Some(text) => (Some(text.to_owned()), None),
            None => (None, content.to_json().ok().map(value)),
        }
    }

    /// How far a message of ours has got.
    #[must_use]
    pub fn outbox(entry: &OutboxEntry) -> Event {
        let (to, id, ts) = (
            entry.to.to_string(),
            entry.id.to_string(),
            Time(entry.written),
        );
        let (problem, hint) = match &entry.problem {
            Some(problem) => (Some(problem.message.clone()), Some(problem.hint.clone())),
            None => (None, None),
        };
        match entry.state {
            SendState::Queued => Event::Queued {
                to,
                id,
                ts,
                problem,
                hint,
            },
            SendState::Sent => Event::Sent { to, id, ts },
            SendState::Delivered => Event::Delivered { to, id, ts },
            SendState::Read => Event::Read { to, id, ts },
            SendState::Failed => Event::Failed {
                to,
                id,
                ts,
                problem: problem.unwrap_or_default(),
                hint: hint.unwrap_or_default(),
            },
        }
    }

    /// How we deal with somebody.
    #[must_use]
    pub fn conversation(conversation: &Conversation) -> Event {
        Event::Conversation {
            user: conversation.partner.to_string(),
            expiry: conversation.lifetime().map(Lifetime::seconds),
            request: conversation.request,
            blocked: conversation.blocked,
            dropped: conversation.dropped,
            muted_until: conversation.muted_until.map(Time),
            receipts: conversation.receipts.map(Receipts::as_str),
            notify: conversation.notify,
        }
    }

    /// A contact whose identity is `identity`.
    #[must_use]
    pub fn contact(
        user: &UserId,
        change: ContactChangeKind,
        identity: &IdentityKey,
        verified: bool,
    ) -> Event {
        Event::Contact {
            user: user.to_string(),
            change,
            fingerprint: identity.fingerprint(),
            verified,
            previous: None,
            offered: None,
            suspended: false,
            withdrawn: false,
        }
    }
}

/// JSON as a value. What nests deeper, or counts further, than JSON readers take is carried as text.
fn value(json: String) -> serde_json::Value {
    serde_json::from_str(&json).unwrap_or(serde_json::Value::String(json))
}

#[cfg(test)]
pub(crate) mod tests;
