//! What rumqttd's router dies of, hangs on or leaks at when network bytes reach it as they come. Each is thrown at this
//! broker, which answers as the standards say and goes on serving others.

use sealpost_tests::packet::{packet, prefixed};
use sealpost_tests::raw::{Connect, Will, publish, publish5};
use sealpost_tests::{Broker, BrokerOptions, Raw};

fn open_broker() -> Broker {
    Broker::start(BrokerOptions {
        open: true,
        ..BrokerOptions::default()
    })
}

/// Somebody else is served, from CONNECT to delivery.
fn assert_serving(broker: &Broker) {
    let mut other = Raw::connect(broker.address(), &Connect::v311("other"));
    other.subscribe(4, "other", 0);
    other.send(&publish(0, "other", 0, b"fine"));
    other.expect(&publish(0, "other", 0, b"fine"));
    other.disconnect();
    let panics = broker.process.stderr();
    let panics = panics.iter().filter(|line| line.contains("panicked"));
    assert_eq!(panics.collect::<Vec<_>>(), Vec::<&String>::new());
}

/// Topics whose first character takes two, three and four bytes.
const WIDE: [&str; 3] = ["\u{e9}t\u{e9}", "\u{20ac}/x", "\u{1f4ee}"];

#[test]
fn a_topic_that_begins_with_a_character_of_several_bytes_is_delivered() {
    let broker = open_broker();
    let mut reader = Raw::connect(broker.address(), &Connect::v311("reader"));
    reader.subscribe(4, "#", 0);
    let mut writer = Raw::connect(broker.address(), &Connect::v311("writer"));
    for topic in WIDE {
        writer.send(&publish(0, topic, 0, b"x"));
        reader.expect(&publish(0, topic, 0, b"x"));
    }
    assert_serving(&broker);
}

#[test]
fn a_will_topic_that_begins_with_a_character_of_several_bytes_is_delivered() {
    let broker = open_broker();
    let mut reader = Raw::connect(broker.address(), &Connect::v311("reader"));
    reader.subscribe(4, "#", 0);
    for topic in WIDE {
        let will = Will {
            topic,
            payload: b"x",
            ..Will::default()
        };
        let connect = Connect {
            will: Some(will),
            ..Connect::v311("c")
        };
        Raw::connect(broker.address(), &connect).hang_up();
        reader.expect(&publish(0, topic, 0, b"x"));
    }
    assert_serving(&broker);
}

#[test]
fn a_retained_message_on_such_a_topic_reaches_whoever_subscribes_later() {
    let broker = open_broker();
    let mut writer = Raw::connect(broker.address(), &Connect::v311("writer"));
    for topic in WIDE {
        writer.send(&publish(1, topic, 0, b"x"));
    }
    writer.ping();
    // A subscription waits for what its own connection has published; this one's is another.
    writer.subscribe(4, "none", 0);
    let mut reader = Raw::connect(broker.address(), &Connect::v311("reader"));
    reader.subscribe(4, "#", 0);
    let mut came = WIDE.map(|_| reader.read().expect("a retained message"));
    let mut sent = WIDE.map(|topic| (0x31, [prefixed(topic), b"x".to_vec()].concat()));
    came.sort();
    sent.sort();
    assert_eq!(came, sent);
    assert_serving(&broker);
}

#[test]
fn a_disconnect_with_199_deliveries_queued_ends_that_client_alone() {
    let broker = open_broker();
    for round in 0..3 {
        let mut reader = Raw::connect(broker.address(), &Connect::v311("reader"));
        reader.subscribe(4, "t", 1);
        let mut writer = Raw::connect(broker.address(), &Connect::v311("writer"));
        for pkid in 1..=199 {
            writer.send(&publish(0b0010, "t", pkid, &[round; 100]));
        }
        for pkid in 1..=199u16 {
            writer.expect(&packet(0x40, &pkid.to_be_bytes()));
        }
        reader.send(b"\xe0\x00");
        reader.hang_up();
        writer.ping();
    }
    assert_serving(&broker);
}

#[test]
fn client_ids_with_slash_plus_hash_and_dollar_are_served_each_with_its_own_session() {
    let broker = open_broker();
    let ids = ["/", "a/b", "+", "#", "$SYS", "$share/g/t", "a+b#c$d"];
    let kept = |client_id| Connect {
        clean: false,
        ..Connect::v311(client_id)
    };
    for id in ids {
        let (mut client, present) = Raw::connect_present(broker.address(), &kept(id));
        assert!(!present, "{id}");
        client.subscribe(4, "t", 0);
        client.disconnect();
    }
    for id in ids {
        let (mut client, present) = Raw::connect_present(broker.address(), &kept(id));
        assert!(present, "{id}");
        client.send(&publish(0, "t", 0, id.as_bytes()));
        client.expect(&publish(0, "t", 0, id.as_bytes()));
        client.disconnect();
    }
    assert_serving(&broker);
}

#[test]
fn mqtt_5_properties_reach_no_subscriber_of_3_1_1() {
    let broker = open_broker();
    let mut old = Raw::connect(broker.address(), &Connect::v311("old"));
    old.subscribe(4, "t", 0);
    let mut new = Raw::connect(broker.address(), &Connect::v5("new"));
    new.subscribe(5, "t", 0);
    let properties = b"\x01\x01\x08\x00\x01r\x09\x00\x01c\x26\x00\x01k\x00\x01v\x03\x00\x01t";
    let mut writer = Raw::connect(broker.address(), &Connect::v5("writer"));
    writer.send(&publish5(0, "t", 0, properties, b"x"));
    old.expect(&publish(0, "t", 0, b"x"));
    new.expect(&publish5(0, "t", 0, properties, b"x"));
    assert_serving(&broker);
}

#[test]
fn unsubacks_and_connacks_from_clients_take_no_place_for_ever() {
    let broker = Broker::start(BrokerOptions {
        open: true,
        settings: "[limits]\nconnections = 10".into(),
        ..BrokerOptions::default()
    });
    for round in 0..50 {
        for (connect, sent) in [
            (Connect::v311("c"), &b"\xb0\x02\x00\x01"[..]),
            (Connect::v5("c"), b"\xb0\x03\x00\x01\x00"),
            (Connect::v311("c"), b"\x20\x02\x00\x00"),
            (Connect::v5("c"), b"\x20\x03\x00\x00\x00"),
        ] {
            let mut client = Raw::connect(broker.address(), &connect);
            client.send(sent);
            let last = client.read_to_end();
            let protocol_error = connect.level == 5 && last.len() == 1 && last[0].1[0] == 0x82;
            assert!(
                protocol_error || (connect.level == 4 && last.is_empty()),
                "{round}: {last:x?}"
            );
        }
    }
    assert_serving(&broker);
}

#[test]
fn a_shared_message_left_unacknowledged_by_a_kept_session_that_goes_is_anothers() {
    let broker = open_broker();
    let kept = Connect {
        clean: false,
        ..Connect::v311("first")
    };
    let mut first = Raw::connect(broker.address(), &kept);
    first.subscribe(4, "$share/g/t", 1);
    let mut writer = Raw::connect(broker.address(), &Connect::v311("writer"));
    writer.send(&publish(0b0010, "t", 1, b"x"));
    writer.expect(b"\x40\x02\x00\x01");
    let (_, body) = first.read().expect("the message");
    assert_eq!((&body[..3], &body[5..]), (&b"\x00\x01t"[..], &b"x"[..]));
    first.hang_up();
    let mut second = Raw::connect(broker.address(), &Connect::v311("second"));
    second.subscribe(4, "$share/g/t", 1);
    let (_, body) = second
        .read()
        .expect("the message that the first did not finish");
    assert_eq!((&body[..3], &body[5..]), (&b"\x00\x01t"[..], &b"x"[..]));
    assert_serving(&broker);
}

#[test]
fn a_member_of_a_group_that_stops_acknowledging_keeps_nothing_from_the_others() {
    let broker = open_broker();
    let mut stuck = Raw::connect(
        broker.address(),
        &Connect {
            // Receive Maximum 1.
            properties: b"\x21\x00\x01",
            ..Connect::v5("stuck")
        },
    );
    stuck.subscribe(5, "$share/g/t", 1);
    let mut busy = Raw::connect(broker.address(), &Connect::v311("busy"));
    busy.subscribe(4, "$share/g/t", 1);
    let mut writer = Raw::connect(broker.address(), &Connect::v311("writer"));
    for pkid in 1..=50u16 {
        writer.send(&publish(0b0010, "t", pkid, &pkid.to_be_bytes()));
        writer.expect(&packet(0x40, &pkid.to_be_bytes()));
    }
    let mut came = Vec::new();
    while came.len() < 49 {
        let (_, body) = busy.read().expect("a message");
        busy.send(&packet(0x40, &body[3..5]));
        came.push(body[5..].to_vec());
    }
    let (_, body) = stuck.read().expect("the one message that it takes");
    came.push(body[6..].to_vec());
    came.sort();
    came.dedup();
    assert_eq!(came.len(), 50, "each message once");
    assert_serving(&broker);
}

#[test]
fn a_pubrel_out_of_order_releases_its_own_message_and_no_other() {
    let broker = open_broker();
    let mut reader = Raw::connect(broker.address(), &Connect::v311("reader"));
    reader.subscribe(4, "t", 0);
    let mut writer = Raw::connect(broker.address(), &Connect::v311("writer"));
    for pkid in [1, 2] {
        writer.send(&publish(0b0100, "t", pkid, b"x"));
        writer.expect(&packet(0x50, &pkid.to_be_bytes()));
    }
    // 2 is released and free; 1 is not, and sent again it is the same message.
    writer.send(b"\x62\x02\x00\x02");
    writer.expect(b"\x70\x02\x00\x02");
    writer.send(&publish(0b1100, "t", 1, b"x"));
    writer.expect(b"\x50\x02\x00\x01");
    writer.send(&publish(0b0100, "t", 2, b"new"));
    writer.expect(b"\x50\x02\x00\x02");
    for payload in [&b"x"[..], b"x", b"new"] {
        reader.expect(&publish(0, "t", 0, payload));
    }
    reader.ping();
    // A PUBREL of nothing is answered too.
    writer.send(b"\x62\x02\x00\x63");
    writer.expect(b"\x70\x02\x00\x63");
    assert_serving(&broker);
}

#[test]
fn a_duplicate_at_qos_2_is_delivered_once() {
    let broker = open_broker();
    let mut reader = Raw::connect(broker.address(), &Connect::v311("reader"));
    reader.subscribe(4, "t", 2);
    let kept = Connect {
        clean: false,
        ..Connect::v311("writer")
    };
    for _ in 0..3 {
        // Each time it comes back it has not seen the PUBREC, and says it again.
        let mut writer = Raw::connect(broker.address(), &kept);
        writer.send(&publish(0b1100, "t", 7, b"once"));
        writer.expect(b"\x50\x02\x00\x07");
        writer.hang_up();
    }
    let (first, body) = reader.read().expect("the message");
    assert_eq!((first, &body[5..]), (0x34, &b"once"[..]));
    let pkid = [body[3], body[4]];
    reader.send(&packet(0x50, &pkid));
    reader.expect(&packet(0x62, &pkid));
    reader.send(&packet(0x70, &pkid));
    reader.ping();
    assert_serving(&broker);
}

#[test]
fn a_hash_in_the_middle_of_a_filter_is_refused() {
    let broker = open_broker();
    let filter = prefixed("a/#/b");
    let mut old = Raw::connect(broker.address(), &Connect::v311("old"));
    old.send(&packet(0x82, &[b"\x00\x01", &filter[..], b"\x00"].concat()));
    old.expect(b"\x90\x03\x00\x01\x80");
    old.ping();
    let mut new = Raw::connect(broker.address(), &Connect::v5("new"));
    new.send(&packet(
        0x82,
        &[b"\x00\x01\x00", &filter[..], b"\x00"].concat(),
    ));
    new.expect(b"\x90\x04\x00\x01\x00\x8f");
    new.ping();
    assert_serving(&broker);
}

#[test]
fn a_publish_to_a_wildcard_ends_its_connection_with_the_reason() {
    let broker = open_broker();
    for topic in ["a/#", "#", "+", "a/+/b"] {
        let mut old = Raw::connect(broker.address(), &Connect::v311("old"));
        old.send(&publish(0, topic, 0, b"x"));
        assert_eq!(old.read_to_end(), [], "{topic}");
        let mut new = Raw::connect(broker.address(), &Connect::v5("new"));
        new.send(&publish5(0, topic, 0, b"", b"x"));
        let last = new.read_to_end();
        assert_eq!((last[0].0, last[0].1[0]), (0xe0, 0x90), "{topic}");
    }
    assert_serving(&broker);
}

#[test]
fn an_unsubscribe_from_what_was_never_subscribed_to_is_answered() {
    let broker = open_broker();
    let filter = prefixed("never");
    let mut old = Raw::connect(broker.address(), &Connect::v311("old"));
    old.send(&packet(0xa2, &[b"\x00\x07", &filter[..]].concat()));
    old.expect(b"\xb0\x02\x00\x07");
    let mut new = Raw::connect(broker.address(), &Connect::v5("new"));
    new.send(&packet(0xa2, &[b"\x00\x07\x00", &filter[..]].concat()));
    new.expect(b"\xb0\x04\x00\x07\x00\x11");
    assert_serving(&broker);
}

#[test]
fn one_message_goes_to_every_retained_topic_and_none_is_left_out() {
    // The router's own retained messages come to a new subscriber in part: 200 of 500.
    let broker = open_broker();
    let mut writer = Raw::connect(broker.address(), &Connect::v311("writer"));
    for number in 0..500 {
        writer.send(&publish(1, &format!("kept/{number:03}"), 0, b"x"));
    }
    writer.subscribe(4, "none", 0);
    let mut reader = Raw::connect(broker.address(), &Connect::v311("reader"));
    reader.subscribe(4, "kept/+", 0);
    let mut topics = (0..500)
        .map(|_| reader.read().expect("a retained message").1)
        .collect::<Vec<_>>();
    topics.sort();
    topics.dedup();
    assert_eq!(topics.len(), 500);
}

#[test]
fn only_an_empty_retained_publish_removes_a_retained_message() {
    let broker = open_broker();
    let retained = |broker: &Broker| {
        let mut reader = Raw::connect(broker.address(), &Connect::v311("reader"));
        reader.subscribe(4, "kept", 0);
        reader.send(b"\xc0\x00");
        reader.read().expect("a message or a PINGRESP").0 == 0x31
    };
    let mut writer = Raw::connect(broker.address(), &Connect::v311("writer"));
    writer.send(&publish(1, "kept", 0, b"x"));
    writer.subscribe(4, "none", 0);
    assert!(retained(&broker));
    writer.send(&publish(0, "kept", 0, b""));
    writer.subscribe(4, "none", 0);
    assert!(retained(&broker), "an empty publish without RETAIN");
    writer.send(&publish(1, "kept", 0, b""));
    writer.subscribe(4, "none", 0);
    assert!(!retained(&broker));
}

#[test]
fn a_keep_alive_of_zero_is_taken() {
    let broker = open_broker();
    let mut client = Raw::connect(broker.address(), &Connect::v311("silent"));
    client.ping();
    assert_serving(&broker);
}
