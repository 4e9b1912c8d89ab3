//! The seam between the one order and what outlives the process.
//!
//! The dispatcher hands every message for a durable session to the journal in the one order, and the publishers'
//! receipts after them. A receipt is settled as accepted only by the journal, when all before it is as durable as the
//! journal makes things.

use std::sync::Arc;

use crate::delivery::message::Message;
use crate::delivery::receipt::Receipt;
use crate::protocol::outcome::Outcome;

/// Keeps what durable sessions are owed.
pub trait Journal: Send {
    /// Adds a message for the mailboxes that took it.
    fn append(&mut self, message: &Arc<Message>, mailboxes: usize);

    /// Makes durable all that was appended, then settles the receipts as accepted. May do both later, on another thread.
    fn commit(&mut self, receipts: Vec<Arc<Receipt>>);
}

/// The journal of this release: mailboxes live in memory and end with the process.
#[derive(Debug, Default)]
pub struct MemoryJournal;

impl Journal for MemoryJournal {
    fn append(&mut self, _message: &Arc<Message>, _mailboxes: usize) {}

    fn commit(&mut self, receipts: Vec<Arc<Receipt>>) {
        for receipt in receipts {
            receipt.settle(Outcome::Accepted);
        }
    }
}
