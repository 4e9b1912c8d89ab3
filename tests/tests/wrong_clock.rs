//! A clock that is an hour wrong, the sender's, the recipient's or the broker's: who is refused is told by how much, nothing is lost,
//! and everything goes when the clock is set right.

use std::sync::Arc;

use sealpost_tests::{Answer, Broker, BrokerOptions, Clock, Person, Process, Program};
use serde_json::{Value, json};

/// Seconds.
const HOUR: i64 = 3_600;
/// How a difference of an hour, and what it took until it was noticed, begins.
const AN_HOUR: [&str; 2] = ["360", "359"];

fn pair() -> (Broker, Person, Person) {
    let broker = Broker::start(BrokerOptions::default());
    let alice = Person::settle("alice", &broker.url());
    let bob = Person::settle("bob", &broker.url());
    (broker, alice, bob)
}

fn assert_says_the_difference(said: &str, ahead: bool) {
    let direction = match ahead {
        true => "s in the future by this broker's clock",
        false => "s ago by this broker's clock",
    };
    let hour = AN_HOUR
        .iter()
        .any(|hour| said.contains(&format!("made {hour}")));
    assert!(
        hour && said.contains(direction) && said.contains("set the clock"),
        "{said}"
    );
}

fn write(person: &Person, to: &str, text: &str) {
    let sent = person.run(&["send", "--wait", "sent", "--timeout", "30s", to, text]);
    assert_eq!(sent.code, 0, "{sent:?}");
}

fn texts(events: &[Value]) -> Vec<&str> {
    let messages = events.iter().filter(|event| event["event"] == "message");
    messages
        .map(|event| event["text"].as_str().unwrap())
        .collect()
}

fn received(person: &Person, count: &str) -> Answer {
    let received = person.run(&["--json", "listen", "--count", count, "--timeout", "30s"]);
    assert_eq!(received.code, 0, "{received:?}");
    received
}

#[test]
fn a_sender_with_a_wrong_clock_is_told_the_difference_and_what_was_written_goes_when_it_is_right() {
    let (_broker, mut alice, bob) = pair();
    let clock = Arc::new(Clock::new());
    alice.live_by(&clock);
    for (offset, number) in [(HOUR, 1), (-HOUR, 3)] {
        clock.set(offset);
        let sent = alice.run(&["send", "bob", &number.to_string()]);
        assert_eq!(sent.code, 5, "{sent:?}");
        assert_says_the_difference(&sent.stderr, offset > 0);
        assert!(sent.stderr.contains("The message is kept"), "{sent:?}");
        clock.set(0);
        write(&alice, "bob", &(number + 1).to_string());
    }
    assert_eq!(texts(&received(&bob, "4").events()), ["1", "2", "3", "4"]);
}

#[test]
fn a_recipient_with_a_wrong_clock_is_told_the_difference_and_gets_everything_when_it_is_right() {
    let (_broker, alice, mut bob) = pair();
    let clock = Arc::new(Clock::new());
    bob.live_by(&clock);
    for (offset, text) in [(HOUR, "ahead"), (-HOUR, "behind")] {
        clock.set(offset);
        write(&alice, "bob", text);
        let refused = bob.run(&["listen", "--timeout", "10s"]);
        assert_eq!(refused.code, 5, "{refused:?}");
        assert_says_the_difference(&refused.stderr, offset > 0);
        clock.set(0);
        assert_eq!(texts(&received(&bob, "1").events()), [text]);
    }
}

#[test]
fn the_broker_with_a_wrong_clock_refuses_everybody_and_takes_everything_when_it_is_right() {
    let clock = Arc::new(Clock::new());
    let broker = Broker::start(BrokerOptions {
        clock: Some(Arc::clone(&clock)),
        ..BrokerOptions::default()
    });
    let alice = Person::settle("alice", &broker.url());
    let bob = Person::settle("bob", &broker.url());
    let listen = bob.start(&["--json", "listen"]);
    listen.expect("connected");
    for (offset, text) in [(HOUR, "written ahead"), (-HOUR, "written behind")] {
        clock.set(offset);
        let sent = alice.run(&["send", "bob", text]);
        // The broker looks at its clock once a second.
        if sent.code != 0 {
            assert_eq!(sent.code, 5, "{sent:?}");
            assert_says_the_difference(&sent.stderr, offset < 0);
        }
        clock.set(0);
        let until = std::time::Instant::now() + sealpost_tests::PATIENCE;
        while alice.run(&["listen", "--timeout", "1s"]).code != 0 {
            assert!(std::time::Instant::now() < until);
        }
        listen.expect(text);
    }
}

/// Both ends are connected when their clocks jump, and one loses its connection meanwhile.
fn jumps(how: &[&str], connected: impl Fn(&Process)) {
    let (mut broker, mut alice, mut bob) = pair();
    let (hers, his) = (Arc::new(Clock::new()), Arc::new(Clock::new()));
    write(&alice, "bob", "hello");
    write(&bob, "alice", "hello");
    let right = Person::settle("carol", &broker.url());
    alice.live_by(&hers);
    bob.live_by(&his);
    let mut alices = alice.start(how);
    let mut bobs = bob.start(how);
    connected(&alices);
    connected(&bobs);
    let mut number = 0;
    for (at_alice, at_bob) in [
        (HOUR, 0),
        (HOUR, HOUR),
        (-HOUR, HOUR),
        (-HOUR, 0),
        (0, -HOUR),
    ] {
        hers.set(at_alice);
        his.set(at_bob);
        number += 1;
        write(&right, "bob", &format!("carol {number}"));
        bobs.expect(&format!("carol {number}"));
        // Queued by a process of the same clock, carried by the one that is connected.
        let sent = alice.run(&[
            "send",
            "bob",
            &format!("alice {number}"),
            "--wait",
            "delivered",
            "--timeout",
            "30s",
        ]);
        assert_eq!(sent.code, 0, "{sent:?}");
        bobs.expect(&format!("alice {number}"));
    }
    hers.set(HOUR);
    his.set(-HOUR);
    broker.kill();
    let sent = alice.run(&["send", "--wait", "queued", "bob", "while refused"]);
    assert_eq!(sent.code, 0, "{sent:?}");
    broker.restart();
    assert_says_the_difference(&alices.expect("by this broker's clock"), true);
    assert_says_the_difference(&bobs.expect("by this broker's clock"), false);
    hers.set(0);
    his.set(0);
    bobs.expect("while refused");
    let sent = alice.run(&[
        "send",
        "bob",
        "after",
        "--wait",
        "delivered",
        "--timeout",
        "60s",
    ]);
    assert_eq!(sent.code, 0, "{sent:?}");
    assert!(alices.terminate().success(), "{:?}", alices.stderr());
    assert!(bobs.terminate().success(), "{:?}", bobs.stderr());
}

#[test]
fn listeners_whose_clocks_jump_go_on_and_come_back_when_they_are_right() {
    jumps(&["--json", "listen"], |listen| {
        listen.expect("\"connected\"");
    });
}

#[test]
fn a_daemon_with_a_wrong_clock_says_so_and_is_there_when_it_is_right() {
    let (broker, mut alice, bob) = pair();
    let clock = Arc::new(Clock::new());
    alice.live_by(&clock);
    clock.set(HOUR);
    let mut daemon = alice.start(&["daemon"]);
    daemon.expect_error("listening at ");
    let mut program = Program::of(&alice);
    program.subscribe("auto");
    let event = program.expect(|line| line["params"]["state"] == "disconnected");
    assert_says_the_difference(&event["params"]["reason"].to_string(), true);
    let sent = program.call("send", json!({ "to": "bob", "text": "by a wrong clock" }));
    let id = sent["result"]["id"].clone();
    assert!(id.is_string(), "{sent}");
    clock.set(0);
    assert_eq!(program.event("sent")["id"], id);
    assert_eq!(texts(&received(&bob, "1").events()), ["by a wrong clock"]);
    assert!(daemon.terminate().success());
    drop(broker);
}
