//! Keys that change while people go on talking: rotated, replaced with their identity, revoked, and withheld by a broker.

use std::sync::Arc;

use rumqttc::v5::mqttbytes::v5::PubAckReason;
use sealpost_tests::{Broker, BrokerOptions, Clock, Device, Link, Person};
use serde_json::Value;

const RECEIVE: [&str; 6] = ["--json", "listen", "--count", "1", "--timeout", "30s"];

fn send(from: &Person, to: &str, text: &str) {
    let sent = from.run(&["send", to, text]);
    assert_eq!(sent.code, 0, "{sent:?}");
}

/// Receives one message with this text, and returns all that was said.
fn receive(person: &Person, text: &str) -> Vec<Value> {
    let answer = person.run(&RECEIVE);
    assert_eq!(answer.code, 0, "{answer:?}");
    let events = answer.events();
    let message = events.iter().find(|event| event["event"] == "message");
    let message = message.unwrap_or_else(|| panic!("{answer:?}"));
    assert_eq!(message["text"], text, "{answer:?}");
    events
}

fn said<'a>(events: &'a [Value], event: &str, member: &str, value: &str) -> Option<&'a Value> {
    events
        .iter()
        .find(|each| each["event"] == event && each[member] == value)
}

fn shown(person: &Person) -> Value {
    let answer = person.run(&["--json", "keys", "show"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    answer.events()[0].clone()
}

fn contact(person: &Person, user: &str) -> Value {
    let events = person.run(&["--json", "contacts"]).events();
    let found = events.iter().find(|event| event["user"] == user);
    found.unwrap_or_else(|| panic!("{events:?}")).clone()
}

/// Alice and bob, who have talked, and bob has verified alice.
fn acquainted() -> (Broker, Person, Person) {
    let broker = Broker::start(BrokerOptions::default());
    let alice = Person::settle("alice", &broker.url());
    let bob = Person::settle("bob", &broker.url());
    send(&alice, "bob", "hello");
    receive(&bob, "hello");
    send(&bob, "alice", "hello yourself");
    receive(&alice, "hello yourself");
    let answer = alice.run(&["--json", "contacts", "verify", "bob"]);
    let number = answer.events()[0]["number"].as_str().unwrap().to_owned();
    let verified = bob.run(&["contacts", "verify", "alice", "--number", &number]);
    assert_eq!(verified.code, 0, "{verified:?}");
    (broker, alice, bob)
}

#[test]
fn an_identity_is_replaced_with_mail_under_way_and_both_go_on() {
    let (_broker, alice, bob) = acquainted();
    let old = shown(&alice)["fingerprint"].clone();
    send(&alice, "bob", "signed by the old identity");
    send(&bob, "alice", "sealed to the old identity");

    let rotated = alice.run(&["--json", "keys", "rotate", "--identity"]);
    assert_eq!(rotated.code, 0, "{rotated:?}");
    let keys = &rotated.events()[0];
    assert_eq!(keys["published"], true, "{rotated:?}");
    assert_ne!(keys["fingerprint"], old);

    // Which of the two comes first is not said.
    let mut listen = bob.start(&["--json", "listen"]);
    listen.expect("signed by the old identity");
    listen.expect(r#""change":"replaced""#);
    listen.terminate();
    let events: Vec<Value> = listen
        .stdout()
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let told = said(&events, "contact", "change", "replaced").unwrap();
    assert_eq!(told["previous"], old);
    assert_eq!(told["fingerprint"], keys["fingerprint"]);
    assert_eq!(told["verified"], false);
    assert_eq!(contact(&bob, "alice")["verified"], false);

    receive(&alice, "sealed to the old identity");
    send(&bob, "alice", "sealed to the new identity");
    receive(&alice, "sealed to the new identity");
    send(&alice, "bob", "signed by the new identity");
    let events = receive(&bob, "signed by the new identity");
    assert!(
        said(&events, "alarm", "user", "alice").is_none(),
        "{events:?}"
    );

    // And once more, while bob is away: one chain leads over both changes.
    for _ in 0..2 {
        let rotated = alice.run(&["keys", "rotate", "--identity"]);
        assert_eq!(rotated.code, 0, "{rotated:?}");
    }
    send(&bob, "alice", "over two changes");
    receive(&alice, "over two changes");
    send(&alice, "bob", "and back");
    receive(&bob, "and back");
}

#[test]
fn a_change_of_identity_goes_on_after_a_crash_at_each_step() {
    let (_broker, alice, bob) = acquainted();
    // Killed when the keystore was written, before the broker knew.
    let rotated = alice.run(&["keys", "rotate", "--identity", "--no-publish"]);
    assert_eq!(rotated.code, 0, "{rotated:?}");
    let again = alice.run(&["keys", "rotate", "--identity", "--no-publish"]);
    assert_eq!(again.code, 1, "one change at a time: {again:?}");
    let keystore = alice.home().join("keystore.json");
    let before = std::fs::read(&keystore).unwrap();
    send(&alice, "bob", "the next command brings it");
    let events = receive(&bob, "the next command brings it");
    assert!(said(&events, "contact", "change", "replaced").is_some());

    // Killed when the broker knew, before the keystore did: as if this had not been written.
    let after = std::fs::read(&keystore).unwrap();
    assert!(after.len() < before.len(), "the old secret is gone");
    std::fs::write(&keystore, before).unwrap();
    send(
        &alice,
        "bob",
        "the old identity is not let in, the new one is",
    );
    receive(&bob, "the old identity is not let in, the new one is");
    let settled = std::fs::read(&keystore).unwrap();
    assert_eq!(settled.len(), after.len(), "the old secret is gone again");
    send(&bob, "alice", "all is well");
    receive(&alice, "all is well");
}

#[test]
fn a_key_of_age_is_replaced_by_itself_and_destroyed_when_nothing_is_under_way_any_more() {
    const DAY: i64 = 24 * 60 * 60;
    let clock = Arc::new(Clock::new());
    let broker = Broker::start(BrokerOptions {
        clock: Some(Arc::clone(&clock)),
        ..BrokerOptions::default()
    });
    let [mut alice, mut bob] = ["alice", "bob"].map(|name| Person::settle(name, &broker.url()));
    alice.live_by(&clock);
    bob.live_by(&clock);
    let keys = |person: &Person| shown(person)["encryption"].as_array().unwrap().len();

    clock.set(89 * DAY);
    send(&bob, "alice", "to the old key");
    assert_eq!(keys(&alice), 1);
    clock.set(91 * DAY);
    assert_eq!(keys(&alice), 2, "replaced");
    receive(&alice, "to the old key");
    send(&bob, "alice", "to the new key");
    receive(&alice, "to the new key");
    clock.set((91 + 46) * DAY);
    assert_eq!(keys(&alice), 1, "the old one is destroyed");
    send(&bob, "alice", "still");
    receive(&alice, "still");
}

#[test]
fn revoked_keys_are_used_by_nobody_and_contacts_are_told() {
    let (_broker, alice, bob) = acquainted();
    let asked = alice.run(&["keys", "revoke"]);
    assert_eq!(asked.code, 2, "nobody is there to ask: {asked:?}");
    let revoked = alice.run(&["keys", "revoke", "--yes"]);
    assert_eq!(revoked.code, 0, "{revoked:?}");
    assert!(
        revoked.stderr.contains("reset-identity alice"),
        "{revoked:?}"
    );
    assert_eq!(shown(&alice)["revoked"], true);

    let refused = bob.run(&["--json", "send", "alice", "too late"]);
    assert_eq!(refused.code, 4, "{refused:?}");
    let events = refused.events();
    assert!(
        said(&events, "contact", "change", "retired").is_some(),
        "{refused:?}"
    );
    assert!(refused.stderr.contains("withdrawn"), "{refused:?}");
    for command in [
        &["send", "bob", "from the grave"][..],
        &["keys", "rotate"],
        &["keys", "rotate", "--identity"],
    ] {
        let refused = alice.run(command);
        assert_eq!(refused.code, 4, "{refused:?}");
    }
    assert_eq!(alice.run(&["keys", "revoke", "--yes"]).code, 0, "again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_removes_or_rolls_back_keys_is_told_on_and_changes_nothing() {
    let broker = Broker::start(BrokerOptions {
        open: true,
        ..BrokerOptions::default()
    });
    let url = broker.url();
    let bob = tokio::task::spawn_blocking(move || Person::settle("bob", &url))
        .await
        .unwrap();
    let alice = Device::new("alice");
    let mut link = Link::connect(broker.address(), "alice", None)
        .await
        .unwrap();
    link.subscribe("inbox/alice").await;
    let (pinned, older) = (alice.bundle(5), alice.bundle(3));
    let send = || tokio::task::block_in_place(|| bob.run(&["--json", "send", "alice", "hello"]));

    let mut before = None;
    for (retained, alarm) in [
        (pinned.as_bytes(), None),
        (b"", Some("bundle_removed")),
        (older.as_bytes(), Some("bundle_rolled_back")),
        (pinned.as_bytes(), None),
    ] {
        let told = link.publish("keys/alice", true, retained).await;
        assert_ne!(told, PubAckReason::NotAuthorized);
        let sent = send();
        assert_eq!(sent.code, 0, "{alarm:?}: {sent:?}");
        let events = sent.events();
        let alarms: Vec<&str> = events
            .iter()
            .filter(|event| event["event"] == "alarm")
            .map(|event| event["cause"].as_str().unwrap())
            .collect();
        assert!(
            alarm.is_none_or(|alarm| alarms.contains(&alarm)),
            "{sent:?}"
        );
        // The broker may deliver again what bob had no time to acknowledge.
        let known = |cause: &str| alarm == Some(cause) || before == Some(cause);
        assert!(alarms.iter().all(|cause| known(cause)), "{sent:?}");
        before = alarm;
        let envelope = sealpost_core::Envelope::parse(&link.receive().await.payload).unwrap();
        let key = sealpost_core::KeyId::of(
            &sealpost_core::Realm::default(),
            &alice.identity.key(),
            &pinned.encryption()[0],
        );
        assert_eq!(*envelope.key(), key, "it is sealed to the pinned key");
    }
}

#[test]
fn whoever_is_connected_goes_on_as_the_new_identity_that_another_process_made() {
    let (_broker, alice, bob) = acquainted();
    let mut listen = alice.start(&["--json", "listen"]);
    listen.expect("\"connected\"");
    for how in [
        &["keys", "rotate", "--identity"][..],
        &["keys", "rotate"],
        &["keys", "rotate", "--identity", "--no-publish"],
        &["keys", "rotate", "--identity"],
    ] {
        let rotated = alice.run(how);
        assert_eq!(rotated.code, 0, "{rotated:?}");
        let text = how.join(" ");
        let number = shown(&alice)["seq"].clone();
        // Until bob has seen the new keys he may write to the old ones, which open too.
        let until = std::time::Instant::now() + sealpost_tests::PATIENCE;
        loop {
            send(&bob, "alice", &text);
            listen.expect(&text);
            let sent = alice.run(&["send", "bob", &text, "--wait", "sent", "--timeout", "30s"]);
            assert_eq!(sent.code, 0, "{sent:?}");
            receive(&bob, &text);
            let known = contact(&bob, "alice");
            if known["fingerprint"] == shown(&alice)["fingerprint"] {
                break;
            }
            assert!(std::time::Instant::now() < until, "{number} {known}");
        }
    }
    assert!(listen.terminate().success(), "{:?}", listen.stderr());
}
