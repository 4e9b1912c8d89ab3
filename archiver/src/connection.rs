//! One MQTT 5 connection, over any byte stream: packets in, packets out, and the handshake.
//!
//! The packets are rumqttc's; its event loop is not used, for reasons that matter to an archive. It
//! writes and flushes every acknowledgement by itself, where a group commit has thousands to send
//! at once. It hands out messages of a lost connection after the next one stands, when
//! acknowledging them would name other messages. It keeps a refusal's reason string to itself. And
//! it wants the password before the connection stands, while a login bound to a TLS channel can
//! only be made after.

use std::io;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, Connect, ConnectProperties, ConnectReturnCode, Disconnect, DisconnectReasonCode,
    Filter, Login, Packet, PubAck, SubAck, Subscribe, SubscribeReasonCode,
};
use rumqttc::v5::mqttbytes::{self, QoS};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The largest packet taken, in bytes. An envelope with its topic needs a tenth of it; a broker
/// that allows more than Sealpost's own would drop larger messages for this subscriber without a
/// word (MQTT 5, section 3.1.2.11.4), so this is generous.
pub const MAX_PACKET: u32 = 1 << 20;

/// How many messages the broker may send ahead of acknowledgements: all that MQTT allows, since a
/// consumer that acknowledges after a sync gets no more than this many a sync.
pub const RECEIVE_MAXIMUM: u16 = u16::MAX;

/// The session and what waits in it are to stay however long the archiver is away (MQTT 5, section
/// 3.1.2.11.2). The broker may set its own limit.
pub const SESSION_NEVER_EXPIRES: u32 = u32::MAX;

/// The keep-alive asked for.
pub const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Room made before each read, in bytes.
const READ_CHUNK: usize = 256 << 10;

/// The packet identifier of the one SUBSCRIBE of a connection.
const SUBSCRIBE_ID: u16 = 1;

/// Why a connection ended or did not come about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The broker's port could not be reached.
    #[error("the broker cannot be reached: {0}")]
    Unreachable(#[source] io::Error),
    /// The stream broke.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    /// The broker took longer than it should.
    #[error("no answer to {0} in time")]
    TimedOut(&'static str),
    /// The broker refused the login.
    #[error("the broker refused the connection: {code:?}{}", because(reason))]
    Refused {
        /// MQTT's reason code.
        code: ConnectReturnCode,
        /// What the broker says about it.
        reason: Option<String>,
    },
    /// The broker refused the subscription.
    #[error(
        "the broker refused the subscription: {code}{}; does it list this archiver (--archiver NAME=KEY)?",
        because(reason)
    )]
    NotGranted {
        /// MQTT's reason code, or the quality of service granted instead.
        code: String,
        /// What the broker says about it.
        reason: Option<String>,
    },
    /// The broker said that it closes the connection.
    #[error("the broker closed the connection: {code:?}{}", because(reason))]
    Closed {
        /// MQTT's reason code.
        code: DisconnectReasonCode,
        /// What the broker says about it.
        reason: Option<String>,
    },
    /// The stream ended without a word.
    #[error("the broker closed the connection")]
    Ended,
    /// The broker answers nothing any more.
    #[error("the broker has fallen silent")]
    Silent,
    /// The broker sent what is no MQTT 5.
    #[error("the broker sent a malformed packet: {0}")]
    Malformed(String),
    /// The broker sent a packet that has no place there.
    #[error("the broker sent an unexpected {0}")]
    Unexpected(&'static str),
}

fn because(reason: &Option<String>) -> String {
    // The broker's text goes to the operator's terminal: control characters do not.
    reason.as_ref().map_or_else(String::new, |reason| {
        format!(" ({})", reason.escape_debug())
    })
}

/// What the archiver says of itself when it connects.
#[derive(Clone)]
pub struct Credentials {
    /// The session's name at the broker: the same at each connection.
    pub client_id: String,
    /// The user name.
    pub user: String,
    /// The password, made for this connection.
    pub password: String,
}

/// What came of the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Welcome {
    /// Whether the broker still had the session.
    pub session_present: bool,
    /// The keep-alive to observe: the broker's, if it set one.
    pub keep_alive: Duration,
    /// When the broker drops the session of an absent archiver, if it set a limit of its own.
    pub session_expiry: Option<Duration>,
}

/// The receiving side.
#[derive(Debug)]
pub struct Incoming<R> {
    stream: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Incoming<R> {
    /// Reads from `stream`.
    pub fn new(stream: R) -> Incoming<R> {
        Incoming {
            stream,
            buffer: BytesMut::new(),
        }
    }

    /// Waits for more bytes. May be cancelled without losing any.
    pub async fn fill(&mut self) -> Result<(), ConnectionError> {
        self.buffer.reserve(READ_CHUNK);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(ConnectionError::Ended),
            _ => Ok(()),
        }
    }

    /// The next packet, if all its bytes are there.
    pub fn next_packet(&mut self) -> Result<Option<Packet>, ConnectionError> {
        if let Some(goodbye) = self.short_disconnect() {
            return Ok(Some(goodbye));
        }
        let before = self.buffer.len();
        match Packet::read(&mut self.buffer, Some(MAX_PACKET)) {
            Ok(packet) => Ok(Some(packet)),
            // The decoder says the same of a packet that is still to come and of one whose inner
            // lengths lie. Only the first it leaves in the buffer.
            Err(mqttbytes::Error::InsufficientBytes(_)) if self.buffer.len() == before => Ok(None),
            Err(error) => Err(ConnectionError::Malformed(error.to_string())),
        }
    }

    /// A DISCONNECT may leave out its properties, and its reason as well (MQTT 5, section 3.14.2),
    /// which rumqttc's decoder does not accept; it is how mosquitto says that a session was taken
    /// over.
    fn short_disconnect(&mut self) -> Option<Packet> {
        let (reason, length) = match *self.buffer.as_ref() {
            [0xE0, 0, ..] => (DisconnectReasonCode::NormalDisconnection, 2),
            [0xE0, 1, reason, ..] => (
                reason
                    .try_into()
                    .unwrap_or(DisconnectReasonCode::UnspecifiedError),
                3,
            ),
            _ => return None,
        };
        self.buffer.advance(length);
        Some(Packet::Disconnect(Disconnect::new(reason)))
    }

    /// Waits for a packet.
    async fn packet(&mut self) -> Result<Packet, ConnectionError> {
        loop {
            if let Some(packet) = self.next_packet()? {
                return Ok(packet);
            }
            self.fill().await?;
        }
    }
}

/// The sending side.
#[derive(Debug)]
pub struct Outgoing<W> {
    stream: W,
    buffer: BytesMut,
}

impl<W: AsyncWrite + Unpin> Outgoing<W> {
    /// Writes to `stream`.
    pub fn new(stream: W) -> Outgoing<W> {
        Outgoing {
            stream,
            buffer: BytesMut::new(),
        }
    }

    /// Puts a packet behind those that wait to be sent.
    pub fn push(&mut self, packet: &Packet) -> Result<(), ConnectionError> {
        packet
            .write(&mut self.buffer, None)
            .map_err(|error| ConnectionError::Malformed(error.to_string()))?;
        Ok(())
    }

    /// Puts the acknowledgement of a message behind the packets that wait to be sent.
    pub fn acknowledge(&mut self, packet_id: u16) -> Result<(), ConnectionError> {
        self.push(&Packet::PubAck(PubAck::new(packet_id, None)))
    }

    /// Whether all has been sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Sends some of what waits. May be cancelled without sending anything twice.
    pub async fn send_some(&mut self) -> Result<(), ConnectionError> {
        if !self.buffer.is_empty() {
            self.stream.write_buf(&mut self.buffer).await?;
        }
        if self.buffer.is_empty() {
            self.stream.flush().await?;
        }
        Ok(())
    }

    /// Sends all that waits.
    pub async fn send_all(&mut self) -> Result<(), ConnectionError> {
        while !self.is_empty() {
            self.send_some().await?;
        }
        Ok(())
    }

    /// Says goodbye and closes the sending side.
    pub async fn close(&mut self) -> Result<(), ConnectionError> {
        self.push(&Packet::Disconnect(Disconnect::new(
            DisconnectReasonCode::NormalDisconnection,
        )))?;
        self.send_all().await?;
        self.stream.shutdown().await?;
        Ok(())
    }
}

/// Signs in over a new stream.
pub async fn sign_in<R, W>(
    incoming: &mut Incoming<R>,
    outgoing: &mut Outgoing<W>,
    credentials: Credentials,
) -> Result<Welcome, ConnectionError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut properties = ConnectProperties::new();
    properties.session_expiry_interval = Some(SESSION_NEVER_EXPIRES);
    properties.receive_maximum = Some(RECEIVE_MAXIMUM);
    properties.max_packet_size = Some(MAX_PACKET);
    let connect = Connect {
        keep_alive: u16::try_from(KEEP_ALIVE.as_secs()).unwrap_or(u16::MAX),
        client_id: credentials.client_id,
        clean_start: false,
        properties: Some(properties),
    };
    let login = Login {
        username: credentials.user,
        password: credentials.password,
    };
    outgoing.push(&Packet::Connect(connect, None, Some(login)))?;
    outgoing.send_all().await?;
    match incoming.packet().await? {
        Packet::ConnAck(answer) => welcome(answer),
        Packet::Disconnect(goodbye) => Err(closed(goodbye)),
        other => Err(unexpected(&other)),
    }
}

fn welcome(answer: ConnAck) -> Result<Welcome, ConnectionError> {
    let properties = answer.properties;
    if answer.code != ConnectReturnCode::Success {
        let reason = properties.and_then(|properties| properties.reason_string);
        return Err(ConnectionError::Refused {
            code: answer.code,
            reason,
        });
    }
    let keep_alive = properties
        .as_ref()
        .and_then(|properties| properties.server_keep_alive);
    let session_expiry = properties
        .as_ref()
        .and_then(|properties| properties.session_expiry_interval)
        .filter(|&seconds| seconds != SESSION_NEVER_EXPIRES);
    Ok(Welcome {
        session_present: answer.session_present,
        keep_alive: keep_alive.map_or(KEEP_ALIVE, |seconds| Duration::from_secs(seconds.into())),
        session_expiry: session_expiry.map(|seconds| Duration::from_secs(seconds.into())),
    })
}

/// The request for a filter at QoS 1.
#[must_use]
pub fn subscribe(filter: String) -> Packet {
    let mut subscribe = Subscribe::new(Filter::new(filter, QoS::AtLeastOnce), None);
    subscribe.pkid = SUBSCRIBE_ID;
    Packet::Subscribe(subscribe)
}

/// Checks the answer to [`subscribe`]: less than QoS 1 would be an archive that cannot acknowledge.
pub fn check_granted(answer: SubAck) -> Result<(), ConnectionError> {
    match answer.return_codes.as_slice() {
        [SubscribeReasonCode::Success(QoS::AtLeastOnce)] if answer.pkid == SUBSCRIBE_ID => Ok(()),
        codes => Err(ConnectionError::NotGranted {
            code: format!("{codes:?}"),
            reason: answer
                .properties
                .and_then(|properties| properties.reason_string),
        }),
    }
}

/// The error for a broker's DISCONNECT.
#[must_use]
pub fn closed(goodbye: Disconnect) -> ConnectionError {
    ConnectionError::Closed {
        code: goodbye.reason_code,
        reason: goodbye
            .properties
            .and_then(|properties| properties.reason_string),
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
