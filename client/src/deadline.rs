//! A moment that may never come.

use tokio::time::Instant;

/// Waits until then; without a moment, for ever.
pub async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
