//! What holds for any bytes that the decoder gets: it does not panic, how the bytes were cut on their way does not matter, and
//! what it lets through can be written to clients of both versions and read back.

use bytes::BytesMut;
use rumqttd::protocol::PublishProperties;
use sealpost_broker::protocol::packet::{
    Decoder, Incoming, IncomingPublish, OutgoingPublish, PacketError, Version, encode,
};

const CONNECT_311: &[u8] = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a";
const CONNECT_5: &[u8] = b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01a";
const MAX_PACKET: usize = 4096;

/// The first byte says what comes before the others: nothing, or a CONNECT of either version.
pub fn check(data: &[u8]) {
    let Some((how, stream)) = data.split_first() else {
        return;
    };
    let connect = match how % 3 {
        0 => &b""[..],
        1 => CONNECT_311,
        _ => CONNECT_5,
    };
    let stream = [connect, stream].concat();
    let (packets, end) = decode(&stream, stream.len());
    assert_eq!(decode(&stream, 1), (packets, end), "cut in single bytes");
    for packet in decode(&stream, stream.len()).0 {
        if let Incoming::Publish(publish) = packet {
            read_back(&publish);
        }
    }
}

/// All packets, and what ended them, when so many bytes arrive at a time.
fn decode(stream: &[u8], at_once: usize) -> (Vec<Incoming>, Option<PacketError>) {
    let mut decoder = Decoder::new(MAX_PACKET);
    let mut buffer = BytesMut::new();
    let mut packets = Vec::new();
    for part in stream.chunks(at_once.max(1)) {
        buffer.extend_from_slice(part);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => break,
                Err(error) => return (packets, Some(error)),
            }
        }
    }
    (packets, None)
}

fn read_back(publish: &IncomingPublish) {
    let Ok(topic) = std::str::from_utf8(&publish.topic) else {
        panic!("a topic that is not UTF-8")
    };
    if topic.is_empty() {
        // It had an alias, which stays behind.
        return;
    }
    let properties = publish
        .properties
        .clone()
        .map(|properties| PublishProperties {
            topic_alias: None,
            ..properties
        });
    for (version, connect) in [(Version::V311, CONNECT_311), (Version::V5, CONNECT_5)] {
        let outgoing = OutgoingPublish {
            qos: publish.qos,
            dup: false,
            retain: publish.retain,
            pkid: publish.pkid,
            topic,
            payload: &publish.payload,
        };
        let mut stream = BytesMut::from(connect);
        let written = encode(
            version,
            outgoing.into_packet(properties.clone()),
            &mut stream,
        );
        assert_eq!(written, Ok(()));
        let (packets, end) = decode(&stream, stream.len());
        let Some(Incoming::Publish(back)) = packets.last() else {
            panic!("{end:?}")
        };
        assert_eq!(
            (&back.topic, &back.payload),
            (&publish.topic, &publish.payload)
        );
        assert_eq!(
            (back.qos, back.retain, back.pkid),
            (publish.qos, publish.retain, publish.pkid)
        );
    }
}
