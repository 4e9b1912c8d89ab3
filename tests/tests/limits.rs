//! What one address and one user may do is bounded: connections are turned away, and messages wait without a loss.

use std::io::Read;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, PubAckReason, SubscribeReasonCode};
use sealpost_tests::packet::{packet, prefixed};
use sealpost_tests::raw::{Connect, publish5};
use sealpost_tests::{Broker, BrokerOptions, Device, Flood, Link, PATIENCE, Raw};

fn broker(open: bool, settings: &str) -> Broker {
    Broker::start(BrokerOptions {
        open,
        settings: settings.into(),
        ..BrokerOptions::default()
    })
}

fn is_turned_away(broker: &Broker) -> bool {
    let mut socket = TcpStream::connect(broker.address()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    // The broker says nothing before a CONNECT, so whatever ends this is the end.
    match socket.read(&mut [0]) {
        Ok(length) => length == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[tokio::test]
async fn an_address_with_as_many_connections_as_it_may_have_is_turned_away_until_one_ends() {
    let broker = broker(
        true,
        "[limits.address]\nloopback = true\nconnections = 3\nconnects = 0",
    );
    let mut links = Vec::new();
    for client in ["a", "b", "c"] {
        let link = Link::connect(broker.address(), client, None).await;
        links.push(link.unwrap());
    }
    assert!(is_turned_away(&broker));
    broker.process.expect_error("too many connections at once");
    let first = links.remove(0);
    first.disconnect().await;
    // The broker sees the end a moment after the client.
    let until = Instant::now() + PATIENCE;
    let mut socket = loop {
        let socket = TcpStream::connect(broker.address()).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        match (&socket).read(&mut [0]) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break socket,
            _ => assert!(Instant::now() < until, "never let in again"),
        }
    };
    assert!(is_turned_away(&broker));
    std::io::Write::write_all(
        &mut socket,
        b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01d",
    )
    .unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut connack = [0; 4];
    socket.read_exact(&mut connack).unwrap();
    assert_eq!(connack, *b"\x20\x02\x00\x00");
}

#[tokio::test]
async fn a_user_who_logs_in_too_often_is_told_so_and_others_are_not() {
    let broker = broker(false, "[limits.user]\nconnects = 3");
    let (alice, bob) = (Device::new("alice"), Device::new("bob"));
    for _ in 0..3 {
        alice.connect(broker.address(), "a").await;
    }
    let token = alice.token("a");
    let refused = Link::connect(broker.address(), "a", Some(("alice", &token))).await;
    assert_eq!(
        refused.err(),
        Some(ConnectReturnCode::ConnectionRateExceeded)
    );
    bob.connect(broker.address(), "b").await;
}

/// Time is only bounded from below here: the limit says that it cannot go faster.
#[tokio::test]
async fn who_sends_faster_than_allowed_is_read_more_slowly_and_loses_nothing() {
    let broker = broker(false, "[limits.user]\nmessages = 100");
    let (alice, bob) = (Device::new("alice"), Device::new("bob"));
    alice.register(broker.address()).await;
    bob.register(broker.address()).await;
    let mut inbox = bob.connect(broker.address(), "b").await;
    inbox.subscribe("inbox/bob").await;

    // Two connections of one user share what the user may send.
    let sealed = ["one", "two"].map(|client| {
        let envelopes = (0..150).map(|number| alice.seal(&bob, &format!("{client} {number}")));
        (client, envelopes.collect::<Vec<_>>())
    });
    let started = Instant::now();
    let sending = sealed.map(|(client, envelopes)| {
        let (address, token) = (broker.address(), alice.token(client));
        std::thread::spawn(move || {
            let mut flood = Flood::connect(address, "alice", &token, client);
            for envelope in &envelopes {
                flood.publish("inbox/bob", envelope.as_bytes());
            }
            flood.finish();
        })
    });
    for _ in 0..300 {
        inbox.receive().await;
    }
    for thread in sending {
        thread.join().unwrap();
    }
    // 300 messages: 100 at once, the others at 100 a second.
    assert!(
        started.elapsed() >= Duration::from_millis(1_900),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn bytes_are_paced_as_messages_are() {
    let broker = broker(
        true,
        "[limits.address]\nloopback = true\nbytes = 200000\nconnects = 0",
    );
    let mut link = Link::connect(broker.address(), "a", None).await.unwrap();
    let started = Instant::now();
    for _ in 0..6 {
        let reason = link.publish("t", false, &[7; 100_000]).await;
        assert!(matches!(
            reason,
            PubAckReason::Success | PubAckReason::NoMatchingSubscribers
        ));
    }
    // 600,000 bytes: 200,000 at once, as much again overdrawn by the last reads.
    assert!(
        started.elapsed() >= Duration::from_millis(900),
        "{:?}",
        started.elapsed()
    );
}

/// One packet may bring many thousands of filters, and each brings what is retained there.
#[test]
fn a_subscribe_with_too_many_filters_is_granted_those_that_it_may_have() {
    let broker = broker(true, "");
    for (level, refused) in [(4, 0x80), (5, 0x97)] {
        let connect = if level == 5 {
            Connect::v5("many")
        } else {
            Connect::v311("many")
        };
        let mut many = Raw::connect(broker.address(), &connect);
        let mut body = b"\x00\x01".to_vec();
        if level == 5 {
            body.push(0);
        }
        for _ in 0..1_200 {
            body.extend(prefixed("t"));
            body.push(1);
        }
        many.send(&packet(0x82, &body));
        let (first, answer) = many.read().unwrap();
        let codes = &answer[answer.len() - 1_200..];
        assert_eq!(first, 0x90);
        assert!(codes[..1_000].iter().all(|code| *code == 1));
        assert!(codes[1_000..].iter().all(|code| *code == refused));
        many.ping();
    }
}

#[tokio::test]
async fn topics_and_filters_have_a_bounded_depth() {
    let broker = broker(true, "");
    let mut link = Link::connect(broker.address(), "a", None).await.unwrap();
    let levels = |level: &str, count: usize| vec![level; count].join("/");
    let refused = SubscribeReasonCode::TopicFilterInvalid;
    assert_ne!(link.subscribe(&levels("a", 16)).await, refused);
    assert_eq!(link.subscribe(&levels("a", 17)).await, refused);
    assert_eq!(link.subscribe(&levels("+", 6)).await, refused);
    link.publish(&levels("a", 16), false, b"x").await;
    link.receive().await;
    let mut deep = Raw::connect(broker.address(), &Connect::v5("deep"));
    deep.send(&publish5(2, &levels("a", 17), 1, b"", b"x"));
    let (first, body) = deep.read().unwrap();
    assert_eq!((first, body[0]), (0xe0, 0x90), "Topic Name invalid");
}
