//! MQTT 3.1.1 control packets, as bytes: the few that a load generator needs, written and read by hand.
//!
//! Section numbers are those of MQTT Version 3.1.1, OASIS Standard, 29 October 2014.

use thiserror::Error;

/// The longest packet we accept, in bytes: far above the largest that we ever publish, so that a broken length
/// cannot make us allocate without end.
pub(crate) const MAX_PACKET: usize = 4 * 1024 * 1024;

/// The keep-alive we announce, in seconds (section 3.1.2.10). The longest there is: every run is shorter, so no
/// connection ever needs a PINGREQ, and brokers that refuse 0 are served as well.
const KEEP_ALIVE: u16 = u16::MAX;

/// A quality of service (section 4.3). The generator measures 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Qos {
    /// At most once: not acknowledged.
    AtMostOnce,
    /// At least once: each PUBLISH is answered by a PUBACK.
    AtLeastOnce,
}

impl Qos {
    /// The two bits of the wire.
    pub(crate) fn bits(self) -> u8 {
        match self {
            Self::AtMostOnce => 0,
            Self::AtLeastOnce => 1,
        }
    }
}

/// What went wrong with a broker's bytes.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum PacketError {
    /// The remaining length runs over four bytes (section 2.2.3).
    #[error("a remaining length longer than four bytes")]
    BadLength,
    /// The packet is longer than [`MAX_PACKET`].
    #[error("a packet of {0} bytes, more than the {MAX_PACKET} that are accepted")]
    TooLong(usize),
    /// The body ends before its fields do.
    #[error("a packet of type {0} that ends before its fields do")]
    Short(u8),
    /// A PUBLISH at QoS 2 or 3, which was never asked for.
    #[error("a PUBLISH with QoS bits {0}, which no subscription asked for")]
    UnexpectedQos(u8),
}

/// A packet from the broker, borrowed from the read buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Packet<'a> {
    /// The answer to CONNECT (section 3.2).
    ConnAck {
        /// 0 is accepted; 1 to 5 say why not.
        code: u8,
    },
    /// The answer to SUBSCRIBE (section 3.9) for its one filter.
    SubAck {
        /// The packet id of the SUBSCRIBE.
        id: u16,
        /// The granted QoS, or 0x80.
        code: u8,
    },
    /// The answer to a PUBLISH at QoS 1 (section 3.4).
    PubAck {
        /// The packet id of the PUBLISH.
        id: u16,
    },
    /// A message (section 3.3).
    Publish {
        /// Its topic, as it came: compared, never interpreted.
        topic: &'a [u8],
        /// Its packet id, at QoS 1.
        id: Option<u16>,
        /// Its payload.
        payload: &'a [u8],
    },
    /// Any other packet, by its type.
    Other(u8),
}

/// Reads one packet from the front of `bytes`: the packet and how many bytes it took, or `None` while it is incomplete.
pub(crate) fn decode(bytes: &[u8]) -> Result<Option<(Packet<'_>, usize)>, PacketError> {
    let Some((&first, rest)) = bytes.split_first() else {
        return Ok(None);
    };
    let Some((length, length_bytes)) = remaining_length(rest)? else {
        return Ok(None);
    };
    let total = 1 + length_bytes + length;
    if total > MAX_PACKET {
        return Err(PacketError::TooLong(total));
    }
    let Some(body) = bytes.get(1 + length_bytes..total) else {
        return Ok(None);
    };
    let kind = first >> 4;
    let short = || PacketError::Short(kind);
    let packet = match kind {
        2 => {
            let [_session_present, code] = *body.first_chunk::<2>().ok_or_else(short)?;
            Packet::ConnAck { code }
        }
        3 => {
            let (topic, rest) = string(body).ok_or_else(short)?;
            match (first >> 1) & 3 {
                0 => Packet::Publish {
                    topic,
                    id: None,
                    payload: rest,
                },
                1 => {
                    let (id, payload) = rest.split_first_chunk::<2>().ok_or_else(short)?;
                    Packet::Publish {
                        topic,
                        id: Some(u16::from_be_bytes(*id)),
                        payload,
                    }
                }
                bits => return Err(PacketError::UnexpectedQos(bits)),
            }
        }
        4 => Packet::PubAck {
            id: u16::from_be_bytes(*body.first_chunk::<2>().ok_or_else(short)?),
        },
        9 => {
            let [high, low, code] = *body.first_chunk::<3>().ok_or_else(short)?;
            Packet::SubAck {
                id: u16::from_be_bytes([high, low]),
                code,
            }
        }
        other => Packet::Other(other),
    };
    Ok(Some((packet, total)))
}

/// The remaining length at the front of `bytes` and how many bytes it took (section 2.2.3), `None` while incomplete.
fn remaining_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, PacketError> {
    let mut length = 0;
    for (place, &byte) in bytes.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok(Some((length, place + 1)));
        }
    }
    if bytes.len() < 4 {
        Ok(None)
    } else {
        Err(PacketError::BadLength)
    }
}

/// A length-prefixed string (section 1.5.3) at the front of `bytes`, and what follows it.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// Appends a remaining length (section 2.2.3).
fn put_remaining_length(out: &mut Vec<u8>, mut length: usize) {
    loop {
        let low = u8::try_from(length & 0x7f).unwrap_or(0);
        length >>= 7;
        if length == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Appends a length-prefixed string (section 1.5.3). Longer ones than 65,535 bytes are cut: ours are a few dozen.
fn put_string(out: &mut Vec<u8>, string: &[u8]) {
    let length = u16::try_from(string.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(string.get(..usize::from(length)).unwrap_or(string));
}

/// A user name and a password (sections 3.1.3.4 and 3.1.3.5).
#[derive(Clone)]
pub(crate) struct Credentials {
    /// The user name.
    pub(crate) user: String,
    /// The password, as it goes on the wire.
    pub(crate) password: String,
}

/// Appends a CONNECT (section 3.1).
pub(crate) fn put_connect(
    out: &mut Vec<u8>,
    client_id: &str,
    clean_session: bool,
    credentials: Option<&Credentials>,
) {
    let mut body = Vec::with_capacity(256);
    put_string(&mut body, b"MQTT");
    body.push(4);
    let login = if credentials.is_some() {
        0b1100_0000
    } else {
        0
    };
    body.push(login | if clean_session { 0b10 } else { 0 });
    body.extend_from_slice(&KEEP_ALIVE.to_be_bytes());
    put_string(&mut body, client_id.as_bytes());
    if let Some(credentials) = credentials {
        put_string(&mut body, credentials.user.as_bytes());
        put_string(&mut body, credentials.password.as_bytes());
    }
    out.push(0x10);
    put_remaining_length(out, body.len());
    out.extend_from_slice(&body);
}

/// Appends a SUBSCRIBE for one filter (section 3.8).
pub(crate) fn put_subscribe(out: &mut Vec<u8>, id: u16, filter: &str, qos: Qos) {
    out.push(0x82);
    put_remaining_length(out, 2 + 2 + filter.len() + 1);
    out.extend_from_slice(&id.to_be_bytes());
    put_string(out, filter.as_bytes());
    out.push(qos.bits());
}

/// Appends a PUBLISH (section 3.3) and returns where in `out` its payload starts. `id` is left out at QoS 0.
pub(crate) fn put_publish(
    out: &mut Vec<u8>,
    topic: &str,
    qos: Qos,
    retain: bool,
    id: u16,
    payload: &[u8],
) -> usize {
    let id_bytes = match qos {
        Qos::AtMostOnce => 0,
        Qos::AtLeastOnce => 2,
    };
    out.push(0x30 | qos.bits() << 1 | u8::from(retain));
    put_remaining_length(out, 2 + topic.len() + id_bytes + payload.len());
    put_string(out, topic.as_bytes());
    if qos == Qos::AtLeastOnce {
        out.extend_from_slice(&id.to_be_bytes());
    }
    let start = out.len();
    out.extend_from_slice(payload);
    start
}

/// Appends a PUBACK (section 3.4).
pub(crate) fn put_puback(out: &mut Vec<u8>, id: u16) {
    let [high, low] = id.to_be_bytes();
    out.extend_from_slice(&[0x40, 2, high, low]);
}

/// A DISCONNECT (section 3.14).
pub(crate) const DISCONNECT: [u8; 2] = [0xe0, 0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connect_is_the_bytes_of_the_standard() {
        let mut out = Vec::new();
        put_connect(&mut out, "ab", true, None);
        assert_eq!(out, b"\x10\x0e\x00\x04MQTT\x04\x02\xff\xff\x00\x02ab");
        out.clear();
        let login = Credentials {
            user: "u".into(),
            password: "pw".into(),
        };
        put_connect(&mut out, "ab", false, Some(&login));
        assert_eq!(
            out,
            b"\x10\x15\x00\x04MQTT\x04\xc0\xff\xff\x00\x02ab\x00\x01u\x00\x02pw"
        );
    }

    #[test]
    fn a_subscribe_is_the_bytes_of_the_standard() {
        let mut out = Vec::new();
        put_subscribe(&mut out, 10, "a/b", Qos::AtLeastOnce);
        assert_eq!(out, b"\x82\x08\x00\x0a\x00\x03a/b\x01");
    }

    #[test]
    fn a_publish_is_read_back_as_it_was_written() {
        for (qos, id) in [(Qos::AtMostOnce, None), (Qos::AtLeastOnce, Some(7))] {
            let payload = vec![9; 300];
            let mut out = Vec::new();
            let start = put_publish(&mut out, "a/b", qos, false, 7, &payload);
            assert_eq!(out[start..], payload);
            let (packet, length) = decode(&out).unwrap().unwrap();
            assert_eq!(
                packet,
                Packet::Publish {
                    topic: b"a/b",
                    id,
                    payload: &payload
                }
            );
            assert_eq!(length, out.len());
        }
    }

    #[test]
    fn a_puback_is_read_back_as_it_was_written() {
        let mut out = Vec::new();
        put_puback(&mut out, 0x1234);
        assert_eq!(out, [0x40, 2, 0x12, 0x34]);
        assert_eq!(decode(&out), Ok(Some((Packet::PubAck { id: 0x1234 }, 4))));
    }

    #[test]
    fn connack_and_suback_are_understood() {
        let refused = Packet::ConnAck { code: 5 };
        assert_eq!(decode(&[0x20, 2, 1, 5]), Ok(Some((refused, 4))));
        assert_eq!(
            decode(&[0x90, 3, 0, 10, 0x80]),
            Ok(Some((Packet::SubAck { id: 10, code: 0x80 }, 5)))
        );
    }

    #[test]
    fn an_incomplete_packet_waits_for_more() {
        let mut out = Vec::new();
        put_publish(&mut out, "a/b", Qos::AtLeastOnce, false, 1, &[0; 200]);
        for end in 0..out.len() {
            assert_eq!(
                decode(&out[..end]),
                Ok(None),
                "{end} bytes of {}",
                out.len()
            );
        }
    }

    #[test]
    fn broken_packets_are_refused() {
        assert_eq!(
            decode(&[0x30, 0xff, 0xff, 0xff, 0xff, 1]),
            Err(PacketError::BadLength)
        );
        assert_eq!(
            decode(&[0x30, 0xff, 0xff, 0xff, 0x7f]),
            Err(PacketError::TooLong(268_435_460))
        );
        assert_eq!(decode(&[0x30, 1, 0]), Err(PacketError::Short(3)));
        assert_eq!(decode(&[0x34, 2, 0, 0]), Err(PacketError::UnexpectedQos(2)));
        assert_eq!(decode(&[0x40, 1, 0]), Err(PacketError::Short(4)));
    }
}
