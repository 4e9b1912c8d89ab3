//! Nobody acts as another, reads another's mail, or puts keys into another's mouth: the broker does not let them.

use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, PubAckReason, SubscribeReasonCode};
use sealpost_core::{Identity, KeyBundle};
use sealpost_tests::{Archiver, Broker, BrokerOptions, Device, Link};

#[tokio::test]
async fn mallory_cannot_publish_bobs_keys() {
    let broker = Broker::start(BrokerOptions::default());
    let (bob, mallory) = (Device::new("bob"), Device::new("mallory"));
    bob.register(broker.address()).await;
    let mut link = mallory.connect(broker.address(), "m").await;
    for payload in [
        bob.bundle(2).as_bytes(),
        mallory.bundle(2).as_bytes(),
        b"",
        b"{}",
    ] {
        assert_eq!(
            link.publish("keys/bob", true, payload).await,
            PubAckReason::NotAuthorized
        );
    }
    // Nor a bundle of hers that says it is bob's, under her own name.
    let false_bob = Device {
        user: bob.user.clone(),
        ..mallory
    };
    assert_eq!(
        link.publish("keys/mallory", true, false_bob.bundle(2).as_bytes())
            .await,
        PubAckReason::PayloadFormatInvalid
    );
    // What bob published is still what newcomers find.
    let mut reader = bob.connect(broker.address(), "b").await;
    reader.subscribe("keys/bob").await;
    let found = KeyBundle::parse(&reader.receive().await.payload).unwrap();
    assert_eq!((*found.identity(), found.seq()), (bob.identity.key(), 1));
}

#[tokio::test]
async fn mallory_cannot_read_bobs_inbox_or_everybodys() {
    let broker = Broker::start(BrokerOptions::default());
    let (bob, mallory) = (Device::new("bob"), Device::new("mallory"));
    bob.register(broker.address()).await;
    let mut link = mallory.connect(broker.address(), "m").await;
    for filter in [
        "inbox/bob",
        "inbox/+",
        "inbox/#",
        "#",
        "+/bob",
        "keys/+",
        "$SYS/#",
        "$share/g/inbox/bob",
        "$share/g/inbox/mallory",
    ] {
        assert_eq!(
            link.subscribe(filter).await,
            SubscribeReasonCode::NotAuthorized,
            "{filter}"
        );
    }
    for filter in ["inbox/mallory", "keys/bob"] {
        assert!(
            matches!(
                link.subscribe(filter).await,
                SubscribeReasonCode::Success(_)
            ),
            "{filter}"
        );
    }
}

#[tokio::test]
async fn mallory_cannot_send_as_alice() {
    let broker = Broker::start(BrokerOptions::default());
    let (alice, bob, mallory) = (
        Device::new("alice"),
        Device::new("bob"),
        Device::new("mallory"),
    );
    for device in [&alice, &bob] {
        device.register(broker.address()).await;
    }
    let mut link = mallory.connect(broker.address(), "m").await;
    let stolen = alice.seal(&bob, "hello");
    assert_eq!(
        link.publish("inbox/bob", false, stolen.as_bytes()).await,
        PubAckReason::NotAuthorized
    );
    // Her name, but a signature by another identity than the one she is registered with.
    let other = Device {
        identity: Identity::from_seed(&[7; 32]),
        user: mallory.user.clone(),
        key: alice.key,
    };
    let foreign = other.seal(&bob, "hello");
    assert_eq!(
        link.publish("inbox/bob", false, foreign.as_bytes()).await,
        PubAckReason::NotAuthorized
    );
}

#[tokio::test]
async fn only_whole_envelopes_to_the_topics_owner_are_taken() {
    let broker = Broker::start(BrokerOptions::default());
    let (alice, bob, carol) = (
        Device::new("alice"),
        Device::new("bob"),
        Device::new("carol"),
    );
    for device in [&alice, &bob, &carol] {
        device.register(broker.address()).await;
    }
    let mut link = alice.connect(broker.address(), "a").await;
    let envelope = alice.seal(&bob, "hello");
    let bytes = envelope.as_bytes();
    let publish = [
        (
            "inbox/bob",
            &b"not an envelope"[..],
            PubAckReason::PayloadFormatInvalid,
        ),
        (
            "inbox/bob",
            &bytes[..bytes.len() - 1],
            PubAckReason::PayloadFormatInvalid,
        ),
        ("inbox/carol", bytes, PubAckReason::PayloadFormatInvalid),
        ("inbox/nobody", bytes, PubAckReason::TopicNameInvalid),
        ("elsewhere", bytes, PubAckReason::NotAuthorized),
        ("inbox/bob/more", bytes, PubAckReason::NotAuthorized),
    ];
    for (topic, payload, reason) in publish {
        assert_eq!(link.publish(topic, false, payload).await, reason, "{topic}");
    }
    assert_eq!(
        link.publish("inbox/bob", true, bytes).await,
        PubAckReason::NotAuthorized,
        "retained mail"
    );
    let reason = link.publish("inbox/bob", false, bytes).await;
    assert_eq!(
        reason,
        PubAckReason::NoMatchingSubscribers,
        "taken, though bob has no session"
    );
}

#[tokio::test]
async fn bundles_cannot_be_rolled_back_or_forked() {
    let broker = Broker::start(BrokerOptions::default());
    let bob = Device::new("bob");
    let mut link = bob.connect(broker.address(), "b").await;
    let (first, second, other_second) = (bob.bundle(1), bob.bundle(2), bob.bundle(2));
    assert_eq!(
        link.publish("keys/bob", true, first.as_bytes()).await,
        PubAckReason::Success
    );
    assert_eq!(
        link.publish("keys/bob", true, second.as_bytes()).await,
        PubAckReason::Success
    );
    assert_eq!(
        link.publish("keys/bob", true, second.as_bytes()).await,
        PubAckReason::Success,
        "the same again"
    );
    if second.as_bytes() != other_second.as_bytes() {
        assert_eq!(
            link.publish("keys/bob", true, other_second.as_bytes())
                .await,
            PubAckReason::PayloadFormatInvalid
        );
    }
    assert_eq!(
        link.publish("keys/bob", true, first.as_bytes()).await,
        PubAckReason::PayloadFormatInvalid
    );
    assert_eq!(
        link.publish("keys/bob", false, bob.bundle(3).as_bytes())
            .await,
        PubAckReason::PayloadFormatInvalid
    );
    link.subscribe("keys/bob").await;
    assert_eq!(&link.receive().await.payload[..], second.as_bytes());
}

#[tokio::test]
async fn nobody_gets_in_without_the_identity_that_holds_the_name() {
    let broker = Broker::start(BrokerOptions::default());
    let bob = Device::new("bob");
    bob.register(broker.address()).await;
    let connect = async |user: &str, password: &str| {
        Link::connect(broker.address(), "x", Some((user, password)))
            .await
            .err()
    };
    let thief = Device {
        user: bob.user.clone(),
        ..Device::new("thief")
    };
    assert_eq!(
        connect("bob", &thief.token("x")).await,
        Some(ConnectReturnCode::BadUserNamePassword)
    );
    assert_eq!(
        connect("bob", "guess").await,
        Some(ConnectReturnCode::BadUserNamePassword)
    );
    assert_eq!(
        connect("bob", &bob.token("another client")).await,
        Some(ConnectReturnCode::BadUserNamePassword)
    );
    assert_eq!(
        connect("Bob", &bob.token("x")).await,
        Some(ConnectReturnCode::BadUserNamePassword)
    );
    assert_eq!(
        Link::connect(broker.address(), "x", None).await.err(),
        Some(ConnectReturnCode::NotAuthorized)
    );
    assert_eq!(
        connect("admin", &Device::new("admin").token("x")).await,
        Some(ConnectReturnCode::NotAuthorized)
    );

    let token = bob.token("x");
    assert_eq!(connect("bob", &token).await, None);
    assert_eq!(
        connect("bob", &token).await,
        Some(ConnectReturnCode::BadUserNamePassword),
        "a token opens once"
    );
}

#[tokio::test]
async fn an_archiver_reads_every_inbox_and_publishes_nothing() {
    let archiver = Device::new("archiver");
    let credential = format!("archiver={}", archiver.identity.key().to_base64());
    let broker = Broker::start(BrokerOptions {
        archivers: vec![credential],
        ..BrokerOptions::default()
    });
    let (alice, bob) = (Device::new("alice"), Device::new("bob"));
    for device in [&alice, &bob] {
        device.register(broker.address()).await;
    }
    let mut reader = archiver.connect(broker.address(), "r").await;
    assert!(matches!(
        reader.subscribe("inbox/+").await,
        SubscribeReasonCode::Success(_)
    ));
    assert!(matches!(
        reader.subscribe("keys/+").await,
        SubscribeReasonCode::Success(_)
    ));
    assert_eq!(
        reader.subscribe("#").await,
        SubscribeReasonCode::NotAuthorized
    );
    for _ in 0..2 {
        assert!(reader.receive().await.topic.starts_with(b"keys/"));
    }
    let envelope = alice.seal(&bob, "hello");
    assert_eq!(
        reader
            .publish("inbox/bob", false, envelope.as_bytes())
            .await,
        PubAckReason::NotAuthorized
    );
    let mut sender = alice.connect(broker.address(), "a").await;
    sender
        .publish("inbox/bob", false, envelope.as_bytes())
        .await;
    assert_eq!(&reader.receive().await.payload[..], envelope.as_bytes());
}

#[tokio::test]
async fn an_archivers_role_needs_its_key_and_not_its_name() {
    let archiver = Archiver::prepare();
    let broker = Broker::for_archiver(&archiver);
    let impostor = Device::new("archiver");
    let denied = Link::connect(
        broker.address(),
        "x",
        Some(("archiver", &impostor.token("x"))),
    )
    .await
    .err();
    assert_eq!(denied, Some(ConnectReturnCode::BadUserNamePassword));
}
