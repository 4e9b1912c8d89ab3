//! What the operator does takes effect at once, survives, and leaves a trace.

use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, DisconnectReasonCode, SubscribeReasonCode};
use sealpost_core::{Invitation, LoginPassword, LoginToken, Realm};
use sealpost_tests::{Broker, BrokerOptions, Device, Lab, Link, Process, program};

fn broker() -> Broker {
    Broker::start(BrokerOptions::default())
}

async fn knock(broker: &Broker, user: &str, password: &str) -> Option<ConnectReturnCode> {
    Link::connect(broker.address(), "x", Some((user, password)))
        .await
        .err()
}

#[tokio::test]
async fn a_disabled_user_is_cut_off_at_once_and_comes_back_when_enabled() {
    let mut broker = broker();
    let alice = Device::new("alice");
    let mut link = alice.connect(broker.address(), "a").await;
    broker.administer(&["users", "disable", "alice"]);
    let (reason, words) = link.dismissed().await;
    assert_eq!(reason, DisconnectReasonCode::AdministrativeAction);
    assert!(words.contains("disabled"), "{words}");
    let refused = Some(ConnectReturnCode::NotAuthorized);
    assert_eq!(knock(&broker, "alice", &alice.token("x")).await, refused);
    broker.kill();
    broker.restart();
    assert_eq!(knock(&broker, "alice", &alice.token("x")).await, refused);
    broker.administer(&["users", "enable", "alice"]);
    assert_eq!(knock(&broker, "alice", &alice.token("x")).await, None);
}

#[tokio::test]
async fn a_removed_name_stays_reserved_and_its_keys_are_gone() {
    let mut broker = broker();
    let (alice, bob) = (Device::new("alice"), Device::new("bob"));
    for device in [&alice, &bob] {
        device.register(broker.address()).await;
    }
    let mut link = alice.connect(broker.address(), "a").await;
    let mut watcher = bob.connect(broker.address(), "b").await;
    watcher.subscribe("keys/alice").await;
    assert!(!watcher.receive().await.payload.is_empty());
    broker.administer(&["users", "remove", "alice"]);
    link.dismissed().await;
    assert!(
        watcher.receive().await.payload.is_empty(),
        "watchers are told"
    );
    for newcomer in [&alice, &Device::new("alice")] {
        assert_eq!(
            knock(&broker, "alice", &newcomer.token("x")).await,
            Some(ConnectReturnCode::NotAuthorized)
        );
    }
    let refused = broker.administer_with(&["invite", "alice"], "");
    assert_eq!(refused.code, 1, "{refused:?}");
    broker.kill();
    broker.restart();
    assert_eq!(
        knock(&broker, "alice", &alice.token("x")).await,
        Some(ConnectReturnCode::NotAuthorized)
    );
    // Nor are the keys back.
    let mut watcher = bob.connect(broker.address(), "b").await;
    watcher.subscribe("keys/alice").await;
    watcher.subscribe("keys/bob").await;
    assert_eq!(&watcher.receive().await.topic[..], b"keys/bob");
}

#[tokio::test]
async fn a_reset_identity_is_claimed_with_the_printed_invitation_and_not_without() {
    let broker = broker();
    let (old, new) = (Device::new("alice"), Device::new("alice"));
    old.register(broker.address()).await;
    let mut link = old.connect(broker.address(), "a").await;
    let invitation = broker.administer(&["users", "reset-identity", "alice"]);
    link.dismissed().await;
    for device in [&old, &new] {
        assert_eq!(
            knock(&broker, "alice", &device.token("x")).await,
            Some(ConnectReturnCode::NotAuthorized)
        );
    }
    let token = new.token("x");
    let acceptance = Invitation::parse(&invitation).unwrap().accept(
        &Realm::default(),
        &new.user,
        &LoginToken::parse(&token).unwrap(),
    );
    let password = LoginPassword::join(&token, &acceptance);
    assert_eq!(knock(&broker, "alice", &password).await, None);
    new.register(broker.address()).await;
    assert_eq!(
        knock(&broker, "alice", &old.token("x")).await,
        Some(ConnectReturnCode::BadUserNamePassword)
    );
}

#[tokio::test]
async fn commands_work_on_the_files_when_no_broker_runs() {
    let mut broker = broker();
    let alice = Device::new("alice");
    alice.register(broker.address()).await;
    broker.kill();
    broker.administer(&["users", "disable", "alice"]);
    let key = Device::new("bob").identity.key().to_base64();
    broker.administer(&["users", "add", "bob", "--key", &key]);
    let list = broker.administer(&["users", "list", "--json"]);
    let users = list
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .collect::<Vec<_>>();
    assert_eq!(users.len(), 2);
    assert_eq!(users[0]["standing"], "disabled");
    assert_eq!(users[1]["user"], "bob");
    broker.restart();
    assert_eq!(
        knock(&broker, "alice", &alice.token("x")).await,
        Some(ConnectReturnCode::NotAuthorized)
    );
    let unknown = broker.administer_with(&["users", "disable", "nobody"], "");
    assert_eq!(unknown.code, 1);
    // The hint can be run as it stands.
    let data = broker.data();
    let flags = format!("--data {}", data.display());
    assert!(
        unknown
            .stderr
            .contains("`sealpost-broker users list --config "),
        "{unknown:?}"
    );
    assert!(unknown.stderr.contains(&flags), "{unknown:?}");
}

#[tokio::test]
async fn the_list_of_users_tells_who_is_there_who_is_awaited_and_who_came_when() {
    let mut broker = broker();
    let alice = Device::new("alice");
    alice.register(broker.address()).await;
    let invited = broker.administer(&["invite", "bob", "--json"]);
    let expires = &invited[invited.find("\"expires\":").unwrap() + 10..];
    let expires = expires.trim_end_matches('}');
    broker.administer(&["users", "add", "sensor"]);
    for name in ["carol", "dave"] {
        Device::new(name).register(broker.address()).await;
    }
    broker.administer(&["users", "disable", "carol"]);
    broker.administer(&["users", "remove", "dave"]);
    for restarted in [false, true] {
        if restarted {
            broker.kill();
            broker.restart();
        }
        let table = broker.administer(&["users", "list"]);
        let rows = table.lines().map(|row| {
            let mut words = row.split_whitespace();
            (words.next().unwrap(), words.next().unwrap())
        });
        assert_eq!(
            rows.collect::<Vec<_>>(),
            [
                ("USER", "STANDING"),
                ("alice", "active"),
                ("bob", "invited"),
                ("carol", "disabled"),
                ("dave", "removed"),
                ("sensor", "active"),
            ]
        );
        let list = broker.administer(&["users", "list", "--json"]);
        let lines = list.lines().collect::<Vec<_>>();
        let users = lines
            .iter()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .collect::<Vec<_>>();
        assert!(users[0]["last_login"].is_number(), "{list}");
        for other in [1, 3, 4] {
            assert!(users[other]["last_login"].is_null(), "{list}");
        }
        // Times have three decimals here and there.
        assert!(
            lines[1].contains(&format!("\"invited_until\":{expires},")),
            "{invited} {list}"
        );
        assert_eq!(expires.rsplit_once('.').unwrap().1.len(), 3);
    }
}

#[test]
fn a_list_that_cannot_be_had_has_no_head() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("nowhere");
    let output = std::process::Command::new(program("sealpost-broker"))
        .args(["users", "list", "--data"])
        .arg(&nowhere)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    assert!(!nowhere.exists());
}

/// What was in use stays in use, whoever asks is told what is wrong, and so is the log.
#[tokio::test]
async fn a_reload_of_bad_files_fails_with_the_reasons_and_changes_nothing() {
    let lab = Lab::new();
    let rules = lab.file("rules.toml");
    let good = "[[rules]]\nusers = [\"*\"]\npublish = [\"home/#\"]\nsubscribe = [\"home/#\"]\n";
    std::fs::write(&rules, good).unwrap();
    let broker = Broker::start(BrokerOptions {
        settings: format!("rules = {rules:?}\n{}", lab.settings()),
        ..BrokerOptions::default()
    });
    broker.administer(&["reload"]);
    let certificate = std::fs::read(lab.file("server.pem")).unwrap();
    std::fs::write(lab.file("server.pem"), "none").unwrap();
    std::fs::write(
        &rules,
        "[[rules]]\nusers = [\"*\"]\npublish = [\"inbox/#\"]\n",
    )
    .unwrap();
    let refused = broker.administer_with(&["reload"], "");
    assert_eq!(refused.code, 1, "{refused:?}");
    for said in ["server.pem", "inbox/#", "stays in use"] {
        assert!(refused.stderr.contains(said), "{refused:?}");
    }
    broker.process.hang_up();
    broker
        .await_audit(|line| {
            line["what"] == "reload"
                && line["outcome"].as_str().is_some_and(|outcome| {
                    outcome.contains("server.pem") && outcome.contains("inbox/#")
                })
        })
        .await;
    broker.process.expect_error("server.pem");
    let alice = Device::new("alice");
    let mut link = alice.connect(broker.address(), "a").await;
    assert_eq!(
        link.subscribe("home/x").await,
        SubscribeReasonCode::Success(rumqttc::v5::mqttbytes::QoS::AtLeastOnce)
    );
    lab.connect(broker.tls_address(), None).await.unwrap();
    std::fs::write(lab.file("server.pem"), certificate).unwrap();
    std::fs::write(&rules, good).unwrap();
    broker.administer(&["reload"]);
}

#[tokio::test]
async fn logins_refusals_registrations_and_administration_leave_a_trace() {
    let broker = broker();
    let alice = Device::new("alice");
    alice.register(broker.address()).await;
    assert!(knock(&broker, "alice", "not my password").await.is_some());
    let mut link = alice.connect(broker.address(), "a").await;
    assert_eq!(
        link.subscribe("inbox/bob").await,
        SubscribeReasonCode::NotAuthorized
    );
    broker.administer(&["users", "disable", "alice"]);
    for (event, user) in [
        ("registered", "alice"),
        ("login", "alice"),
        ("login-refused", "alice"),
        ("refused", "alice"),
        ("administration", "alice"),
    ] {
        broker
            .await_audit(|line| line["event"] == event && line["user"] == user)
            .await;
    }
    let text = std::fs::read_to_string(broker.data().join("audit.jsonl")).unwrap();
    assert!(!text.contains("not my password"), "{text}");

    // As logrotate does it.
    let moved = broker.data().join("audit.old");
    std::fs::rename(broker.data().join("audit.jsonl"), &moved).unwrap();
    broker.process.hang_up();
    broker
        .await_audit(|line| line["what"] == "reload" && line["outcome"] == "done")
        .await;
    broker.administer(&["users", "enable", "alice"]);
    broker.await_audit(|line| line["what"] == "enable").await;
}

#[test]
fn a_broker_with_a_bad_rule_file_refuses_to_start_and_says_where_to_look() {
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("rules.toml");
    std::fs::write(
        &rules,
        "[[rules]]\nusers = [\"*\"]\nsubscribe = [\"inbox/#\"]",
    )
    .unwrap();
    let settings = dir.path().join("broker.toml");
    std::fs::write(&settings, format!("rules = {rules:?}\n")).unwrap();
    let mut command = std::process::Command::new(program("sealpost-broker"));
    command
        .args(["--listen", "127.0.0.1:0", "--config"])
        .arg(&settings);
    command.arg("--data").arg(dir.path().join("data"));
    let mut process = Process::spawn("broker", &mut command);
    assert!(!process.wait().success());
    process.expect_error("inbox/#");
    process.expect_error("docs/access.md");
}
