//! One client cannot stop the others, or change what they are owed.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rumqttc::v5::mqttbytes::v5::PubAckReason;
use sealpost_core::{BundleFields, DecryptionKey, Identity, IdentityLink, KeyBundle, Realm};
use sealpost_tests::packet::{packet, prefixed};
use sealpost_tests::{Broker, BrokerOptions, Device, Link, now};

fn open_broker() -> Broker {
    Broker::start(BrokerOptions {
        open: true,
        ..BrokerOptions::default()
    })
}

/// Anybody may subscribe to `keys/bob`; nobody may stop bob from changing his keys.
#[tokio::test]
async fn a_strangers_full_mailbox_does_not_refuse_bobs_keys() {
    let broker = Broker::start(BrokerOptions {
        settings: "[limits]\nmailbox_messages = 5".into(),
        ..BrokerOptions::default()
    });
    let (bob, mallory) = (Device::new("bob"), Device::new("mallory"));
    bob.register(broker.address()).await;
    mallory.register(broker.address()).await;
    let mut away = mallory.connect_kept(broker.address(), "away").await;
    away.subscribe("keys/bob").await;
    away.subscribe("inbox/mallory").await;
    away.disconnect().await;
    let mut writer = mallory.connect(broker.address(), "w").await;
    for _ in 0..5 {
        let envelope = mallory.seal(&mallory, "junk");
        writer
            .publish("inbox/mallory", false, envelope.as_bytes())
            .await;
    }
    let mut link = bob.connect(broker.address(), "b").await;
    let answer = link
        .publish("keys/bob", true, bob.bundle(2).as_bytes())
        .await;
    assert_eq!(answer, PubAckReason::Success);
}

/// One client that writes at QoS 1 to what it subscribed to, and answers everything it gets.
#[test]
fn a_client_that_gets_its_own_messages_does_not_wait_for_itself() {
    const COUNT: usize = 4_000;
    let broker = Broker::start(BrokerOptions {
        open: true,
        ..BrokerOptions::default()
    });
    let mut socket = TcpStream::connect(broker.address()).unwrap();
    socket
        .write_all(b"\x10\x10\x00\x04MQTT\x04\x02\x00\x00\x00\x04self\x82\x06\x00\x01\x00\x01t\x01")
        .unwrap();
    socket.read_exact(&mut [0; 9]).unwrap();
    let mut all = Vec::new();
    for number in 0..COUNT {
        let pkid = u16::try_from(number + 1).unwrap().to_be_bytes();
        all.extend(packet(0x32, &[&prefixed("t")[..], &pkid, b"x"].concat()));
    }
    let mut writer = socket.try_clone().unwrap();
    let (answers, answering) = std::sync::mpsc::channel::<[u8; 2]>();
    std::thread::spawn(move || {
        writer.write_all(&all).unwrap();
        for pkid in answering {
            if writer.write_all(&packet(0x40, &pkid)).is_err() {
                break;
            }
        }
    });
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let (mut acknowledged, mut received) = (0, 0);
    let mut reader = std::io::BufReader::new(socket);
    while acknowledged < COUNT || received < COUNT {
        let mut header = [0; 2];
        let read = reader.read_exact(&mut header);
        assert!(
            read.is_ok(),
            "{read:?} after {acknowledged} PUBACKs and {received} messages, all of which were acknowledged"
        );
        let mut body = vec![0; header[1].into()];
        reader.read_exact(&mut body).unwrap();
        match header[0] >> 4 {
            4 => acknowledged += 1,
            3 => {
                received += 1;
                answers.send([body[3], body[4]]).unwrap();
            }
            other => panic!("type {other}"),
        }
    }
}

/// A session that is kept and takes no more; the total is shared by all mailboxes.
#[tokio::test]
async fn one_user_who_subscribes_again_and_again_does_not_fill_the_mailboxes_of_all() {
    let broker = Broker::start(BrokerOptions {
        settings: "[limits]\ntotal_mailbox_bytes = 67108864".into(),
        ..BrokerOptions::default()
    });
    let (alice, bob, mallory) = (
        Device::new("alice"),
        Device::new("bob"),
        Device::new("mallory"),
    );
    for device in [&bob, &mallory] {
        device.register(broker.address()).await;
    }
    let mut bobs = bob.connect_kept(broker.address(), "b").await;
    bobs.subscribe("inbox/bob").await;

    let token = mallory.token("m");
    let (address, one) = (
        broker.address(),
        [&prefixed("keys/bob")[..], b"\x01"].concat(),
    );
    let flooding = tokio::task::spawn_blocking(move || {
        let mut socket = TcpStream::connect(address).unwrap();
        // MQTT 3.1.1, clean session 0.
        let connect = [
            &b"\x00\x04MQTT\x04\xc0\x00\x00"[..],
            &prefixed("m"),
            &prefixed("mallory"),
            &prefixed(&token),
        ]
        .concat();
        socket.write_all(&packet(0x10, &connect)).unwrap();
        socket.read_exact(&mut [0; 4]).unwrap();
        let body = [&b"\x00\x01"[..], &one.repeat(10_000)].concat();
        let subscribe = packet(0x82, &body);
        let mut answers = socket.try_clone().unwrap();
        let reading = std::thread::spawn(move || {
            let mut sink = vec![0; 1 << 16];
            while answers.read(&mut sink).is_ok_and(|read| read > 0) {}
        });
        for _ in 0..10 {
            if socket.write_all(&subscribe).is_err() {
                break;
            }
        }
        // DISCONNECT: the broker closes when it has dealt with all before it.
        let _ = socket.write_all(b"\xe0\x00");
        reading.join().unwrap();
    });
    flooding.await.unwrap();

    let mut sender = alice.connect(broker.address(), "a").await;
    let envelope = alice.seal(&bob, "hello");
    let answer = sender
        .publish("inbox/bob", false, envelope.as_bytes())
        .await;
    assert_eq!(answer, PubAckReason::Success);
}

/// A bundle that its publisher was told is refused must not come into force with the next restart.
#[tokio::test]
async fn a_refused_bundle_stays_refused_after_a_restart() {
    let mut broker = Broker::start(BrokerOptions {
        settings: "[limits]\nmailbox_messages = 1".into(),
        ..BrokerOptions::default()
    });
    let (bob, mallory) = (Device::new("bob"), Device::new("mallory"));
    bob.register(broker.address()).await;
    mallory.register(broker.address()).await;
    let mut away = mallory.connect_kept(broker.address(), "away").await;
    away.subscribe("keys/bob").await;
    away.subscribe("inbox/mallory").await;
    away.disconnect().await;
    let junk = mallory.seal(&mallory, "junk");
    mallory
        .connect(broker.address(), "w")
        .await
        .publish("inbox/mallory", false, junk.as_bytes())
        .await;
    let mut link = bob.connect(broker.address(), "b").await;
    let answer = link
        .publish("keys/bob", true, bob.bundle(2).as_bytes())
        .await;
    broker.kill();
    broker.restart();
    let mut reader = bob.connect(broker.address(), "r").await;
    reader.subscribe("keys/bob").await;
    let seq = KeyBundle::parse(&reader.receive().await.payload)
        .unwrap()
        .seq();
    let expected = if answer == PubAckReason::Success {
        2
    } else {
        1
    };
    assert_eq!(seq, expected, "the broker had answered {answer:?}");
}

/// Whoever stole the old identity and was connected goes on reading.
#[tokio::test]
async fn a_change_of_identity_ends_the_connections_of_the_old_one() {
    let broker = Broker::start(BrokerOptions::default());
    let (alice, bob) = (Device::new("alice"), Device::new("bob"));
    bob.register(broker.address()).await;
    let mut thief = bob.connect(broker.address(), "thief").await;
    thief.subscribe("inbox/bob").await;

    let new = Identity::generate(&mut rand::rng());
    let (realm, created) = (Realm::default(), now());
    let link = IdentityLink::sign(&realm, &bob.user, &bob.identity, &new.key(), created);
    let fields = BundleFields {
        realm,
        user: bob.user.clone(),
        seq: 1,
        created,
        expires: created.saturating_add(Duration::from_secs(3600)),
        encryption: vec![bob.key.encryption_key().clone()],
        links: vec![link],
    };
    let bundle = KeyBundle::sign(fields, &new).unwrap();
    let mut honest = bob.connect(broker.address(), "b").await;
    assert_eq!(
        honest.publish("keys/bob", true, bundle.as_bytes()).await,
        PubAckReason::Success
    );
    let renewed = Device {
        identity: new,
        ..bob
    };
    let envelope = alice.seal(&renewed, "for the new identity only");
    alice
        .connect(broker.address(), "a")
        .await
        .publish("inbox/bob", false, envelope.as_bytes())
        .await;
    let read = tokio::time::timeout(Duration::from_secs(2), async {
        thief.closed().await;
    })
    .await;
    assert!(
        read.is_ok(),
        "the old identity is still connected and reads"
    );
}

#[tokio::test]
async fn a_bundle_that_the_disk_does_not_take_is_not_called_malformed() {
    let broker = Broker::start(BrokerOptions::default());
    let bob = Device::new("bob");
    bob.register(broker.address()).await;
    let mut link = bob.connect(broker.address(), "b").await;
    std::fs::remove_dir_all(broker.data().join("users")).unwrap();
    let answer = link
        .publish("keys/bob", true, bob.bundle(2).as_bytes())
        .await;
    assert!(
        !matches!(
            answer,
            PubAckReason::Success | PubAckReason::PayloadFormatInvalid
        ),
        "{answer:?}"
    );
}

/// MQTT 5.0, section 3.1.2.11.7.
#[test]
fn who_asks_for_no_problem_information_gets_none_in_a_puback() {
    let broker = Broker::start(BrokerOptions::default());
    let bob = Device::new("bob");
    let mut socket = TcpStream::connect(broker.address()).unwrap();
    let connect = [
        &b"\x00\x04MQTT\x05\xc2\x00\x00\x02\x17\x00"[..],
        &prefixed("b"),
        &prefixed("bob"),
        &prefixed(&bob.token("b")),
    ]
    .concat();
    socket.write_all(&packet(0x10, &connect)).unwrap();
    let mut connack = [0; 2];
    socket.read_exact(&mut connack).unwrap();
    socket.read_exact(&mut vec![0; connack[1].into()]).unwrap();
    socket.write_all(b"\x32\x06\x00\x01t\x00\x01\x00").unwrap();
    let mut puback = [0; 2];
    socket.read_exact(&mut puback).unwrap();
    assert!(puback[1] <= 4, "{} bytes: a reason string", puback[1]);
}

#[tokio::test]
async fn an_assigned_client_id_is_nobody_elses() {
    let broker = open_broker();
    let mut first = Link::connect(broker.address(), "auto-0", None)
        .await
        .unwrap();
    let mut other = TcpStream::connect(broker.address()).unwrap();
    other
        .write_all(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00")
        .unwrap();
    other.read_exact(&mut [0; 4]).unwrap();
    let closed = tokio::time::timeout(Duration::from_secs(1), first.closed()).await;
    assert!(
        closed.is_err(),
        "a client without an id took another's session over"
    );
}

/// Retained messages come without a publisher who waits for them: a reader that takes its time holds nobody.
#[tokio::test]
async fn a_slow_reader_of_many_retained_messages_is_not_disconnected_for_holding_nobody() {
    let broker = Broker::start(BrokerOptions {
        open: true,
        settings: "[limits]\nhold = 1".into(),
        ..BrokerOptions::default()
    });
    let mut writer = Link::connect(broker.address(), "w", None).await.unwrap();
    for number in 0..1_500 {
        let topic = format!("r/{number}");
        // Nobody is there yet: it is retained for those who come.
        assert_eq!(
            writer.publish(&topic, true, b"x").await,
            PubAckReason::NoMatchingSubscribers
        );
    }
    let mut socket = TcpStream::connect(broker.address()).unwrap();
    socket
        .write_all(b"\x10\x10\x00\x04MQTT\x04\x02\x00\x00\x00\x04slow\x82\x06\x00\x01\x00\x01#\x01")
        .unwrap();
    // Takes a breath before its first acknowledgement, three times what a hold may last.
    std::thread::sleep(Duration::from_secs(3));
    let log = broker.process.stderr();
    assert!(
        !log.iter().any(|line| line.contains("read too slowly")),
        "{log:?}"
    );
}

/// A will outlives its session; it counts as its owner's all the same.
#[tokio::test]
async fn wills_take_no_more_of_a_mailbox_than_their_sender_may() {
    let broker = Broker::start(BrokerOptions {
        settings: "[limits]\nmailbox_messages = 8".into(),
        ..BrokerOptions::default()
    });
    let [bob, mallory, carol] = ["bob", "mallory", "carol"].map(Device::new);
    for device in [&bob, &mallory, &carol] {
        device.register(broker.address()).await;
    }
    let mut away = bob.connect_kept(broker.address(), "away").await;
    away.subscribe("inbox/bob").await;
    away.disconnect().await;
    let mut watch = bob.connect(broker.address(), "watch").await;
    watch.subscribe("inbox/bob").await;
    let vanish = |device: &Device, client_id: &str| {
        let envelope = device.seal(&bob, "gone");
        let payload = envelope.as_bytes();
        let body = [
            b"\x00\x04MQTT\x04\xce\x00\x00",
            &prefixed(client_id)[..],
            &prefixed("inbox/bob"),
            &u16::try_from(payload.len()).unwrap().to_be_bytes(),
            payload,
            &prefixed(device.user.as_str()),
            &prefixed(&device.token(client_id)),
        ];
        let mut socket = TcpStream::connect(broker.address()).unwrap();
        socket.write_all(&packet(0x10, &body.concat())).unwrap();
        let mut connack = [0; 4];
        socket.read_exact(&mut connack).unwrap();
        assert_eq!(connack, *b"\x20\x02\x00\x00");
    };
    for number in 0..6 {
        vanish(&mallory, &format!("m{number}"));
    }
    vanish(&carol, "c");
    let mut of_mallory = 0;
    while sender(&watch.receive().await.payload) != "carol" {
        of_mallory += 1;
    }
    assert!(of_mallory <= 2, "a quarter of 8, and not {of_mallory}");
}

fn sender(envelope: &[u8]) -> String {
    let envelope = sealpost_core::Envelope::parse(envelope).unwrap();
    envelope.from().to_string()
}
