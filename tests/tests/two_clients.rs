//! One user with two clients at once: on one home the second is turned away; two homes are two installations, or one session that
//! each takes from the other. Whatever it is, it is said, and no mail is lost.

use std::path::Path;
use std::process::Command;

use sealpost_tests::{Broker, BrokerOptions, Person, Process, now};
use serde_json::Value;

fn pair() -> (Broker, Person, Person) {
    let broker = Broker::start(BrokerOptions::default());
    let alice = Person::settle("alice", &broker.url());
    let bob = Person::settle("bob", &broker.url());
    (broker, alice, bob)
}

/// The same person with a copy of the home: all of it, or the keys alone.
fn copy(of: &Person, broker: &Broker, to: &Path, all: bool) -> Person {
    let home = to.join("copy");
    let from = match all {
        true => of.home().to_owned(),
        false => {
            std::fs::create_dir(&home).unwrap();
            of.home().join("keystore.json")
        }
    };
    let copied = Command::new("cp")
        .args(["-r", "-p"])
        .arg(from)
        .arg(&home)
        .status();
    assert!(copied.unwrap().success());
    Person::newcomer(of.name(), &broker.url()).living_at(home)
}

fn listen(person: &Person) -> Process {
    let listen = person.start(&["--json", "listen"]);
    listen.expect("connected");
    listen
}

fn events(process: &Process) -> Vec<Value> {
    let lines = process.stdout();
    lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn texts(process: &Process) -> Vec<String> {
    let events = events(process).into_iter();
    events
        .filter(|event| event["event"] == "message")
        .map(|event| event["text"].as_str().unwrap().to_owned())
        .collect()
}

fn alarms(process: &Process) -> Vec<Value> {
    let events = events(process).into_iter();
    events
        .filter(|event| event["event"] == "alarm")
        .map(|event| event["cause"].clone())
        .collect()
}

fn write(person: &Person, to: &str, text: &str) {
    let sent = person.run(&["send", to, text]);
    assert_eq!(sent.code, 0, "{sent:?}");
}

#[test]
fn one_home_has_one_receiver_and_every_other_is_told_which() {
    let (_broker, alice, bob) = pair();
    for first in [&["daemon"][..], &["listen"], &["chat"]] {
        let mut first = bob.start(first);
        first.expect_error("");
        if first.stdout().is_empty() {
            write(&alice, "bob", "are you there?");
        }
        for second in [&["listen"][..], &["chat"], &["daemon"]] {
            let refused = bob.run(second);
            assert_eq!(refused.code, 1, "{refused:?}");
            let holder = format!("(process {}) is already receiving", first.pid());
            assert!(refused.stderr.contains(&holder), "{refused:?}");
            assert!(refused.stderr.contains("send works beside"), "{refused:?}");
            assert_eq!(refused.stdout, "");
        }
        write(&bob, "alice", "beside it");
        assert!(first.terminate().success(), "{:?}", first.stderr());
    }
}

#[test]
fn a_copied_home_takes_the_session_over_which_is_said_and_costs_no_mail() {
    let (broker, alice, bob) = pair();
    let elsewhere = tempfile::tempdir().unwrap();
    let copy = copy(&bob, &broker, elsewhere.path(), true);
    let count = 60;
    let mut send = alice.start(&[
        "send",
        "bob",
        "--lines",
        "--wait",
        "sent",
        "--timeout",
        "60s",
    ]);
    let mut shown: [Vec<String>; 2] = Default::default();
    let mut running = listen(&bob);
    for turn in 1..=6 {
        for number in (turn - 1) * count / 6..turn * count / 6 {
            send.say(&number.to_string());
        }
        let next = listen(if turn % 2 == 0 { &bob } else { &copy });
        let status = running.wait();
        assert_eq!(status.code(), Some(1), "{:?}", running.stderr());
        let last = events(&running).pop().unwrap();
        assert_eq!(last["event"], "error", "{last}");
        let (message, hint) = (last["message"].to_string(), last["hint"].to_string());
        assert!(message.contains("took this session over"), "{last}");
        assert!(hint.contains("perhaps a copy of it"), "{last}");
        shown[(turn + 1) % 2].extend(texts(&running));
        running = next;
    }
    send.hush();
    assert!(send.wait().success(), "{:?}", send.stderr());
    let all: Vec<usize> = (0..count).collect();
    // The broker does not hear every acknowledgement of who is cut off, so some come to both; nothing else comes twice.
    running.expect(&format!("\"text\":\"{}\"", count - 1));
    running.terminate();
    shown[0].extend(texts(&running));
    let mut union = Vec::new();
    for texts in &shown {
        let numbers: Vec<usize> = texts.iter().map(|text| text.parse().unwrap()).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        union.extend(numbers);
    }
    union.sort_unstable();
    union.dedup();
    assert_eq!(union, all);
}

#[test]
fn two_installations_with_the_same_keys_both_get_all_mail_until_one_makes_a_new_key_and_both_say_so_once()
 {
    let (broker, alice, bob) = pair();
    let elsewhere = tempfile::tempdir().unwrap();
    let copy = copy(&bob, &broker, elsewhere.path(), false);
    let (mut one, mut two) = (listen(&bob), listen(&copy));
    write(&alice, "bob", "to both");
    one.expect("to both");
    two.expect("to both");
    assert!(alarms(&one).is_empty() && alarms(&two).is_empty());

    let rotated = bob.run(&["keys", "rotate"]);
    assert_eq!(rotated.code, 0, "{rotated:?}");
    two.expect("own_keys_copied");
    write(&alice, "bob", "to the new key");
    one.expect("to the new key");
    let refused: Value = serde_json::from_str(&two.expect("\"refused\"")).unwrap();
    assert_eq!(refused["cause"], "unknown_key", "{refused}");

    // Numbers of bundles follow the clock, in seconds.
    let shown = bob.run(&["--json", "keys", "show"]).events();
    let number = shown[0]["seq"].as_u64().unwrap();
    while now().millis() / 1_000 <= number {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let rotated = copy.run(&["keys", "rotate"]);
    assert_eq!(rotated.code, 0, "{rotated:?}");
    one.expect("own_keys_copied");
    write(&alice, "bob", "to the newest key");
    two.expect("to the newest key");
    // Neither fights for the name: who alarmed leaves the broker's word alone.
    for _ in 0..3 {
        write(&alice, "bob", "and again");
    }
    two.expect("and again");
    assert!(one.terminate().success());
    assert!(two.terminate().success());
    assert_eq!((alarms(&one).len(), alarms(&two).len()), (1, 1));
    assert_eq!(texts(&one).len(), 2);
}

#[test]
fn new_keys_for_a_name_that_others_hold_are_refused_with_the_reason() {
    let (broker, _alice, bob) = pair();
    let other = Person::newcomer("bob", &broker.url());
    let made = other.run(&["keys", "init", "--no-passphrase"]);
    assert_eq!(made.code, 5, "{made:?}");
    assert!(
        made.stderr.contains("belongs to another identity"),
        "{made:?}"
    );
    let listened = other.run(&["listen", "--timeout", "5s"]);
    assert_eq!(listened.code, 5, "{listened:?}");
    write(&bob, "alice", "still bob");
}
