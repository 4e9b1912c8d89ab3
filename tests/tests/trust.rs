//! Who somebody is: pinned at first, compared by people, and never changed silently.

use rumqttc::v5::mqttbytes::v5::PubAckReason;
use sealpost_core::Identity;
use sealpost_tests::{Broker, BrokerOptions, Device, Link, Person};

#[test]
fn a_changed_identity_blocks_until_the_person_decides() {
    let first = Broker::start(BrokerOptions::default());
    let mut alice = Person::settle("alice", &first.url());
    let _bob = Person::settle("bob", &first.url());
    assert_eq!(alice.run(&["send", "bob", "hello"]).code, 0);

    // Bob made new keys, or somebody made them for him: a broker that knows no better hands them out.
    let second = Broker::start(BrokerOptions::default());
    let _other_bob = Person::settle("bob", &second.url());
    alice.move_to(&second.url());
    let send = ["send", "bob", "a secret"];
    let blocked = alice.run(&send);
    assert_eq!(blocked.code, 4, "{blocked:?}");
    let fingerprints = blocked.stderr.matches("SHA256:").count();
    assert!(
        fingerprints >= 2,
        "both fingerprints are shown: {blocked:?}"
    );
    assert_eq!(alice.run(&send).code, 4, "and it stays blocked");

    let trusted = alice.run(&["contacts", "trust", "bob", "--yes"]);
    assert_eq!(trusted.code, 0, "{trusted:?}");
    assert_eq!(alice.run(&send).code, 0);
}

#[test]
fn two_people_compare_the_same_number_and_another_number_is_told() {
    let broker = Broker::start(BrokerOptions::default());
    let alice = Person::settle("alice", &broker.url());
    let bob = Person::settle("bob", &broker.url());
    assert_eq!(alice.run(&["send", "bob", "hello"]).code, 0);
    assert_eq!(
        bob.run(&["listen", "--count", "1", "--timeout", "30s"])
            .code,
        0
    );
    let number = |person: &Person, other: &str| {
        let answer = person.run(&["--json", "contacts", "verify", other]);
        let events = answer.events();
        let shown = events
            .iter()
            .find(|event| event["event"] == "safety_number")
            .unwrap_or_else(|| panic!("{answer:?}"));
        shown["number"].as_str().unwrap().to_owned()
    };
    let (alices, bobs) = (number(&alice, "bob"), number(&bob, "alice"));
    assert_eq!(alices, bobs);
    assert_eq!(alices.chars().filter(char::is_ascii_digit).count(), 60);

    let wrong = alices.replace(|digit: char| digit.is_ascii_digit(), "0");
    assert_eq!(
        alice
            .run(&["contacts", "verify", "bob", "--number", &wrong])
            .code,
        4
    );
    assert_eq!(
        alice
            .run(&["contacts", "verify", "bob", "--number", &bobs])
            .code,
        0
    );
    let listed = alice.run(&["--json", "contacts"]).events();
    assert_eq!(listed[0]["verified"], true, "{listed:?}");

    // Whatever was compared earlier, now they see something else.
    let differs = alice.run(&["contacts", "verify", "bob", "--number", &wrong]);
    assert_eq!(differs.code, 4, "{differs:?}");
    let listed = alice.run(&["--json", "contacts"]).events();
    assert_eq!(listed[0]["verified"], false, "{listed:?}");
    let refused = alice.run(&["--trust", "verified", "send", "bob", "hello"]);
    assert_eq!(refused.code, 4, "{refused:?}");
}

/// A broker that checks nothing, as any MQTT broker is: the client has to.
async fn open_world() -> (Broker, Person, Device) {
    let broker = Broker::start(BrokerOptions {
        open: true,
        ..BrokerOptions::default()
    });
    let url = broker.url();
    let bob = tokio::task::spawn_blocking(move || Person::settle("bob", &url))
        .await
        .unwrap();
    let alice = Device::new("alice");
    let mut link = Link::connect(broker.address(), "a", None).await.unwrap();
    assert_eq!(
        link.publish("keys/alice", true, alice.bundle(1).as_bytes())
            .await,
        PubAckReason::NoMatchingSubscribers,
        "an open broker knows no keys: it is retained, and nobody reads it yet"
    );
    (broker, bob, alice)
}

async fn seal_to(
    person: &Person,
    broker: &Broker,
    from: &Device,
    text: &str,
) -> sealpost_core::Envelope {
    let mut link = Link::connect(broker.address(), "reader", None)
        .await
        .unwrap();
    link.subscribe(&format!("keys/{}", person.name())).await;
    let bundle = sealpost_core::KeyBundle::parse(&link.receive().await.payload).unwrap();
    let mut sealer = sealpost_core::Sealer::new(&from.identity, &from.user, &bundle).unwrap();
    let (mut rng, now) = (rand::rng(), sealpost_tests::now());
    let id = sealpost_core::MessageId::new(now, &mut rng);
    sealer
        .seal(
            &mut rng,
            now,
            id,
            None,
            &sealpost_core::Content::Text { text: text.into() },
        )
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forgeries_and_replays_are_reported_and_never_shown_as_messages() {
    let (broker, bob, alice) = open_world().await;
    let genuine = seal_to(&bob, &broker, &alice, "genuine").await;
    let forger = Device {
        identity: Identity::from_seed(&[7; 32]),
        user: alice.user.clone(),
        key: Device::new("x").key,
    };
    let forged = seal_to(&bob, &broker, &forger, "forged").await;
    let last = seal_to(&bob, &broker, &alice, "last").await;

    let mut link = Link::connect(broker.address(), "mallory", None)
        .await
        .unwrap();
    for payload in [
        genuine.as_bytes(),
        forged.as_bytes(),
        genuine.as_bytes(),
        b"{\"v\":1}",
        last.as_bytes(),
    ] {
        assert_eq!(
            link.publish("inbox/bob", false, payload).await,
            PubAckReason::Success
        );
    }
    let answer = tokio::task::block_in_place(|| {
        bob.run(&["--json", "listen", "--count", "2", "--timeout", "30s"])
    });
    let events = answer.events();
    let of = |kind: &str| {
        events
            .iter()
            .filter(|event| event["event"] == kind)
            .collect::<Vec<_>>()
    };
    let texts = of("message")
        .iter()
        .map(|event| event["text"].as_str().unwrap())
        .collect::<Vec<_>>();
    assert_eq!(texts, ["genuine", "last"], "{answer:?}");
    let told = of("refused").len() + of("waiting").len() + of("alarm").len();
    assert!(
        told >= 2,
        "the forgery and the garbage are reported: {answer:?}"
    );
    assert!(!answer.stdout.contains("forged"));
}
