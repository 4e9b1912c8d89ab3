//! What conversations need beyond texts: a text that answers or edits another, a deletion, and after how long messages
//! disappear.
//!
//! Replies and edits are texts with one more member, so that a reader who does not know it shows a text. Deletions and timers are
//! kinds of content that no reader has to know: what is not of their form is content of another kind, carried and shown as any
//! other. None of them says who sent it: that is the envelope's `from`, so nobody can speak for another.

use alloc::format;
use alloc::string::String;
use core::fmt;
use core::time::Duration;

use crate::bundle::{MAX_CLOCK_SKEW, MAX_SEQ};
use crate::content::Content;
use crate::json::Object;
use crate::message_id::MessageId;
use crate::name::UserId;
use crate::timestamp::Timestamp;

/// The kind of a [`Deletion`].
const DELETE: &str = "delete";
/// The kind of an [`Expiry`].
const EXPIRY: &str = "expiry";

/// How many edits of one message count: enough for slips, and whoever rewrites a message for ever fills nothing.
pub const MAX_EDITS: u32 = 10;

/// A message of a conversation of two, by name: ids are their senders' own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageRef {
    /// Who wrote it.
    pub from: UserId,
    /// Its id.
    pub id: MessageId,
}

/// `{"kind":"text","text":…,"reply":{"from":…,"id":…}}`: a text that answers a message. It repeats nothing of that one: what is
/// shown as a quotation is what its reader has. `Debug` does not show the text.
#[derive(Clone, PartialEq, Eq)]
pub struct Reply {
    /// The text.
    pub text: String,
    /// What it answers.
    pub to: MessageRef,
}

/// `{"kind":"text","text":…,"edits":…}`: a text in place of that of an earlier message of the same sender. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Edit {
    /// The text that counts from now on.
    pub text: String,
    /// The id of the message, which is never that of an edit.
    pub of: MessageId,
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reply({:?}, redacted)", self.to)
    }
}

impl fmt::Debug for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Edit({}, redacted)", self.of)
    }
}

impl Reply {
    /// The member of a text; `None` when there is none, or none of this form.
    pub(crate) fn read_target(object: &Object<'_>) -> Option<MessageRef> {
        let reply = Object::parse(object.raw("reply")?).ok()?;
        if reply.has_duplicate() {
            return None;
        }
        Some(MessageRef {
            from: UserId::parse(&string(&reply, "from")?).ok()?,
            id: MessageId::parse(&string(&reply, "id")?).ok()?,
        })
    }
}

impl Edit {
    /// The member of a text; `None` when there is none, or none of this form.
    pub(crate) fn read_target(object: &Object<'_>) -> Option<MessageId> {
        MessageId::parse(&string(object, "edits")?).ok()
    }
}

/// `{"kind":"delete","message":…}`: its sender takes back an earlier message of theirs. A request: what was received may have been
/// copied, and an archive keeps the ciphertext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// The id of the message, which is never that of an edit.
    pub message: MessageId,
}

impl Deletion {
    /// Reads a content; `None` when it is none of this kind and form.
    #[must_use]
    pub fn read(content: &Content) -> Option<Self> {
        let object = of_kind(content, DELETE)?;
        let message = MessageId::parse(&string(&object, "message")?).ok()?;
        Some(Self { message })
    }

    /// As the content of a message.
    #[must_use]
    pub fn to_content(self) -> Content {
        Content::Other {
            kind: DELETE.into(),
            json: format!(r#"{{"kind":"{DELETE}","message":"{}"}}"#, self.message),
        }
    }
}

/// How long messages stay: [`Lifetime::SHORTEST`] to [`Lifetime::LONGEST`], in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lifetime(u32);

impl Lifetime {
    /// Five seconds: nobody reads faster.
    pub const SHORTEST: Self = Self(5);
    /// A year of 365 days: what is to stay longer is kept.
    pub const LONGEST: Self = Self(31_536_000);

    /// From whole seconds; `None` when it is out of range.
    #[must_use]
    pub fn from_seconds(seconds: u64) -> Option<Self> {
        let lifetime = Self(u32::try_from(seconds).ok()?);
        (Self::SHORTEST..=Self::LONGEST)
            .contains(&lifetime)
            .then_some(lifetime)
    }

    /// In seconds.
    #[must_use]
    pub const fn seconds(self) -> u32 {
        self.0
    }

    /// The same as a duration.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.0 as u64)
    }
}

/// `{"kind":"expiry","seconds":…,"seq":…}`: from now on the messages of this conversation, of both sides, disappear after so long.
///
/// Either side sets it. Of two the one with the higher `seq` counts, and of equal ones the shorter, on both sides and in whatever
/// order they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    lifetime: Option<Lifetime>,
    seq: u64,
}

impl Expiry {
    /// What is set after `known`, the setting that counts so far: `None` lets messages stay.
    #[must_use]
    pub fn after(known: Option<&Self>, lifetime: Option<Lifetime>, now: Timestamp) -> Self {
        let next = known.map_or(1, |known| known.seq.saturating_add(1));
        let seq = next.max(now.millis() / 1_000).clamp(1, MAX_SEQ);
        Self { lifetime, seq }
    }

    /// A setting as it was kept; `None` when its number is none.
    #[must_use]
    pub fn with_seq(lifetime: Option<Lifetime>, seq: u64) -> Option<Self> {
        (1..=MAX_SEQ)
            .contains(&seq)
            .then_some(Self { lifetime, seq })
    }

    /// After how long messages disappear; `None`: they stay.
    #[must_use]
    pub const fn lifetime(&self) -> Option<Lifetime> {
        self.lifetime
    }

    /// Its number: 1 to 2^53 - 1, not below that of the clock in seconds with which it was made.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        self.seq
    }

    /// Whether this one counts from now on, given the one that has counted so far. One from more than a day ahead does not, so that
    /// nobody can set it for ever.
    #[must_use]
    pub fn counts_after(&self, known: Option<&Self>, now: Timestamp) -> bool {
        if self.seq > now.saturating_add(MAX_CLOCK_SKEW).millis() / 1_000 {
            return false;
        }
        let shorter = |one: Option<Lifetime>, other: Option<Lifetime>| match (one, other) {
            (Some(one), Some(other)) => one < other,
            (one, other) => one.is_some() && other.is_none(),
        };
        known.is_none_or(|known| {
            self.seq > known.seq
                || (self.seq == known.seq && shorter(self.lifetime, known.lifetime))
        })
    }

    /// Reads a content; `None` when it is none of this kind and form.
    #[must_use]
    pub fn read(content: &Content) -> Option<Self> {
        let object = of_kind(content, EXPIRY)?;
        let lifetime = match number(&object, "seconds")? {
            0 => None,
            seconds => Some(Lifetime::from_seconds(seconds)?),
        };
        Self::with_seq(lifetime, number(&object, "seq")?)
    }

    /// As the content of a message.
    #[must_use]
    pub fn to_content(&self) -> Content {
        let seconds = self.lifetime.map_or(0, Lifetime::seconds);
        Content::Other {
            kind: EXPIRY.into(),
            json: format!(
                r#"{{"kind":"{EXPIRY}","seconds":{seconds},"seq":{}}}"#,
                self.seq
            ),
        }
    }
}

fn of_kind<'a>(content: &'a Content, wanted: &str) -> Option<Object<'a>> {
    match content {
        Content::Other { kind, json } if kind == wanted => Object::parse(json).ok(),
        _ => None,
    }
}

fn string(object: &Object<'_>, member: &str) -> Option<String> {
    serde_json::from_str(object.raw(member)?).ok()
}

fn number(object: &Object<'_>, member: &str) -> Option<u64> {
    serde_json::from_str(object.raw(member)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "018bcfe5-6800-7abc-8def-0123456789ab";

    fn parse(json: &str) -> Content {
        Content::parse(json).unwrap()
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000).unwrap()
    }

    fn expiry(seconds: u64, seq: u64) -> Expiry {
        Expiry::with_seq(Lifetime::from_seconds(seconds), seq).unwrap()
    }

    #[test]
    fn each_is_read_as_it_was_written() {
        let id = MessageId::parse(ID).unwrap();
        let to = MessageRef {
            from: UserId::parse("alice").unwrap(),
            id,
        };
        let text = String::from("\"Yes\"");
        for content in [
            Content::Reply(Reply {
                text: text.clone(),
                to,
            }),
            Content::Edit(Edit { text, of: id }),
            Deletion { message: id }.to_content(),
            expiry(3_600, 7).to_content(),
            expiry(0, 7).to_content(),
        ] {
            assert_eq!(parse(&content.to_json().unwrap()), content);
        }
        let deletion = Deletion { message: id };
        assert_eq!(Deletion::read(&deletion.to_content()), Some(deletion));
        assert_eq!(Expiry::read(&expiry(5, 9).to_content()), Some(expiry(5, 9)));
    }

    #[test]
    fn the_later_setting_counts_and_of_two_at_once_the_shorter_whoever_sees_which_first() {
        let settings = [
            expiry(0, 100),
            expiry(60, 100),
            expiry(3_600, 100),
            expiry(0, 101),
        ];
        for (at_first, a) in settings.iter().enumerate() {
            for (then, b) in settings.iter().enumerate() {
                let wins =
                    |one: &Expiry, other: &Expiry| match one.counts_after(Some(other), at(100)) {
                        true => *one,
                        false => *other,
                    };
                assert_eq!(wins(a, b), wins(b, a), "{at_first} {then}");
            }
        }
        assert_eq!(expiry(60, 100), {
            let shorter = expiry(60, 100);
            assert!(shorter.counts_after(Some(&expiry(3_600, 100)), at(100)));
            assert!(shorter.counts_after(Some(&expiry(0, 100)), at(100)));
            shorter
        });
        assert!(expiry(0, 101).counts_after(Some(&expiry(60, 100)), at(100)));
    }

    #[test]
    fn nobody_sets_it_for_ever() {
        let now = at(1_700_000_000);
        let far = expiry(5, MAX_SEQ);
        assert!(!far.counts_after(None, now));
        let a_day_ahead = expiry(5, 1_700_086_400);
        assert!(a_day_ahead.counts_after(None, now));
        let next = Expiry::after(Some(&a_day_ahead), None, at(1_700_000_001));
        assert!(next.counts_after(Some(&a_day_ahead), at(1_700_000_001)));
    }
}
