//! The one place where the broker reads the wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

use sealpost_core::Timestamp;

/// Now. A clock before 1970 or after 2286 reads as the nearest time that can be told.
#[must_use]
pub fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis())
        .ok()
        .and_then(|millis| Timestamp::from_millis(millis).ok())
        .unwrap_or(Timestamp::MAX)
}
