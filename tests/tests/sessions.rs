//! What a client is owed is there when it comes back, keys outlive the broker, and one client cannot stop the others.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rumqttc::v5::mqttbytes::v5::PubAckReason;
use rumqttc::{Event, Incoming, MqttOptions, QoS};
use sealpost_core::KeyBundle;
use sealpost_tests::{Broker, BrokerOptions, Device, Link};

fn open_broker(settings: &str) -> Broker {
    Broker::start(BrokerOptions {
        open: true,
        settings: settings.into(),
        ..BrokerOptions::default()
    })
}

#[tokio::test]
async fn a_session_that_is_kept_gets_its_mail_on_return() {
    let broker = Broker::start(BrokerOptions::default());
    let (alice, bob) = (Device::new("alice"), Device::new("bob"));
    bob.register(broker.address()).await;
    let reconnect = async |clean_start| {
        let token = bob.token("b");
        Link::connect_to_session(
            broker.address(),
            "b",
            Some(("bob", &token)),
            clean_start,
            600,
        )
        .await
        .unwrap()
    };
    let mut away = reconnect(false).await;
    assert!(!away.session_present);
    away.subscribe("inbox/bob").await;
    away.disconnect().await;

    let mut sender = alice.connect(broker.address(), "a").await;
    let envelopes = ["one", "two", "three"].map(|text| alice.seal(&bob, text));
    for envelope in &envelopes {
        assert_eq!(
            sender
                .publish("inbox/bob", false, envelope.as_bytes())
                .await,
            PubAckReason::Success
        );
    }
    let mut back = reconnect(false).await;
    assert!(back.session_present);
    for envelope in &envelopes {
        assert_eq!(&back.receive().await.payload[..], envelope.as_bytes());
    }
    drop(back);
    assert!(
        !reconnect(true).await.session_present,
        "a clean start begins anew"
    );
}

#[tokio::test]
async fn a_sender_is_told_when_the_recipient_has_no_session_that_keeps_the_message() {
    let broker = Broker::start(BrokerOptions::default());
    let (alice, bob) = (Device::new("alice"), Device::new("bob"));
    bob.register(broker.address()).await;
    let mut sender = alice.connect(broker.address(), "a").await;
    let envelope = alice.seal(&bob, "anybody there?");
    let mut publish = async || {
        sender
            .publish("inbox/bob", false, envelope.as_bytes())
            .await
    };
    assert_eq!(publish().await, PubAckReason::NoMatchingSubscribers);
    let mut inbox = bob.connect(broker.address(), "b").await;
    inbox.subscribe("inbox/bob").await;
    assert_eq!(publish().await, PubAckReason::Success);
}

#[tokio::test]
async fn users_and_their_keys_survive_a_kill_of_the_broker() {
    let mut broker = Broker::start(BrokerOptions::default());
    let bob = Device::new("bob");
    bob.register(broker.address()).await;
    broker.kill();
    broker.restart();
    let mut link = Device::new("alice").connect(broker.address(), "a").await;
    link.subscribe("keys/bob").await;
    let found = KeyBundle::parse(&link.receive().await.payload).unwrap();
    assert_eq!(*found.identity(), bob.identity.key());
    let thief = Device {
        user: bob.user.clone(),
        ..Device::new("thief")
    };
    assert!(
        Link::connect(broker.address(), "x", Some(("bob", &thief.token("x"))))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_broker_that_is_told_to_stop_says_so_and_exits_cleanly() {
    let mut broker = open_broker("");
    let mut link = Link::connect(broker.address(), "a", None).await.unwrap();
    assert!(broker.stop().success());
    link.closed().await;
}

#[tokio::test]
async fn a_second_connection_with_the_same_client_id_takes_the_session_over() {
    let broker = open_broker("");
    let mut first = Link::connect(broker.address(), "same", None).await.unwrap();
    let mut second = Link::connect(broker.address(), "same", None).await.unwrap();
    first.closed().await;
    second.subscribe("t").await;
    second.publish("t", false, b"mine").await;
    assert_eq!(&second.receive().await.payload[..], b"mine");
}

#[tokio::test]
async fn another_users_session_with_the_same_client_id_is_another_session() {
    let broker = Broker::start(BrokerOptions::default());
    let (alice, bob) = (Device::new("alice"), Device::new("bob"));
    bob.register(broker.address()).await;
    let mut bobs = bob.connect(broker.address(), "same").await;
    bobs.subscribe("inbox/bob").await;
    let mut alices = alice.connect(broker.address(), "same").await;
    let envelope = alice.seal(&bob, "hello");
    alices
        .publish("inbox/bob", false, envelope.as_bytes())
        .await;
    assert_eq!(&bobs.receive().await.payload[..], envelope.as_bytes());
}

#[tokio::test]
async fn both_protocol_versions_meet_on_one_port_and_keep_alive_0_is_taken() {
    let broker = open_broker("");
    let mut five = Link::connect(broker.address(), "five", None).await.unwrap();
    five.subscribe("to/five").await;

    let mut options = MqttOptions::new("four", "127.0.0.1", broker.address().port());
    options.set_keep_alive(Duration::ZERO);
    let (client, mut events) = rumqttc::AsyncClient::new(options, 10);
    client.subscribe("to/four", QoS::AtLeastOnce).await.unwrap();
    client
        .publish("to/five", QoS::AtLeastOnce, false, "from four")
        .await
        .unwrap();
    let four = tokio::spawn(async move {
        loop {
            if let Event::Incoming(Incoming::Publish(publish)) = events.poll().await.unwrap() {
                return publish.payload;
            }
        }
    });
    assert_eq!(&five.receive().await.payload[..], b"from four");
    five.publish("to/four", false, b"from five").await;
    assert_eq!(&four.await.unwrap()[..], b"from five");
    drop(client);
}

#[tokio::test]
async fn a_clean_session_that_stops_reading_is_disconnected_and_the_rest_go_on() {
    let broker = open_broker("[limits]\nhold = 1");
    // Subscribes to everything at QoS 1, then never reads again.
    let mut stuck = TcpStream::connect(broker.address()).unwrap();
    stuck
        .write_all(
            b"\x10\x11\x00\x04MQTT\x04\x02\x00\x00\x00\x05stuck\x82\x06\x00\x01\x00\x01#\x01",
        )
        .unwrap();
    stuck.read_exact(&mut [0; 9]).unwrap();

    let mut reader = Link::connect(broker.address(), "reader", None)
        .await
        .unwrap();
    reader.subscribe("t").await;
    let mut writer = Link::connect(broker.address(), "writer", None)
        .await
        .unwrap();
    let payload = vec![7; 4096];
    for _ in 0..3_000 {
        assert_eq!(
            writer.publish("t", false, &payload).await,
            PubAckReason::Success
        );
        reader.receive().await;
    }
    // It got what was on its way and then the end, not a gap.
    stuck
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let mut rest = Vec::new();
    let _ = stuck.read_to_end(&mut rest);
    let log = broker.process.expect_error("read too slowly");
    assert!(log.contains("stuck"), "{log}");
}

#[tokio::test]
async fn a_full_mailbox_refuses_mail_with_a_reason_and_loses_none_of_what_it_took() {
    let broker = open_broker("[limits]\narchiver_messages = 5");
    let mut away = Link::connect_to_session(broker.address(), "b", None, false, 600)
        .await
        .unwrap();
    away.subscribe("inbox/b").await;
    away.disconnect().await;
    let mut writer = Link::connect(broker.address(), "w", None).await.unwrap();
    for number in 0..8u8 {
        let expected = if number < 5 {
            PubAckReason::Success
        } else {
            PubAckReason::QuotaExceeded
        };
        assert_eq!(
            writer.publish("inbox/b", false, &[number]).await,
            expected,
            "{number}"
        );
    }
    let mut back = Link::connect_to_session(broker.address(), "b", None, false, 600)
        .await
        .unwrap();
    for number in 0..5u8 {
        assert_eq!(&back.receive().await.payload[..], &[number]);
    }
}
