//! When to ping, and when a broker has been silent for too long.

use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::connection::ConnectionError;

/// How many keep-alive halves may pass without a byte from a broker that was pinged.
const SILENT_HALVES: u32 = 3;

/// The keep-alive of one connection: a ping each half of it.
#[derive(Debug)]
pub struct KeepAlive {
    halves: Interval,
    silent: u32,
}

impl KeepAlive {
    /// Begins now. `asked` is what the broker wants; when that is 0, which turns the mechanism off for it, `ours`: we still
    /// want to know whether it lives.
    #[must_use]
    pub fn new(asked: Duration, ours: Duration) -> KeepAlive {
        let keep_alive = if asked.is_zero() { ours } else { asked };
        let half = (keep_alive / 2).max(Duration::from_millis(500));
        let mut halves = interval_at(Instant::now() + half, half);
        // After a sleep of the machine one ping says as much as fifty.
        halves.set_missed_tick_behavior(MissedTickBehavior::Delay);
        KeepAlive { halves, silent: 0 }
    }

    /// Waits until a ping is due. May be cancelled.
    pub async fn due(&mut self) {
        self.halves.tick().await;
    }

    /// A ping is due. `reading` says whether we read at all: who does not read cannot hear.
    ///
    /// # Errors
    /// When the broker has fallen silent.
    pub fn ping(&mut self, reading: bool) -> Result<(), ConnectionError> {
        self.silent = if reading { self.silent + 1 } else { 0 };
        if self.silent > SILENT_HALVES {
            return Err(ConnectionError::Silent);
        }
        Ok(())
    }

    /// Something came.
    pub fn heard(&mut self) {
        self.silent = 0;
    }
}
