//! What goes wrong with a broker, in words.

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, PubAckReason, SubscribeReasonCode};
use sealpost_mqtt::Words;

/// Why a connection came to an end for good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MqttError {
    /// Nobody answers there, or not in MQTT.
    #[error("cannot reach the broker at {broker}: {problem}")]
    Unreachable {
        /// Where.
        broker: String,
        /// What went wrong.
        problem: String,
        /// What to do about it, where there is something to say.
        advice: Option<String>,
    },
    /// The broker answered and refused the login.
    #[error("the broker at {broker} refused the login: {reason}")]
    LoginRefused {
        /// Where.
        broker: String,
        /// Its words, or ours for its code.
        reason: String,
        /// Which way.
        code: LoginRefusal,
    },
    /// The broker ended the connection in a way that connecting again would not change.
    #[error("the broker at {broker} ended the connection: {reason}")]
    Dismissed {
        /// Where.
        broker: String,
        /// Its reason.
        reason: String,
    },
    /// The broker refused a subscription.
    #[error("the broker refused the subscription to {filter}: {reason}")]
    SubscriptionRefused {
        /// To what.
        filter: String,
        /// Its words, or ours for its code.
        reason: String,
    },
    /// Another connection with our name and client id took the session over.
    #[error("another connection took this session over")]
    TakenOver,
    /// The connection was closed by us.
    #[error("the connection is closed")]
    Closed,
}

/// The broker's reason codes for a refused login, as far as they differ in what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginRefusal {
    /// 0x86: this login does not hold.
    BadLogin,
    /// 0x87: whoever we are, we may not.
    NotAuthorized,
    /// It may take us later.
    Later,
    /// Any other.
    Other,
}

impl From<ConnectReturnCode> for LoginRefusal {
    fn from(code: ConnectReturnCode) -> LoginRefusal {
        use ConnectReturnCode as Code;
        match code {
            Code::BadUserNamePassword => LoginRefusal::BadLogin,
            Code::NotAuthorized | Code::Banned => LoginRefusal::NotAuthorized,
            Code::ServerBusy
            | Code::ServerUnavailable
            | Code::ServiceUnavailable
            | Code::QuotaExceeded
            | Code::ConnectionRateExceeded => LoginRefusal::Later,
            _ => LoginRefusal::Other,
        }
    }
}

/// Why a publish was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The broker said no.
    #[error("the broker refused it: {reason}")]
    Refused {
        /// Which way.
        code: RefusalCode,
        /// Its words, or ours for its code.
        reason: String,
    },
    /// The broker has taken it, and has no mailbox of the recipient to keep it in.
    #[error("nobody keeps it: the recipient has no mailbox at this broker")]
    NobodyThere,
    /// Larger than the broker takes.
    #[error("it is too large for this broker, which takes packets of {max} bytes at most")]
    TooLarge {
        /// The broker's maximum, in bytes.
        max: u32,
    },
    /// The connection was lost again and again while this was on its way.
    #[error("the connection was lost every time it was sent")]
    LostEachTime,
    /// The connection ended for good.
    #[error(transparent)]
    Ended(#[from] MqttError),
}

/// The broker's reason codes for a refused publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalCode {
    /// 0x87.
    NotAuthorized,
    /// 0x90.
    TopicNameInvalid,
    /// 0x97.
    QuotaExceeded,
    /// 0x99.
    PayloadFormatInvalid,
    /// Any other.
    Other,
}

/// The broker's words, fit for a terminal, or ours where it has none.
pub(super) fn shown(words: Option<&Words>, ours: &str) -> String {
    match words {
        Some(words) => crate::terminal::clean_line(words.raw()),
        None => ours.to_owned(),
    }
}

pub(super) fn publish_result(
    reason: PubAckReason,
    words: Option<String>,
    retained: bool,
) -> Result<(), PublishError> {
    let (code, ours) = match reason {
        PubAckReason::Success => return Ok(()),
        // What is retained waits for its readers.
        PubAckReason::NoMatchingSubscribers if retained => return Ok(()),
        PubAckReason::NoMatchingSubscribers => return Err(PublishError::NobodyThere),
        PubAckReason::NotAuthorized => (RefusalCode::NotAuthorized, "not authorised"),
        PubAckReason::TopicNameInvalid => (RefusalCode::TopicNameInvalid, "no such recipient"),
        PubAckReason::QuotaExceeded => (RefusalCode::QuotaExceeded, "a quota is exceeded"),
        PubAckReason::PayloadFormatInvalid => {
            (RefusalCode::PayloadFormatInvalid, "it is not well-formed")
        }
        PubAckReason::UnspecifiedError
        | PubAckReason::ImplementationSpecificError
        | PubAckReason::PacketIdentifierInUse => (RefusalCode::Other, "an error inside the broker"),
    };
    let words = words.and_then(|words| Words::new(&words));
    let reason = shown(words.as_ref(), ours);
    Err(PublishError::Refused { code, reason })
}

/// Whether the broker granted what was asked for: one code for each filter, and delivery that waits for our
/// acknowledgement.
pub(super) fn granted(
    filters: &[String],
    codes: &[SubscribeReasonCode],
    words: Option<&Words>,
) -> Result<(), MqttError> {
    for (n, filter) in filters.iter().enumerate() {
        let reason = match codes.get(n) {
            Some(SubscribeReasonCode::Success(QoS::AtLeastOnce)) => continue,
            Some(SubscribeReasonCode::Success(_)) => {
                "it grants only delivery without acknowledgement (QoS 0), which would lose mail"
                    .to_owned()
            }
            Some(code) => shown(words, subscribe_reason(code)),
            None => "its answer says nothing about it".to_owned(),
        };
        return Err(MqttError::SubscriptionRefused {
            filter: filter.clone(),
            reason,
        });
    }
    Ok(())
}

fn subscribe_reason(code: &SubscribeReasonCode) -> &'static str {
    match code {
        SubscribeReasonCode::NotAuthorized => "not authorised",
        SubscribeReasonCode::QuotaExceeded => "a quota is exceeded",
        SubscribeReasonCode::TopicFilterInvalid => "the filter is not valid",
        _ => "an error inside the broker",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_somebody_keeps_counts_as_published() {
        let result = |reason, retained| publish_result(reason, None, retained);
        assert_eq!(result(PubAckReason::Success, false), Ok(()));
        assert_eq!(result(PubAckReason::NoMatchingSubscribers, true), Ok(()));
        assert_eq!(
            result(PubAckReason::NoMatchingSubscribers, false),
            Err(PublishError::NobodyThere)
        );
    }

    #[test]
    fn a_subscription_counts_only_with_acknowledgements_and_for_every_filter() {
        use SubscribeReasonCode::{NotAuthorized, Success};
        let filters = ["keys/bob".to_owned(), "inbox/bob".to_owned()];
        let one = Success(QoS::AtLeastOnce);
        let granted = |codes: &[SubscribeReasonCode]| granted(&filters, codes, None);
        assert_eq!(granted(&[one, one]), Ok(()));
        for (codes, word) in [
            (vec![one, Success(QoS::AtMostOnce)], "QoS 0"),
            (vec![one], "says nothing"),
            (vec![one, NotAuthorized], "not authorised"),
        ] {
            let refused = granted(&codes).unwrap_err().to_string();
            assert!(
                refused.contains("inbox/bob") && refused.contains(word),
                "{refused}"
            );
        }
    }

    #[test]
    fn a_brokers_own_words_are_shown_without_its_control_characters() {
        let words = Some("mailbox\u{1b}[2J of bob\nis full".to_owned());
        assert_eq!(
            publish_result(PubAckReason::QuotaExceeded, words, false),
            Err(PublishError::Refused {
                code: RefusalCode::QuotaExceeded,
                reason: "mailbox of bob is full".to_owned()
            })
        );
    }
}
