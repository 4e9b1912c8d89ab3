//! What is written for programs is what the checked-in schemas say. [`sealpost_tests::Answer::events`] and the tests of the
//! daemon hold every line of theirs to it; here are the commands that no other test reads.

use std::collections::BTreeSet;

use sealpost_tests::{Answer, Broker, BrokerOptions, Person, Schema};
use serde_json::json;

#[test]
fn every_command_writes_events_of_the_schema() {
    let broker = Broker::start(BrokerOptions::default());
    let alice = Person::newcomer("alice", &broker.url());
    let bob = Person::settle("bob", &broker.url());
    let mut kinds = BTreeSet::new();
    let mut see = |answer: Answer, code: i32| {
        assert_eq!(answer.code, code, "{answer:?}");
        for event in answer.events() {
            kinds.insert(event["event"].as_str().unwrap().to_owned());
        }
        answer
    };
    let init = ["--json", "keys", "init", "--no-passphrase"];
    see(alice.run(&init), 0);
    see(alice.run(&["--json", "keys", "show"]), 0);
    see(alice.run(&["--json", "keys", "rotate"]), 0);
    see(alice.run(&["--json", "agent", "status"]), 0);
    see(alice.run(&["--json", "send", "bob", "one"]), 0);
    let two = [
        "--json",
        "send",
        "bob",
        "two",
        "--wait",
        "delivered",
        "--timeout",
        "1s",
    ];
    see(alice.run(&two), 6);
    see(alice.run(&["--json", "outbox"]), 0);
    see(alice.run(&["--json", "send", "nobody", "x"]), 1);
    see(alice.run(&["--json", "contacts"]), 0);
    let zeros = "0".repeat(60);
    let number = ["--json", "contacts", "verify", "bob", "--number", &zeros];
    see(alice.run(&number), 4);
    let listen = ["--json", "listen", "--timeout", "20s", "--count", "1"];
    see(bob.run(&listen), 0);
    let exec = [&listen[..], &["--exec", "test $SEALPOST_ATTEMPT = 2"]].concat();
    see(bob.run(&exec), 0);
    let link = see(bob.run(&["--json", "invite"]), 0);
    let link = link.events()[0]["link"].as_str().unwrap().to_owned();
    see(alice.run(&["--json", "add", &link]), 0);
    see(alice.run(&["--json", "listen", "--since", "1h"]), 0);
    let seen: Vec<&str> = kinds.iter().map(String::as_str).collect();
    for kind in [
        "agent",
        "contact",
        "contact_link",
        "error",
        "handled",
        "keys",
        "message",
        "queued",
        "sent",
        "status",
        "unhandled",
    ] {
        assert!(seen.contains(&kind), "{kind}: {seen:?}");
    }
}

#[test]
fn times_have_three_decimals_in_every_line() {
    let alice = Person::newcomer("alice", "mqtt://127.0.0.1:1");
    let init = ["keys", "init", "--no-passphrase", "--no-publish"];
    assert_eq!(alice.run(&init).code, 0);
    let shown = alice.run(&["--json", "keys", "show"]);
    for name in ["\"expires\":", "\"created\":"] {
        let (_, rest) = shown.stdout.split_once(name).unwrap();
        let number: String = rest
            .chars()
            .take_while(|c| c.is_ascii_digit() || *c == '.')
            .collect();
        let (_, decimals) = number.split_once('.').unwrap();
        assert_eq!(decimals.len(), 3, "{name}{number}");
    }
}

#[test]
fn the_schemas_refuse_what_is_not_written() {
    for line in [
        json!({ "event": "sent", "to": "bob", "id": "i" }),
        json!({ "event": "sent", "to": "bob", "id": "i", "ts": "1.000" }),
        json!({ "event": "sent", "to": "bob", "id": "i", "ts": 1.0, "more": 1 }),
        json!({ "event": "hello" }),
        json!({}),
    ] {
        let fits = std::panic::catch_unwind(|| Schema::Events.assert_fits(&line));
        assert!(fits.is_err(), "{line}");
    }
}
