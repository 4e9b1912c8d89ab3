//! What is asked for over the control socket.

use std::collections::BTreeSet;

use sealpost_archive::layout::LogName;
use sealpost_core::Timestamp;
use serde::{Deserialize, Serialize};

use sealpost_service::seconds;

/// Bytes of the longest request: the users of a hold, at most 10,000 names of 64 bytes, and two texts.
pub const MAX_REQUEST: u64 = 1 << 20;

/// What the archiver is asked to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Tell how it is.
    Status {},
    /// Seal the active files.
    Seal {},
    /// Erase a line.
    Erase {
        /// In this log.
        log: LogName,
        /// Its number.
        seq: u64,
        /// Why, for the record.
        reason: String,
    },
    /// Retire the segments of messages whose lines were all written before a time.
    Retire {
        /// The time.
        #[serde(with = "seconds")]
        before: Timestamp,
        /// Why, for the record.
        reason: String,
    },
    /// Place a hold.
    HoldAdd {
        /// What it is called.
        name: String,
        /// From when on.
        #[serde(default, with = "seconds::maybe")]
        from: Option<Timestamp>,
        /// Until when.
        #[serde(default, with = "seconds::maybe")]
        until: Option<Timestamp>,
        /// Whose messages.
        #[serde(default)]
        users: Option<BTreeSet<String>>,
        /// Why.
        reason: String,
    },
    /// List the holds.
    HoldList {},
    /// Release a hold.
    HoldRelease {
        /// What it is called.
        name: String,
    },
}
