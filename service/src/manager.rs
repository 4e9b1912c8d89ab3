//! What the service manager is told: sd_notify(3). Nothing is, unless it asked for it in the environment.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::Observed;

/// How often a sick daemon is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}

/// The daemon does its work.
pub fn ready() {
    tell(NotifyState::Ready);
}

/// The daemon is about to end.
pub fn stopping() {
    tell(NotifyState::Stopping);
}

/// Tells the service manager that the daemon lives, for as long as it does and as often as was asked for (half of
/// `WatchdogSec=`). Never completes.
pub async fn watch<O: Observed>(observed: Arc<O>) {
    let Some(asked) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    loop {
        match observed.feel().await {
            Ok(()) => {
                tell(NotifyState::Watchdog);
                tokio::time::sleep(asked / 2).await;
            }
            Err(sick) => {
                tracing::error!(%sick, "the service manager's watchdog is not told that this lives");
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
    }
}
