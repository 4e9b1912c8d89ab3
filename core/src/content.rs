//! Content: what a message says, once opened. A JSON object with a `kind`, padded with spaces before it is encrypted.
//!
//! Kinds grow; a reader that does not know one carries it and says so, it never refuses it. Nothing is compressed: the
//! length of compressed text tells about its content.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use zeroize::Zeroizing;

use crate::conversation::{Edit, Reply};
use crate::envelope::TAG_LEN;
use crate::json::{EncodingError, Object};
use crate::padding::{MAX_PLAINTEXT, padded_length};
use crate::receipt::{RECEIPT, Receipt};

/// The kind of [`Content::Text`].
const TEXT: &str = "text";
/// The longest name of a kind, in bytes.
const MAX_KIND: usize = 64;

/// Why something cannot be a message's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContentError {
    /// It would have more than [`MAX_PLAINTEXT`] bytes.
    #[error(
        "the message is too long: as JSON it has {length} bytes, at most {MAX_PLAINTEXT} are allowed"
    )]
    TooLong {
        /// How many bytes it has, as JSON.
        length: usize,
    },
    /// It is not one JSON object.
    #[error("the content is malformed: {0}")]
    Encoding(#[source] EncodingError),
    /// A member occurs twice, so two readers could read two messages.
    #[error("a member of the content occurs twice")]
    DuplicateMember,
    /// It has no `kind`, or one that is not `[a-z0-9][a-z0-9._-]{0,63}`.
    #[error("the content has no kind")]
    BadKind,
    /// Its `kind` is `text`, but `text` is missing or is no string.
    #[error("the content has no text")]
    BadText,
    /// Its `kind` is `receipt`, but it names no messages, too many, or one by something that is no id and digest.
    #[error("the content is no receipt")]
    BadReceipt,
    /// The `kind` beside the JSON is not the one in it.
    #[error("the content is of another kind than stated")]
    OtherKind,
}

/// What a message says. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// `{"kind":"text","text":…}`: something to read. It is the sender's choice to the last character: strip control
    /// sequences before showing it.
    Text {
        /// The text.
        text: String,
    },
    /// A text that answers a message.
    Reply(Reply),
    /// A text in place of that of an earlier message.
    Edit(Edit),
    /// `{"kind":"receipt",…}`: messages of ours that arrived.
    Receipt(Receipt),
    /// Any other kind: `reading`, `file`, or one that is yet to be invented.
    Other {
        /// Its kind.
        kind: String,
        /// The whole object, `kind` included.
        json: String,
    },
}

impl Content {
    /// Reads a JSON object with a `kind`. Members that the kind does not have are ignored.
    ///
    /// # Errors
    /// When it is not one object, has a member twice, or has no proper `kind`.
    pub fn parse(json: &str) -> Result<Self, ContentError> {
        let object = Object::parse(json).map_err(ContentError::Encoding)?;
        if object.has_duplicate() {
            return Err(ContentError::DuplicateMember);
        }
        let string = |member| {
            object
                .raw(member)
                .and_then(|raw| serde_json::from_str::<String>(raw).ok())
        };
        let kind = string("kind")
            .filter(|kind| is_kind(kind))
            .ok_or(ContentError::BadKind)?;
        if kind == TEXT {
            let text = string("text").ok_or(ContentError::BadText)?;
            if let Some(of) = Edit::read_target(&object) {
                return Ok(Self::Edit(Edit { text, of }));
            }
            return Ok(match Reply::read_target(&object) {
                Some(to) => Self::Reply(Reply { text, to }),
                None => Self::Text { text },
            });
        }
        if kind == RECEIPT {
            return Receipt::read(&object)
                .map(Self::Receipt)
                .ok_or(ContentError::BadReceipt);
        }
        Ok(Self::Other {
            kind,
            json: json.to_owned(),
        })
    }

    /// The kind.
    #[must_use]
    pub fn kind(&self) -> &str {
        match self {
            Self::Text { .. } | Self::Reply(_) | Self::Edit(_) => TEXT,
            Self::Receipt(_) => RECEIPT,
            Self::Other { kind, .. } => kind,
        }
    }

    /// The text of a text, be it an answer or an edit.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text { text } => Some(text),
            Self::Reply(reply) => Some(&reply.text),
            Self::Edit(edit) => Some(&edit.text),
            Self::Receipt(_) | Self::Other { .. } => None,
        }
    }

    /// The JSON object, without padding.
    ///
    /// # Errors
    /// When [`Content::Other`] holds something that [`parse`](Self::parse) would not read as that kind.
    pub fn to_json(&self) -> Result<String, ContentError> {
        match self {
            Self::Text { text } => text_json(text, ""),
            Self::Reply(Reply { text, to }) => text_json(
                text,
                &format!(r#","reply":{{"from":"{}","id":"{}"}}"#, to.from, to.id),
            ),
            Self::Edit(Edit { text, of }) => text_json(text, &format!(r#","edits":"{of}""#)),
            Self::Receipt(receipt) => Ok(receipt.to_json()),
            Self::Other { kind, json } => match Self::parse(json)? {
                Self::Other { kind: stated, .. } if stated == *kind => Ok(json.clone()),
                _ => Err(ContentError::OtherKind),
            },
        }
    }

    /// The plaintext: JSON and spaces, with room for the tag, so that encrypting in place leaves no copy behind.
    pub(crate) fn to_plaintext(&self) -> Result<Zeroizing<Vec<u8>>, ContentError> {
        let json = Zeroizing::new(self.to_json()?);
        let length = json.len();
        if length > MAX_PLAINTEXT {
            return Err(ContentError::TooLong { length });
        }
        let mut plaintext = Vec::with_capacity(padded_length(length) + TAG_LEN);
        plaintext.extend_from_slice(json.as_bytes());
        plaintext.resize(padded_length(length), b' ');
        Ok(Zeroizing::new(plaintext))
    }

    /// Reads a plaintext and drops the padding.
    pub(crate) fn from_plaintext(plaintext: &[u8]) -> Result<Self, ContentError> {
        let text = core::str::from_utf8(plaintext)
            .map_err(|_| ContentError::Encoding(EncodingError::NotUtf8))?;
        Self::parse(text.trim_end_matches(' '))
    }
}

/// The JSON of a text, with more members behind it.
fn text_json(text: &str, more: &str) -> Result<String, ContentError> {
    let mut json = String::from(r#"{"kind":"text","text":"#);
    json.push_str(&serde_json::to_string(text).map_err(|_| ContentError::BadText)?);
    json.push_str(more);
    json.push('}');
    Ok(json)
}

/// `[a-z0-9][a-z0-9._-]{0,63}`: safe to show, to log and to match on.
fn is_kind(text: &str) -> bool {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    text.len() <= MAX_KIND
        && text.bytes().all(allowed)
        && text.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({}, redacted)", self.kind())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Content {
        Content::Text {
            text: text.to_owned(),
        }
    }

    #[test]
    fn a_text_is_padded_json() {
        let plaintext = text("Hello \"Bob\"!\n").to_plaintext().unwrap();
        assert_eq!(plaintext.len(), 256);
        assert!(plaintext.starts_with(br#"{"kind":"text","text":"Hello \"Bob\"!\n"}  "#));
        assert_eq!(
            Content::from_plaintext(&plaintext).unwrap(),
            text("Hello \"Bob\"!\n")
        );
    }

    #[test]
    fn spaces_at_the_end_of_a_text_are_not_padding() {
        let plaintext = text("so   ").to_plaintext().unwrap();
        assert_eq!(Content::from_plaintext(&plaintext).unwrap(), text("so   "));
    }

    #[test]
    fn unknown_kinds_are_carried_whole() {
        let json = r#"{"kind":"reading","celsius":21.5}"#;
        let content = Content::parse(json).unwrap();
        assert_eq!(
            content,
            Content::Other {
                kind: "reading".to_owned(),
                json: json.to_owned()
            }
        );
        let plaintext = content.to_plaintext().unwrap();
        assert_eq!(Content::from_plaintext(&plaintext).unwrap(), content);
    }

    #[test]
    fn unknown_members_of_a_known_kind_are_ignored() {
        assert_eq!(
            Content::parse(r#"{"lang":"en","text":"hi","kind":"text"}"#).unwrap(),
            text("hi")
        );
    }

    #[test]
    fn content_that_is_ambiguous_or_has_no_kind_is_refused() {
        for (json, error) in [
            ("", ContentError::Encoding(EncodingError::Truncated)),
            ("[]", ContentError::Encoding(EncodingError::NotAnObject)),
            (
                r#"{"kind":"text","text":"a"} x"#,
                ContentError::Encoding(EncodingError::TrailingBytes),
            ),
            (
                r#"{"kind":"text","text":"hi","\ud83d":1}"#,
                ContentError::Encoding(EncodingError::NotJson),
            ),
            (r#"{}"#, ContentError::BadKind),
            (r#"{"kind":1}"#, ContentError::BadKind),
            (r#"{"kind":""}"#, ContentError::BadKind),
            (r#"{"kind":"Text"}"#, ContentError::BadKind),
            (r#"{"kind":"a\u001b[2J"}"#, ContentError::BadKind),
            (r#"{"kind":"text"}"#, ContentError::BadText),
            (r#"{"kind":"text","text":7}"#, ContentError::BadText),
        ] {
            assert_eq!(Content::parse(json), Err(error), "{json}");
        }
        let twice = Content::parse(r#"{"kind":"text","text":"a","text":"b"}"#);
        assert_eq!(twice, Err(ContentError::DuplicateMember));
        assert_eq!(
            Content::from_plaintext(&[0xff; 256]),
            Err(ContentError::Encoding(EncodingError::NotUtf8))
        );
        assert!(Content::from_plaintext(&[b' '; 256]).is_err());
    }

    #[test]
    fn a_kind_that_contradicts_its_json_is_refused() {
        let content = Content::Other {
            kind: "receipt".to_owned(),
            json: r#"{"kind":"reading"}"#.to_owned(),
        };
        assert_eq!(content.to_json(), Err(ContentError::OtherKind));
    }

    #[test]
    fn the_longest_text_fits_exactly() {
        let longest = MAX_PLAINTEXT - r#"{"kind":"text","text":""}"#.len();
        assert_eq!(
            text(&"x".repeat(longest)).to_plaintext().unwrap().len(),
            MAX_PLAINTEXT
        );
        let error = text(&"x".repeat(longest + 1)).to_plaintext().unwrap_err();
        assert_eq!(
            error,
            ContentError::TooLong {
                length: MAX_PLAINTEXT + 1
            }
        );
    }

    #[test]
    fn debug_shows_no_text() {
        assert_eq!(format!("{:?}", text("secret")), "Content(text, redacted)");
    }
}
