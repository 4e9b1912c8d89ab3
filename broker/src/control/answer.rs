//! What the broker answers over the control socket.

use sealpost_core::{Timestamp, UserId};
use serde::{Deserialize, Serialize};

use crate::access::registry::{Record, Standing};
use sealpost_service::seconds;

/// Bytes of the longest line of an answer.
pub const MAX_ANSWER: u64 = 64 * 1024;

/// A line of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Answer {
    /// More follows.
    Item(Item),
    /// The last line.
    End(End),
}

/// Something that was asked for, or how far it has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Item {
    /// A user.
    User(UserLine),
    /// A backup is being written.
    Writing,
    /// A backup is written.
    Written {
        /// Users in it.
        users: u64,
        /// Rows of the journal in it.
        rows: u64,
        /// Bytes of the file.
        bytes: u64,
    },
    /// The broker serves on for so long, and says that it will not for ever.
    Draining {
        /// The whole notice, in seconds.
        notice: u64,
    },
    /// The broker waits for its clients to go. When it has ended it closes the connection.
    Closing {
        /// Those who are still there.
        clients: u64,
    },
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum End {
    /// It is done.
    Done,
    /// It is not done.
    Failed {
        /// Why.
        message: String,
        /// What to do; may be empty. Commands of this program stand between backquotes.
        hint: String,
    },
}

/// A user, as a list shows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserLine {
    /// The name.
    pub user: String,
    /// Whether they may act.
    pub standing: Shown,
    /// The identity's fingerprint.
    pub identity: Option<String>,
    /// When the name was taken.
    #[serde(with = "seconds")]
    pub registered: Timestamp,
    /// Until when an invitation waits.
    #[serde(with = "seconds::maybe")]
    pub invited_until: Option<Timestamp>,
    /// When they last signed in, if that is known.
    #[serde(with = "seconds::maybe")]
    pub last_login: Option<Timestamp>,
    /// Whether they have a static password.
    pub password: bool,
    /// The sequence number of the key bundle that others find.
    pub bundle: Option<u64>,
}

/// Whether somebody may act under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shown {
    /// Yes.
    Active,
    /// As soon as they come with the invitation that waits.
    Invited,
    /// Not until the operator says so.
    Disabled,
    /// Never again.
    Removed,
}

impl Shown {
    /// In a word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Shown::Active => "active",
            Shown::Invited => "invited",
            Shown::Disabled => "disabled",
            Shown::Removed => "removed",
        }
    }
}

impl UserLine {
    /// What a list shows of a record.
    #[must_use]
    pub fn new(user: &UserId, record: &Record) -> UserLine {
        // Whoever has a certificate needs neither identity nor password.
        let waits =
            record.invitation.is_some() && record.identity.is_none() && record.password.is_none();
        UserLine {
            user: user.to_string(),
            standing: match record.standing {
                Standing::Active if waits => Shown::Invited,
                Standing::Active => Shown::Active,
                Standing::Disabled => Shown::Disabled,
                Standing::Removed => Shown::Removed,
            },
            identity: record.identity.map(|identity| identity.fingerprint()),
            registered: record.registered,
            invited_until: record.invitation.map(|invitation| invitation.expires),
            last_login: record.last_login,
            password: record.password.is_some(),
            bundle: record.published(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_lines_that_anybody_can_read() {
        let line = UserLine {
            user: "alice".into(),
            standing: Shown::Invited,
            identity: None,
            registered: Timestamp::from_millis(1_700_000_000_120).unwrap(),
            invited_until: Some(Timestamp::from_millis(1_700_000_001_000).unwrap()),
            last_login: None,
            password: false,
            bundle: Some(7),
        };
        let failed = End::Failed {
            message: "no".into(),
            hint: String::new(),
        };
        for (answer, written) in [
            (
                Answer::Item(Item::User(line)),
                r#"{"answer":"user","user":"alice","standing":"invited","identity":null,"registered":1700000000.120,"invited_until":1700000001.000,"last_login":null,"password":false,"bundle":7}"#,
            ),
            (Answer::Item(Item::Writing), r#"{"answer":"writing"}"#),
            (
                Answer::Item(Item::Closing { clients: 3 }),
                r#"{"answer":"closing","clients":3}"#,
            ),
            (Answer::End(End::Done), r#"{"answer":"done"}"#),
            (
                Answer::End(failed),
                r#"{"answer":"failed","message":"no","hint":""}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&answer).unwrap(), written);
            assert_eq!(serde_json::from_str::<Answer>(written).unwrap(), answer);
        }
    }
}
