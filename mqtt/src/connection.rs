//! One MQTT connection over any byte stream: the handshake, the goodbye, and what can go wrong between.

use std::fmt;
use std::io;
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    self, ConnAck, Connect, ConnectProperties, ConnectReturnCode, Disconnect, DisconnectReasonCode,
    Packet, SubAck, SubscribeReasonCode,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use crate::dial::{DialError, io_words};
use crate::packets::{Incoming, Outgoing};
use crate::tls::TlsProblem;
use crate::version::Version;
use crate::words::Words;

/// How long after our goodbye the broker may take to close. Closing before would let the system throw our last words away
/// when something of the broker's is still unread.
const LINGER: Duration = Duration::from_secs(1);

/// Why a connection ended or did not come about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// There is no stream to the broker.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The stream broke.
    #[error("the connection broke: {}", io_words(.0))]
    Io(io::Error),
    /// TLS ended the stream.
    #[error("{0}")]
    Tls(TlsProblem),
    /// The broker took longer than it should.
    #[error("no answer to {0} in time")]
    TimedOut(&'static str),
    /// The broker refused the login.
    #[error("the broker refused the login: {}", because(&login_words(*.code), reason))]
    Refused {
        /// MQTT's reason code.
        code: ConnectReturnCode,
        /// What the broker says about it.
        reason: Option<Words>,
    },
    /// The broker refused a subscription.
    #[error("the broker refused the subscription: {}", because(code, reason))]
    NotGranted {
        /// MQTT's reason code, or the quality of service granted instead.
        code: String,
        /// What the broker says about it.
        reason: Option<Words>,
    },
    /// The broker said that it closes the connection.
    #[error("the broker closed the connection: {}", because(&goodbye_words(*.code), reason))]
    Closed {
        /// MQTT's reason code.
        code: DisconnectReasonCode,
        /// What the broker says about it.
        reason: Option<Words>,
    },
    /// The stream ended without a word.
    #[error("the broker closed the connection")]
    Ended,
    /// The broker answers nothing any more.
    #[error("the broker has fallen silent")]
    Silent,
    /// What answers there wants TLS.
    #[error("what answers there speaks TLS, and was spoken to without")]
    AnsweredInTls,
    /// What answers there is a web server.
    #[error("what answers there is a web server")]
    AnsweredInHttp,
    /// The broker sent what is no MQTT.
    #[error("the broker sent a malformed packet: {0}")]
    Malformed(String),
    /// The broker sent a packet that has no place there.
    #[error("the broker sent an unexpected {0}")]
    Unexpected(&'static str),
}

/// The broker's words where there are some, or ours for its code.
fn because(code: &str, reason: &Option<Words>) -> String {
    match reason {
        Some(words) => words.to_string(),
        None => code.to_owned(),
    }
}

impl ConnectionError {
    /// Out of a stream's error: TLS speaks through those.
    pub(crate) fn of_stream(error: io::Error) -> ConnectionError {
        match TlsProblem::within(&error) {
            Some(problem) => ConnectionError::Tls(problem),
            None => ConnectionError::Io(error),
        }
    }

    /// Whether this is the broker's answer, and connecting again or elsewhere would not change it.
    #[must_use]
    pub fn is_final(&self) -> bool {
        use ConnectReturnCode as Code;
        match self {
            ConnectionError::Refused { code, .. } => matches!(
                code,
                Code::BadUserNamePassword
                    | Code::NotAuthorized
                    | Code::Banned
                    | Code::ClientIdentifierNotValid
                    | Code::BadClientId
                    | Code::UnsupportedProtocolVersion
                    | Code::RefusedProtocolVersion
                    | Code::BadAuthenticationMethod
            ),
            _ => false,
        }
    }
}

/// A code of CONNACK in words, for brokers that have none of their own.
#[must_use]
pub fn login_words(code: ConnectReturnCode) -> String {
    use ConnectReturnCode as Code;
    match code {
        Code::BadUserNamePassword => "the login is not valid",
        Code::NotAuthorized => "not authorised",
        Code::Banned => "banned",
        Code::ClientIdentifierNotValid | Code::BadClientId => "the client id is not valid",
        Code::UnsupportedProtocolVersion | Code::RefusedProtocolVersion => {
            "it speaks neither MQTT 5 nor 3.1.1"
        }
        Code::BadAuthenticationMethod => "it wants another way to log in",
        Code::ServiceUnavailable | Code::ServerUnavailable => "it is not available",
        Code::ServerBusy => "it is busy",
        Code::ConnectionRateExceeded => "too many connections in a short time",
        Code::QuotaExceeded => "a quota is exceeded",
        other => return format!("{other:?}"),
    }
    .to_owned()
}

/// A code of DISCONNECT in words, for brokers that have none of their own.
#[must_use]
pub fn goodbye_words(code: DisconnectReasonCode) -> String {
    use DisconnectReasonCode as Code;
    match code {
        Code::NormalDisconnection => "without a reason",
        Code::ServerShuttingDown => "it is shutting down",
        Code::SessionTakenOver => "another connection took the session over",
        Code::KeepAliveTimeout => "it heard nothing from here for too long",
        Code::NotAuthorized => "not authorised",
        Code::AdministrativeAction => "its operator ended the connection",
        Code::ServerBusy => "it is busy",
        Code::QuotaExceeded => "a quota is exceeded",
        Code::MessageRateTooHigh => "too many messages in a short time",
        Code::PacketTooLarge => "a packet was too large",
        Code::MalformedPacket => "it could not read a packet",
        Code::ProtocolError => "a packet came where it has no place",
        other => return format!("{other:?}"),
    }
    .to_owned()
}

/// A user name and the password that was made for one connection.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user name.
    pub user: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({:?}, redacted)", self.user)
    }
}

/// What we say of ourselves and ask for when we connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The session's name at the broker.
    pub client_id: String,
    /// How long the broker is to keep the session while we are away, in seconds; without it, a session begins anew and ends
    /// with the connection. `u32::MAX` is for ever.
    pub session_expiry: Option<u32>,
    /// How many messages the broker may send ahead of acknowledgements.
    pub receive_maximum: u16,
    /// The largest packet taken, in bytes.
    pub max_packet: u32,
    /// The longest time without a packet from us.
    pub keep_alive: Duration,
    /// Room made before each read, in bytes.
    pub read_ahead: usize,
}

/// What came of the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Welcome {
    /// Whether the broker still had the session.
    pub session_present: bool,
    /// The keep-alive to observe: the broker's, if it set one.
    pub keep_alive: Duration,
    /// When the broker drops the session of who is away, if it set a limit of its own.
    pub session_expiry: Option<Duration>,
    /// How many of our publishes may be unacknowledged.
    pub receive_maximum: u16,
    /// The largest packet that the broker takes, in bytes.
    pub max_packet: Option<u32>,
    /// What it speaks.
    pub version: Version,
}

/// Signs in over a new stream.
///
/// # Errors
/// When the broker refuses, or does not answer in MQTT.
pub async fn sign_in<R, W>(
    incoming: &mut Incoming<R>,
    outgoing: &mut Outgoing<W>,
    version: Version,
    hello: &Hello,
    login: Login,
) -> Result<Welcome, ConnectionError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    incoming.speak(version);
    outgoing.speak(version);
    let mut properties = ConnectProperties::new();
    properties.session_expiry_interval = hello.session_expiry;
    properties.receive_maximum = Some(hello.receive_maximum);
    properties.max_packet_size = Some(hello.max_packet);
    let connect = Connect {
        keep_alive: u16::try_from(hello.keep_alive.as_secs()).unwrap_or(u16::MAX),
        client_id: hello.client_id.clone(),
        clean_start: hello.session_expiry.is_none(),
        properties: Some(properties),
    };
    let login = v5::Login {
        username: login.user,
        password: login.password,
    };
    outgoing.push(&Packet::Connect(connect, None, Some(login)))?;
    outgoing.send_all().await?;
    match first_packet(incoming).await? {
        Packet::ConnAck(answer) => welcome(version, hello, answer),
        Packet::Disconnect(goodbye) => Err(closed(goodbye)),
        other => Err(unexpected(&other)),
    }
}

/// The answer to CONNECT. What speaks something else than MQTT shows that in its first bytes.
async fn first_packet<R: AsyncRead + Unpin>(
    incoming: &mut Incoming<R>,
) -> Result<Packet, ConnectionError> {
    loop {
        match incoming.unread() {
            // A TLS record: an alert or a handshake of SSL 3 or TLS.
            [0x15 | 0x16, 0x03, ..] => return Err(ConnectionError::AnsweredInTls),
            [b'H', b'T', b'T', b'P', ..] => return Err(ConnectionError::AnsweredInHttp),
            // Who knows no MQTT 5 says so in MQTT 3.1.1 (section 3.2.2.3).
            [0x20, 0x02, _, 0x01, ..] => {
                return Err(ConnectionError::Refused {
                    code: ConnectReturnCode::RefusedProtocolVersion,
                    reason: None,
                });
            }
            // Fewer bytes than tell.
            [0x15 | 0x16] | [b'H'] | [b'H', b'T'] | [b'H', b'T', b'T'] | [] => {}
            _ => {
                if let Some(packet) = incoming.next_packet()? {
                    return Ok(packet);
                }
            }
        }
        incoming.fill().await?;
    }
}

fn welcome(version: Version, hello: &Hello, answer: ConnAck) -> Result<Welcome, ConnectionError> {
    let properties = answer.properties;
    if answer.code != ConnectReturnCode::Success {
        let reason = properties.and_then(|properties| properties.reason_string);
        return Err(ConnectionError::Refused {
            code: answer.code,
            reason: reason.and_then(|reason| Words::new(&reason)),
        });
    }
    let properties = properties.as_ref();
    let keep_alive = properties.and_then(|properties| properties.server_keep_alive);
    let session_expiry = properties
        .and_then(|properties| properties.session_expiry_interval)
        .filter(|&seconds| Some(seconds) != hello.session_expiry);
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    Ok(Welcome {
        session_present: answer.session_present,
        keep_alive: keep_alive.map_or(hello.keep_alive, |keep_alive| seconds(keep_alive.into())),
        session_expiry: session_expiry.map(seconds),
        // MQTT 5, section 3.2.2.3.3; 0 is not allowed.
        receive_maximum: properties
            .and_then(|properties| properties.receive_max)
            .map_or(u16::MAX, |maximum| maximum.max(1)),
        max_packet: properties.and_then(|properties| properties.max_packet_size),
        version,
    })
}

/// Says goodbye and waits a moment for the broker to close.
///
/// # Errors
/// When the stream breaks before the goodbye is out.
pub async fn close<R, W>(
    incoming: &mut Incoming<R>,
    outgoing: &mut Outgoing<W>,
) -> Result<(), ConnectionError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    outgoing.close().await?;
    let _ = timeout(LINGER, incoming.discard()).await;
    Ok(())
}

/// Checks the answer to a SUBSCRIBE of `filters` filters at QoS 1: less would be a subscriber that cannot acknowledge.
///
/// # Errors
/// [`ConnectionError::NotGranted`].
pub fn check_granted(
    answer: SubAck,
    packet_id: u16,
    filters: usize,
) -> Result<(), ConnectionError> {
    let codes = &answer.return_codes;
    let granted =
        |code: &SubscribeReasonCode| matches!(code, SubscribeReasonCode::Success(QoS::AtLeastOnce));
    if answer.pkid == packet_id && codes.len() == filters && codes.iter().all(granted) {
        return Ok(());
    }
    Err(ConnectionError::NotGranted {
        code: format!("{codes:?}"),
        reason: answer
            .properties
            .and_then(|properties| properties.reason_string)
            .and_then(|reason| Words::new(&reason)),
    })
}

/// The error for a broker's DISCONNECT.
#[must_use]
pub fn closed(goodbye: Disconnect) -> ConnectionError {
    ConnectionError::Closed {
        code: goodbye.reason_code,
        reason: goodbye
            .properties
            .and_then(|properties| properties.reason_string)
            .and_then(|reason| Words::new(&reason)),
    }
}

/// The error for a packet that has no place where it came.
#[must_use]
pub fn unexpected(packet: &Packet) -> ConnectionError {
    ConnectionError::Unexpected(match packet {
        Packet::Auth(_) => "AUTH",
        Packet::Connect(..) => "CONNECT",
        Packet::ConnAck(_) => "CONNACK",
        Packet::Publish(_) => "PUBLISH",
        Packet::PubAck(_) => "PUBACK",
        Packet::PingReq(_) => "PINGREQ",
        Packet::PingResp(_) => "PINGRESP",
        Packet::Subscribe(_) => "SUBSCRIBE",
        Packet::SubAck(_) => "SUBACK",
        Packet::PubRec(_) => "PUBREC",
        Packet::PubRel(_) => "PUBREL",
        Packet::PubComp(_) => "PUBCOMP",
        Packet::Unsubscribe(_) => "UNSUBSCRIBE",
        Packet::UnsubAck(_) => "UNSUBACK",
        Packet::Disconnect(_) => "DISCONNECT",
    })
}

#[cfg(test)]
mod tests;
