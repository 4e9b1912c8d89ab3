//! How a publish ended.

use rumqttd::protocol::{PubAckReason, PubRecReason};

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
    /// All of them.
    pub const ALL: [Outcome; 7] = [
        Outcome::Accepted,
        Outcome::NobodyThere,
        Outcome::Failed,
        Outcome::NotAuthorized,
        Outcome::TopicNameInvalid,
        Outcome::QuotaExceeded,
        Outcome::PayloadFormatInvalid,
    ];

    /// The outcome with this code.
    #[must_use]
    pub fn from_u8(code: u8) -> Option<Outcome> {
        Self::ALL.into_iter().find(|outcome| *outcome as u8 == code)
    }

    /// In a word, for metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Accepted => "accepted",
            Outcome::NobodyThere => "nobody-there",
            Outcome::Failed => "failed",
            Outcome::NotAuthorized => "not-authorized",
            Outcome::TopicNameInvalid => "topic-name-invalid",
            Outcome::QuotaExceeded => "quota-exceeded",
            Outcome::PayloadFormatInvalid => "payload-format-invalid",
        }
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

    /// The codec's name for it in the answer to a publish at QoS 2.
    #[must_use]
    pub fn reason_at_qos_2(self) -> PubRecReason {
        match self {
            Outcome::Accepted => PubRecReason::Success,
            Outcome::NobodyThere => PubRecReason::NoMatchingSubscribers,
            Outcome::Failed => PubRecReason::UnspecifiedError,
            Outcome::NotAuthorized => PubRecReason::NotAuthorized,
            Outcome::TopicNameInvalid => PubRecReason::TopicNameInvalid,
            Outcome::QuotaExceeded => PubRecReason::QuotaExceeded,
            Outcome::PayloadFormatInvalid => PubRecReason::PayloadFormatInvalid,
        }
    }
}
