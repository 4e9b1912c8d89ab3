//! People move from our broker to another one, and what waited for them moves too.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use sealpost_tests::{Answer, Broker, BrokerOptions, Mosquitto, Nats, Person};

/// Somebody's home, at another broker from now on.
fn moved(person: &Person, url: &str) -> Person {
    let password = format!("echo {}", person.name());
    Person::newcomer(person.name(), url)
        .living_at(person.home().to_owned())
        .with(&["--broker-password-command", &password])
}

fn send(from: &Person, to: &str, text: &str) {
    let sent = from.run(&["send", "--timeout", "30s", to, text]);
    assert_eq!(sent.code, 0, "{sent:?}");
}

fn hear(person: &Person, count: usize) -> Vec<String> {
    let heard = person.run(&["listen", "--count", &count.to_string(), "--timeout", "30s"]);
    assert_eq!(heard.code, 0, "{heard:?}");
    assert!(!heard.stderr.contains("ALARM"), "{heard:?}");
    heard.stdout.lines().map(str::to_owned).collect()
}

struct Migration {
    old: Broker,
    password: PathBuf,
    _dir: tempfile::TempDir,
}

impl Migration {
    fn from(old: Broker) -> Migration {
        let dir = tempfile::tempdir().unwrap();
        let password = dir.path().join("password");
        std::fs::write(&password, "migration\n").unwrap();
        std::fs::set_permissions(&password, PermissionsExt::from_mode(0o600)).unwrap();
        Migration {
            old,
            password,
            _dir: dir,
        }
    }

    fn export(&self, to: &str, more: &[&str]) -> Answer {
        let password = self.password.to_str().unwrap();
        let command = ["export", "--to", to, "--password-file", password];
        self.old.administer_with(&[&command[..], more].concat(), "")
    }
}

fn people_move_with_their_keys_and_the_mail_that_waits(new_url: &str, tells_of_nobody: bool) {
    let old = Broker::start(BrokerOptions::default());
    let (alice, bob) = (
        Person::settle("alice", &old.url()),
        Person::settle("bob", &old.url()),
    );
    for number in 0..20 {
        send(&alice, "bob", &number.to_string());
    }
    let mut migration = Migration::from(old);
    let running = migration.export(new_url, &[]);
    assert_eq!(running.code, 1, "{running:?}");
    assert!(running.stderr.contains("a broker runs on"), "{running:?}");
    migration.old.stop();

    let keys = migration.export(new_url, &["--keys-only"]);
    assert_eq!(keys.code, 0, "{keys:?}");
    assert!(
        keys.stdout.contains("2 key bundles and 0 messages"),
        "{keys:?}"
    );
    // Nobody has a mailbox there yet. A broker of MQTT 3.1.1 cannot say so.
    if tells_of_nobody {
        let early = migration.export(new_url, &[]);
        assert_eq!(early.code, 1, "{early:?}");
        assert!(
            early
                .stderr
                .contains("20 messages are for people who have no mailbox"),
            "{early:?}"
        );
    }
    let (alice, bob) = (moved(&alice, new_url), moved(&bob, new_url));
    for person in [&alice, &bob] {
        let opened = person.run(&["listen", "--timeout", "2s"]);
        assert_eq!(opened.code, 0, "{opened:?}");
    }
    for _ in 0..2 {
        let done = migration.export(new_url, &[]);
        assert_eq!(done.code, 0, "{done:?}");
        assert!(
            done.stdout.contains("2 key bundles and 20 messages"),
            "{done:?}"
        );
    }
    let expected: Vec<String> = (0..20)
        .map(|number| format!("From alice: {number}"))
        .collect();
    assert_eq!(hear(&bob, 20), expected);
    // Each once, and the two know each other as before.
    send(&bob, "alice", "here too");
    assert_eq!(hear(&alice, 1), ["From bob: here too"]);
    send(&alice, "bob", "at home");
    assert_eq!(hear(&bob, 1), ["From alice: at home"]);
}

#[test]
fn to_mosquitto() {
    let new = Mosquitto::start(&["alice", "bob", "migration"]);
    people_move_with_their_keys_and_the_mail_that_waits(&new.url(), true);
}

#[test]
fn to_a_nats_cluster() {
    let new = Nats::with_migration(&["alice", "bob"]);
    people_move_with_their_keys_and_the_mail_that_waits(&new.urls_from(0), false);
}

#[test]
fn an_account_that_may_not_publish_for_others_is_told() {
    let old = Broker::start(BrokerOptions::default());
    let _alice = Person::settle("alice", &old.url());
    let mut migration = Migration::from(old);
    migration.old.stop();
    let new = Mosquitto::start(&["alice", "bob", "migration"]);
    std::fs::write(&migration.password, "bob").unwrap();
    let refused = migration.export(&new.url(), &["--as", "bob"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("keys/alice"), "{refused:?}");
    std::fs::write(&migration.password, "wrong").unwrap();
    let refused = migration.export(&new.url(), &[]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("refused the login"), "{refused:?}");
    std::fs::set_permissions(&migration.password, PermissionsExt::from_mode(0o644)).unwrap();
    let exposed = migration.export(&new.url(), &[]);
    assert_eq!(exposed.code, 2, "{exposed:?}");
    assert!(exposed.stderr.contains("chmod 600"), "{exposed:?}");
}
