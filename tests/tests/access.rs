//! Who gets in, and what they may do there: invitations, passwords, operators, rules.

use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, PubAckReason, SubscribeReasonCode};
use sealpost_core::{Invitation, LoginPassword, LoginToken, Realm};
use sealpost_tests::{Broker, BrokerOptions, Device, Flood, Link, Person, Process, root};

const CLOSED: &str = "registration = \"closed\"\n";

fn broker(settings: &str) -> Broker {
    Broker::start(BrokerOptions {
        settings: settings.into(),
        ..BrokerOptions::default()
    })
}

/// The password that claims a device's name.
fn accepting(device: &Device, client_id: &str, invitation: &str) -> String {
    let token = device.token(client_id);
    let parsed = LoginToken::parse(&token).unwrap();
    let acceptance =
        Invitation::parse(invitation)
            .unwrap()
            .accept(&Realm::default(), &device.user, &parsed);
    LoginPassword::join(&token, &acceptance)
}

async fn knock(broker: &Broker, user: &str, password: &str) -> Option<ConnectReturnCode> {
    Link::connect(broker.address(), "x", Some((user, password)))
        .await
        .err()
}

#[test]
fn where_registration_is_closed_a_newcomer_needs_an_invitation_and_the_client_uses_it() {
    let broker = broker(CLOSED);
    let alice = Person::newcomer("alice", &broker.url());
    let refused = alice.run(&["keys", "init", "--no-passphrase"]);
    assert_eq!(refused.code, 5, "{refused:?}");
    assert!(refused.stderr.contains("--invitation"), "{refused:?}");

    let invitation = broker.administer(&["invite", "alice"]);
    let bob = Person::newcomer("bob", &broker.url());
    let others = bob.run(&[
        "keys",
        "init",
        "--no-passphrase",
        "--invitation",
        &invitation,
    ]);
    assert_eq!(others.code, 5, "an invitation is for one name: {others:?}");

    let claimed = alice.run(&["keys", "rotate", "--invitation", &invitation]);
    assert_eq!(claimed.code, 0, "{claimed:?}");
    // From now on the name is alice's, without it.
    let again = alice.run(&["keys", "rotate"]);
    assert_eq!(again.code, 0, "{again:?}");
    let users = broker.administer(&["users", "list"]);
    assert!(
        users.contains("alice") && users.contains("SHA256:"),
        "{users}"
    );
}

#[tokio::test]
async fn an_invitation_is_used_once_also_over_a_crash() {
    let mut broker = broker(CLOSED);
    let invitation = broker.administer(&["invite", "alice", "--expires", "1h"]);
    let (alice, thief) = (Device::new("alice"), Device::new("alice"));
    let mine = accepting(&alice, "x", &invitation);
    assert_eq!(knock(&broker, "alice", &mine).await, None);
    broker.kill();
    broker.restart();
    let stolen = accepting(&thief, "x", &invitation);
    assert_eq!(
        knock(&broker, "alice", &stolen).await,
        Some(ConnectReturnCode::BadUserNamePassword)
    );
    assert_eq!(knock(&broker, "alice", &alice.token("x")).await, None);
    // What the broker has kept of it does not let anybody in.
    let kept = std::fs::read_to_string(broker.data().join("users/alice.json")).unwrap();
    assert!(!kept.contains("invitation"), "{kept}");
}

#[tokio::test]
async fn a_newer_invitation_voids_the_older_one() {
    let broker = broker(CLOSED);
    let older = broker.administer(&["invite", "alice"]);
    let newer = broker.administer(&["invite", "alice"]);
    let alice = Device::new("alice");
    let with = |invitation: &str| accepting(&alice, "x", invitation);
    assert_eq!(
        knock(&broker, "alice", &with(&older)).await,
        Some(ConnectReturnCode::NotAuthorized)
    );
    assert_eq!(knock(&broker, "alice", &with(&newer)).await, None);
}

#[tokio::test]
async fn a_used_token_is_refused_after_a_crash_too() {
    let mut broker = broker("");
    let alice = Device::new("alice");
    let token = alice.token("x");
    assert_eq!(knock(&broker, "alice", &token).await, None);
    broker.kill();
    broker.restart();
    assert_eq!(
        knock(&broker, "alice", &token).await,
        Some(ConnectReturnCode::BadUserNamePassword)
    );
    assert_eq!(knock(&broker, "alice", &alice.token("x")).await, None);
}

#[tokio::test]
async fn a_device_with_a_static_password_publishes_what_its_identity_signed() {
    let broker = broker("");
    let (sensor, bob) = (Device::new("sensor"), Device::new("bob"));
    for device in [&sensor, &bob] {
        device.register(broker.address()).await;
    }
    let set = broker.administer_with(&["passwd", "add", "sensor"], "correct horse battery");
    assert_eq!(set.code, 0, "{set:?}");
    assert_eq!(broker.administer(&["passwd", "list"]), "sensor");
    let login = Some(("sensor", "correct horse battery"));
    let mut link = Link::connect(broker.address(), "s", login).await.unwrap();
    let envelope = sensor.seal(&bob, "21 degrees");
    assert_eq!(
        link.publish("inbox/bob", false, envelope.as_bytes()).await,
        PubAckReason::NoMatchingSubscribers
    );
    // The password does not make it anybody else, nor change its keys.
    let stolen = bob.seal(&sensor, "from bob");
    assert_eq!(
        link.publish("inbox/sensor", false, stolen.as_bytes()).await,
        PubAckReason::NotAuthorized
    );
    let other_keys = Device::new("sensor").bundle(9);
    assert_eq!(
        link.publish("keys/sensor", true, other_keys.as_bytes())
            .await,
        PubAckReason::PayloadFormatInvalid
    );
    assert_eq!(
        link.subscribe("inbox/bob").await,
        SubscribeReasonCode::NotAuthorized
    );

    // MQTT 3.1.1 too.
    Flood::connect(broker.address(), "sensor", "correct horse battery", "old").finish();

    for (user, password) in [
        ("sensor", "wrong horse battery"),
        ("bob", "correct horse battery"),
    ] {
        assert_eq!(
            knock(&broker, user, password).await,
            Some(ConnectReturnCode::BadUserNamePassword),
            "{user}"
        );
    }
    broker.administer(&["passwd", "remove", "sensor"]);
    link.dismissed().await;
    assert_eq!(
        knock(&broker, "sensor", "correct horse battery").await,
        Some(ConnectReturnCode::BadUserNamePassword)
    );
    assert_eq!(knock(&broker, "sensor", &sensor.token("x")).await, None);
}

#[tokio::test]
async fn guessing_a_password_is_slowed() {
    let broker = broker("");
    let generated = broker.administer(&["passwd", "add", "sensor", "--generate"]);
    for _ in 0..5 {
        assert_eq!(
            knock(&broker, "sensor", "a wrong password").await,
            Some(ConnectReturnCode::BadUserNamePassword)
        );
    }
    assert_eq!(
        knock(&broker, "sensor", &generated).await,
        Some(ConnectReturnCode::ConnectionRateExceeded)
    );
}

#[tokio::test]
async fn an_operator_replays_what_was_signed_and_nothing_else() {
    let operator = Device::new("ops");
    let broker = Broker::start(BrokerOptions {
        operators: vec![format!("ops={}", operator.identity.key().to_base64())],
        ..BrokerOptions::default()
    });
    let (alice, bob) = (Device::new("alice"), Device::new("bob"));
    for device in [&alice, &bob] {
        device.register(broker.address()).await;
    }
    let mut reader = bob.connect(broker.address(), "b").await;
    reader.subscribe("inbox/bob").await;
    let mut link = operator.connect(broker.address(), "o").await;
    let envelope = alice.seal(&bob, "kept for a year");
    assert_eq!(
        link.publish("inbox/bob", false, envelope.as_bytes()).await,
        PubAckReason::Success
    );
    assert_eq!(&reader.receive().await.payload[..], envelope.as_bytes());

    let forged = Device::new("alice").seal(&bob, "by another identity");
    assert_eq!(
        link.publish("inbox/bob", false, forged.as_bytes()).await,
        PubAckReason::NotAuthorized
    );
    let text = String::from_utf8(envelope.as_bytes().to_vec()).unwrap();
    let (head, signature) = text.split_once("\"sig\":\"").unwrap();
    let other = if signature.starts_with('A') { 'B' } else { 'A' };
    let tampered = format!("{head}\"sig\":\"{other}{}", &signature[1..]);
    assert_eq!(
        link.publish("inbox/bob", false, tampered.as_bytes()).await,
        PubAckReason::NotAuthorized
    );
    for topic in ["elsewhere", "keys/alice"] {
        assert_eq!(
            link.publish(topic, true, alice.bundle(2).as_bytes()).await,
            PubAckReason::NotAuthorized,
            "{topic}"
        );
    }
    for (filter, granted) in [("$SYS/#", true), ("inbox/+", false), ("#", false)] {
        let code = link.subscribe(filter).await;
        let success = matches!(code, SubscribeReasonCode::Success(_));
        assert_eq!(success, granted, "{filter}");
    }
    let mut alices = alice.connect(broker.address(), "a").await;
    assert_eq!(
        alices.subscribe("$SYS/#").await,
        SubscribeReasonCode::NotAuthorized
    );
}

const RULES: &str = r#"
[[rules]]
users = ["sensor-*"]
publish = ["home/%u/#"]

[[rules]]
users = ["alice"]
subscribe = ["home/#"]
"#;

/// A settings text that names a rule file with this content.
fn with_rules(dir: &tempfile::TempDir, rules: &str) -> String {
    let path = dir.path().join("rules.toml");
    std::fs::write(&path, rules).unwrap();
    format!("rules = {path:?}\n")
}

#[tokio::test]
async fn rules_open_other_topics_and_are_read_again_on_request() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker(&with_rules(&dir, RULES));
    let (sensor, alice) = (Device::new("sensor-1"), Device::new("alice"));
    let mut reader = alice.connect(broker.address(), "a").await;
    for (filter, granted) in [("home/#", true), ("#", false), ("garden/#", false)] {
        let code = reader.subscribe(filter).await;
        let success = matches!(code, SubscribeReasonCode::Success(_));
        assert_eq!(success, granted, "{filter}");
    }
    let mut link = sensor.connect(broker.address(), "s").await;
    assert_eq!(
        link.publish("home/sensor-1/celsius", false, b"21").await,
        PubAckReason::Success
    );
    assert_eq!(&reader.receive().await.payload[..], b"21");
    for (topic, retain) in [
        ("home/sensor-2/celsius", false),
        ("home/sensor-1/celsius", true),
        ("garden", false),
    ] {
        assert_eq!(
            link.publish(topic, retain, b"21").await,
            PubAckReason::NotAuthorized,
            "{topic}"
        );
    }

    // A bad file changes nothing, and says what is wrong.
    with_rules(&dir, "[[rules]]\nusers = [\"*\"]\npublish = [\"#\"]");
    let refused = broker.administer_with(&["reload"], "");
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("rule 1"), "{refused:?}");
    assert_eq!(
        link.publish("home/sensor-1/celsius", false, b"22").await,
        PubAckReason::Success
    );
    // A good one is in force at once.
    with_rules(&dir, "[[rules]]\nusers = [\"*\"]\npublish = [\"garden\"]");
    broker.administer(&["reload"]);
    assert_eq!(
        link.publish("home/sensor-1/celsius", false, b"23").await,
        PubAckReason::NotAuthorized
    );
    assert_eq!(
        link.publish("garden", false, b"roses").await,
        PubAckReason::NoMatchingSubscribers
    );
    // Subscriptions that were given by the old one end with it.
    with_rules(
        &dir,
        "[[rules]]\nusers = [\"sensor-1\"]\npublish = [\"home/#\"]",
    );
    broker.administer(&["reload"]);
    assert_eq!(
        link.publish("home/sensor-1/celsius", false, b"24").await,
        PubAckReason::NoMatchingSubscribers
    );
}

#[tokio::test]
async fn nobody_takes_over_anothers_session_by_its_client_id() {
    let broker = broker("");
    let (alice, mallory) = (Device::new("alice"), Device::new("mallory"));
    let mut hers = alice.connect(broker.address(), "laptop").await;
    let theirs = mallory.connect(broker.address(), "laptop").await;
    assert!(!theirs.session_present);
    assert!(matches!(
        hers.subscribe("inbox/alice").await,
        SubscribeReasonCode::Success(_)
    ));
}

#[test]
fn a_plain_library_with_a_password_uses_the_topics_that_rules_give_it() {
    let dir = tempfile::tempdir().unwrap();
    let rules = "[[rules]]\nusers = [\"sensor-*\"]\npublish = [\"round/trip\"]\nsubscribe = [\"round/trip\"]";
    let broker = broker(&(with_rules(&dir, rules) + CLOSED));
    let password = broker.administer(&["passwd", "add", "sensor-1", "--generate"]);
    let paho = |version: &str, password: &str| {
        let mut command = std::process::Command::new(root().join("tests/clients/paho"));
        command.args(["--port", &broker.address().port().to_string()]);
        command.args(["--version", version]);
        command.args(["--user", "sensor-1", "--password", password]);
        let mut client = Process::spawn("paho", &mut command);
        let status = client.wait();
        (status.success(), client.stderr())
    };
    for version in ["4", "5"] {
        let (done, problems) = paho(version, &password);
        assert!(done, "{version}: {problems:?}");
        let (done, _) = paho(version, "a wrong password");
        assert!(!done, "{version}");
    }
}

#[tokio::test]
async fn archivers_share_out_what_they_may_read_and_users_do_not() {
    let archiver = Device::new("archiver");
    let broker = Broker::start(BrokerOptions {
        archivers: vec![format!("archiver={}", archiver.identity.key().to_base64())],
        ..BrokerOptions::default()
    });
    let mut reader = archiver.connect(broker.address(), "r").await;
    let alice = Device::new("alice");
    let mut link = alice.connect(broker.address(), "a").await;
    for (filter, archivers, alices) in [
        ("$share/g/inbox/+", true, false),
        ("$share/g/keys/+", true, false),
        ("$share/g/inbox/alice", false, false),
        ("$share/g/#", false, false),
        ("$share/g/$SYS/#", false, false),
    ] {
        for (link, granted) in [(&mut reader, archivers), (&mut link, alices)] {
            let code = link.subscribe(filter).await;
            let success = matches!(code, SubscribeReasonCode::Success(_));
            assert_eq!(success, granted, "{filter}: {code:?}");
        }
    }
}
