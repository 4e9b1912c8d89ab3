//! What the service manager is told: sd_notify(3). Nothing is, unless it asked for it in the environment.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::metrics::endpoint::Observer;

/// How often a sick broker is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}

/// The broker serves.
pub fn ready() {
    tell(NotifyState::Ready);
}

/// The broker is about to end.
pub fn stopping() {
    tell(NotifyState::Stopping);
}

/// Tells the service manager that the broker lives, for as long as it does and as often as was asked for (half of
/// `WatchdogSec=`). Never completes.
pub async fn watch(observer: Arc<Observer>) {
    let Some(asked) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    loop {
        match observer.feel().await {
            Ok(()) => {
                tell(NotifyState::Watchdog);
                tokio::time::sleep(asked / 2).await;
            }
            Err(sick) => {
                tracing::error!(%sick, "the service manager's watchdog is not told that the broker lives");
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
    }
}
