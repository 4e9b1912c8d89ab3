//! What a command says: one JSON object a line for scripts, or words for people.
//!
//! The JSON form is a stable interface, described in this crate's README: members are added, never renamed or removed.
//! In the human form a message goes to standard output and everything else to standard error.

use std::io::{self, Write};

use sealpost_core::{Content, IdentityKey, MessageId, Timestamp, UserId};
use serde::{Serialize, Serializer};

use crate::terminal::{attributed, clean_line};

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
    /// The broker has a message of ours.
    Sent {
        /// Whom it is for.
        to: String,
        /// Its name, a UUID.
        id: String,
        /// Our clock when it was sealed, seconds since the epoch.
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
        /// Seconds until the next attempt, when disconnected.
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_in: Option<f64>,
    },
    /// A contact, listed or changed.
    Contact {
        /// Who.
        user: String,
        /// `known`, `pinned`, `replaced` (linked change of identity), `trusted`, `verified`.
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
        /// Whether this command brought them to the broker; absent where it did not try.
        #[serde(skip_serializing_if = "Option::is_none")]
        published: Option<bool>,
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

fn maybe_seconds<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => seconds(at, serializer),
        None => serializer.serialize_none(),
    }
}

impl Event {
    /// A message.
    #[must_use]
    pub fn message(from: &UserId, id: &MessageId, ts: Timestamp, content: &Content) -> Event {
        let (text, other) = match content {
            Content::Text { text } => (Some(text.clone()), None),
            Content::Other { json, .. } => (None, serde_json::from_str(json).ok()),
        };
        Event::Message {
            from: from.to_string(),
            id: id.to_string(),
            ts,
            kind: content.kind().to_owned(),
            text,
            content: other,
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
            Event::Status {
                state,
                broker,
                reason,
                retry_in,
            } => match (reason, retry_in) {
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
            } => format!(
                "The safety number with {user} ({fingerprint}):\n\n    {}\n",
                number
            ),
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
        for key in encryption {
            match key.destroyed {
                None => out.push_str(&format!("encryption   RSA, made {}\n", date(key.created))),
                Some(destroyed) => out.push_str(&format!(
                    "             replaced, still opens until {}, then it is destroyed\n",
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

/// Writes events, as JSON or in words.
pub struct Printer {
    json: bool,
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
}

impl std::fmt::Debug for Printer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Printer")
            .field("json", &self.json)
            .finish_non_exhaustive()
    }
}

impl Printer {
    /// To standard output and standard error.
    #[must_use]
    pub fn standard(json: bool) -> Printer {
        Printer::new(json, Box::new(io::stdout()), Box::new(io::stderr()))
    }

    /// To anything.
    #[must_use]
    pub fn new(json: bool, out: Box<dyn Write + Send>, err: Box<dyn Write + Send>) -> Printer {
        Printer { json, out, err }
    }

    /// Whether scripts listen.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Says it, and flushes. Fails when the reader has gone away.
    pub fn print(&mut self, event: &Event) -> io::Result<()> {
        if self.json {
            // serde_json escapes C0 controls and leaves the rest to its reader; the others that a terminal might act
            // upon are escaped here, so that `sealpost --json | less` is safe too.
            let line = serde_json::to_string(event).map_err(io::Error::other)?;
            self.out.write_all(escape_for_terminals(&line).as_bytes())?;
            self.out.write_all(b"\n")?;
            return self.out.flush();
        }
        match event {
            Event::Message { .. }
            | Event::Sent { .. }
            | Event::Keys { .. }
            | Event::SafetyNumber { .. } => {
                writeln!(self.out, "{}", event.human())?;
                self.out.flush()
            }
            Event::Contact {
                change: ContactChangeKind::Known,
                ..
            } => {
                writeln!(self.out, "{}", event.human())?;
                self.out.flush()
            }
            _ => {
                writeln!(self.err, "sealpost: {}", event.human())?;
                self.err.flush()
            }
        }
    }

    /// A question for a person: the answer is typed behind it.
    pub fn ask(&mut self, question: &str) -> io::Result<()> {
        write!(self.err, "{question}")?;
        self.err.flush()
    }

    /// A note for a person, never in JSON.
    pub fn note(&mut self, text: &str) -> io::Result<()> {
        if self.json {
            return Ok(());
        }
        writeln!(self.err, "{text}")?;
        self.err.flush()
    }
}

/// `\u` escapes for DEL, C1 controls and characters that change direction or are not seen. Inside a JSON string they
/// mean the same; outside strings our JSON has none of them.
fn escape_for_terminals(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        let hidden = c.is_control()
            || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        if hidden {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use sealpost_core::Identity;
    use std::sync::{Arc, Mutex};

    /// What was written, to look at.
    #[derive(Clone, Default)]
    pub(crate) struct Written(Arc<Mutex<Vec<u8>>>);

    impl Written {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis).unwrap()
    }

    fn json(event: &Event) -> String {
        let out = Written::default();
        Printer::new(true, Box::new(out.clone()), Box::new(Written::default()))
            .print(event)
            .unwrap();
        out.text()
    }

    fn text_message(text: &str) -> Event {
        Event::Message {
            from: "alice".into(),
            id: "0199aa00-0000-7000-8000-000000000000".into(),
            ts: at(1_700_000_000_123),
            kind: "text".into(),
            text: Some(text.into()),
            content: None,
        }
    }

    #[test]
    fn the_json_of_every_event_is_stable() {
        let fingerprint = "SHA256:x".to_owned();
        let cases = [
            (
                text_message("Hello Bob!"),
                r#"{"event":"message","from":"alice","id":"0199aa00-0000-7000-8000-000000000000","ts":1700000000.123,"kind":"text","text":"Hello Bob!"}"#,
            ),
            (
                Event::Message {
                    from: "meter".into(),
                    id: "i".into(),
                    ts: at(1_700_000_000_000),
                    kind: "reading".into(),
                    text: None,
                    content: serde_json::from_str(r#"{"kind":"reading","value":21.5}"#).ok(),
                },
                r#"{"event":"message","from":"meter","id":"i","ts":1700000000.0,"kind":"reading","content":{"kind":"reading","value":21.5}}"#,
            ),
            (
                Event::Sent {
                    to: "bob".into(),
                    id: "i".into(),
                    ts: at(1),
                },
                r#"{"event":"sent","to":"bob","id":"i","ts":0.001}"#,
            ),
            (
                Event::Status {
                    state: "connected",
                    broker: "mqtt://h:1".into(),
                    reason: None,
                    retry_in: None,
                },
                r#"{"event":"status","state":"connected","broker":"mqtt://h:1"}"#,
            ),
            (
                Event::Status {
                    state: "disconnected",
                    broker: "mqtt://h:1".into(),
                    reason: Some("r".into()),
                    retry_in: Some(0.5),
                },
                r#"{"event":"status","state":"disconnected","broker":"mqtt://h:1","reason":"r","retry_in":0.5}"#,
            ),
            (
                Event::Contact {
                    user: "bob".into(),
                    change: ContactChangeKind::Pinned,
                    fingerprint: fingerprint.clone(),
                    verified: false,
                    previous: None,
                    offered: None,
                    suspended: false,
                },
                r#"{"event":"contact","user":"bob","change":"pinned","fingerprint":"SHA256:x","verified":false,"suspended":false}"#,
            ),
            (
                Event::SafetyNumber {
                    user: "bob".into(),
                    number: "12345 67890".into(),
                    fingerprint: fingerprint.clone(),
                },
                r#"{"event":"safety_number","user":"bob","number":"12345 67890","fingerprint":"SHA256:x"}"#,
            ),
            (
                Event::Waiting {
                    from: "carol".into(),
                    id: "i".into(),
                    reason: "bundle",
                    hint: "h".into(),
                },
                r#"{"event":"waiting","from":"carol","id":"i","reason":"bundle","hint":"h"}"#,
            ),
            (
                Event::Refused {
                    from: None,
                    id: None,
                    cause: "malformed",
                    message: "m".into(),
                    hint: "h".into(),
                },
                r#"{"event":"refused","from":null,"id":null,"cause":"malformed","message":"m","hint":"h"}"#,
            ),
            (
                Event::Alarm {
                    cause: "identity_changed",
                    user: "bob".into(),
                    pinned: Some("SHA256:x".into()),
                    offered: Some("SHA256:y".into()),
                    message: "m".into(),
                    hint: "h".into(),
                },
                r#"{"event":"alarm","cause":"identity_changed","user":"bob","pinned":"SHA256:x","offered":"SHA256:y","message":"m","hint":"h"}"#,
            ),
            (
                Event::Keys {
                    user: "alice".into(),
                    realm: "local".into(),
                    fingerprint,
                    identity: "AAAA".into(),
                    seq: 7,
                    expires: at(2_000),
                    encryption: vec![
                        KeyInfo {
                            created: at(1_000),
                            replaced: None,
                            destroyed: None,
                        },
                        KeyInfo {
                            created: at(0),
                            replaced: Some(at(1_000)),
                            destroyed: Some(at(5_000)),
                        },
                    ],
                    passphrase: true,
                    published: Some(true),
                },
                r#"{"event":"keys","user":"alice","realm":"local","fingerprint":"SHA256:x","identity":"AAAA","seq":7,"expires":2.0,"encryption":[{"created":1.0},{"created":0.0,"replaced":1.0,"destroyed":5.0}],"passphrase":true,"published":true}"#,
            ),
            (
                Event::Error {
                    code: 3,
                    message: "m".into(),
                    hint: "h".into(),
                },
                r#"{"event":"error","code":3,"message":"m","hint":"h"}"#,
            ),
        ];
        for (event, expected) in cases {
            assert_eq!(json(&event), format!("{expected}\n"));
        }
    }

    #[test]
    fn hostile_text_is_escaped_in_json_and_comes_back_unchanged() {
        let hostile = "\u{1b}[31m\u{9b}0m\u{202e}\u{200b}\u{7f}\n\"quoted\"";
        let line = json(&text_message(hostile));
        assert_eq!(line.lines().count(), 1);
        assert!(
            line.trim_end()
                .chars()
                .all(|c| !c.is_control() && c.is_ascii()),
            "{line:?}"
        );
        let back: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(back["text"], hostile);
    }

    #[test]
    fn people_see_the_message_on_standard_output_and_the_rest_on_standard_error() {
        let (out, err) = (Written::default(), Written::default());
        let mut printer = Printer::new(false, Box::new(out.clone()), Box::new(err.clone()));
        printer.print(&text_message("Hello Bob!")).unwrap();
        printer
            .print(&Event::Error {
                code: 1,
                message: "broken".into(),
                hint: "mend it".into(),
            })
            .unwrap();
        assert_eq!(out.text(), "From alice: Hello Bob!\n");
        assert_eq!(err.text(), "sealpost: broken\n  mend it\n");
    }

    #[test]
    fn people_never_see_a_control_sequence_of_others() {
        let events = [
            text_message("\u{1b}]0;title\u{7}hi\u{202e}"),
            Event::Message {
                from: "m".into(),
                id: "i".into(),
                ts: at(1),
                kind: "reading".into(),
                text: None,
                content: serde_json::from_str(r#"{"x":"\u001b[2J\u202e"}"#).ok(),
            },
            Event::Status {
                state: "disconnected",
                broker: "b".into(),
                reason: Some("\u{1b}[2J".into()),
                retry_in: Some(1.0),
            },
            Event::Refused {
                from: Some("\u{1b}[2J".into()),
                id: None,
                cause: "malformed",
                message: "\u{9b}2J".into(),
                hint: String::new(),
            },
        ];
        for event in events {
            let shown = event.human();
            assert!(
                !shown
                    .chars()
                    .any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'),
                "{shown:?}"
            );
        }
    }

    #[test]
    fn a_changed_identity_is_loud_and_names_both_fingerprints_and_both_explanations() {
        let (old, new) = (
            Identity::from_seed(&[1; 32]).key().fingerprint(),
            Identity::from_seed(&[2; 32]).key().fingerprint(),
        );
        let banner = Event::Alarm {
            cause: "identity_changed",
            user: "bob".into(),
            pinned: Some(old.clone()),
            offered: Some(new.clone()),
            message: String::new(),
            hint: String::new(),
        }
        .human();
        for part in [
            "WARNING: THE IDENTITY OF BOB HAS CHANGED",
            &old,
            &new,
            "new keys",
            "stands in for bob",
            "sealpost contacts trust bob",
        ] {
            assert!(banner.contains(part), "{part}: {banner}");
        }
    }

    #[test]
    fn dates_are_right_over_leap_years() {
        for (millis, expected) in [
            (0, "1970-01-01"),
            (951_782_400_000, "2000-02-29"),
            (1_709_164_800_000, "2024-02-29"),
            (1_798_761_599_000, "2026-12-31"),
            (4_107_542_400_000, "2100-03-01"),
        ] {
            assert_eq!(date(at(millis)), expected);
        }
    }
}
