//! What the standards say that a broker answers, where that is more than a packet's own test shows.

use sealpost_tests::packet::{packet, prefixed};
use sealpost_tests::raw::{Connect, publish5};
use sealpost_tests::{Broker, BrokerOptions, Raw};

fn open_broker() -> Broker {
    Broker::start(BrokerOptions {
        open: true,
        settings: "[limits]\nreceive_maximum = 5\nkeep_alive = 60".into(),
        ..BrokerOptions::default()
    })
}

/// The last packet before the end.
fn last(raw: &mut Raw) -> Option<(u8, Vec<u8>)> {
    raw.read_to_end().pop()
}

#[test]
fn an_answer_larger_than_the_client_takes_is_not_sent() {
    let broker = open_broker();
    let mut raw = Raw::open(broker.address());
    let tiny = Connect {
        properties: b"\x27\x00\x00\x00\x05",
        ..Connect::v5("tiny")
    };
    raw.send(&tiny.packet());
    // Nor is a DISCONNECT, which may not come before a CONNACK.
    assert_eq!(raw.read_to_end(), []);
}

#[test]
fn a_client_of_3_1_is_served_and_needs_a_name() {
    let broker = open_broker();
    let connect = |id: &str| {
        let mut body = b"\x00\x06MQIsdp\x03\x02\x00\x00".to_vec();
        body.extend(prefixed(id));
        packet(0x10, &body)
    };
    let mut raw = Raw::open(broker.address());
    raw.send(&connect("old"));
    raw.expect(b"\x20\x02\x00\x00");
    raw.subscribe(4, "t", 1);
    raw.send(b"\x30\x04\x00\x01tx");
    raw.expect(b"\x30\x04\x00\x01tx");
    let mut nameless = Raw::open(broker.address());
    nameless.send(&connect(""));
    nameless.expect(b"\x20\x02\x00\x02");
}

#[test]
fn a_connack_says_what_differs_from_the_standards_defaults() {
    let broker = open_broker();
    let mut raw = Raw::open(broker.address());
    raw.send(&Connect::v5("c").packet());
    let (_, connack) = raw.read().expect("a CONNACK");
    let has = |property: &[u8]| {
        connack
            .windows(property.len())
            .any(|window| window == property)
    };
    assert!(has(b"\x21\x00\x05"), "Receive Maximum: {connack:x?}");
    assert!(has(b"\x22\x00\x0a"), "Topic Alias Maximum");
    assert!(has(b"\x13\x00\x3c"), "Server Keep Alive");
    assert!(!has(b"\x12"), "no id was assigned");
}

#[test]
fn more_publishes_than_the_receive_maximum_end_the_connection_with_the_reason() {
    let broker = open_broker();
    // QoS 2 is under way until its PUBCOMP, however quickly it is acknowledged.
    let mut raw = Raw::connect(broker.address(), &Connect::v5("c"));
    for pkid in 1..=5 {
        raw.send(&publish5(0b0100, "t", pkid, b"", b"x"));
        assert_eq!(raw.read().expect("a PUBREC").0, 0x50);
    }
    // The same again is no other message.
    raw.send(&publish5(0b1100, "t", 5, b"", b"x"));
    assert_eq!(raw.read().expect("a PUBREC").0, 0x50);
    raw.send(&publish5(0b0100, "t", 6, b"", b"x"));
    assert_eq!(last(&mut raw).expect("a DISCONNECT").1[0], 0x93);
}

#[test]
fn topic_aliases_live_as_long_as_their_connection() {
    let broker = open_broker();
    let alias = b"\x23\x00\x01";
    let mut raw = Raw::connect(broker.address(), &Connect::v5("c"));
    raw.subscribe(5, "t", 0);
    raw.send(&publish5(0, "t", 0, alias, b"1"));
    raw.expect(&publish5(0, "t", 0, b"", b"1"));
    raw.send(&publish5(0, "", 0, alias, b"2"));
    raw.expect(&publish5(0, "t", 0, b"", b"2"));
    raw.disconnect();
    let mut again = Raw::connect(broker.address(), &Connect::v5("c"));
    again.send(&publish5(0, "", 0, alias, b"3"));
    assert_eq!(last(&mut again).expect("a DISCONNECT").1[0], 0x82);
    let mut above = Raw::connect(broker.address(), &Connect::v5("c"));
    above.send(&publish5(0, "t", 0, b"\x23\x00\x0b", b"4"));
    assert_eq!(last(&mut above).expect("a DISCONNECT").1[0], 0x94);
}

#[test]
fn a_payload_that_claims_to_be_utf8_and_is_not_is_refused() {
    let broker = open_broker();
    let mut raw = Raw::connect(broker.address(), &Connect::v5("c"));
    raw.send(&publish5(0b0010, "t", 1, b"\x01\x01", b"\xff"));
    assert_eq!(raw.read().expect("a PUBACK").1[..3], [0, 1, 0x99]);
    raw.send(&publish5(0, "t", 0, b"\x01\x01", b"\xff"));
    assert_eq!(last(&mut raw).expect("a DISCONNECT").1[0], 0x99);
}

#[test]
fn a_refused_connect_of_mqtt_5_is_told_why() {
    let broker = open_broker();
    let refused = |properties: &[u8]| {
        let mut raw = Raw::open(broker.address());
        let connect = Connect {
            properties,
            ..Connect::v5("c")
        };
        raw.send(&connect.packet());
        raw.read().expect("a CONNACK").1[1]
    };
    assert_eq!(
        refused(b"\x15\x00\x05SCRAM"),
        0x8c,
        "an authentication method"
    );
    assert_eq!(refused(b"\x21\x00\x01\x21\x00\x01"), 0x82, "twice");
    assert_eq!(
        refused(b"\x23\x00\x01"),
        0x81,
        "a property of another packet"
    );
    let mut later = Raw::open(broker.address());
    later.send(b"\x10\x0e\x00\x04MQTT\x06\x02\x00\x00\x00\x00\x01c");
    assert_eq!(later.read().expect("a CONNACK").1[1], 0x84);
    let mut earlier = Raw::open(broker.address());
    earlier.send(b"\x10\x0d\x00\x04MQTT\x03\x02\x00\x00\x00\x01c");
    earlier.expect(b"\x20\x02\x00\x01");
}

#[test]
fn a_session_that_was_not_kept_cannot_be_kept_by_its_disconnect() {
    let broker = open_broker();
    let mut raw = Raw::connect(broker.address(), &Connect::v5("c"));
    raw.send(b"\xe0\x07\x00\x05\x11\x00\x00\x00\x0a");
    assert_eq!(last(&mut raw).expect("a DISCONNECT").1[0], 0x82);
}
