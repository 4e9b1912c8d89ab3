//! The outbox between real processes: what it took over arrives once and in order, whoever is killed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::RngExt;
use sealpost_tests::{Broker, BrokerOptions, Person, Process};
use serde_json::Value;

/// Milliseconds between two kills: long enough to connect, short enough to be in the middle.
const LIFE: std::ops::Range<u64> = 50..500;
/// So many are written without a pause, and the pause between: five thousand take half a minute.
const SLICE: usize = 5;
const PAUSE: Duration = Duration::from_millis(30);
/// How long it may all take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);

fn messages() -> usize {
    match std::env::var("SEALPOST_OUTBOX_MESSAGES") {
        Ok(messages) => messages
            .parse()
            .expect("SEALPOST_OUTBOX_MESSAGES is a number"),
        Err(_) => 5_000,
    }
}

/// Two who have written to each other.
fn acquainted(broker: &Broker) -> (Person, Person) {
    let alice = Person::settle("alice", &broker.url());
    let bob = Person::settle("bob", &broker.url());
    for (from, to) in [(&alice, &bob), (&bob, &alice)] {
        let sent = from.run(&["send", to.name(), "hello"]);
        assert_eq!(sent.code, 0, "{sent:?}");
        let received = to.run(&["listen", "--count", "1", "--timeout", "30s"]);
        assert_eq!(received.code, 0, "{received:?}");
    }
    (alice, bob)
}

/// The texts that a listener printed.
fn texts(listen: &Process) -> Vec<String> {
    let lines = listen.stdout();
    let events = lines
        .iter()
        // Killed in the middle of a line.
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events
        .filter(|event| event["event"] == "message")
        .map(|event| event["text"].as_str().unwrap().to_owned())
        .collect()
}

fn waiting(person: &Person) -> usize {
    person.run(&["--json", "outbox"]).events().len()
}

#[test]
fn every_message_crosses_once_and_in_order_while_either_client_and_the_broker_are_killed() {
    let mut broker = Broker::start(BrokerOptions::default());
    let (alice, bob) = acquainted(&broker);
    let count = messages();
    let mut send = alice.start(&["send", "bob", "--lines", "--wait", "queued"]);
    // Written while they cross.
    let writer = std::thread::spawn(move || {
        for number in 0..count {
            send.say(&number.to_string());
            if number % SLICE == 0 {
                std::thread::sleep(PAUSE);
            }
        }
        send.hush();
        assert!(send.wait().success());
    });

    let listen = |person: &Person| person.start(&["--json", "listen"]);
    let (mut from, mut to) = (listen(&alice), listen(&bob));
    let mut shown: Vec<Vec<String>> = Vec::new();
    let mut kills = [0; 3];
    let begun = Instant::now();
    let mut recent = VecDeque::new();
    loop {
        std::thread::sleep(Duration::from_millis(rand::rng().random_range(LIFE)));
        let victim = rand::rng().random_range(0..3);
        kills[victim] += 1;
        match victim {
            0 => from.kill(),
            1 => to.kill(),
            _ => {
                broker.kill();
                broker.restart();
            }
        }
        // Who found the broker away at its start has ended; whoever was connected comes back by itself.
        if victim == 0 || from.has_ended() {
            from = listen(&alice);
        }
        if victim == 1 || to.has_ended() {
            to.wait();
            shown.push(texts(&to));
            to = listen(&bob);
        }
        let left = waiting(&alice);
        recent.push_back(left);
        if left == 0 && writer.is_finished() {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{recent:?} {kills:?}");
    }
    writer.join().unwrap();
    from.terminate();
    to.terminate();
    shown.push(texts(&to));
    println!("{count} messages, kills of sender, recipient, broker: {kills:?}");

    // Killed between printing and noting it, a listener prints once more what it printed last.
    let mut all: Vec<String> = Vec::new();
    for mut texts in shown {
        if !texts.is_empty() && texts.first() == all.last() {
            texts.remove(0);
        }
        all.extend(texts);
    }
    let expected: Vec<String> = (0..count).map(|number| number.to_string()).collect();
    assert_eq!(all, expected);
}

#[test]
fn a_send_beside_a_listen_is_carried_by_it_and_sees_the_receipt() {
    let broker = Broker::start(BrokerOptions::default());
    let (alice, bob) = acquainted(&broker);
    let (mut hers, mut his) = (
        alice.start(&["--json", "listen"]),
        bob.start(&["--json", "listen"]),
    );
    hers.expect("connected");
    his.expect("connected");
    for (from, to) in [(&alice, "bob"), (&bob, "alice")] {
        let sent = from.run(&[
            "--json",
            "send",
            to,
            "hi",
            "--wait",
            "delivered",
            "--timeout",
            "30s",
        ]);
        assert_eq!(sent.code, 0, "{sent:?}");
        let events = sent.events();
        let kinds: Vec<&str> = events
            .iter()
            .map(|event| event["event"].as_str().unwrap())
            .collect();
        assert_eq!(kinds, ["queued", "delivered"]);
        assert_eq!(waiting(from), 0);
    }
    hers.terminate();
    his.terminate();
}

#[test]
fn a_message_written_without_a_broker_goes_when_there_is_one() {
    let mut broker = Broker::start(BrokerOptions::default());
    let (alice, bob) = acquainted(&broker);
    let before = waiting(&alice);
    broker.kill();
    let sent = alice.run(&["send", "bob", "written offline"]);
    assert_eq!(sent.code, 0, "{sent:?}");
    assert!(sent.stderr.contains("The message is kept"), "{sent:?}");
    assert_eq!(waiting(&alice), before + 1);
    broker.restart();
    let listened = alice.run(&["listen", "--timeout", "2s"]);
    assert_eq!(listened.code, 0, "{listened:?}");
    let received = bob.run(&["listen", "--count", "1", "--timeout", "30s"]);
    assert_eq!(received.stdout, "From alice: written offline");
}

#[test]
fn who_wants_no_more_than_to_have_it_queued_does_not_wait_for_a_broker_that_is_away() {
    let mut broker = Broker::start(BrokerOptions::default());
    let (alice, _bob) = acquainted(&broker);
    broker.kill();
    let sent = alice.run(&[
        "send",
        "--wait",
        "queued",
        "--timeout",
        "1h",
        "bob",
        "later",
    ]);
    assert_eq!(sent.code, 0, "{sent:?}");
}

#[test]
fn a_stranger_gets_no_receipt_until_accepted_and_then_for_what_came_before_too() {
    let broker = Broker::start(BrokerOptions::default());
    let alice = Person::settle("alice", &broker.url());
    let bob = Person::settle("bob", &broker.url());
    let sent = alice.run(&["send", "bob", "hello, stranger"]);
    assert_eq!(sent.code, 0, "{sent:?}");
    for _ in 0..2 {
        let _ = bob.run(&["listen", "--timeout", "1s"]);
        let _ = alice.run(&["listen", "--timeout", "1s"]);
    }
    assert_eq!(waiting(&alice), 1, "bob has not accepted alice");
    let accepted = bob.run(&["contacts", "accept", "alice"]);
    assert_eq!(accepted.code, 0, "{accepted:?}");
    let mut listen = alice.start(&["--json", "listen"]);
    listen.expect("connected");
    let _ = bob.run(&["listen", "--timeout", "1s"]);
    listen.expect(r#""event":"delivered""#);
    listen.terminate();
    assert_eq!(waiting(&alice), 0);
}

#[test]
fn what_needs_a_decision_is_kept_goes_after_it_and_can_be_forgotten() {
    let broker = Broker::start(BrokerOptions::default());
    let alice = Person::settle("alice", &broker.url());
    let sent = alice.run(&["--json", "send", "bob", "for bob, who is not there yet"]);
    assert_eq!(sent.code, 1, "{sent:?}");
    let sent = alice.run(&["--json", "send", "carol", "for carol, who never comes"]);
    assert_eq!(sent.code, 1, "{sent:?}");
    let id = sent.events()[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(alice.run(&["outbox", "drop", &id]).code, 0);
    assert_eq!(alice.run(&["outbox", "drop", &id]).code, 1);
    assert_eq!(waiting(&alice), 1);
    let bob = Person::settle("bob", &broker.url());
    assert_eq!(alice.run(&["outbox", "retry", "all"]).code, 0);
    let _ = alice.run(&["listen", "--timeout", "2s"]);
    let received = bob.run(&["listen", "--count", "1", "--timeout", "30s"]);
    assert_eq!(received.stdout, "From alice: for bob, who is not there yet");
}
