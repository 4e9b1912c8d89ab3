//! Wills: published when a client goes without a word, and never otherwise.

use sealpost_tests::raw::{Connect, Will};
use sealpost_tests::{Broker, BrokerOptions, Device, Raw};

fn open_broker() -> Broker {
    Broker::start(BrokerOptions {
        open: true,
        ..BrokerOptions::default()
    })
}

/// Somebody who watches a topic, in MQTT 3.1.1.
fn watcher(broker: &Broker, topic: &str) -> Raw {
    let mut watcher = Raw::connect(broker.address(), &Connect::v311("watcher"));
    watcher.subscribe(4, topic, 1);
    watcher
}

const GONE: Will<'static> = Will {
    topic: "will",
    payload: b"gone",
    qos: 0,
    retain: false,
    properties: b"",
};

fn with_will<'a>(connect: Connect<'a>, will: Will<'a>) -> Connect<'a> {
    Connect {
        will: Some(will),
        ..connect
    }
}

/// The will as MQTT 3.1.1 sees it.
const PUBLISHED: &[u8] = b"\x30\x0a\x00\x04willgone";

/// Session expiry of 100 s, and a will delay of 100 s.
const KEPT: &[u8] = b"\x11\x00\x00\x00\x64";
const DELAYED: Will<'static> = Will {
    properties: b"\x18\x00\x00\x00\x64",
    ..GONE
};

#[test]
fn a_client_that_vanishes_leaves_its_will_in_both_versions() {
    let broker = open_broker();
    let mut watcher = watcher(&broker, "will");
    for connect in [Connect::v311("c"), Connect::v5("c")] {
        Raw::connect(broker.address(), &with_will(connect, GONE)).hang_up();
        watcher.expect(PUBLISHED);
    }
}

#[test]
fn a_client_that_says_goodbye_leaves_none() {
    let broker = open_broker();
    let mut watcher = watcher(&broker, "will");
    for connect in [Connect::v311("c"), Connect::v5("c")] {
        Raw::connect(broker.address(), &with_will(connect, GONE)).disconnect();
        watcher.ping();
    }
}

#[test]
fn a_client_may_say_goodbye_and_leave_its_will() {
    let broker = open_broker();
    let mut watcher = watcher(&broker, "will");
    let mut client = Raw::connect(broker.address(), &with_will(Connect::v5("c"), GONE));
    client.send(b"\xe0\x01\x04");
    watcher.expect(PUBLISHED);
}

#[test]
fn a_client_that_breaks_the_protocol_leaves_its_will() {
    let broker = open_broker();
    let mut watcher = watcher(&broker, "will");
    for connect in [Connect::v311("c"), Connect::v5("c")] {
        let mut client = Raw::connect(broker.address(), &with_will(connect, GONE));
        client.send(b"\x20\x02\x00\x00");
        watcher.expect(PUBLISHED);
    }
}

#[test]
fn a_will_comes_after_all_that_its_client_published() {
    let broker = open_broker();
    let mut watcher = watcher(&broker, "will");
    let mut client = Raw::connect(broker.address(), &with_will(Connect::v311("c"), GONE));
    for _ in 0..100 {
        client.send(b"\x30\x0a\x00\x04willlast");
    }
    client.hang_up();
    for _ in 0..100 {
        watcher.expect(b"\x30\x0a\x00\x04willlast");
    }
    watcher.expect(PUBLISHED);
}

#[test]
fn a_retained_will_waits_for_those_who_come_later() {
    let broker = open_broker();
    let mut early = watcher(&broker, "will");
    let will = Will {
        retain: true,
        ..GONE
    };
    Raw::connect(broker.address(), &with_will(Connect::v311("c"), will)).hang_up();
    early.expect(PUBLISHED);
    let mut late = Raw::connect(broker.address(), &Connect::v311("late"));
    late.subscribe(4, "will", 0);
    late.expect(b"\x31\x0a\x00\x04willgone");
}

#[test]
fn a_wills_properties_travel_and_its_delay_does_not() {
    let broker = open_broker();
    let mut watcher = Raw::connect(broker.address(), &Connect::v5("watcher"));
    watcher.subscribe(5, "will", 1);
    let will = Will {
        qos: 1,
        properties: b"\x18\x00\x00\x00\x05\x01\x01\x03\x00\x01t\x26\x00\x01k\x00\x01v",
        ..GONE
    };
    // The session ends with the connection, so there is nothing to delay for.
    Raw::connect(broker.address(), &with_will(Connect::v5("c"), will)).hang_up();
    let (first, body) = watcher.read().expect("the will");
    assert_eq!(first, 0x32);
    assert_eq!(&body[..6], b"\x00\x04will");
    assert_eq!(
        &body[8..],
        b"\x0d\x01\x01\x26\x00\x01k\x00\x01v\x03\x00\x01tgone"
    );
}

#[test]
fn a_client_that_returns_to_its_session_in_time_leaves_no_will() {
    let broker = open_broker();
    let mut watcher = watcher(&broker, "will");
    let kept = Connect {
        properties: KEPT,
        ..Connect::v5("c")
    };
    Raw::connect(broker.address(), &with_will(kept.clone(), DELAYED)).hang_up();
    let again = Connect {
        clean: false,
        ..kept.clone()
    };
    // Its session, and its will, may still be leaving; either way the client is back.
    let (back, present) = Raw::connect_present(broker.address(), &again);
    assert!(present);
    back.disconnect();
    // A new start ends the session, and with it any wait: a will that was not called off would come now.
    Raw::connect(broker.address(), &kept).disconnect();
    let mut marker = Raw::connect(broker.address(), &with_will(Connect::v311("marker"), GONE));
    marker.ping();
    marker.hang_up();
    watcher.expect(PUBLISHED);
    watcher.ping();
}

#[test]
fn a_delayed_will_is_due_when_its_session_ends_before_the_delay() {
    let broker = open_broker();
    let mut watcher = watcher(&broker, "will");
    let kept = Connect {
        properties: KEPT,
        ..Connect::v5("c")
    };
    Raw::connect(broker.address(), &with_will(kept, DELAYED)).hang_up();
    // A clean start ends the old session.
    let clean = Raw::connect(broker.address(), &Connect::v5("c"));
    watcher.expect(PUBLISHED);
    clean.disconnect();
}

#[test]
fn a_delayed_will_is_due_after_its_delay() {
    let broker = open_broker();
    let mut watcher = watcher(&broker, "will");
    let kept = Connect {
        properties: KEPT,
        ..Connect::v5("c")
    };
    let will = Will {
        properties: b"\x18\x00\x00\x00\x01",
        ..GONE
    };
    Raw::connect(broker.address(), &with_will(kept, will)).hang_up();
    watcher.expect(PUBLISHED);
}

#[test]
fn a_takeover_publishes_a_will_without_a_delay_and_calls_off_one_with() {
    let broker = open_broker();
    let mut watcher = watcher(&broker, "will");
    let kept = Connect {
        properties: KEPT,
        clean: false,
        ..Connect::v5("c")
    };
    let mut first = Raw::connect(broker.address(), &with_will(kept.clone(), GONE));
    let (mut second, present) =
        Raw::connect_present(broker.address(), &with_will(kept.clone(), DELAYED));
    assert!(present);
    assert_eq!(first.read_to_end()[0].1[0], 0x8e, "session taken over");
    watcher.expect(PUBLISHED);
    let third = Raw::connect(broker.address(), &kept);
    assert_eq!(second.read_to_end()[0].1[0], 0x8e, "session taken over");
    watcher.ping();
    third.disconnect();
    watcher.ping();
}

#[test]
fn a_brokers_end_publishes_the_wills_of_all_who_were_there() {
    let mut broker = open_broker();
    let kept = Connect {
        clean: false,
        ..Connect::v311("reader")
    };
    let mut reader = Raw::connect(broker.address(), &kept);
    reader.subscribe(4, "will", 0);
    let client = Raw::connect(broker.address(), &with_will(Connect::v311("c"), GONE));
    let delayed = Connect {
        properties: KEPT,
        ..Connect::v5("d")
    };
    Raw::connect(broker.address(), &with_will(delayed, DELAYED)).hang_up();
    assert!(broker.stop().success());
    drop(client);
    drop(reader);
    let complaints = broker.process.stderr();
    assert!(
        !complaints.iter().any(|line| line.contains("in time")),
        "{complaints:?}"
    );
}

#[test]
fn a_will_that_cannot_be_is_refused_with_its_connect() {
    let broker = open_broker();
    let refused = |connect: Connect<'_>, will: Will<'_>| {
        let mut raw = Raw::open(broker.address());
        raw.send(&with_will(connect, will).packet());
        raw.read_to_end()
            .first()
            .map(|(first, body)| (*first, body[1]))
    };
    let wild = Will {
        topic: "a/#",
        ..GONE
    };
    let text = Will {
        payload: b"\xff",
        properties: b"\x01\x01",
        ..GONE
    };
    let nowhere = Will { topic: "", ..GONE };
    assert_eq!(refused(Connect::v5("c"), wild), Some((0x20, 0x90)));
    assert_eq!(refused(Connect::v5("c"), text), Some((0x20, 0x99)));
    assert_eq!(refused(Connect::v5("c"), nowhere), Some((0x20, 0x82)));
    assert_eq!(refused(Connect::v311("c"), nowhere), None);
    let twice = Will {
        properties: b"\x18\x00\x00\x00\x01\x18\x00\x00\x00\x01",
        ..GONE
    };
    assert_eq!(refused(Connect::v5("c"), twice), Some((0x20, 0x82)));
}

/// The CONNACK code of a user's CONNECT with this will.
fn connack_to(broker: &Broker, device: &Device, topic: &str, payload: &[u8]) -> u8 {
    let mut connect = Connect::v5("with-will").packet();
    // Built by hand, for the login: user name and password follow the will.
    let mut body = b"\x00\x04MQTT\x05\xc6\x00\x00\x00\x00\x09with-will\x00".to_vec();
    body.extend(sealpost_tests::packet::prefixed(topic));
    body.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    body.extend(payload);
    body.extend(sealpost_tests::packet::prefixed(device.user.as_str()));
    body.extend(sealpost_tests::packet::prefixed(&device.token("with-will")));
    connect.clear();
    connect.extend(sealpost_tests::packet::packet(0x10, &body));
    let mut raw = Raw::open(broker.address());
    raw.send(&connect);
    raw.read().expect("a CONNACK").1[1]
}

#[tokio::test]
async fn a_will_obeys_the_permissions_of_its_owner() {
    let broker = Broker::start(BrokerOptions::default());
    let (alice, bob) = (Device::new("alice"), Device::new("bob"));
    alice.register(broker.address()).await;
    bob.register(broker.address()).await;
    for topic in ["inbox/bob", "anything", "keys/bob", "keys/alice", "$SYS/x"] {
        assert_eq!(
            connack_to(&broker, &alice, topic, b"not an envelope") & 0x80,
            0x80,
            "{topic}"
        );
    }
    let envelope = alice.seal(&bob, "if you read this").as_bytes().to_vec();
    assert_eq!(
        connack_to(&broker, &bob, "inbox/bob", &envelope) & 0x80,
        0x80,
        "in another's name"
    );
    let mut inbox = bob.connect(broker.address(), "b").await;
    inbox.subscribe("inbox/bob").await;
    assert_eq!(connack_to(&broker, &alice, "inbox/bob", &envelope), 0);
    assert_eq!(&inbox.receive().await.payload[..], &envelope[..]);
}

#[test]
fn a_goodbye_counts_although_the_client_is_back_before_it_was_read() {
    let broker = open_broker();
    let mut watcher = watcher(&broker, "will");
    let kept = Connect {
        clean: false,
        ..Connect::v311("c")
    };
    for _ in 0..200 {
        let mut first = Raw::connect(broker.address(), &with_will(kept.clone(), GONE));
        first.send(b"\xe0\x00");
        let second = Raw::connect(broker.address(), &kept);
        drop(first);
        second.disconnect();
    }
    watcher.ping();
    watcher.ping();
}
