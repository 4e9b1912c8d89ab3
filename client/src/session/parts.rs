//! What a session is made of, and how it is to behave.

use std::time::Duration;

use crate::account::Account;
use crate::event::Printer;
use crate::exit::Failure;
use crate::mqtt::RECEIVE_MAXIMUM;
use crate::settings::{Receipts, Strangers};
use crate::store::Store;
use crate::trust_policy::TrustPolicy;

/// How often we look whether another process wrote something, where nothing speaks for more seldom.
const GLANCE: Duration = Duration::from_millis(100);

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
    /// Whether a message that is refused for good, or got nowhere for 30 days, is given up. Otherwise it is tried again and again,
    /// and those behind it wait: for who keeps a bounded number of them and has nobody to decide.
    pub gives_up: bool,
    /// Whether few writes matter more than that none is repeated: that the broker has a message is then written down without a sync, and
    /// after a loss of power the same bytes may go to it again.
    pub spares_disk: bool,
    /// What becomes of mail of who is new.
    pub strangers: Strangers,
    /// Whether messages of who is muted stay unshown, for another command. Otherwise they are shown as any.
    pub passes_over_muted: bool,
    /// How many messages the broker may have with us unacknowledged. Bounds what mail takes of the memory.
    pub receive_maximum: u16,
    /// How often to look whether another process wrote something: a message into the outbox, a decision, new keys.
    pub glance: Duration,
}

impl Default for Manner {
    fn default() -> Manner {
        Manner {
            limit: u64::MAX,
            quiet: false,
            receipts: Receipts::Delivered,
            trust: TrustPolicy::default(),
            gives_up: true,
            spares_disk: false,
            strangers: Strangers::Accept,
            passes_over_muted: false,
            receive_maximum: RECEIVE_MAXIMUM,
            glance: GLANCE,
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
