//! What the archiver answers over the control socket.

use serde::{Deserialize, Serialize};

use crate::holds::Hold;
use crate::live::Live;

/// Bytes of the longest answer: as long as the file of holds may be, and a little.
pub const MAX_ANSWER: u64 = 5 << 20;

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// It is done.
    Done {},
    /// How the archiver is.
    Status(Box<Live>),
    /// The line is erased.
    Erased {
        /// The number of the record.
        record: u64,
    },
    /// What could be retired is retired.
    Retired {
        /// How many segments; 0 if there were none to be retired.
        segments: u64,
        /// The last line that is retired by now, if any was.
        until: Option<u64>,
        /// The line under a hold because of which not more was retired.
        held: Option<u64>,
        /// The hold.
        hold: Option<String>,
    },
    /// The holds.
    Holds {
        /// All of them.
        holds: Vec<Hold>,
    },
    /// It is not done.
    Failed {
        /// Why.
        message: String,
        /// What to do; may be empty.
        hint: String,
    },
}

impl Answer {
    /// It is not done.
    #[must_use]
    pub fn failed(message: impl ToString, hint: &str) -> Answer {
        Answer::Failed {
            message: message.to_string(),
            hint: hint.to_owned(),
        }
    }
}
