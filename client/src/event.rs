//! What a command says: one JSON object a line for scripts, or words for people.
//!
//! The JSON form is a stable interface, described in this crate's README: members are added, never renamed or removed.
//! In the human form a message goes to standard output and everything else to standard error.

mod printer;

use sealpost_core::{Content, IdentityKey, MessageId, Timestamp, UserId};
use serde::{Serialize, Serializer};

use crate::store::{OutboxEntry, SendState};
use crate::terminal::{attributed, clean_line};

pub use printer::{Printer, json};

/// Something to say.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A message arrived.
    Message {
        /// Who sent it.
        from: String,
        /// Its name, a UUID.
        id: String,
        /// The sender's clock, seconds since the epoch.
        #[serde(serialize_with = "seconds")]
        ts: Timestamp,
        /// What it is, `text` or something else.
        kind: String,
        /// The text, for kind `text`.
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<String>,
        /// The whole content, for every other kind.
        #[serde(skip_serializing_if = "Option::is_none")]
        content: Option<serde_json::Value>,
    },
    /// A message of ours is on disk here, and on its way.
    Queued {
        /// Whom it is for.
        to: String,
        /// Its name, a UUID.
        id: String,
        /// Our clock when it was written, seconds since the epoch.
        #[serde(serialize_with = "seconds")]
        ts: Timestamp,
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
        #[serde(serialize_with = "seconds")]
        ts: Timestamp,
    },
    /// The recipient was shown a message of ours.
    Read {
        /// Whom it is for.
        to: String,
        /// Its name, a UUID.
        id: String,
        /// Our clock when it was written, seconds since the epoch.
        #[serde(serialize_with = "seconds")]
        ts: Timestamp,
    },
    /// A message of ours was given up. It is kept.
    Failed {
        /// Whom it is for.
        to: String,
        /// Its name, a UUID.
        id: String,
        /// Our clock when it was written, seconds since the epoch.
        #[serde(serialize_with = "seconds")]
        ts: Timestamp,
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
        #[serde(serialize_with = "seconds")]
        ts: Timestamp,
    },
    /// How the connection is.
    Status {
        /// `connected` or `disconnected`.
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
        #[serde(serialize_with = "seconds")]
        expires: Timestamp,
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
        #[serde(
            skip_serializing_if = "Option::is_none",
            serialize_with = "maybe_seconds"
        )]
        until: Option<Timestamp>,
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
        #[serde(serialize_with = "seconds")]
        created: Timestamp,
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
        #[serde(serialize_with = "seconds")]
        created: Timestamp,
        /// How many messages the history has.
        messages: u64,
        /// The fingerprint of the identity.
        fingerprint: String,
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

/// How a contact came to be mentioned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
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

/// One of our RSA keys.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KeyInfo {
    /// Seconds since the epoch.
    #[serde(serialize_with = "seconds")]
    pub created: Timestamp,
    /// Seconds since the epoch; absent for the current key.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "maybe_seconds"
    )]
    pub replaced: Option<Timestamp>,
    /// When it is destroyed, seconds since the epoch; absent for the current key.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "maybe_seconds"
    )]
    pub destroyed: Option<Timestamp>,
}

/// Milliseconds fit a double exactly, and its shortest decimal form has three places at most.
#[allow(clippy::trivially_copy_pass_by_ref, clippy::cast_precision_loss)]
fn seconds<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(at.millis() as f64 / 1_000.0)
}

pub(crate) fn maybe_seconds<S: Serializer>(
    at: &Option<Timestamp>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => seconds(at, serializer),
        None => serializer.serialize_none(),
    }
}

impl Event {
    /// A message.
    #[must_use]
    pub fn message(from: &UserId, id: &MessageId, ts: Timestamp, content: &Content) -> Event {
        let (text, other) = Event::text_and_content(content);
        Event::Message {
            from: from.to_string(),
            id: id.to_string(),
            ts,
            kind: content.kind().to_owned(),
            text,
            content: other,
        }
    }

    /// The members `text` and `content` of a message.
    pub(crate) fn text_and_content(
        content: &Content,
    ) -> (Option<String>, Option<serde_json::Value>) {
        match content {
            Content::Text { text } => (Some(text.clone()), None),
            other => (
                None,
                other.to_json().ok().map(|json| {
                    // What nests deeper, or counts further, than JSON readers take is carried as text.
                    serde_json::from_str(&json).unwrap_or(serde_json::Value::String(json))
                }),
            ),
        }
    }

    /// How far a message of ours has got.
    #[must_use]
    pub fn outbox(entry: &OutboxEntry) -> Event {
        let (to, id, ts) = (entry.to.to_string(), entry.id.to_string(), entry.written);
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
        }
    }

    /// The human form, without a line end at its end. Whatever came from others is cleaned here.
    #[must_use]
    pub fn human(&self) -> String {
        match self {
            Event::Message {
                from,
                kind,
                text,
                content,
                ..
            } => match (text, content) {
                (Some(text), _) => attributed(from, text),
                (None, Some(content)) => attributed(from, &format!("[{kind}] {content}")),
                (None, None) => attributed(from, &format!("[{kind}]")),
            },
            Event::Sent { to, id, .. } => format!("sent to {to}: {id}"),
            Event::Delivered { to, id, .. } => format!("delivered to {to}: {id}"),
            Event::Read { to, id, .. } => format!("read by {to}: {id}"),
            Event::Queued {
                to,
                id,
                problem,
                hint,
                ..
            } => match problem {
                None => format!("queued for {to}: {id}"),
                Some(problem) => format!(
                    "queued for {to}: {id}: {}\n  {}",
                    clean_line(problem),
                    hint.as_deref().unwrap_or_default()
                ),
            },
            Event::Failed {
                to,
                id,
                problem,
                hint,
                ..
            } => format!("given up, to {to}: {id}: {}\n  {hint}", clean_line(problem)),
            Event::Status {
                state,
                broker,
                reason,
                hint,
                retry_in,
            } => match (reason, retry_in) {
                (Some(reason), Some(_)) if hint.is_some() => format!(
                    "{}; trying again\n  {}",
                    clean_line(reason),
                    hint.as_deref().unwrap_or_default()
                ),
                (Some(reason), Some(retry)) => format!(
                    "disconnected from {broker} ({}); trying again in {retry:.1} s",
                    clean_line(reason)
                ),
                _ => format!("{state} to {broker}"),
            },
            Event::Contact { .. } => self.human_contact(),
            Event::SafetyNumber {
                user,
                number,
                fingerprint,
                code,
            } => format!(
                "The safety number with {user} ({fingerprint}):\n\n    {number}\n\nFor {user} to scan, or to give to --scan:\n\n{code}\n"
            ),
            Event::ContactLink { link, .. } => link.clone(),
            Event::Gap { from, .. } => {
                format!("a message from {from} before this one has not arrived (yet)")
            }
            Event::Waiting {
                from,
                id,
                reason,
                hint,
            } => {
                let why = match *reason {
                    "bundle" => "whose keys are not there yet",
                    "decision" => "signed by an identity that you have not accepted",
                    _ => "from whom nothing is opened any more",
                };
                format!("message {id} from {from}, {why}, waits\n  {hint}")
            }
            Event::Handled { from, id, .. } => format!("message {id} from {from} is dealt with"),
            Event::Unhandled {
                from,
                id,
                attempts,
                problem,
                hint,
                retry_in,
            } => match retry_in {
                Some(retry) => format!(
                    "the command for message {id} from {from} failed: {problem}; trying again in {retry} s"
                ),
                None => format!(
                    "the command for message {id} from {from} failed {attempts} times: {problem}\n  {hint}"
                ),
            },
            Event::Refused {
                from,
                id,
                message,
                hint,
                ..
            } => {
                let id = id
                    .as_deref()
                    .map_or_else(String::new, |id| format!(" {id}"));
                let from = from
                    .as_deref()
                    .map_or_else(String::new, |from| format!(" from {}", clean_line(from)));
                format!(
                    "refused a message{id}{from}: {}\n  {hint}",
                    clean_line(message)
                )
            }
            Event::Alarm {
                cause,
                user,
                pinned,
                offered,
                message,
                hint,
            } => match (pinned, offered) {
                (Some(pinned), Some(offered)) if *cause == "identity_changed" => {
                    banner(user, pinned, offered)
                }
                _ => format!("ALARM: {message}\n  {hint}"),
            },
            Event::Keys { .. } => self.human_keys(),
            Event::Agent { until: Some(until) } => {
                let left = until
                    .saturating_since(crate::clock::now())
                    .as_secs()
                    .div_ceil(60);
                format!(
                    "the agent holds your key for {left} min: commands do not ask for the passphrase"
                )
            }
            Event::Backup {
                user,
                realm,
                file,
                created,
                messages,
            } => format!(
                "backup of {user} in realm {realm}, made {}, with {}: {}",
                crate::moment::shown(*created),
                counted(*messages),
                clean_line(file)
            ),
            Event::Restored {
                user,
                realm,
                home,
                created,
                messages,
                fingerprint,
            } => format!(
                "{user} in realm {realm} ({fingerprint}) is restored as of {}, with {}: {}",
                crate::moment::shown(*created),
                counted(*messages),
                clean_line(home)
            ),
            Event::Agent { until: None } => "no agent holds your key".to_owned(),
            Event::Error { message, hint, .. } if hint.is_empty() => clean_line(message),
            Event::Error { message, hint, .. } => format!("{}\n  {hint}", clean_line(message)),
        }
    }

    fn human_contact(&self) -> String {
        let Event::Contact {
            user,
            change,
            fingerprint,
            verified,
            previous,
            offered,
            suspended,
        } = self
        else {
            return String::new();
        };
        match change {
            ContactChangeKind::Known => {
                let verified = if *verified {
                    "verified"
                } else {
                    "not verified"
                };
                let offered = offered.as_ref().map_or_else(String::new, |offered| {
                    format!(", CHANGED to {offered}, see: sealpost contacts trust {user}")
                });
                let suspended = if *suspended { ", SUSPENDED" } else { "" };
                format!("{user}  {fingerprint}  {verified}{offered}{suspended}")
            }
            ContactChangeKind::Pinned => format!(
                "first contact with {user}: {fingerprint} is taken for theirs from now on\n  \
                 To be sure, compare with them: sealpost contacts verify {user}"
            ),
            ContactChangeKind::Replaced => format!(
                "{user} has a new identity, signed by the one before\n  was: {}\n  is:  {fingerprint}\n  \
                 It is no longer verified. To be sure, compare again: sealpost contacts verify {user}",
                previous.as_deref().unwrap_or("unknown")
            ),
            ContactChangeKind::Trusted => {
                format!(
                    "{user} is now {fingerprint}\n  To be sure: sealpost contacts verify {user}"
                )
            }
            ContactChangeKind::Added => format!(
                "{user} is added and verified: {fingerprint}\n  As sure as the way by which the link came to you."
            ),
            ContactChangeKind::Retired => format!(
                "{user} has withdrawn their keys ({fingerprint}): nothing can be sent to them\n  \
                 Perhaps their device was stolen: what still comes in their name may be somebody else's. Ask {user} in some other \
                 way how to reach them."
            ),
            ContactChangeKind::Verified => format!("{user} is verified: {fingerprint}"),
        }
    }

    fn human_keys(&self) -> String {
        let Event::Keys {
            user,
            realm,
            fingerprint,
            seq,
            expires,
            encryption,
            passphrase,
            revoked,
            published,
            ..
        } = self
        else {
            return String::new();
        };
        let mut out = format!("user         {user}, realm {realm}\nidentity     {fingerprint}\n");
        out.push_str(&format!(
            "bundle       number {seq}, valid until {}\n",
            date(*expires)
        ));
        if *revoked {
            out.push_str("             REVOKED: nobody can send to you, and you cannot send\n");
        }
        for key in encryption {
            match key.destroyed {
                None => out.push_str(&format!("encryption   RSA, made {}\n", date(key.created))),
                Some(destroyed) => out.push_str(&format!(
                    "             replaced, still opens what is under way until {}, then it is destroyed: what you\n             \
                     received stays readable, copies of it in an archive do not\n",
                    date(destroyed)
                )),
            }
        }
        out.push_str(if *passphrase {
            "at rest      encrypted with a passphrase"
        } else {
            "at rest      NOT encrypted"
        });
        match published {
            Some(true) => out.push_str("\npublished    yes"),
            Some(false) => {
                out.push_str("\npublished    not yet: the next command that connects does it");
            }
            None => {}
        }
        out
    }
}

/// So many messages, in words.
pub(crate) fn counted(messages: u64) -> String {
    match messages {
        1 => "1 message".to_owned(),
        more => format!("{more} messages"),
    }
}

fn banner(user: &str, pinned: &str, offered: &str) -> String {
    const RULE: &str = "@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@";
    format!(
        "\n{RULE}\n@  WARNING: THE IDENTITY OF {} HAS CHANGED\n{RULE}\n\
         Known:    {pinned}\n\
         Offered:  {offered}\n\
         Either {user} has new keys, because of a new machine or lost keys. Or somebody, perhaps the\n\
         operator of the broker, stands in for {user}, to read what you send and to write in their name.\n\
         Nothing is sent to {user} and nothing from the new identity is opened until you decide.\n\
         Ask {user} for their fingerprint in some other way (sealpost keys show). If it is the offered one:\n\
         \x20   sealpost contacts trust {user}",
        user.to_uppercase()
    )
}

/// `2026-11-23`, in UTC (Howard Hinnant's `civil_from_days`).
#[must_use]
pub fn date(at: Timestamp) -> String {
    let days = at.millis() / 86_400_000 + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
pub(crate) mod tests;
