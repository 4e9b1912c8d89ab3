//! What is asked for over the control socket.

use std::path::PathBuf;

use sealpost_core::Timestamp;
use serde::{Deserialize, Serialize};

use sealpost_service::seconds;

/// Bytes of the longest request: a key, a hash and names fit many times over.
pub const MAX_REQUEST: u64 = 16 * 1024;

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
        /// Until when.
        #[serde(with = "seconds")]
        expires: Timestamp,
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
        /// Until when.
        #[serde(with = "seconds")]
        expires: Timestamp,
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
    Drain {
        /// Tell how far it has come, until the process ends and the connection with it.
        #[serde(default)]
        wait: bool,
    },
    /// Read the rule file and certificates again, and open the audit log again. What is bad changes nothing.
    Reload {},
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
            (r#"{"do":"drain"}"#, Request::Drain { wait: false }),
            (
                r#"{"do":"invite","user":"alice","key":"x","expires":1700000000.5}"#,
                Request::Invite {
                    user: "alice".into(),
                    key: "x".into(),
                    expires: Timestamp::from_millis(1_700_000_000_500).unwrap(),
                },
            ),
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
