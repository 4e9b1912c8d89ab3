//! A line of a log: how what is kept becomes a line, and how a line gives it back. The kinds of lines are those of
//! the format's section 2.
//!
//! A message that is an envelope for its topic's owner is kept as its own bytes, with two members (or three) put in front, and so
//! is a key bundle:
//!
//! ```text
//! {"seq":7,"archived_at":1700000000.123,"v":1,"suite":…the envelope's own bytes after its `{`…}
//! ```
//!
//! Whatever else arrives is kept too, with the reason why it is not one:
//!
//! ```text
//! {"seq":8,"archived_at":1700000000.123,"topic":"inbox/bob","error":"why","raw":"<base64 of the payload>"}
//! ```
//!
//! A topic that is not UTF-8 (MQTT forbids it, so only a broken broker sends one) is kept as base64
//! in `topic_raw` in the place of `topic`. An envelope's first member is `v`, so the kinds
//! cannot be confused. Either way topic and payload can be recovered exactly, which is what makes
//! de-duplication across restarts exact as well.
//!
//! The archive's own lines say what was removed, and stand where something was.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sealpost_core::{Timestamp, Topic, UserId};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

mod writing;

pub use writing::{write_erasure, write_message, write_retirement, write_tombstone, write_unfit};

use crate::digest::Digest;
use crate::hash::Hash;

/// The greatest line number: the greatest integer that every JSON reader takes exactly.
pub const MAX_SEQ: u64 = (1 << 53) - 1;

/// The longest line, in bytes: a payload of the largest MQTT packet that an archiver takes (1 MiB) as base64, a topic of 65,535
/// bytes, and the rest of the line.
pub const MAX_LINE: usize = 2 << 20;

/// What an archiver found out about an envelope's signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verified {
    /// It verifies, and its signer is an identity of `from`.
    True,
    /// It does not verify.
    False,
    /// It verifies, but no bundle that was seen says whose it is.
    Unknown,
}

impl Verified {
    /// As the line has it.
    #[must_use]
    pub const fn as_json(self) -> &'static str {
        match self {
            Verified::True => "true",
            Verified::False => "false",
            Verified::Unknown => "null",
        }
    }
}

/// A line read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<'a> {
    /// Its place in the log: 1, 2, 3, …
    pub seq: u64,
    /// When it was written, by the archiver's clock.
    pub archived_at: Timestamp,
    /// What it keeps.
    pub body: Body<'a>,
}

/// What a line keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body<'a> {
    /// Something that arrived.
    Message(Message<'a>),
    /// A record that a line was erased.
    Erasure {
        /// The line.
        erased: Erased,
        /// Why.
        reason: Cow<'a, str>,
    },
    /// A record that the oldest lines were removed.
    Retirement {
        /// The last of them; the first is 1.
        retires: u64,
        /// The root of the tree of these lines.
        root: Hash,
        /// Why.
        reason: Cow<'a, str>,
    },
    /// What stands in the place of an erased line.
    Tombstone {
        /// The record of the erasure.
        erased_by: u64,
        /// The leaf of the line that was here.
        leaf: Hash,
    },
}

/// What the record of an erasure keeps of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Erased {
    /// Its number.
    pub seq: u64,
    /// When it was written. The leaf covers it, but nobody can make the leaf again without the line; so the record says it, too.
    pub archived_at: Timestamp,
    /// The digest of its message, so that it is known again should it be delivered once more.
    pub digest: Digest,
    /// Its leaf.
    pub leaf: Hash,
}

/// A message as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<'a> {
    /// The topic it came on.
    pub topic: Cow<'a, [u8]>,
    /// Its payload, byte for byte.
    pub payload: Cow<'a, [u8]>,
    /// What the archiver found out about its signature, if it was told to.
    pub verified: Option<Verified>,
    /// Why the payload is not an envelope (or bundle) for its topic; `None` when it is one.
    pub error: Option<Cow<'a, str>>,
}

/// Why some bytes are not a line of the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// It does not begin with `{"seq":N,"archived_at":SECONDS.mmm,`.
    #[error("it does not begin with \"seq\" and \"archived_at\"")]
    Head,
    /// It is not one JSON object with the members of a kind of line.
    #[error("it is not the JSON of a line: {0}")]
    Json(String),
    /// It has neither the `to` of an envelope nor the `user` of a bundle, or both.
    #[error("it is neither an envelope nor a key bundle")]
    Kind,
    /// The envelope's `to` or the bundle's `user` is not a user name.
    #[error("its \"{0}\" is not a user name")]
    Owner(&'static str),
    /// `raw` or `topic_raw` is not base64.
    #[error("its \"{0}\" is not base64")]
    Base64(&'static str),
    /// It has neither `topic` nor `topic_raw`, or both.
    #[error("it must have one of \"topic\" and \"topic_raw\"")]
    Topic,
}

/// Of a message's line only the owner of the topic is needed; the JSON is checked to its end all the same.
#[derive(Deserialize)]
struct OwnerMembers<'a> {
    #[serde(borrow, default)]
    to: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    user: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UnfitMembers<'a> {
    #[serde(rename = "seq")]
    _seq: IgnoredAny,
    #[serde(rename = "archived_at")]
    _archived_at: IgnoredAny,
    #[serde(borrow, default)]
    topic: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    topic_raw: Option<Cow<'a, str>>,
    #[serde(borrow)]
    error: Cow<'a, str>,
    #[serde(borrow)]
    raw: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ErasureMembers<'a> {
    #[serde(rename = "seq")]
    _seq: IgnoredAny,
    #[serde(rename = "archived_at")]
    _archived_at: IgnoredAny,
    erases: u64,
    #[serde(borrow)]
    line_archived_at: &'a RawValue,
    digest: Digest,
    leaf: Hash,
    #[serde(borrow)]
    reason: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RetirementMembers<'a> {
    #[serde(rename = "seq")]
    _seq: IgnoredAny,
    #[serde(rename = "archived_at")]
    _archived_at: IgnoredAny,
    retires: u64,
    root: Hash,
    #[serde(borrow)]
    reason: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TombstoneMembers {
    #[serde(rename = "seq")]
    _seq: IgnoredAny,
    #[serde(rename = "archived_at")]
    _archived_at: IgnoredAny,
    erased_by: u64,
    leaf: Hash,
}

impl<'a> Line<'a> {
    /// Reads one line, given without its newline.
    ///
    /// # Errors
    /// [`LineError`] for what the archiver does not write.
    pub fn parse(line: &'a [u8]) -> Result<Line<'a>, LineError> {
        let (seq, archived_at, rest) = split_head(line).ok_or(LineError::Head)?;
        let body = if rest.starts_with(b"\"topic") {
            Body::Message(unfit(line)?)
        } else if rest.starts_with(b"\"erases\":") {
            let record: ErasureMembers<'a> = from_json(line)?;
            let archived_at = Timestamp::parse(record.line_archived_at.get())
                .map_err(|error| LineError::Json(format!("\"line_archived_at\": {error}")))?;
            Body::Erasure {
                erased: Erased {
                    seq: record.erases,
                    archived_at,
                    digest: record.digest,
                    leaf: record.leaf,
                },
                reason: record.reason,
            }
        } else if rest.starts_with(b"\"retires\":") {
            let RetirementMembers {
                retires,
                root,
                reason,
                ..
            } = from_json(line)?;
            Body::Retirement {
                retires,
                root,
                reason,
            }
        } else if rest.starts_with(b"\"erased_by\":") {
            let TombstoneMembers {
                erased_by, leaf, ..
            } = from_json(line)?;
            Body::Tombstone { erased_by, leaf }
        } else {
            Body::Message(fit(line, rest)?)
        };
        Ok(Line {
            seq,
            archived_at,
            body,
        })
    }

    /// Its leaf in the tree; `line` are the bytes that it was read from.
    #[must_use]
    pub fn leaf(&self, line: &[u8]) -> Hash {
        match self.body {
            Body::Tombstone { leaf, .. } => leaf,
            _ => Hash::of_leaf(line),
        }
    }
}

/// The number and the time at the beginning of a line, without looking at the rest. `None` if it does not begin so.
#[must_use]
pub fn head_of(line: &[u8]) -> Option<(u64, Timestamp)> {
    split_head(line).map(|(seq, archived_at, _)| (seq, archived_at))
}

fn from_json<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Result<T, LineError> {
    serde_json::from_slice(line).map_err(|error| LineError::Json(error.to_string()))
}

/// What is no envelope (or bundle) for its topic.
fn unfit(line: &[u8]) -> Result<Message<'_>, LineError> {
    let unfit: UnfitMembers<'_> = from_json(line)?;
    let topic = match (unfit.topic, unfit.topic_raw) {
        (Some(Cow::Borrowed(topic)), None) => Cow::Borrowed(topic.as_bytes()),
        (Some(Cow::Owned(topic)), None) => Cow::Owned(topic.into_bytes()),
        (None, Some(raw)) => Cow::Owned(decode("topic_raw", &raw)?),
        _ => return Err(LineError::Topic),
    };
    Ok(Message {
        topic,
        payload: Cow::Owned(decode("raw", &unfit.raw)?),
        verified: None,
        error: Some(unfit.error),
    })
}

/// An envelope or a bundle; `rest` is what follows the head of `line`.
fn fit<'a>(line: &'a [u8], rest: &'a [u8]) -> Result<Message<'a>, LineError> {
    let owner: OwnerMembers<'a> = from_json(line)?;
    let user = |member, name: &str| UserId::parse(name).map_err(|_| LineError::Owner(member));
    let topic = match (owner.to, owner.user) {
        (Some(to), None) => Topic::Inbox(user("to", &to)?),
        (None, Some(name)) => Topic::Keys(user("user", &name)?),
        _ => return Err(LineError::Kind),
    };
    let (verified, rest) = split_verified(rest);
    let mut payload = Vec::with_capacity(rest.len() + 1);
    payload.push(b'{');
    payload.extend_from_slice(rest);
    Ok(Message {
        topic: Cow::Owned(topic.to_string().into_bytes()),
        payload: Cow::Owned(payload),
        verified,
        error: None,
    })
}

/// Splits `"verified":…,` off, if it is there.
fn split_verified(rest: &[u8]) -> (Option<Verified>, &[u8]) {
    for verified in [Verified::True, Verified::False, Verified::Unknown] {
        let member = format!("\"verified\":{},", verified.as_json());
        if let Some(rest) = rest.strip_prefix(member.as_bytes()) {
            return (Some(verified), rest);
        }
    }
    (None, rest)
}

fn decode(member: &'static str, text: &str) -> Result<Vec<u8>, LineError> {
    STANDARD.decode(text).map_err(|_| LineError::Base64(member))
}

/// Splits `{"seq":N,"archived_at":SECONDS.mmm,` off: the two numbers and what follows.
fn split_head(line: &[u8]) -> Option<(u64, Timestamp, &[u8])> {
    let line = line.strip_prefix(b"{\"seq\":")?;
    let (seq, line) = split_at_comma(line)?;
    // One way to write a number: no sign, no leading zero.
    if !seq.bytes().all(|digit| digit.is_ascii_digit()) || seq.starts_with('0') {
        return None;
    }
    let line = line.strip_prefix(b"\"archived_at\":")?;
    let (archived_at, rest) = split_at_comma(line)?;
    let seq = seq.parse().ok().filter(|&seq| seq <= MAX_SEQ)?;
    Some((seq, Timestamp::parse(archived_at).ok()?, rest))
}

fn split_at_comma(bytes: &[u8]) -> Option<(&str, &[u8])> {
    // Neither field is longer: 16 digits of a number, 14 characters of a time.
    let comma = bytes.iter().take(21).position(|&byte| byte == b',')?;
    let (field, rest) = bytes.split_at_checked(comma)?;
    Some((std::str::from_utf8(field).ok()?, rest.get(1..)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at() -> Timestamp {
        Timestamp::parse("1700000000.123").unwrap()
    }

    fn message(line: Line<'_>) -> Message<'_> {
        match line.body {
            Body::Message(message) => message,
            other => panic!("{other:?} is no message"),
        }
    }

    fn strip_newline(line: &[u8]) -> &[u8] {
        let stripped = line.strip_suffix(b"\n").unwrap();
        assert!(
            !stripped.contains(&b'\n'),
            "a line has one newline, at its end"
        );
        stripped
    }

    #[test]
    fn an_envelope_keeps_its_own_bytes_behind_seq_and_archived_at() {
        let mut out = Vec::new();
        write_message(&mut out, 7, at(), None, br#"{"v":1,"to":"bob","rest":"x"}"#);
        assert_eq!(
            out,
            b"{\"seq\":7,\"archived_at\":1700000000.123,\"v\":1,\"to\":\"bob\",\"rest\":\"x\"}\n"
        );
        let line = Line::parse(strip_newline(&out)).unwrap();
        assert_eq!(line.seq, 7);
        assert_eq!(line.archived_at, at());
        let message = message(line);
        assert_eq!(&*message.topic, b"inbox/bob");
        assert_eq!(&*message.payload, br#"{"v":1,"to":"bob","rest":"x"}"#);
        assert_eq!((message.verified, message.error), (None, None));
    }

    #[test]
    fn what_is_known_of_the_signature_stands_before_the_envelope_and_is_no_part_of_it() {
        for verified in [Verified::True, Verified::False, Verified::Unknown] {
            let mut out = Vec::new();
            write_message(&mut out, 7, at(), Some(verified), br#"{"v":1,"to":"bob"}"#);
            let text = std::str::from_utf8(&out).unwrap();
            let expected = format!(r#"1700000000.123,"verified":{},"v":1"#, verified.as_json());
            assert!(text.contains(&expected), "{text}");
            let message = message(Line::parse(strip_newline(&out)).unwrap());
            assert_eq!(message.verified, Some(verified));
            assert_eq!(&*message.payload, br#"{"v":1,"to":"bob"}"#);
        }
    }

    #[test]
    fn a_bundle_is_kept_as_its_own_bytes_and_came_on_its_users_topic() {
        let mut out = Vec::new();
        write_message(&mut out, 7, at(), None, br#"{"v":1,"user":"bob"}"#);
        let message = message(Line::parse(strip_newline(&out)).unwrap());
        assert_eq!(&*message.topic, b"keys/bob");
        assert_eq!(&*message.payload, br#"{"v":1,"user":"bob"}"#);
    }

    #[test]
    fn the_archives_own_lines_come_back() {
        let leaf = Hash::of_leaf(b"a line");
        let body = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            write(&mut out);
            let stripped = strip_newline(&out).to_vec();
            let line = Line::parse(&stripped).unwrap();
            assert_eq!((line.seq, line.archived_at), (9, at()));
            format!("{:?}", line.body)
        };
        let reason = Cow::Borrowed("asked \"so\"\nby bob");
        let erased = Erased {
            seq: 7,
            archived_at: Timestamp::parse("1600000000.000").unwrap(),
            digest: Digest::of(b"inbox/bob", b"a payload"),
            leaf,
        };
        assert_eq!(
            body(&|out| write_erasure(out, 9, at(), &erased, &reason)),
            format!(
                "{:?}",
                Body::Erasure {
                    erased,
                    reason: reason.clone()
                }
            )
        );
        assert_eq!(
            body(&|out| write_retirement(out, 9, at(), 8, leaf, &reason)),
            format!(
                "{:?}",
                Body::Retirement {
                    retires: 8,
                    root: leaf,
                    reason: reason.clone()
                }
            )
        );
        assert_eq!(
            body(&|out| write_tombstone(out, 9, at(), 12, leaf)),
            format!(
                "{:?}",
                Body::Tombstone {
                    erased_by: 12,
                    leaf
                }
            )
        );
    }

    #[test]
    fn the_leaf_of_a_tombstone_is_that_of_the_line_which_was_there() {
        let mut out = Vec::new();
        write_message(&mut out, 9, at(), None, br#"{"v":1,"to":"bob"}"#);
        let leaf = Line::parse(strip_newline(&out))
            .unwrap()
            .leaf(strip_newline(&out));
        assert_eq!(leaf, Hash::of_leaf(strip_newline(&out)));
        let mut tombstone = Vec::new();
        write_tombstone(&mut tombstone, 9, at(), 12, leaf);
        let tombstone = strip_newline(&tombstone);
        assert_eq!(Line::parse(tombstone).unwrap().leaf(tombstone), leaf);
    }

    #[test]
    fn what_is_no_envelope_is_kept_as_base64_with_the_reason() {
        let mut out = Vec::new();
        write_unfit(
            &mut out,
            8,
            at(),
            b"inbox/bob",
            "not \"JSON\"",
            b"\x00\xff\n",
        );
        let text = String::from_utf8(out.clone()).unwrap();
        assert_eq!(
            text,
            "{\"seq\":8,\"archived_at\":1700000000.123,\"topic\":\"inbox/bob\",\"error\":\"not \\\"JSON\\\"\",\"raw\":\"AP8K\"}\n"
        );
        let message = message(Line::parse(strip_newline(&out)).unwrap());
        assert_eq!(&*message.payload, b"\x00\xff\n");
        assert_eq!(message.error.as_deref(), Some("not \"JSON\""));
    }

    #[test]
    fn damaged_lines_are_refused() {
        for damaged in [
            "",
            "{}",
            r#"{"seq":0,"archived_at":1.000,"to":"bob"}"#,
            r#"{"seq":01,"archived_at":1.000,"to":"bob"}"#,
            r#"{"seq":+1,"archived_at":1.000,"to":"bob"}"#,
            r#"{"seq":1,"archived_at":1.0,"to":"bob"}"#,
            r#"{"seq":1,"archived_at":1.000,"to":"bob""#,
            r#"{"seq":1,"archived_at":1.000,"to":"bob"}}"#,
            r#"{"seq":1,"archived_at":1.000,"to":"Bob"}"#,
            r#"{"seq":1,"archived_at":1.000,"from":"bob"}"#,
            r#"{"seq":1,"archived_at":1.000,"topic":"t","error":"e"}"#,
            r#"{"seq":1,"archived_at":1.000,"topic":"t","error":"e","raw":"*"}"#,
            r#"{"seq":1,"archived_at":1.000,"topic":"t","topic_raw":"dA==","error":"e","raw":""}"#,
            r#"{"seq":1,"archived_at":1.000,"topic":"t","error":"e","raw":"","more":1}"#,
            r#"{"seq":1,"archived_at":1.000,"to":"bob","user":"bob"}"#,
            r#"{"seq":2,"archived_at":1.000,"erases":1,"line_archived_at":1.000,"digest":"AAAA","leaf":"AAAA","reason":""}"#,
            r#"{"seq":2,"archived_at":1.000,"erases":1,"line_archived_at":1.0,"digest":"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=","leaf":"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=","reason":""}"#,
            r#"{"seq":2,"archived_at":1.000,"erases":1,"leaf":"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=","reason":""}"#,
            r#"{"seq":1,"archived_at":1.000,"erased_by":2}"#,
            r#"{"seq":1,"archived_at":1.000,"retires":2,"root":"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="}"#,
            r#"{"seq":9007199254740992,"archived_at":1.000,"to":"bob"}"#,
            r#"{"seq":99999999999999999999,"archived_at":1.000,"to":"bob"}"#,
        ] {
            assert!(Line::parse(damaged.as_bytes()).is_err(), "{damaged}");
        }
    }

    proptest! {
        #[test]
        fn any_topic_and_payload_come_back_from_their_line(
            seq in 1..=MAX_SEQ,
            millis in 0_u64..=9_999_999_999_999,
            topic in proptest::collection::vec(any::<u8>(), 0..80),
            error in "\\PC{0,40}",
            payload in proptest::collection::vec(any::<u8>(), 0..600),
        ) {
            let at = Timestamp::from_millis(millis).unwrap();
            let mut out = Vec::new();
            write_unfit(&mut out, seq, at, &topic, &error, &payload);
            let line = Line::parse(strip_newline(&out)).unwrap();
            prop_assert_eq!(line.seq, seq);
            prop_assert_eq!(line.archived_at, at);
            let message = message(line);
            prop_assert_eq!(&*message.topic, &topic[..]);
            prop_assert_eq!(&*message.payload, &payload[..]);
            prop_assert_eq!(message.error.as_deref(), Some(&*error));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Line::parse(&bytes);
        }
    }
}
