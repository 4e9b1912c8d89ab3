//! `$SYS/`: what the broker tells of itself.

use std::collections::BTreeMap;

use sealpost_tests::packet::{packet, prefixed};
use sealpost_tests::raw::{Connect, publish, publish5};
use sealpost_tests::{Broker, BrokerOptions, Raw};

fn open_broker() -> Broker {
    Broker::start(BrokerOptions {
        open: true,
        ..BrokerOptions::default()
    })
}

/// Reads values until one is as wanted.
fn read_until(reader: &mut Raw, wanted: impl Fn(&BTreeMap<String, String>) -> bool) {
    let mut values = BTreeMap::new();
    while !wanted(&values) {
        let (first, body) = reader.read().expect("a value");
        assert_eq!(first & 0xf6, 0x30, "a PUBLISH at QoS 0");
        let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        values.insert(text(&body[2..2 + length]), text(&body[2 + length..]));
    }
}

#[test]
fn an_operator_sees_version_clients_traffic_and_load() {
    let broker = open_broker();
    let mut writer = Raw::connect(broker.address(), &Connect::v311("writer"));
    writer.subscribe(4, "t", 0);
    for _ in 0..10 {
        writer.send(&publish(0, "t", 0, b"x"));
        writer.expect(&publish(0, "t", 0, b"x"));
    }
    writer.send(&publish(1, "kept", 0, b"x"));
    let mut reader = Raw::connect(broker.address(), &Connect::v311("reader"));
    reader.subscribe(4, "$SYS/#", 1);
    read_until(&mut reader, |values| {
        let is = |name: &str, value: &str| {
            values
                .get(&format!("$SYS/broker/{name}"))
                .map(String::as_str)
                == Some(value)
        };
        let load = values.get("$SYS/broker/load/messages/received/1min");
        is("clients/connected", "2")
            && is("messages/received", "11")
            && is("retained messages/count", "1")
            && load.is_some_and(|load| load.parse::<f64>().unwrap() > 0.0)
            && values
                .get("$SYS/broker/version")
                .is_some_and(|version| version.starts_with("sealpost-broker "))
            && values
                .get("$SYS/broker/messages/sent")
                .is_some_and(|sent| sent.parse::<u64>().unwrap() >= 10)
            && values
                .get("$SYS/broker/uptime")
                .is_some_and(|uptime| uptime.ends_with(" seconds"))
    });
}

#[test]
fn wildcards_at_the_beginning_match_nothing_of_it() {
    let broker = open_broker();
    let mut sys = Raw::connect(broker.address(), &Connect::v311("sys"));
    sys.subscribe(4, "$SYS/broker/version", 0);
    sys.read().expect("it is there");
    let mut reader = Raw::connect(broker.address(), &Connect::v311("reader"));
    for filter in ["#", "+/#", "+/broker/#", "+/broker/version"] {
        reader.subscribe(4, filter, 0);
        reader.ping();
        reader.ping();
    }
}

#[test]
fn nobody_publishes_there() {
    let broker = open_broker();
    let mut new = Raw::connect(broker.address(), &Connect::v5("new"));
    for topic in ["$SYS/broker/version", "$SYS/x", "$share/g/t"] {
        new.send(&publish5(0b0010, topic, 7, b"", b"forged"));
        let (first, body) = new.read().expect("a PUBACK");
        assert_eq!((first, body[2]), (0x40, 0x87), "{topic}");
        let mut old = Raw::connect(broker.address(), &Connect::v311("old"));
        old.send(&publish(0b0010, topic, 7, b"forged"));
        assert_eq!(old.read_to_end(), [], "{topic}");
    }
}

#[test]
fn on_a_closed_broker_it_is_for_operators_alone() {
    let broker = Broker::start(BrokerOptions::default());
    let alice = sealpost_tests::Device::new("alice");
    let password = alice.token("a");
    let mut body = b"\x00\x04MQTT\x04\xc2\x00\x00".to_vec();
    body.extend([prefixed("a"), prefixed("alice"), prefixed(&password)].concat());
    let mut raw = Raw::open(broker.address());
    raw.send(&packet(0x10, &body));
    raw.expect(b"\x20\x02\x00\x00");
    for filter in ["$SYS/#", "$SYS/broker/version"] {
        let body = [b"\x00\x01", &prefixed(filter)[..], b"\x00"].concat();
        raw.send(&packet(0x82, &body));
        raw.expect(b"\x90\x03\x00\x01\x80");
    }
    raw.ping();
}
