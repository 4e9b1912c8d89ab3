//! How a publish ended.

use rumqttd::protocol::{PubAckReason, PubRecReason};

/// How a publish ended. MQTT 5, section 3.4.2.1, has the codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is where it was promised to be.
    Accepted,
    /// It was taken, and no session of the recipient was there to keep it. An archiver's session does not count.
    NobodyThere,
    /// The broker could not do its part; its log says why.
    Failed,
    /// The publisher may not do this.
    NotAuthorized,
    /// The topic is not one to publish to.
    TopicNameInvalid,
    /// There is no room for it.
    QuotaExceeded(Quota),
    /// The payload is not what the topic takes.
    PayloadFormatInvalid,
}

/// Which bound keeps a message out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quota {
    /// A mailbox, as a whole.
    Mailbox,
    /// What one sender may fill of a mailbox whose owner has written to them.
    Share,
    /// What one sender may fill of a mailbox whose owner never wrote to them.
    StrangersShare,
    /// An archiver's queue, as a whole.
    Archive,
    /// What one sender may fill of an archiver's queue.
    ArchiveShare,
    /// All mailboxes together.
    AllMailboxes,
    /// What must stay free on the disk.
    Disk,
    /// Retained messages.
    Retained,
}

impl Quota {
    /// What it is and what to do, for whoever was refused. It names nobody: who reads a topic is not everybody's business.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Quota::Mailbox => {
                "the mailbox of a recipient is full: send it again when they have fetched their mail"
            }
            Quota::Share => {
                "you have filled your share of the recipient's mailbox: send it again when they have fetched what is there"
            }
            Quota::StrangersShare => {
                "you have filled a stranger's share of the recipient's mailbox: send it again when they have fetched what is there; \
                 you may send more once they have written to you"
            }
            Quota::Archive => {
                "the queue of an archiver is full: whoever runs this broker has to look after the archiver"
            }
            Quota::ArchiveShare => {
                "you have filled your share of an archiver's queue: send it again when the archiver has caught up"
            }
            Quota::AllMailboxes => {
                "all mailboxes of this broker together leave no more room for this one: send it again later; whoever runs it can set limits.total_mailbox_bytes"
            }
            Quota::Disk => {
                "the disk of this broker is nearly full: send it again later; whoever runs it has to make room"
            }
            Quota::Retained => {
                "this broker retains as much as it may: clear what is not needed; whoever runs it can set limits.retained_messages and \
                 retained_bytes"
            }
        }
    }
}

impl Outcome {
    /// One of each kind.
    pub const ALL: [Outcome; 7] = [
        Outcome::Accepted,
        Outcome::NobodyThere,
        Outcome::Failed,
        Outcome::NotAuthorized,
        Outcome::TopicNameInvalid,
        Outcome::QuotaExceeded(Quota::Mailbox),
        Outcome::PayloadFormatInvalid,
    ];

    /// What to tell of it, where the code does not say enough.
    #[must_use]
    pub fn explanation(self) -> Option<&'static str> {
        match self {
            Outcome::QuotaExceeded(quota) => Some(quota.text()),
            _ => None,
        }
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
            Outcome::QuotaExceeded(_) => "quota-exceeded",
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
            Outcome::QuotaExceeded(_) => PubAckReason::QuotaExceeded,
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
            Outcome::QuotaExceeded(_) => PubRecReason::QuotaExceeded,
            Outcome::PayloadFormatInvalid => PubRecReason::PayloadFormatInvalid,
        }
    }
}
