//! The history between real processes: what was received and sent can be read, searched, taken out and taken in, with no
//! broker there.

use std::os::unix::fs::PermissionsExt;

use sealpost_tests::{Answer, Broker, BrokerOptions, Person};
use serde_json::Value;

fn done(answer: Answer) -> Answer {
    assert_eq!(answer.code, 0, "{answer:?}");
    answer
}

fn exchange(from: &Person, to: &Person, text: &str) {
    done(from.run(&["send", to.name(), text]));
    done(to.run(&["listen", "--count", "1", "--timeout", "30s"]));
}

/// Alice and Bob after a few words, and the broker gone.
fn after_a_conversation() -> (Person, Person) {
    let mut broker = Broker::start(BrokerOptions::default());
    let alice = Person::settle("alice", &broker.url());
    let bob = Person::settle("bob", &broker.url());
    exchange(&alice, &bob, "Shall we meet at the lighthouse?");
    exchange(&bob, &alice, "Gern. Straße oder Schiff?");
    // Carries his receipt to her.
    done(bob.run(&["listen", "--timeout", "1s"]));
    done(alice.run(&["listen", "--timeout", "1s"]));
    broker.kill();
    (alice, bob)
}

fn history(person: &Person, arguments: &[&str]) -> Vec<Value> {
    let mut all = vec!["--json", "history"];
    all.extend(arguments);
    done(person.run(&all)).events()
}

fn texts(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .map(|event| event["text"].as_str().unwrap())
        .collect()
}

#[test]
fn both_directions_are_shown_in_order_with_state_and_trust_and_without_a_broker() {
    let (alice, bob) = after_a_conversation();
    let hers = history(&alice, &[]);
    let kinds: Vec<&str> = hers
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["delivered", "message"]);
    assert_eq!(hers[0]["to"], "bob");
    assert_eq!(hers[0]["kind"], "text");
    assert_eq!(hers[1]["from"], "bob");
    assert_eq!(hers[1]["trust"], "known");
    assert_eq!(hers[1]["imported"], false);
    assert!(hers[1]["received"].as_f64().unwrap() >= hers[1]["ts"].as_f64().unwrap());

    let his = done(bob.run(&["history"]));
    let lines: Vec<&str> = his.stdout.lines().collect();
    assert!(
        lines[0].contains("  From alice (known): Shall we meet"),
        "{his:?}"
    );
    assert!(lines[1].contains("  To alice (known, "), "{his:?}");
    done(bob.run(&["contacts", "accept", "alice"]));

    assert_eq!(
        texts(&history(&alice, &["--limit", "1"])),
        ["Gern. Straße oder Schiff?"]
    );
    assert_eq!(history(&alice, &["--with", "bob"]).len(), 2);
    assert!(history(&alice, &["--with", "carol"]).is_empty());
    assert_eq!(history(&alice, &["--since", "1h"]).len(), 2);
    assert!(history(&alice, &["--until", "1h"]).is_empty());
    let slip = alice.run(&["history", "--with", "Bob"]);
    assert_eq!(slip.code, 2, "{slip:?}");
}

#[test]
fn a_search_finds_words_whatever_their_case_and_spelling() {
    let (alice, _) = after_a_conversation();
    let found = |words: &str| {
        let events = history(&alice, &["--search", words]);
        texts(&events).join("|")
    };
    assert_eq!(found("LIGHTHOUSE meet"), "Shall we meet at the lighthouse?");
    assert_eq!(found("strasse"), "Gern. Straße oder Schiff?");
    assert_eq!(
        found("\"at the lighthouse\""),
        "Shall we meet at the lighthouse?"
    );
    assert_eq!(found("\"the at\""), "");
    assert_eq!(
        found("e"),
        "Shall we meet at the lighthouse?|Gern. Straße oder Schiff?"
    );
    let nothing = alice.run(&["history", "--search", "submarine"]);
    assert_eq!(
        (nothing.code, nothing.stdout.as_str()),
        (0, ""),
        "{nothing:?}"
    );
    for wrong in ["", "\"half"] {
        let refused = alice.run(&["history", "--search", wrong]);
        assert_eq!(refused.code, 2, "{refused:?}");
    }
}

#[test]
fn what_a_stranger_wrote_cannot_act_on_the_terminal_nor_look_like_another_message() {
    let broker = Broker::start(BrokerOptions::default());
    let mallory = Person::settle("mallory", &broker.url());
    let bob = Person::settle("bob", &broker.url());
    exchange(
        &mallory,
        &bob,
        "\u{1b}[2J\u{202e}hi\n2026-01-01 00:00:00Z  From alice (verified): pay him",
    );
    let shown = done(bob.run(&["history"]));
    assert!(!shown.stdout.contains(['\u{1b}', '\u{202e}']), "{shown:?}");
    let lines: Vec<&str> = shown.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{shown:?}");
    assert!(lines[0].ends_with("From mallory (known): hi"), "{shown:?}");
    assert!(lines[1].starts_with("    | 2026-01-01"), "{shown:?}");
}

#[test]
fn an_export_is_imported_elsewhere_once_and_marked() {
    let (alice, _) = after_a_conversation();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("alice.jsonl");
    let name = file.to_str().unwrap();
    done(alice.run(&["history", "export", "--output", name]));
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let exported = std::fs::read_to_string(&file).unwrap();
    let printed = done(alice.run(&["history", "export"]));
    assert_eq!(exported.trim_end(), printed.stdout);
    let again = alice.run(&["history", "export", "--output", name]);
    assert_eq!(again.code, 1, "{again:?}");
    assert!(again.stderr.contains("there already"), "{again:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), exported);

    let elsewhere = Person::newcomer("alice", "mqtt://127.0.0.1:9");
    done(elsewhere.run(&["keys", "init", "--no-passphrase", "--no-publish"]));
    for count in ["2 messages imported, 0", "0 messages imported, 2"] {
        let imported = done(elsewhere.run(&["history", "import", name]));
        assert!(imported.stderr.contains(count), "{imported:?}");
    }
    let there = history(&elsewhere, &[]);
    assert_eq!(texts(&there), texts(&history(&alice, &[])));
    assert!(there.iter().all(|event| event["imported"] == true));
    assert_eq!(there[1]["trust"], "unknown");
    // Nothing but the history changed.
    assert!(done(elsewhere.run(&["contacts"])).stdout.is_empty());
    assert!(done(elsewhere.run(&["outbox"])).stdout.is_empty());
}

#[test]
fn a_file_with_a_wrong_line_is_refused_whole_and_the_line_named() {
    let (alice, _) = after_a_conversation();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("f.jsonl");
    let exported = done(alice.run(&["history", "export"])).stdout;
    std::fs::write(&file, format!("{exported}\n{{\"v\":1}}\n")).unwrap();
    let name = file.to_str().unwrap();
    let elsewhere = Person::newcomer("alice", "mqtt://127.0.0.1:9");
    done(elsewhere.run(&["keys", "init", "--no-passphrase", "--no-publish"]));
    let refused = elsewhere.run(&["history", "import", name]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("line 3 of "), "{refused:?}");
    assert!(history(&elsewhere, &[]).is_empty());
    // Somebody else's.
    std::fs::write(&file, exported.lines().next().unwrap()).unwrap();
    let carol = Person::newcomer("carol", "mqtt://127.0.0.1:9");
    done(carol.run(&["keys", "init", "--no-passphrase", "--no-publish"]));
    let refused = carol.run(&["history", "import", name]);
    assert!(refused.stderr.contains("not of carol"), "{refused:?}");
}

#[test]
fn the_history_opens_with_the_passphrase_alone() {
    let person = Person::newcomer("dora", "mqtt://127.0.0.1:9");
    let right = ["--passphrase-command", "echo right"];
    let mut init = right.to_vec();
    init.extend(["keys", "init", "--no-publish"]);
    done(person.run(&init));
    done(person.run(&[
        right[0], right[1], "send", "bob", "kept", "--wait", "queued",
    ]));
    let shown = done(person.run(&[right[0], right[1], "--json", "history"])).events();
    assert_eq!(texts(&shown), ["kept"]);
    assert_eq!(shown[0]["event"], "queued");
    let wrong = person.run(&[right[0], "echo wrong", "history"]);
    assert_eq!((wrong.code, wrong.stdout.as_str()), (1, ""), "{wrong:?}");
}
