//! What a publisher is owed.

use std::sync::{Arc, OnceLock};

use crate::delivery::wire::Wire;
use crate::protocol::outcome::Outcome;

/// The acknowledgement that a publisher waits for. It is sent when the last holder lets go, and only if the outcome was
/// settled before: a receipt that is merely dropped (a panic, a shutdown) acknowledges nothing.
#[derive(Debug)]
pub struct Receipt {
    wire: Arc<Wire>,
    slot: u64,
    outcome: OnceLock<Outcome>,
}

impl Receipt {
    /// The receipt for the publish that took `slot` in its connection's acknowledgement window.
    #[must_use]
    pub fn new(wire: Arc<Wire>, slot: u64) -> Receipt {
        Receipt {
            wire,
            slot,
            outcome: OnceLock::new(),
        }
    }

    /// Settles the outcome; the first call counts.
    pub fn settle(&self, outcome: Outcome) {
        let _ = self.outcome.set(outcome);
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some(outcome) = self.outcome.take() {
            self.wire.complete(self.slot, outcome);
        }
    }
}
