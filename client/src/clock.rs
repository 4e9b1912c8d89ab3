//! The one place that reads this machine's clock.

use std::time::{SystemTime, UNIX_EPOCH};

use sealpost_core::Timestamp;

/// Now. A clock before 1970 or after 2286 counts as the nearest end.
#[must_use]
pub fn now() -> Timestamp {
    let millis = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis());
    u64::try_from(millis)
        .ok()
        .and_then(|millis| Timestamp::from_millis(millis).ok())
        .unwrap_or(Timestamp::MAX)
}
