//! MQTT packets at the edge: which protocol version speaks, what may come in, and what goes out.
//!
//! rumqttd's codecs do the parsing. This module frames for them, refuses before them what they would choke on or let
//! through (packet types a client must not send, flags that must not be set; `validity` the rest), and gives the rest
//! of the edge packets that need no second look.

use bytes::{BufMut, Bytes, BytesMut};
use rumqttd::protocol::v4::V4;
use rumqttd::protocol::v5::{self, V5};
use rumqttd::protocol::{
    Connect, ConnectProperties, DisconnectReasonCode, Error, Filter, LastWill, LastWillProperties,
    Login, Packet, Protocol, PubRecReason, Publish, PublishProperties, QoS,
};

use super::validity;

/// The two protocol versions served, on one port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1 (protocol level 4).
    V311,
    /// MQTT 5.0 (protocol level 5).
    V5,
}

/// A packet that a client may send.
#[derive(Debug, PartialEq)]
pub enum Incoming {
    /// CONNECT.
    Connect(Box<IncomingConnect>),
    /// PUBLISH.
    Publish(IncomingPublish),
    /// PUBACK. Its reason does not matter: acknowledged is acknowledged.
    PubAck(u16),
    /// SUBSCRIBE.
    Subscribe {
        /// The packet identifier.
        pkid: u16,
        /// At least one.
        filters: Vec<Filter>,
        /// The subscription identifier (MQTT 5).
        id: Option<usize>,
    },
    /// UNSUBSCRIBE.
    Unsubscribe {
        /// The packet identifier.
        pkid: u16,
        /// At least one.
        filters: Vec<String>,
    },
    /// PINGREQ.
    PingReq,
    /// DISCONNECT.
    Disconnect(IncomingDisconnect),
    /// PUBREC: the client has a message of QoS 2, or (`false`) refuses it.
    PubRec(u16, bool),
    /// PUBREL: the client releases a message of QoS 2.
    PubRel(u16),
    /// PUBCOMP: the client has completed a message of QoS 2.
    PubComp(u16),
}

/// A CONNECT.
#[derive(Debug, PartialEq)]
pub struct IncomingConnect {
    /// The protocol version it asks for.
    pub version: Version,
    /// Whether it is MQTT 3.1's, which is served as 3.1.1 but for its client ids and its CONNACK.
    pub is_3_1: bool,
    /// Keep-alive, client id, clean session.
    pub connect: Connect,
    /// MQTT 5 properties.
    pub properties: Option<ConnectProperties>,
    /// The will.
    pub will: Option<LastWill>,
    /// The will's MQTT 5 properties.
    pub will_properties: Option<LastWillProperties>,
    /// User name and password.
    pub login: Option<Login>,
}

/// A PUBLISH, its fields laid open.
#[derive(Debug, PartialEq)]
pub struct IncomingPublish {
    /// Quality of service.
    pub qos: QoS,
    /// Whether it is to be retained.
    pub retain: bool,
    /// The packet identifier; 0 at QoS 0.
    pub pkid: u16,
    /// The topic, not yet checked.
    pub topic: Bytes,
    /// What it carries. A slice of the read buffer: copy it before keeping it.
    pub payload: Bytes,
    /// MQTT 5 properties.
    pub properties: Option<PublishProperties>,
}

/// A DISCONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IncomingDisconnect {
    /// Whether the will is to be published all the same: any reason but a normal one (MQTT 5.0, section 3.14.4).
    pub with_will: bool,
    /// The session expiry interval in seconds when the client changes it (MQTT 5).
    pub expiry: Option<u32>,
}

/// Why the bytes from a client are not a packet it may send. All of them end the connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// Larger than the broker takes.
    #[error("a packet of {0} bytes is above the limit")]
    TooLarge(usize),
    /// A type that only a broker may send, or that does not exist.
    #[error("packet type {0} is not a client's to send")]
    WrongType(u8),
    /// Flags in the fixed header that the standard reserves.
    #[error("reserved flags {flags:#06b} in a packet of type {packet_type}")]
    ReservedFlags {
        /// The packet type.
        packet_type: u8,
        /// The four flag bits.
        flags: u8,
    },
    /// A first packet that is not CONNECT, or a second CONNECT.
    #[error("a CONNECT is due exactly once, and first")]
    ConnectOutOfPlace,
    /// A protocol name or level that is not served.
    #[error("protocol level {0} is not served: MQTT 3.1.1 and 5.0 are")]
    UnsupportedVersion(u8),
    /// The packet's content does not parse (MQTT 5.0: a malformed packet).
    #[error("malformed packet: {0}")]
    Malformed(String),
    /// The packet parses, and says what it must not (MQTT 5.0: a protocol error).
    #[error("{0} is against the protocol")]
    Forbidden(&'static str),
    /// A password of other bytes than text. The standard allows it; no login here has one.
    #[error("the password is not text")]
    PasswordNotText,
    /// Topic alias 0, which no topic can have.
    #[error("topic alias 0")]
    TopicAliasZero,
}

/// Cuts a connection's bytes into packets.
#[derive(Debug)]
pub struct Decoder {
    version: Option<Version>,
    is_3_1: bool,
    max_packet: usize,
}

const CONNECT: u8 = 1;
const PUBLISH: u8 = 3;
const DISCONNECT: u8 = 14;

impl Decoder {
    /// A decoder that has not seen its CONNECT. `max_packet`: bytes that a packet may have after its fixed header.
    #[must_use]
    pub fn new(max_packet: usize) -> Decoder {
        Decoder {
            version: None,
            is_3_1: false,
            max_packet,
        }
    }

    /// The version of the CONNECT, also of one whose content was refused.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        self.version
    }

    /// Raises or lowers the limit: before login a client has less to say.
    pub fn set_max_packet(&mut self, max_packet: usize) {
        self.max_packet = max_packet;
    }

    /// Takes the next whole packet from the front of `stream`; `None` when more bytes are needed.
    ///
    /// # Errors
    /// See [`PacketError`]; there is no way to go on after one.
    pub fn decode(&mut self, stream: &mut BytesMut) -> Result<Option<Incoming>, PacketError> {
        let Some(&first) = stream.first() else {
            return Ok(None);
        };
        let (packet_type, mut flags) = (first >> 4, first & 0x0f);
        if self.is_3_1 && matches!(packet_type, 6 | 8 | 10) {
            // MQTT 3.1, section 2.1: these, too, say when they are sent again.
            flags &= 0b0111;
        }
        check_type(packet_type, flags)?;
        if (packet_type == CONNECT) == self.version.is_some() {
            return Err(PacketError::ConnectOutOfPlace);
        }
        let header = match v5::check(stream.iter(), self.max_packet) {
            Ok(header) => header,
            Err(Error::InsufficientBytes(_)) => return Ok(None),
            Err(Error::PayloadSizeLimitExceeded(size)) => return Err(PacketError::TooLarge(size)),
            Err(error) => return Err(malformed(error)),
        };
        let mut frame = stream.split_to(header.frame_length());
        if packet_type == CONNECT
            && let Some(as_3_1_1) = translate_3_1(&frame)
        {
            (frame, self.is_3_1) = (as_3_1_1, true);
        }
        let version = match self.version {
            Some(version) => version,
            None => *self.version.insert(connect_version(&frame)?),
        };
        validity::check(version, packet_type, flags, body(&frame))?;
        if packet_type == DISCONNECT && frame.len() == 3 {
            // A reason without properties, which the codec does not know.
            return Ok(Some(Incoming::Disconnect(IncomingDisconnect {
                with_will: frame.last() != Some(&0),
                expiry: None,
            })));
        }
        let publish_pkid = if packet_type == PUBLISH {
            publish_pkid(&frame)
        } else {
            None
        };
        let packet = match version {
            Version::V311 => V4.read_mut(&mut frame, self.max_packet),
            Version::V5 => V5.read_mut(&mut frame, self.max_packet),
        };
        let mut incoming = open_up(version, packet.map_err(malformed)?, flags, publish_pkid)?;
        if let Incoming::Connect(connect) = &mut incoming {
            connect.is_3_1 = self.is_3_1;
        }
        Ok(Some(incoming))
    }
}

fn malformed(error: Error) -> PacketError {
    PacketError::Malformed(error.to_string())
}

fn check_type(packet_type: u8, flags: u8) -> Result<(), PacketError> {
    let fine = match packet_type {
        // All but QoS 3.
        PUBLISH => flags & 0b0110 != 0b0110,
        // PUBREL, SUBSCRIBE and UNSUBSCRIBE have a fixed 0b0010.
        6 | 8 | 10 => flags == 0b0010,
        CONNECT | 4 | 5 | 7 | 12 | DISCONNECT => flags == 0,
        other => return Err(PacketError::WrongType(other)),
    };
    if fine {
        Ok(())
    } else {
        Err(PacketError::ReservedFlags { packet_type, flags })
    }
}

/// What follows the fixed header.
fn body(frame: &[u8]) -> &[u8] {
    let length_bytes = frame
        .iter()
        .skip(1)
        .take_while(|byte| **byte & 0x80 != 0)
        .count()
        + 1;
    frame.get(1 + length_bytes..).unwrap_or_default()
}

/// A two-byte length, that many bytes, and what follows them.
fn split_prefixed(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

fn connect_version(frame: &[u8]) -> Result<Version, PacketError> {
    match split_prefixed(body(frame)) {
        Some((b"MQTT", [4, ..])) => Ok(Version::V311),
        Some((b"MQTT", [5, ..])) => Ok(Version::V5),
        Some((b"MQTT" | b"MQIsdp", [level, ..])) => Err(PacketError::UnsupportedVersion(*level)),
        _ => Err(PacketError::Malformed(
            "a CONNECT of another protocol".into(),
        )),
    }
}

/// A CONNECT of MQTT 3.1 in the words of 3.1.1: but for the protocol's name and level they are the same.
fn translate_3_1(frame: &[u8]) -> Option<BytesMut> {
    let rest = body(frame).strip_prefix(b"\x00\x06MQIsdp\x03")?;
    let mut translated = BytesMut::with_capacity(frame.len());
    translated.put_u8(CONNECT << 4);
    let mut left = rest.len() + 7;
    while left >= 0x80 {
        translated.put_u8(0x80 | u8::try_from(left % 0x80).unwrap_or(0));
        left /= 0x80;
    }
    translated.put_u8(u8::try_from(left).unwrap_or(0));
    translated.put_slice(b"\x00\x04MQTT\x04");
    translated.put_slice(rest);
    Some(translated)
}

/// The packet identifier of a PUBLISH above QoS 0, which the codec keeps to itself.
fn publish_pkid(frame: &[u8]) -> Option<u16> {
    let (_, rest) = split_prefixed(body(frame))?;
    rest.first_chunk().map(|pkid| u16::from_be_bytes(*pkid))
}

fn open_up(
    version: Version,
    packet: Packet,
    flags: u8,
    publish_pkid: Option<u16>,
) -> Result<Incoming, PacketError> {
    Ok(match packet {
        Packet::Connect(connect, properties, will, will_properties, login) => {
            Incoming::Connect(Box::new(IncomingConnect {
                version,
                is_3_1: false,
                connect,
                properties,
                will,
                will_properties,
                login,
            }))
        }
        Packet::Publish(publish, properties) => {
            let qos = match flags >> 1 & 0b11 {
                0 => QoS::AtMostOnce,
                1 => QoS::AtLeastOnce,
                _ => QoS::ExactlyOnce,
            };
            let pkid = if qos == QoS::AtMostOnce {
                0
            } else {
                publish_pkid.unwrap_or(0)
            };
            let Publish {
                retain,
                topic,
                payload,
                ..
            } = publish;
            Incoming::Publish(IncomingPublish {
                qos,
                retain,
                pkid,
                topic,
                payload,
                properties,
            })
        }
        Packet::PubAck(puback, _) => Incoming::PubAck(puback.pkid),
        Packet::Subscribe(subscribe, properties) => {
            let id = properties.and_then(|properties| properties.id);
            Incoming::Subscribe {
                pkid: subscribe.pkid,
                filters: subscribe.filters,
                id,
            }
        }
        Packet::Unsubscribe(unsubscribe, _) => Incoming::Unsubscribe {
            pkid: unsubscribe.pkid,
            filters: unsubscribe.filters,
        },
        Packet::PingReq(_) => Incoming::PingReq,
        Packet::Disconnect(disconnect, properties) => Incoming::Disconnect(IncomingDisconnect {
            with_will: disconnect.reason_code != DisconnectReasonCode::NormalDisconnection,
            expiry: properties.and_then(|properties| properties.session_expiry_interval),
        }),
        Packet::PubRec(pubrec, _) => Incoming::PubRec(
            pubrec.pkid,
            matches!(
                pubrec.reason,
                PubRecReason::Success | PubRecReason::NoMatchingSubscribers
            ),
        ),
        Packet::PubRel(pubrel, _) => Incoming::PubRel(pubrel.pkid),
        Packet::PubComp(pubcomp, _) => Incoming::PubComp(pubcomp.pkid),
        // Refused by type before decoding.
        _ => return Err(PacketError::Malformed("not a client's packet".into())),
    })
}

/// Appends a packet in the client's version. What 3.1.1 has no room for (properties) is left out.
///
/// # Errors
/// [`PacketError::Malformed`] when the codec cannot write it; nothing has been sent then.
pub fn encode(version: Version, packet: Packet, out: &mut BytesMut) -> Result<(), PacketError> {
    match version {
        Version::V5 => V5.write(packet, out),
        Version::V311 => V4.write(without_properties(packet), out),
    }
    .map(drop)
    .map_err(malformed)
}

fn without_properties(packet: Packet) -> Packet {
    match packet {
        Packet::ConnAck(connack, _) => Packet::ConnAck(connack, None),
        Packet::Publish(publish, _) => Packet::Publish(publish, None),
        Packet::PubAck(puback, _) => Packet::PubAck(puback, None),
        Packet::PubRec(pubrec, _) => Packet::PubRec(pubrec, None),
        Packet::SubAck(suback, _) => Packet::SubAck(suback, None),
        Packet::UnsubAck(unsuback, _) => Packet::UnsubAck(unsuback, None),
        Packet::Disconnect(disconnect, _) => Packet::Disconnect(disconnect, None),
        other => other,
    }
}

/// The fields of a PUBLISH on its way to a subscriber.
#[derive(Debug, Clone, Copy)]
pub struct OutgoingPublish<'a> {
    /// Quality of service.
    pub qos: QoS,
    /// Whether it may have been sent before.
    pub dup: bool,
    /// Whether it was retained.
    pub retain: bool,
    /// The packet identifier; 0 at QoS 0.
    pub pkid: u16,
    /// The topic.
    pub topic: &'a str,
    /// What it carries.
    pub payload: &'a [u8],
}

impl OutgoingPublish<'_> {
    /// The codec's form. QoS and packet identifier are private there; its own serialisation is the way to set them.
    #[must_use]
    pub fn into_packet(self, properties: Option<PublishProperties>) -> Packet {
        let mut bytes = BytesMut::with_capacity(5 + self.topic.len() + self.payload.len());
        bytes
            .put_u8(0x30 | u8::from(self.dup) << 3 | (self.qos as u8) << 1 | u8::from(self.retain));
        bytes.put_u16(self.pkid);
        // A topic name has at most 65,535 bytes: it came in with a two-byte length.
        bytes.put_u16(u16::try_from(self.topic.len()).unwrap_or(u16::MAX));
        bytes.put_slice(self.topic.as_bytes());
        bytes.put_slice(self.payload);
        Packet::Publish(Publish::deserialize(bytes.freeze()), properties)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rumqttd::protocol::{PubAck, PubAckReason};

    const CONNECT_311: &[u8] = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a";
    const CONNECT_5: &[u8] = b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01a";

    fn decoder_after(connect: &[u8]) -> Decoder {
        let mut decoder = Decoder::new(1024);
        assert!(matches!(
            decoder.decode(&mut connect.into()),
            Ok(Some(Incoming::Connect(_)))
        ));
        decoder
    }

    #[test]
    fn the_connect_tells_the_versions_apart() {
        for (bytes, version) in [(CONNECT_311, Version::V311), (CONNECT_5, Version::V5)] {
            let Ok(Some(Incoming::Connect(connect))) = Decoder::new(1024).decode(&mut bytes.into())
            else {
                panic!()
            };
            assert_eq!(
                (connect.version, connect.connect.client_id.as_str()),
                (version, "a")
            );
        }
    }

    #[test]
    fn other_protocols_and_levels_are_refused() {
        let decode = |bytes: &[u8]| Decoder::new(1024).decode(&mut bytes.into());
        assert_eq!(
            decode(b"\x10\x0d\x00\x04MQTT\x06\x02\x00\x3c\x00\x01a"),
            Err(PacketError::UnsupportedVersion(6))
        );
        assert_eq!(
            decode(b"\x10\x0d\x00\x04MQTT\x03\x02\x00\x3c\x00\x01a"),
            Err(PacketError::UnsupportedVersion(3))
        );
        assert!(matches!(
            decode(b"\x10\x0d\x00\x04HTTP\x04\x02\x00\x3c\x00\x01a"),
            Err(PacketError::Malformed(_))
        ));
        assert_eq!(
            decode(b"GET / HTTP/1.1\r\n"),
            Err(PacketError::ReservedFlags {
                packet_type: 4,
                flags: 7
            })
        );
        assert_eq!(decode(b"\xc0\x00"), Err(PacketError::ConnectOutOfPlace));
    }

    #[test]
    fn a_connect_of_mqtt_3_1_is_read_as_one_of_3_1_1() {
        for id in [1, 120, 300] {
            let id = "a".repeat(id);
            let mut body = b"\x00\x06MQIsdp\x03\x02\x00\x3c".to_vec();
            body.extend(u16::try_from(id.len()).unwrap().to_be_bytes());
            body.extend(id.as_bytes());
            let mut stream = BytesMut::from(&b"\x10"[..]);
            if body.len() >= 0x80 {
                stream.put_u8(0x80 | (body.len() % 0x80) as u8);
                stream.put_u8((body.len() / 0x80) as u8);
            } else {
                stream.put_u8(body.len() as u8);
            }
            stream.extend_from_slice(&body);
            let Ok(Some(Incoming::Connect(connect))) = Decoder::new(1024).decode(&mut stream)
            else {
                panic!()
            };
            assert!(connect.is_3_1 && connect.version == Version::V311);
            assert_eq!(connect.connect.client_id, id);
        }
    }

    #[test]
    fn packets_that_only_a_broker_sends_are_refused_before_the_codec_sees_them() {
        for connect in [CONNECT_311, CONNECT_5] {
            for packet_type in [0, 2, 9, 11, 13, 15] {
                let mut bytes = BytesMut::from(&[packet_type << 4, 2, 0, 0][..]);
                assert_eq!(
                    decoder_after(connect).decode(&mut bytes),
                    Err(PacketError::WrongType(packet_type))
                );
            }
            assert_eq!(
                decoder_after(connect).decode(&mut connect.into()),
                Err(PacketError::ConnectOutOfPlace)
            );
        }
    }

    #[test]
    fn reserved_flags_and_qos_3_are_refused() {
        for first in [0x36, 0x3e, 0x80, 0xa0, 0x60, 0x41, 0xc1, 0xe1] {
            let result =
                decoder_after(CONNECT_5).decode(&mut BytesMut::from(&[first, 2, 0, 1][..]));
            assert!(
                matches!(result, Err(PacketError::ReservedFlags { .. })),
                "{first:#x}"
            );
        }
    }

    #[test]
    fn a_packet_above_the_limit_is_refused_before_it_has_arrived() {
        let mut decoder = decoder_after(CONNECT_5);
        assert_eq!(
            decoder.decode(&mut BytesMut::from(&b"\x30\x81\x08"[..])),
            Err(PacketError::TooLarge(1025))
        );
    }

    #[test]
    fn a_packet_is_decoded_only_when_it_is_whole() {
        let whole = b"\x32\x0a\x00\x03a/b\x00\x07abc";
        for cut in 0..whole.len() {
            assert_eq!(
                decoder_after(CONNECT_311).decode(&mut whole[..cut].into()),
                Ok(None)
            );
        }
        let Ok(Some(Incoming::Publish(publish))) =
            decoder_after(CONNECT_311).decode(&mut whole[..].into())
        else {
            panic!()
        };
        assert_eq!(
            (publish.pkid, publish.qos, &publish.payload[..]),
            (7, QoS::AtLeastOnce, &b"abc"[..])
        );
    }

    #[test]
    fn a_disconnect_with_a_reason_and_no_properties_is_understood() {
        let mut bytes = BytesMut::from(&b"\xe0\x01\x04"[..]);
        assert_eq!(
            decoder_after(CONNECT_5).decode(&mut bytes),
            Ok(Some(Incoming::Disconnect(IncomingDisconnect {
                with_will: true,
                expiry: None
            })))
        );
    }

    #[test]
    fn what_goes_out_to_one_version_comes_back_from_its_codec() {
        for (version, connect) in [(Version::V311, CONNECT_311), (Version::V5, CONNECT_5)] {
            let publish = OutgoingPublish {
                qos: QoS::AtLeastOnce,
                dup: false,
                retain: true,
                pkid: 9,
                topic: "inbox/bob",
                payload: b"sealed",
            };
            let properties = PublishProperties {
                content_type: Some("x".into()),
                ..PublishProperties::default()
            };
            let mut bytes = BytesMut::new();
            encode(
                version,
                publish.into_packet(Some(properties.clone())),
                &mut bytes,
            )
            .unwrap();
            let puback = PubAck {
                pkid: 3,
                reason: PubAckReason::Success,
            };
            encode(version, Packet::PubAck(puback, None), &mut bytes).unwrap();

            let mut decoder = decoder_after(connect);
            let Ok(Some(Incoming::Publish(back))) = decoder.decode(&mut bytes) else {
                panic!()
            };
            assert_eq!(
                (back.pkid, back.retain, &back.topic[..]),
                (9, true, &b"inbox/bob"[..])
            );
            assert_eq!(
                back.properties,
                (version == Version::V5).then_some(properties)
            );
            assert_eq!(decoder.decode(&mut bytes), Ok(Some(Incoming::PubAck(3))));
            assert!(bytes.is_empty());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(v5: bool, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut decoder = decoder_after(if v5 { CONNECT_5 } else { CONNECT_311 });
            let mut stream = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = decoder.decode(&mut stream) {}
            let mut stream = BytesMut::from(&bytes[..]);
            let _ = Decoder::new(1024).decode(&mut stream);
        }

        #[test]
        fn no_body_of_any_type_makes_the_decoder_panic(
            v5: bool,
            first in prop::sample::select(vec![0x30u8, 0x32, 0x3b, 0x34, 0x40, 0x50, 0x62, 0x70, 0x82, 0xa2, 0xc0, 0xe0]),
            body in prop::collection::vec(any::<u8>(), 0..127),
        ) {
            let mut stream = BytesMut::from(&[first, body.len() as u8][..]);
            stream.extend_from_slice(&body);
            let _ = decoder_after(if v5 { CONNECT_5 } else { CONNECT_311 }).decode(&mut stream);
        }

        #[test]
        fn no_connect_makes_the_decoder_panic(level in 4u8..6, body in prop::collection::vec(any::<u8>(), 0..110)) {
            let mut stream = BytesMut::from(&b"\x10"[..]);
            stream.put_u8((7 + body.len()) as u8);
            stream.put_slice(b"\x00\x04MQTT");
            stream.put_u8(level);
            stream.put_slice(&body);
            let _ = Decoder::new(1024).decode(&mut stream);
        }
    }
}
