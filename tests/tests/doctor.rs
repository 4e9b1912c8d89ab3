//! `doctor`: what is well and what must be mended, each with its finding; and nothing is changed by looking.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use sealpost_tests::{Answer, Broker, BrokerOptions, Lab, Person, free_port, program};
use serde_json::Value;

fn broker() -> Broker {
    Broker::start(BrokerOptions::default())
}

/// What every file of a home holds. A reader of SQLite makes and removes an index beside the database.
fn contents(home: &Path) -> BTreeMap<String, Vec<u8>> {
    std::fs::read_dir(home)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read(&path).unwrap())
        })
        .filter(|(name, _)| !name.ends_with("-shm") && !name.ends_with("-wal"))
        .collect()
}

/// The findings of this verdict, as `check: message`.
fn found(answer: &Answer, verdict: &str) -> Vec<String> {
    answer
        .events()
        .iter()
        .filter(|event| event["event"] == "finding" && event["verdict"] == verdict)
        .map(|event| {
            let text = |name: &str| event[name].as_str().unwrap().to_owned();
            format!("{}: {}", text("check"), text("message"))
        })
        .collect()
}

fn doctor(person: &Person) -> Answer {
    let before = contents(person.home());
    let answer = person.run(&["--json", "doctor"]);
    assert_eq!(contents(person.home()), before, "{answer:?}");
    answer
}

fn assert_problem(answer: &Answer, words: &str) {
    assert_eq!(answer.code, 1, "{answer:?}");
    let problems = found(answer, "problem");
    assert!(
        problems.iter().any(|problem| problem.contains(words)),
        "{words}: {answer:?}"
    );
    for event in answer.events() {
        if event["verdict"] == "problem" {
            assert!(event["hint"].is_string(), "{event}");
        }
    }
}

#[test]
fn all_is_well_with_a_home_that_is_in_use() {
    let lab = Lab::new();
    let broker = Broker::start(BrokerOptions {
        settings: lab.settings(),
        ..BrokerOptions::default()
    });
    let url = format!("mqtts://localhost:{}", broker.tls_address().port());
    let ca = lab.file("ca.pem");
    let alice = Person::newcomer("alice", &url)
        .with(&["--ca".as_ref(), ca.as_os_str()])
        .settled();
    let bob = Person::settle("bob", &broker.url());
    assert_eq!(alice.run(&["send", "bob", "hello"]).code, 0);
    let answer = doctor(&alice);
    assert_eq!(answer.code, 0, "{answer:?}");
    assert_eq!(found(&answer, "problem"), [""; 0]);
    let good = found(&answer, "good").join("\n");
    for words in [
        "home: ",
        "keys: SHA256:",
        "is reached",
        "for localhost, 127.0.0.1 is valid until",
        "lets alice in",
        "gives out your current keys",
        "clock: ",
        "outbox: 0 messages queued, 1 sent",
        "contacts: 1 contacts, 0 verified",
        "disk: ",
    ] {
        assert!(good.contains(words), "{words}: {good}");
    }
    // People get the same, with what to do; and it works beside one that runs.
    let listening = alice.start(&["listen"]);
    listen_is_up(&listening);
    let spoken = alice.run(&["doctor"]);
    assert_eq!(spoken.code, 0, "{spoken:?}");
    assert!(spoken.stdout.contains("good  published  "), "{spoken:?}");
    assert!(
        spoken
            .stdout
            .contains("note  keys       the private keys lie unencrypted")
    );
    assert_eq!(bob.run(&["send", "alice", "still there?"]).code, 0);
    listening.expect("From bob: still there?");
}

fn listen_is_up(process: &sealpost_tests::Process) {
    process.expect_error("connected");
}

#[test]
fn who_has_never_connected_is_not_introduced_by_looking() {
    let broker = broker();
    let alice = Person::newcomer("alice", &broker.url());
    let init = ["keys", "init", "--no-passphrase", "--no-publish"];
    assert_eq!(alice.run(&init).code, 0);
    let answer = doctor(&alice);
    assert_eq!(answer.code, 0, "{answer:?}");
    // The name is still free.
    let other = Person::settle("alice", &broker.url());
    assert_eq!(other.run(&["listen", "--timeout", "1s"]).code, 0);
}

#[test]
fn each_broker_is_looked_at_by_itself() {
    let broker = broker();
    let dead = format!("mqtt://127.0.0.1:{}", free_port());
    let alice = Person::settle("alice", &broker.url());
    let alice = alice.with(&["--broker", &dead]);
    let answer = doctor(&alice);
    assert_problem(&answer, &format!("broker: {dead}"));
    assert!(found(&answer, "good").join("\n").contains("is reached"));
}

#[test]
fn a_certificate_that_is_not_trusted_is_told() {
    let (lab, other) = (Lab::new(), Lab::new());
    let broker = Broker::start(BrokerOptions {
        settings: lab.settings(),
        ..BrokerOptions::default()
    });
    let url = format!("mqtts://localhost:{}", broker.tls_address().port());
    let ca = other.file("ca.pem");
    let alice = Person::newcomer("alice", &url).with(&["--ca".as_ref(), ca.as_os_str()]);
    let init = ["keys", "init", "--no-passphrase", "--no-publish"];
    assert_eq!(alice.run(&init).code, 0);
    assert_problem(&doctor(&alice), "certificate");
}

#[test]
fn a_refused_login_is_told_with_the_reason() {
    let mut broker = broker();
    let alice = Person::settle("alice", &broker.url());
    let _ = broker.administer(&["users", "disable", "alice"]);
    assert_problem(&doctor(&alice), "login: the broker at");
    broker.process.kill();
    assert_problem(&doctor(&alice), "connection refused");
}

#[test]
fn files_that_others_can_read_and_keys_that_are_not_there_are_told() {
    let broker = broker();
    let alice = Person::settle("alice", &broker.url());
    let keystore = alice.home().join("keystore.json");
    let mode = |mode| {
        std::fs::set_permissions(&keystore, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(0o644);
    let answer = doctor(&alice);
    assert_problem(&answer, "keystore.json has mode 0644");
    mode(0o600);
    std::fs::rename(&keystore, alice.home().join("elsewhere")).unwrap();
    assert_problem(&doctor(&alice), "keys: ");
    let missing = Command::new(program("sealpost"))
        .args(["--user", "alice", "--home", "/no/such/home", "doctor"])
        .args(["--broker", &broker.url()])
        .output()
        .unwrap();
    assert_eq!(missing.status.code(), Some(1), "{missing:?}");
    let said = String::from_utf8_lossy(&missing.stdout).into_owned();
    assert!(said.contains("MEND  home       there is no home"), "{said}");
}

#[test]
fn locked_keys_are_no_problem_and_a_wrong_passphrase_is_one() {
    let broker = broker();
    let alice = Person::newcomer("alice", &broker.url());
    let right = ["--passphrase-command", "echo correct horse battery"];
    let init = [&right[..], &["keys", "init"]].concat();
    assert_eq!(alice.run(&init).code, 0);
    let answer = alice.run(&[&right[..], &["--json", "doctor"]].concat());
    assert_eq!(answer.code, 0, "{answer:?}");
    let wrong = ["--passphrase-command", "echo wrong", "--json", "doctor"];
    assert_problem(&alice.run(&wrong), "wrong passphrase");
}

#[test]
fn a_changed_identity_and_a_message_that_was_given_up_are_told() {
    let broker = broker();
    let alice = Person::settle("alice", &broker.url());
    let bob = Person::settle("bob", &broker.url());
    assert_eq!(alice.run(&["send", "bob", "hello"]).code, 0);
    drop(bob);
    let invitation = broker.administer(&["users", "reset-identity", "bob"]);
    let bob = Person::newcomer("bob", &broker.url());
    let _bob = bob.with(&["--invitation", invitation.trim()]).settled();
    assert_eq!(alice.run(&["send", "bob", "again"]).code, 4);
    let answer = doctor(&alice);
    assert_problem(&answer, "the identity of bob has changed");
    assert_problem(&answer, "a message to bob");
    let last: Value = answer.events().pop().unwrap();
    assert_eq!(last["event"], "error");
    assert_eq!(last["message"], "2 things must be mended");
}
