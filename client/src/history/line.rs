//! One message of a history file: a JSON object with everything that is needed to read it elsewhere and to import it.

use sealpost_core::{
    Content, ContentError, MAX_PLAINTEXT, MessageId, NameError, Realm, Timestamp, UserId,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::store::{HistoryEntry, ImportedMessage, OutboxEntry, SendState, Side, StoreError};

/// The version of the lines that are written.
const VERSION: u32 = 1;
/// The longest line, in bytes: the longest content with every byte of it as a `\u` escape, and what stands around it.
pub const MAX_LINE: usize = MAX_PLAINTEXT * 6 + 1_024;
/// The state of somebody else's message.
const RECEIVED: &str = "received";

/// Why a line is no message of ours.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// It is not the JSON of such a line.
    #[error("not a line of a history: {0}")]
    Malformed(String),
    /// More bytes than a message can have.
    #[error("longer than {MAX_LINE} bytes")]
    TooLong,
    /// It is not UTF-8.
    #[error("not UTF-8")]
    NotText,
    /// Written by a later program.
    #[error("version {0}, which this program does not know")]
    Version(u32),
    /// Of another deployment: names mean other people there.
    #[error("of another realm, {0:?}")]
    OtherRealm(String),
    /// A realm or a user name is none.
    #[error("{0:?} is not a name: {1}")]
    Name(String, NameError),
    /// Neither from nor to us.
    #[error("from {from} to {to}: not of {me}")]
    NotOurs {
        /// Who sent it.
        from: UserId,
        /// To whom.
        to: UserId,
        /// Who we are.
        me: UserId,
    },
    /// The id is no UUID of a message.
    #[error("{0:?} is not the id of a message")]
    Id(String),
    /// A time is out of range.
    #[error("{0} is not a time")]
    Time(String),
    /// Not a state of such a message.
    #[error("{0:?} is not a state of such a message")]
    State(String),
    /// The content is not one of a message.
    #[error("{0}")]
    Content(ContentError),
    /// Receipts are no messages.
    #[error("a receipt is no message")]
    Receipt,
}

/// The line as JSON, in this order.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LineJson<'a> {
    v: u32,
    realm: &'a str,
    from: &'a str,
    to: &'a str,
    id: &'a str,
    /// The sender's clock, seconds since the epoch.
    ts: f64,
    /// The clock of the home that received or wrote it.
    at: f64,
    state: &'a str,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    imported: bool,
    #[serde(borrow)]
    content: &'a RawValue,
}

/// The version alone, so that a later form is told apart from damage.
#[derive(Deserialize)]
struct Versioned {
    v: u32,
}

/// Whose history it is.
#[derive(Debug, Clone, Copy)]
pub struct HistoryLine<'a> {
    /// The deployment.
    pub realm: &'a Realm,
    /// Who we are.
    pub me: &'a UserId,
}

impl HistoryLine<'_> {
    /// Writes a message, without a line end.
    pub fn write(&self, entry: &HistoryEntry) -> Result<Zeroizing<String>, StoreError> {
        const MALFORMED: StoreError = StoreError::Damaged("a stored message is malformed");
        let content: &RawValue = serde_json::from_slice(&entry.body).map_err(|_| MALFORMED)?;
        let (from, to, id, ts, state) = match &entry.side {
            Side::Theirs { from, id, ts, .. } => (from, self.me, id, *ts, RECEIVED),
            Side::Ours(ours) => (
                self.me,
                &ours.to,
                &ours.id,
                ours.written,
                ours.state.as_str(),
            ),
        };
        let line = LineJson {
            v: VERSION,
            realm: self.realm.as_str(),
            from: from.as_str(),
            to: to.as_str(),
            id: &id.to_string(),
            ts: seconds(ts),
            at: seconds(entry.at()),
            state,
            imported: entry.imported,
            content,
        };
        crate::event::json(&line)
            .map(Zeroizing::new)
            .map_err(|_| MALFORMED)
    }

    /// Reads a line. What it says of `imported` is passed over: whatever is read from a file is.
    pub fn read(&self, line: &str) -> Result<ImportedMessage, LineError> {
        // serde_json's words name a column, and the line as 1.
        let malformed = |error: serde_json::Error| LineError::Malformed(error.to_string());
        let Versioned { v } = serde_json::from_str(line).map_err(malformed)?;
        if v != VERSION {
            return Err(LineError::Version(v));
        }
        let json: LineJson<'_> = serde_json::from_str(line).map_err(malformed)?;
        if json.realm != self.realm.as_str() {
            return Err(LineError::OtherRealm(json.realm.to_owned()));
        }
        let user = |name: &str| {
            UserId::parse(name).map_err(|error| LineError::Name(name.to_owned(), error))
        };
        let (from, to) = (user(json.from)?, user(json.to)?);
        let id = MessageId::parse(json.id).map_err(|_| LineError::Id(json.id.to_owned()))?;
        let (ts, at) = (time(json.ts)?, time(json.at)?);
        let content = Content::parse(json.content.get()).map_err(LineError::Content)?;
        if matches!(content, Content::Receipt(_)) {
            return Err(LineError::Receipt);
        }
        let body = Zeroizing::new(content.to_json().map_err(LineError::Content)?);
        let no_state = || LineError::State(json.state.to_owned());
        let side = if from == *self.me {
            let state = SendState::parse(json.state).ok_or_else(no_state)?;
            Side::Ours(OutboxEntry {
                to,
                id,
                written: at,
                state,
                changed: at,
                problem: None,
            })
        } else if to == *self.me {
            if json.state != RECEIVED {
                return Err(no_state());
            }
            Side::Theirs {
                from,
                id,
                ts,
                received: at,
            }
        } else {
            return Err(LineError::NotOurs {
                from,
                to,
                me: self.me.clone(),
            });
        };
        Ok(ImportedMessage { side, body })
    }
}

/// Milliseconds fit a double exactly.
#[allow(clippy::cast_precision_loss)]
fn seconds(at: Timestamp) -> f64 {
    at.millis() as f64 / 1_000.0
}

fn time(seconds: f64) -> Result<Timestamp, LineError> {
    let no_time = || LineError::Time(seconds.to_string());
    let millis = (seconds * 1_000.0).round();
    if !(0.0..=1e15).contains(&millis) {
        return Err(no_time());
    }
    // Checked above: no sign, no fraction, far below 2^64.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let millis = millis as u64;
    Timestamp::from_millis(millis).map_err(|_| no_time())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn realm() -> Realm {
        Realm::default()
    }

    fn user(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    fn theirs() -> Value {
        json!({"v": 1, "realm": "local", "from": "alice", "to": "bob", "id": "0193f1a2-0000-7000-8000-000000000001",
               "ts": 1_795_000_000.123, "at": 1_795_000_001.5, "state": "received",
               "content": {"kind": "text", "text": "Hi"}})
    }

    fn read(line: &Value) -> Result<ImportedMessage, LineError> {
        let (realm, me) = (realm(), user("bob"));
        let history = HistoryLine {
            realm: &realm,
            me: &me,
        };
        history.read(&line.to_string())
    }

    fn with(member: &str, value: Value) -> Value {
        let mut line = theirs();
        line[member] = value;
        line
    }

    #[test]
    fn what_is_written_is_read_again() {
        let (realm, me) = (realm(), user("bob"));
        let history = HistoryLine {
            realm: &realm,
            me: &me,
        };
        let ours = OutboxEntry {
            to: user("alice"),
            id: MessageId::parse("0193f1a2-0000-7000-8000-000000000002").unwrap(),
            written: Timestamp::from_millis(1_795_000_002_001).unwrap(),
            state: SendState::Delivered,
            changed: Timestamp::from_millis(1_795_000_002_001).unwrap(),
            problem: None,
        };
        let theirs = read(&theirs()).unwrap();
        for (side, body) in [
            (
                theirs.side,
                r#"{"kind":"text","text":"Hi\n\u001b[31m\u0000 \u202e"}"#,
            ),
            (Side::Ours(ours), r#"{"kind":"reading","celsius":21.50}"#),
        ] {
            let entry = HistoryEntry {
                side,
                imported: false,
                body: Zeroizing::new(body.as_bytes().to_vec()),
                revised: None,
                expires: None,
            };
            let line = history.write(&entry).unwrap();
            assert!(!line.chars().any(crate::terminal::is_hidden), "{line:?}");
            let again = history.read(&line).unwrap();
            let same = |json: &str| Content::parse(json).unwrap();
            assert!(same(&again.body) == same(body));
            assert_eq!(format!("{:?}", again.side), format!("{:?}", entry.side));
        }
    }

    #[test]
    fn a_line_that_is_not_a_message_of_ours_is_refused_with_its_reason() {
        read(&theirs()).unwrap();
        let cases = [
            (json!([]), "not a line of a history"),
            (with("v", json!(2)), "version 2"),
            (with("colour", json!("red")), "unknown field `colour`"),
            (with("realm", json!("elsewhere")), "another realm"),
            (with("from", json!("Alice")), "is not a name"),
            (
                with("to", json!("carol")),
                "from alice to carol: not of bob",
            ),
            (with("from", json!("bob")), "is not a state"),
            (with("state", json!("delivered")), "is not a state"),
            (with("id", json!("1")), "is not the id"),
            (with("ts", json!(-1)), "is not a time"),
            (with("at", json!(1e300)), "is not a time"),
            (with("content", json!("Hi")), "content is malformed"),
            (with("content", json!({"text": "Hi"})), "has no kind"),
            (with("content", json!({"kind": "text"})), "has no text"),
            (
                with(
                    "content",
                    json!({"kind": "receipt", "state": "delivered",
                           "messages": [["0193f1a2-0000-7000-8000-000000000001", "0".repeat(64)]]}),
                ),
                "receipt",
            ),
        ];
        for (line, reason) in cases {
            let refused = read(&line).unwrap_err().to_string();
            assert!(refused.contains(reason), "{line}: {refused}");
        }
    }

    #[test]
    fn the_longest_message_fits_a_line() {
        let json = format!(
            r#"{{"kind":"other","x":"{}"}}"#,
            "\u{7f}".repeat(MAX_PLAINTEXT - 25)
        );
        let entry = HistoryEntry {
            side: read(&theirs()).unwrap().side,
            imported: true,
            body: Zeroizing::new(json.into_bytes()),
            revised: None,
            expires: None,
        };
        let (realm, me) = (realm(), user("bob"));
        let history = HistoryLine {
            realm: &realm,
            me: &me,
        };
        assert!(history.write(&entry).unwrap().len() <= MAX_LINE);
    }
}
