//! A client whose disk is full: it says so, takes nothing over that it cannot keep, and goes on by itself when there is room.

use sealpost_tests::{Broker, BrokerOptions, Person, Program, SmallDisk};
use serde_json::{Value, json};

/// Room for keys, a store and its journal.
const MIB: usize = 8;

/// Somebody whose home is on that disk.
fn on(disk: &SmallDisk, name: &str, broker: &Broker) -> Person {
    let home = disk.path().join(name);
    Person::newcomer(name, &broker.url())
        .living_at(home)
        .settled()
}

fn texts(events: &[Value]) -> Vec<&str> {
    let messages = events.iter().filter(|event| event["event"] == "message");
    messages
        .map(|event| event["text"].as_str().unwrap())
        .collect()
}

#[test]
fn a_send_on_a_full_disk_fails_with_the_reason_and_keeps_all_or_nothing() {
    let Some(disk) = SmallDisk::mount(MIB) else {
        return;
    };
    let broker = Broker::start(BrokerOptions::default());
    let alice = on(&disk, "alice", &broker);
    let bob = Person::settle("bob", &broker.url());
    let sent = alice.run(&["send", "bob", "before"]);
    assert_eq!(sent.code, 0, "{sent:?}");

    disk.fill(0);
    let sent = alice.run(&["send", "bob", "on a full disk"]);
    assert_eq!(sent.code, 1, "{sent:?}");
    assert!(sent.stderr.contains("disk is full"), "{sent:?}");
    assert!(!sent.stderr.contains("is kept"), "{sent:?}");

    disk.empty();
    let outbox = alice.run(&["--json", "outbox"]);
    assert_eq!(outbox.events().len(), 1, "{outbox:?}");
    let sent = alice.run(&["send", "bob", "after"]);
    assert_eq!(sent.code, 0, "{sent:?}");
    let received = bob.run(&["--json", "listen", "--count", "2", "--timeout", "30s"]);
    assert_eq!(texts(&received.events()), ["before", "after"]);
}

#[test]
fn of_a_pipe_that_fills_the_disk_what_was_said_to_be_queued_is_there_and_nothing_else() {
    let Some(disk) = SmallDisk::mount(MIB) else {
        return;
    };
    let broker = Broker::start(BrokerOptions::default());
    let alice = on(&disk, "alice", &broker);
    let mut send = alice.start(&["--json", "send", "bob", "--lines", "--wait", "queued"]);
    disk.fill(2);
    let line = "x".repeat(2_000);
    let mut said = 0;
    while !send.has_ended() && said < 4_000 {
        said += 1;
        if !send.try_say(&format!("{said} {line}")) {
            break;
        }
    }
    let status = send.wait();
    assert_eq!(status.code(), Some(1), "{:?}", send.stderr());
    let events: Vec<Value> = send
        .stdout()
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let queued: Vec<&Value> = events
        .iter()
        .filter(|event| event["event"] == "queued")
        .map(|event| &event["id"])
        .collect();
    assert!(!queued.is_empty() && queued.len() < said);
    let error = events.last().unwrap();
    assert_eq!(error["event"], "error");
    assert!(
        error["message"].as_str().unwrap().contains("disk is full"),
        "{error}"
    );

    disk.empty();
    let outbox = alice.run(&["--json", "outbox"]).events();
    let kept: Vec<&Value> = outbox.iter().map(|event| &event["id"]).collect();
    assert_eq!(kept, queued);
}

#[test]
fn a_listener_on_a_full_disk_says_so_and_the_next_one_gets_everything_once() {
    let Some(disk) = SmallDisk::mount(MIB) else {
        return;
    };
    let broker = Broker::start(BrokerOptions::default());
    let alice = Person::settle("alice", &broker.url());
    let bob = on(&disk, "bob", &broker);
    let sent = alice.run(&["send", "bob", "0"]);
    assert_eq!(sent.code, 0, "{sent:?}");
    let mut listen = bob.start(&["--json", "listen"]);
    listen.expect("\"text\":\"0\"");
    disk.fill(0);
    let big = "x".repeat(20_000);
    let count = 40;
    for number in 1..=count {
        let sent = alice.run(&["send", "bob", &format!("{number} {big}")]);
        assert_eq!(sent.code, 0, "{sent:?}");
    }
    let status = listen.wait();
    assert_eq!(status.code(), Some(1), "{:?}", listen.stderr());
    let mut shown: Vec<Value> = Vec::new();
    for line in listen.stdout() {
        shown.push(serde_json::from_str(&line).unwrap());
    }
    let error = shown.last().unwrap();
    assert_eq!(error["event"], "error", "{error}");
    assert!(
        error["message"].as_str().unwrap().contains("disk is full"),
        "{error}"
    );

    disk.empty();
    let rest = bob.run(&["--json", "listen", "--timeout", "3s"]);
    assert_eq!(rest.code, 0, "{rest:?}");
    shown.extend(rest.events());
    let numbers: Vec<&str> = texts(&shown)
        .into_iter()
        .map(|text| text.split(' ').next().unwrap())
        .collect();
    let all: Vec<String> = (0..=count).map(|number| number.to_string()).collect();
    assert_eq!(numbers, all);
}

#[test]
fn a_daemon_on_a_full_disk_says_so_and_goes_on_by_itself_with_everything_once() {
    let Some(disk) = SmallDisk::mount(MIB) else {
        return;
    };
    let broker = Broker::start(BrokerOptions::default());
    let alice = Person::settle("alice", &broker.url());
    let bob = on(&disk, "bob", &broker);
    let mut daemon = bob.start(&["daemon"]);
    daemon.expect_error("listening at ");
    let mut program = Program::of(&bob);
    program.subscribe("auto");
    let sent = alice.run(&["send", "bob", "0"]);
    assert_eq!(sent.code, 0, "{sent:?}");
    assert_eq!(program.event("message")["text"], "0");

    disk.fill(0);
    let big = "x".repeat(20_000);
    let count = 40;
    for number in 1..=count {
        let sent = alice.run(&["send", "bob", &format!("{number} {big}")]);
        assert_eq!(sent.code, 0, "{sent:?}");
    }
    let full = |line: &Value| {
        let reason = line["params"]["reason"].as_str();
        reason.is_some_and(|reason| reason.contains("disk is full"))
    };
    program.expect(full);
    let refused = program.call("send", json!({ "to": "alice", "text": "on a full disk" }));
    assert!(
        refused["error"]["message"]
            .as_str()
            .unwrap()
            .contains("disk is full"),
        "{refused}"
    );

    disk.empty();
    let mut numbers = Vec::new();
    for _ in 1..=count {
        let event = program.event("message");
        let text = event["text"].as_str().unwrap();
        numbers.push(text.split(' ').next().unwrap().to_owned());
    }
    let all: Vec<String> = (1..=count).map(|number| number.to_string()).collect();
    assert_eq!(numbers, all);
    let sent = program.call("send", json!({ "to": "alice", "text": "after" }));
    assert!(sent["result"]["id"].is_string(), "{sent}");
    assert!(daemon.terminate().success());
    let left = bob.run(&["listen", "--timeout", "1s"]);
    assert_eq!(left.stdout, "", "{left:?}");
}
