//! What a publisher is owed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::delivery::wire::Wire;
use crate::protocol::outcome::Outcome;

/// The acknowledgement that a publisher waits for. It is sent when the last holder lets go, and only if the outcome was
/// settled before: a receipt that is merely dropped (a panic, a shutdown) acknowledges nothing.
#[derive(Debug)]
pub struct Receipt {
    wire: Arc<Wire>,
    slot: u64,
    outcome: AtomicU8,
}

const OPEN: u8 = 0xff;

impl Receipt {
    /// The receipt for the publish that took `slot` in its connection's acknowledgement window.
    #[must_use]
    pub fn new(wire: Arc<Wire>, slot: u64) -> Receipt {
        Receipt {
            wire,
            slot,
            outcome: AtomicU8::new(OPEN),
        }
    }

    /// Settles the outcome; the first call counts.
    pub fn settle(&self, outcome: Outcome) {
        let _ =
            self.outcome
                .compare_exchange(OPEN, outcome as u8, Ordering::AcqRel, Ordering::Acquire);
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some(outcome) = Outcome::from_u8(*self.outcome.get_mut()) {
            self.wire.complete(self.slot, outcome);
        }
    }
}
