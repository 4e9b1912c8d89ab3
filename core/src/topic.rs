//! Topics and filters. This is the one place that reads or writes a `/`.

use core::fmt;
use core::str::FromStr;

use crate::name::{NameError, UserId};

/// The room where users publish their key bundles, retained.
const KEYS: &str = "keys";
/// The room where sealed envelopes go, never retained.
const INBOX: &str = "inbox";

/// Why a text is not one of the protocol's topics or filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// It is neither in `keys/` nor in `inbox/`, or has more or fewer levels than two.
    #[error("the protocol has no such topic")]
    Unknown,
    /// The level after the room is not a user's name.
    #[error("the topic names no user: {0}")]
    BadUser(#[source] NameError),
}

/// A topic one can publish to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// `keys/<user>`: the user's signed key bundle, retained.
    Keys(UserId),
    /// `inbox/<user>`: sealed envelopes for the user, at QoS 1, never retained.
    Inbox(UserId),
}

impl Topic {
    /// Reads a topic name.
    ///
    /// # Errors
    /// When it is not `keys/<user>` or `inbox/<user>`.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        let (room, name) = text.split_once('/').ok_or(TopicError::Unknown)?;
        let make = match room {
            KEYS => Self::Keys,
            INBOX => Self::Inbox,
            _ => return Err(TopicError::Unknown),
        };
        UserId::parse(name).map(make).map_err(TopicError::BadUser)
    }

    /// Whose topic it is: who publishes the keys, who reads the inbox.
    #[must_use]
    pub fn owner(&self) -> &UserId {
        match self {
            Self::Keys(user) | Self::Inbox(user) => user,
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keys(user) => write!(f, "{KEYS}/{user}"),
            Self::Inbox(user) => write!(f, "{INBOX}/{user}"),
        }
    }
}

impl FromStr for Topic {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Self, TopicError> {
        Self::parse(text)
    }
}

/// A filter one can subscribe to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TopicFilter {
    /// `keys/<user>`
    Keys(UserId),
    /// `inbox/<user>`
    Inbox(UserId),
    /// `keys/+`: every key bundle.
    EveryKeys,
    /// `inbox/+`: every envelope; the archiver's.
    EveryInbox,
}

impl TopicFilter {
    /// Reads a filter, without a `$share/` prefix.
    ///
    /// # Errors
    /// When it is none of `keys/<user>`, `inbox/<user>`, `keys/+` and `inbox/+`.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        match text.split_once('/') {
            Some((KEYS, "+")) => Ok(Self::EveryKeys),
            Some((INBOX, "+")) => Ok(Self::EveryInbox),
            _ => Topic::parse(text).map(Self::from),
        }
    }

    /// Whether a message on `topic` is for this filter.
    #[must_use]
    pub fn matches(&self, topic: &Topic) -> bool {
        match (self, topic) {
            (Self::EveryKeys, Topic::Keys(_)) | (Self::EveryInbox, Topic::Inbox(_)) => true,
            (Self::Keys(mine), Topic::Keys(its)) | (Self::Inbox(mine), Topic::Inbox(its)) => {
                mine == its
            }
            _ => false,
        }
    }
}

impl From<Topic> for TopicFilter {
    fn from(topic: Topic) -> Self {
        match topic {
            Topic::Keys(user) => Self::Keys(user),
            Topic::Inbox(user) => Self::Inbox(user),
        }
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keys(user) => write!(f, "{KEYS}/{user}"),
            Self::Inbox(user) => write!(f, "{INBOX}/{user}"),
            Self::EveryKeys => write!(f, "{KEYS}/+"),
            Self::EveryInbox => write!(f, "{INBOX}/+"),
        }
    }
}

impl FromStr for TopicFilter {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Self, TopicError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn bob() -> UserId {
        UserId::parse("bob").unwrap()
    }

    #[test]
    fn a_topic_is_a_room_and_a_user() {
        assert_eq!(Topic::parse("keys/bob"), Ok(Topic::Keys(bob())));
        assert_eq!(Topic::parse("inbox/bob"), Ok(Topic::Inbox(bob())));
        assert_eq!(Topic::Inbox(bob()).to_string(), "inbox/bob");
        assert_eq!(Topic::Keys(bob()).owner(), &bob());
        for bad in [
            "",
            "keys",
            "keys/",
            "/bob",
            "inbox/bob/x",
            "Inbox/bob",
            "inbox//bob",
            "inbox/+",
            "inbox/#",
            "$SYS/x",
        ] {
            assert!(Topic::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_filter_is_a_topic_or_a_whole_room() {
        for good in ["keys/bob", "inbox/bob", "keys/+", "inbox/+"] {
            assert_eq!(TopicFilter::parse(good).unwrap().to_string(), good);
        }
        for bad in [
            "#",
            "+",
            "+/bob",
            "keys/#",
            "inbox/#",
            "inbox/+/x",
            "$share/g/inbox/+",
            "inbox/b+",
        ] {
            assert!(TopicFilter::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_filter_matches_its_own_room_only() {
        let inbox = Topic::Inbox(bob());
        assert!(TopicFilter::EveryInbox.matches(&inbox));
        assert!(TopicFilter::Inbox(bob()).matches(&inbox));
        assert!(!TopicFilter::EveryKeys.matches(&inbox));
        assert!(!TopicFilter::Keys(bob()).matches(&inbox));
        assert!(!TopicFilter::Inbox(UserId::parse("alice").unwrap()).matches(&inbox));
    }
}
