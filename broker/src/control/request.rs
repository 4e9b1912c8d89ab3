//! What is said over the control socket.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Bytes of the longest request: a key, a hash and names fit many times over.
pub const MAX_REQUEST: u64 = 16 * 1024;
/// Bytes of the longest line of an answer.
pub const MAX_ANSWER: u64 = 64 * 1024;

/// What the broker is asked to do. No secret is in it: of an invitation it has the public key, of a password the hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// List users, a page at a time.
    Users {
        /// Those whose names come after this one.
        #[serde(default)]
        after: Option<String>,
    },
    /// Register a name, with an identity key or without one.
    AddUser {
        /// The name.
        user: String,
        /// The identity key, in base64.
        #[serde(default)]
        key: Option<String>,
    },
    /// Offer a name to whoever holds an invitation.
    Invite {
        /// The name.
        user: String,
        /// The invitation's public key, in base64.
        key: String,
        /// Until when, in milliseconds since the epoch.
        expires: u64,
    },
    /// Let a user act again.
    Enable {
        /// The name.
        user: String,
    },
    /// Let a user act no more, and end their connections.
    Disable {
        /// The name.
        user: String,
    },
    /// Remove a user for good; the name stays reserved.
    Remove {
        /// The name.
        user: String,
    },
    /// Unbind a name from its identity and offer it to whoever holds an invitation.
    ResetIdentity {
        /// The name.
        user: String,
        /// The invitation's public key, in base64.
        key: String,
        /// Until when, in milliseconds since the epoch.
        expires: u64,
    },
    /// Set a user's static password, or take it away.
    SetPassword {
        /// The name.
        user: String,
        /// The PHC string.
        #[serde(default)]
        hash: Option<String>,
    },
    /// Write a backup.
    Backup {
        /// The file, with its whole path; there must be none of that name.
        file: PathBuf,
    },
    /// Say that the broker is not ready any more, and end it as SIGTERM does.
    Drain {},
    /// Read the rule file again, and open the audit log again. What is bad changes nothing.
    Reload {},
}

/// A line of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// Something that was asked for; more follows.
    Item {
        /// What.
        value: Value,
    },
    /// It is done; the last line.
    Done,
    /// It is not done; the last line.
    Failed {
        /// Why.
        message: String,
        /// What to do; may be empty.
        hint: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_lines_that_anybody_can_write() {
        for (line, request) in [
            (r#"{"do":"users"}"#, Request::Users { after: None }),
            (
                r#"{"do":"disable","user":"alice"}"#,
                Request::Disable {
                    user: "alice".into(),
                },
            ),
            (r#"{"do":"reload"}"#, Request::Reload {}),
        ] {
            assert_eq!(serde_json::from_str::<Request>(line).unwrap(), request);
        }
        for bad in [
            r#"{"do":"disable","user":"alice","now":true}"#,
            r#"{"do":"disable"}"#,
            r#"{"do":"fly"}"#,
            r#"{"do":"reload","x":1}"#,
            "[]",
        ] {
            assert!(serde_json::from_str::<Request>(bad).is_err(), "{bad}");
        }
    }
}
