//! What a session is made of, and how it is to behave.

use crate::account::Account;
use crate::event::Printer;
use crate::exit::Failure;
use crate::settings::Receipts;
use crate::store::Store;
use crate::trust_policy::TrustPolicy;

/// What a command wants to be told and shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manner {
    /// No more messages than these are shown; the others stay for the next run.
    pub limit: u64,
    /// Says nothing of the connection as long as it is well.
    pub quiet: bool,
    /// What accepted senders are told of their messages.
    pub receipts: Receipts,
    /// To whom may be sent.
    pub trust: TrustPolicy,
}

impl Default for Manner {
    fn default() -> Manner {
        Manner {
            limit: u64::MAX,
            quiet: false,
            receipts: Receipts::Delivered,
            trust: TrustPolicy::default(),
        }
    }
}

/// What a session is made of, before and after.
#[derive(Debug)]
pub struct Parts {
    /// Our keys.
    pub account: Account,
    /// Contacts and messages.
    pub store: Store,
    /// Where to say things.
    pub printer: Printer,
}

/// A session that did not come to be.
#[derive(Debug)]
pub struct NotConnected {
    /// To try again with.
    pub parts: Parts,
    /// Why.
    pub failure: Failure,
}

impl From<Box<NotConnected>> for Failure {
    fn from(not: Box<NotConnected>) -> Failure {
        not.failure
    }
}
