//! When users last signed in: exactly while the broker runs, to about a day over a restart.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use sealpost_core::{Timestamp, UserId};

use super::Registry;

/// How far behind the disk may be. Writing every login would cost as much as the login.
const NOTE_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

impl Registry {
    /// Notes that a user has signed in. Waits for nothing: what is to be written is written by the way, unless another
    /// is being written; then the next login of this user does it.
    pub fn note_login(self: &Arc<Registry>, user: &UserId, now: Timestamp) {
        {
            let mut users = self.users.write().unwrap_or_else(PoisonError::into_inner);
            let Some(record) = users.get_mut(user) else {
                return;
            };
            record.last_login = Some(now);
            let noted = record.noted_login;
            if noted.is_some_and(|noted| now.saturating_since(noted) < NOTE_EVERY) {
                return;
            }
        }
        let Ok(place) = Arc::clone(&self.noting).try_acquire_owned() else {
            return;
        };
        let (registry, user) = (Arc::clone(self), user.clone());
        tokio::spawn(async move {
            let turn = registry.turn().await;
            if let Some(record) = registry.record(&user)
                && let Err(error) = registry.write(&user, record).await
            {
                tracing::warn!(%error, "the time of a login could not be written");
            }
            drop((turn, place));
        });
    }
}
