//! What a broker sent, taken apart without the code under test.

use rumqttd::protocol::QoS;

/// A packet: its first byte, and what follows its length.
pub(super) type Packet = (u8, Vec<u8>);

/// A PUBLISH of MQTT 5.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    pub(super) topic: String,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) dup: bool,
    pub(super) pkid: u16,
    /// The message; none if it is empty.
    pub(super) id: Option<u32>,
}

pub(super) fn split(mut bytes: &[u8]) -> Vec<Packet> {
    let mut packets = Vec::new();
    while let Some((&first, rest)) = bytes.split_first() {
        let (mut length, mut taken) = (0, 0);
        for (at, byte) in rest.iter().enumerate() {
            length |= usize::from(byte & 0x7f) << (7 * at);
            taken = at + 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        packets.push((first, rest[taken..taken + length].to_vec()));
        bytes = &rest[taken + length..];
    }
    packets
}

/// The number at the beginning: a packet identifier, or a length.
pub(super) fn number(body: &[u8]) -> u16 {
    u16::from_be_bytes([body[0], body[1]])
}

/// The reason code that may follow a packet identifier.
pub(super) fn reason(body: &[u8]) -> u8 {
    body.get(2).copied().unwrap_or(0)
}

pub(super) fn delivery((first, body): &Packet) -> Delivery {
    assert_eq!(first >> 4, 3);
    let length = usize::from(number(body));
    let (topic, mut rest) = body[2..].split_at(length);
    let qos = match first >> 1 & 3 {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    };
    let mut pkid = 0;
    if qos != QoS::AtMostOnce {
        pkid = number(rest);
        rest = &rest[2..];
    }
    let payload = &rest[1 + usize::from(rest[0])..];
    let payload = std::str::from_utf8(payload).unwrap();
    Delivery {
        topic: String::from_utf8(topic.to_vec()).unwrap(),
        qos,
        retain: first & 1 == 1,
        dup: first & 8 == 8,
        pkid,
        id: payload.trim_end_matches('.').parse().ok(),
    }
}
