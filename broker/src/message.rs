//! A message as the edge keeps it, and what a publisher is owed for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;
use rumqttd::protocol::{PubAckReason, PublishProperties};

use crate::topic_name::TopicName;
use crate::wire::Wire;

/// What was published; shared by all who receive it.
#[derive(Debug)]
pub struct Message {
    /// Where.
    pub topic: TopicName,
    /// What.
    pub payload: Bytes,
    /// MQTT 5 properties that travel on to MQTT 5 subscribers.
    pub properties: Option<Box<PublishProperties>>,
    /// Whether a reader is served with the newest message of the topic alone: key bundles.
    pub supersedes: bool,
}

impl Message {
    /// Bytes that a queue counts for it.
    #[must_use]
    pub fn size(&self) -> usize {
        // The struct, its reference counts and a queue's entry; close enough to bound memory by.
        const OVERHEAD: usize = 128;
        OVERHEAD + self.topic.as_str().len() + self.payload.len()
    }
}

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

/// How a publish ended (the codes are MQTT 5's, section 3.4.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    /// It is where it was promised to be.
    Accepted = 0x00,
    /// It was taken, and no session of the recipient was there to keep it. An archiver's session does not count.
    NobodyThere = 0x10,
    /// The broker could not do its part; its log says why.
    Failed = 0x80,
    /// The publisher may not do this.
    NotAuthorized = 0x87,
    /// The topic is not one to publish to.
    TopicNameInvalid = 0x90,
    /// A mailbox is full.
    QuotaExceeded = 0x97,
    /// The payload is not what the topic takes.
    PayloadFormatInvalid = 0x99,
}

impl Outcome {
    const ALL: [Outcome; 7] = [
        Outcome::Accepted,
        Outcome::NobodyThere,
        Outcome::Failed,
        Outcome::NotAuthorized,
        Outcome::TopicNameInvalid,
        Outcome::QuotaExceeded,
        Outcome::PayloadFormatInvalid,
    ];

    fn from_u8(code: u8) -> Option<Outcome> {
        Self::ALL.into_iter().find(|outcome| *outcome as u8 == code)
    }

    /// Whether the publish was refused.
    #[must_use]
    pub fn is_refusal(self) -> bool {
        !matches!(self, Outcome::Accepted | Outcome::NobodyThere)
    }

    /// The codec's name for it.
    #[must_use]
    pub fn reason(self) -> PubAckReason {
        match self {
            Outcome::Accepted => PubAckReason::Success,
            Outcome::NobodyThere => PubAckReason::NoMatchingSubscribers,
            Outcome::Failed => PubAckReason::UnspecifiedError,
            Outcome::NotAuthorized => PubAckReason::NotAuthorized,
            Outcome::TopicNameInvalid => PubAckReason::TopicNameInvalid,
            Outcome::QuotaExceeded => PubAckReason::QuotaExceeded,
            Outcome::PayloadFormatInvalid => PubAckReason::PayloadFormatInvalid,
        }
    }
}
