//! One line of `encrypted_logs.jsonl`: how a message becomes a line, and how a line gives the
//! message back.
//!
//! A message that is an envelope for its topic's owner is kept as its own bytes, with two members
//! put in front:
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
//! in `topic_raw` in the place of `topic`. An envelope's first member is `v`, so the two kinds
//! cannot be confused. Either way topic and payload can be recovered exactly, which is what makes
//! de-duplication across restarts exact as well.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sealpost_core::{Timestamp, Topic, UserId};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// The greatest line number: the greatest integer that every JSON reader takes exactly.
pub const MAX_SEQ: u64 = (1 << 53) - 1;

/// Appends to `out` the line that keeps an envelope, newline included.
///
/// `payload` is an envelope in its one encoding: it starts with `{` and has no newline.
/// [`crate::arrival`] makes sure.
pub fn write_envelope(out: &mut Vec<u8>, seq: u64, archived_at: Timestamp, payload: &[u8]) {
    write_head(out, seq, archived_at);
    out.extend_from_slice(payload.get(1..).unwrap_or_default());
    out.push(b'\n');
}

/// Appends to `out` the line that keeps a payload which is no envelope for its topic, newline
/// included.
pub fn write_unfit(
    out: &mut Vec<u8>,
    seq: u64,
    archived_at: Timestamp,
    topic: &[u8],
    error: &str,
    payload: &[u8],
) {
    write_head(out, seq, archived_at);
    match std::str::from_utf8(topic) {
        Ok(topic) => {
            out.extend_from_slice(b"\"topic\":");
            write_json_string(out, topic);
        }
        Err(_) => {
            out.extend_from_slice(b"\"topic_raw\":\"");
            out.extend_from_slice(STANDARD.encode(topic).as_bytes());
            out.push(b'"');
        }
    }
    out.extend_from_slice(b",\"error\":");
    write_json_string(out, error);
    out.extend_from_slice(b",\"raw\":\"");
    out.extend_from_slice(STANDARD.encode(payload).as_bytes());
    out.extend_from_slice(b"\"}\n");
}

fn write_head(out: &mut Vec<u8>, seq: u64, archived_at: Timestamp) {
    out.extend_from_slice(format!("{{\"seq\":{seq},\"archived_at\":{archived_at},").as_bytes());
}

fn write_json_string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes());
}

/// A line read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<'a> {
    /// Its place in the log: 1, 2, 3, …
    pub seq: u64,
    /// When it was written, by the archiver's clock.
    pub archived_at: Timestamp,
    /// The topic the message came on.
    pub topic: Cow<'a, [u8]>,
    /// The message's payload, byte for byte.
    pub payload: Cow<'a, [u8]>,
    /// Why the payload is not an envelope for its topic; `None` when it is one.
    pub error: Option<Cow<'a, str>>,
}

/// Why some bytes are not a line of the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// It does not begin with `{"seq":N,"archived_at":SECONDS.mmm,`.
    #[error("it does not begin with \"seq\" and \"archived_at\"")]
    Head,
    /// It is not one JSON object with the members of either kind of line.
    #[error("it is not the JSON of a line: {0}")]
    Json(String),
    /// The envelope's `to` is not a user name.
    #[error("its \"to\" is not a user name")]
    Recipient,
    /// `raw` or `topic_raw` is not base64.
    #[error("its \"{0}\" is not base64")]
    Base64(&'static str),
    /// It has neither `topic` nor `topic_raw`, or both.
    #[error("it must have one of \"topic\" and \"topic_raw\"")]
    Topic,
}

/// Of an envelope's line only the recipient is needed; the JSON is checked to its end all the same.
#[derive(Deserialize)]
struct EnvelopeMembers<'a> {
    #[serde(borrow)]
    to: Cow<'a, str>,
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

impl<'a> Line<'a> {
    /// Reads one line, given without its newline.
    pub fn parse(line: &'a [u8]) -> Result<Line<'a>, LineError> {
        let (seq, archived_at, rest) = split_head(line).ok_or(LineError::Head)?;
        let json = |error: serde_json::Error| LineError::Json(error.to_string());
        if rest.starts_with(b"\"topic") {
            let unfit: UnfitMembers<'a> = serde_json::from_slice(line).map_err(json)?;
            let topic = match (unfit.topic, unfit.topic_raw) {
                (Some(Cow::Borrowed(topic)), None) => Cow::Borrowed(topic.as_bytes()),
                (Some(Cow::Owned(topic)), None) => Cow::Owned(topic.into_bytes()),
                (None, Some(raw)) => Cow::Owned(decode("topic_raw", &raw)?),
                _ => return Err(LineError::Topic),
            };
            let payload = Cow::Owned(decode("raw", &unfit.raw)?);
            return Ok(Line {
                seq,
                archived_at,
                topic,
                payload,
                error: Some(unfit.error),
            });
        }
        let envelope: EnvelopeMembers<'a> = serde_json::from_slice(line).map_err(json)?;
        let to = UserId::parse(&envelope.to).map_err(|_| LineError::Recipient)?;
        let topic = Cow::Owned(Topic::Inbox(to).to_string().into_bytes());
        let mut payload = Vec::with_capacity(rest.len() + 1);
        payload.push(b'{');
        payload.extend_from_slice(rest);
        Ok(Line {
            seq,
            archived_at,
            topic,
            payload: Cow::Owned(payload),
            error: None,
        })
    }
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
        write_envelope(&mut out, 7, at(), br#"{"v":1,"to":"bob","rest":"x"}"#);
        assert_eq!(
            out,
            b"{\"seq\":7,\"archived_at\":1700000000.123,\"v\":1,\"to\":\"bob\",\"rest\":\"x\"}\n"
        );
        let line = Line::parse(strip_newline(&out)).unwrap();
        assert_eq!(line.seq, 7);
        assert_eq!(line.archived_at, at());
        assert_eq!(&*line.topic, b"inbox/bob");
        assert_eq!(&*line.payload, br#"{"v":1,"to":"bob","rest":"x"}"#);
        assert_eq!(line.error, None);
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
        let line = Line::parse(strip_newline(&out)).unwrap();
        assert_eq!(&*line.payload, b"\x00\xff\n");
        assert_eq!(line.error.as_deref(), Some("not \"JSON\""));
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
            prop_assert_eq!(&*line.topic, &topic[..]);
            prop_assert_eq!(&*line.payload, &payload[..]);
            prop_assert_eq!(line.error.as_deref(), Some(&*error));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Line::parse(&bytes);
        }
    }
}
