//! How a running archiver is, as it tells who asks.

use std::time::{SystemTime, UNIX_EPOCH};

use sealpost_core::Timestamp;
use serde::{Deserialize, Serialize};

use crate::health::Facts;
use sealpost_service::seconds;

/// How a running archiver is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// Since when it is subscribed at the broker; `None` while it is not.
    #[serde(with = "seconds::maybe")]
    pub subscribed_since: Option<Timestamp>,
    /// Why it is not subscribed, if it was tried.
    pub away_because: Option<String>,
    /// Since when a full disk holds it up; `None` if none does.
    #[serde(with = "seconds::maybe")]
    pub no_room_since: Option<Timestamp>,
    /// What is full.
    pub no_room_because: Option<String>,
    /// How many lines the newest checkpoint of the messages that it wrote signs.
    pub signed: Option<u64>,
    /// When it was written.
    #[serde(with = "seconds::maybe")]
    pub signed_at: Option<Timestamp>,
}

impl From<Facts> for Live {
    fn from(facts: Facts) -> Live {
        let (no_room_since, no_room_because) = facts.no_room.unzip();
        let (signed_at, signed) = facts.messages.signed.unzip();
        Live {
            subscribed_since: facts.subscribed_since.map(timestamp),
            away_because: facts.away_because,
            no_room_since: no_room_since.map(timestamp),
            no_room_because,
            signed,
            signed_at: signed_at.map(timestamp),
        }
    }
}

/// A time of the system's clock. One outside of what a timestamp can say is cut to it.
#[must_use]
pub fn timestamp(at: SystemTime) -> Timestamp {
    let millis = at
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis());
    u64::try_from(millis)
        .ok()
        .and_then(|millis| Timestamp::from_millis(millis).ok())
        .unwrap_or(Timestamp::MAX)
}
