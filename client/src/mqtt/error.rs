//! What goes wrong with a broker, in words.

use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, PubAckReason, SubscribeReasonCode};

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
    },
    /// The broker answered and refused the login.
    #[error("the broker at {broker} refused the login: {reason}")]
    LoginRefused {
        /// Where.
        broker: String,
        /// Its reason code, in words.
        reason: &'static str,
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
        /// Its reason code, in words.
        reason: &'static str,
    },
    /// Another connection with our name and client id took the session over.
    #[error("another connection took this session over")]
    TakenOver,
    /// The connection was closed by us.
    #[error("the connection is closed")]
    Closed,
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

/// The operating system's words without its number.
pub(super) fn io_problem(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_lowercase(),
        None => text,
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
    let reason = match words {
        Some(words) => crate::terminal::clean_line(&words),
        None => ours.to_owned(),
    };
    Err(PublishError::Refused { code, reason })
}

pub(super) fn subscribe_reason(code: &SubscribeReasonCode) -> &'static str {
    match code {
        SubscribeReasonCode::NotAuthorized => "not authorised",
        SubscribeReasonCode::QuotaExceeded => "a quota is exceeded",
        SubscribeReasonCode::TopicFilterInvalid => "the filter is not valid",
        _ => "an error inside the broker",
    }
}

/// A reason in words, and whether trying again is pointless.
pub(super) fn login_reason(code: ConnectReturnCode) -> (&'static str, bool) {
    use ConnectReturnCode as Code;
    match code {
        Code::BadUserNamePassword => ("the login is not valid", true),
        Code::NotAuthorized => ("not authorised", true),
        Code::Banned => ("banned", true),
        Code::ClientIdentifierNotValid | Code::BadClientId => ("the client id is not valid", true),
        Code::UnsupportedProtocolVersion | Code::RefusedProtocolVersion => {
            ("it does not speak MQTT 5", true)
        }
        Code::BadAuthenticationMethod => ("it wants another way to log in", true),
        Code::ServiceUnavailable | Code::ServerUnavailable => ("it is not available", false),
        Code::ServerBusy => ("it is busy", false),
        Code::ConnectionRateExceeded => ("too many connections in a short time", false),
        Code::QuotaExceeded => ("a quota is exceeded", false),
        _ => ("an error inside the broker", false),
    }
}
