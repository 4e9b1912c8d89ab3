//! `kill -9` of sender, recipient and broker while messages are answered, edited, deleted and disappear: both sides end the same.

use std::time::{Duration, Instant};

use rand::RngExt;
use sealpost_tests::{Answer, Broker, BrokerOptions, PATIENCE, Person, Process};
use serde_json::{Value, json};

const ROUNDS: usize = 6;

fn done(answer: Answer) -> Answer {
    assert_eq!(answer.code, 0, "{answer:?}");
    answer
}

/// Into the outbox; whoever is connected, or will be, brings it on.
fn queue(person: &Person, arguments: &[&str]) -> String {
    let arguments = [&["--json"], arguments, &["--wait", "queued"]].concat();
    let events = done(person.run(&arguments)).events();
    events[0]["id"].as_str().unwrap_or_default().to_owned()
}

/// What both sides are to agree upon, in their order: everything that is read, and what became of it.
fn conversation(person: &Person) -> Vec<Value> {
    let events = done(person.run(&["--json", "history", "--limit", "1000"])).events();
    let mut lines: Vec<Value> = events
        .iter()
        .map(|line| {
            json!({
                "id": line["id"],
                "text": line["text"],
                "first": line["original"],
                "edits": line["edits_made"],
                "deleted": line["deleted"],
                "answers": line["reply"]["id"],
                "expiry": line["expiry"],
            })
        })
        .collect();
    // They crossed: each has its own first.
    lines.sort_by_key(Value::to_string);
    lines
}

fn until(what: &str, wanted: impl Fn() -> bool) {
    let patience = Instant::now() + PATIENCE;
    while !wanted() {
        assert!(Instant::now() < patience, "{what} did not come");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The three that can be killed.
struct Stage<'a> {
    broker: &'a mut Broker,
    people: [&'a Person; 2],
    listening: [Process; 2],
    turn: usize,
}

impl Stage<'_> {
    /// Kills the next of them, at any moment from now, and starts it again.
    fn kill(&mut self) {
        std::thread::sleep(Duration::from_millis(rand::rng().random_range(0..150)));
        match self.turn % 3 {
            2 => {
                self.broker.kill();
                self.broker.restart();
            }
            one => {
                self.listening[one].kill();
                self.listening[one] = self.people[one].start(&["listen"]);
            }
        }
        self.turn += 1;
    }
}

#[test]
fn answers_edits_deletions_and_times_come_once_and_end_the_same_on_both_sides_whoever_is_killed() {
    let mut broker = Broker::start(BrokerOptions::default());
    let (alice, bob) = (
        Person::settle("alice", &broker.url()),
        Person::settle("bob", &broker.url()),
    );
    done(alice.run(&["send", "bob", "hello"]));
    done(bob.run(&["send", "alice", "hello"]));
    let listening = [alice.start(&["listen"]), bob.start(&["listen"])];
    let mut stage = Stage {
        broker: &mut broker,
        people: [&alice, &bob],
        listening,
        turn: 0,
    };
    let has = |person: &Person, text: &str| {
        let all = conversation(person);
        all.iter().any(|line| line["text"] == text)
    };
    for round in 0..ROUNDS {
        let id = queue(&alice, &["send", "bob", &format!("first {round}")]);
        stage.kill();
        queue(&alice, &["edit", &id, &format!("second {round}")]);
        stage.kill();
        // A command that is killed has said it, or not, and to both the same.
        let third = format!("third {round}");
        let mut killed = alice.start(&["edit", &id, &third, "--wait", "queued"]);
        std::thread::sleep(Duration::from_millis(rand::rng().random_range(0..60)));
        killed.kill();
        let answered = format!("second {round}");
        until(&answered, || has(&bob, &answered) || has(&bob, &third));
        let answer = queue(
            &bob,
            &["send", "alice", "--reply", &id, &format!("answer {round}")],
        );
        stage.kill();
        // Deleted before it has left, it would never have been.
        let answered = format!("answer {round}");
        until(&answered, || has(&alice, &answered));
        match round % 3 {
            0 => drop(queue(&alice, &["delete", &id])),
            1 => drop(queue(&bob, &["delete", &answer])),
            _ => {}
        }
        stage.kill();
    }
    queue(&alice, &["expire", "bob", "5s"]);
    stage.kill();
    queue(&alice, &["send", "bob", "soon gone"]);
    stage.kill();
    // What crosses the setting is kept by who did not know of it, and not by the other: it has to have come.
    until("the setting", || {
        let all = conversation(&bob);
        all.iter().any(|line| line["expiry"]["seconds"] == 5)
    });
    queue(&bob, &["send", "alice", "gone as well"]);
    stage.kill();
    until("the end of what disappears", || {
        !has(&alice, "soon gone") && !has(&bob, "gone as well")
    });
    queue(&alice, &["expire", "bob", "off"]);
    queue(&alice, &["send", "bob", "stays"]);
    until("what stays", || has(&bob, "stays"));
    let (mut hers, mut his) = (Vec::new(), Vec::new());
    let patience = Instant::now() + PATIENCE;
    while Instant::now() < patience {
        (hers, his) = (conversation(&alice), conversation(&bob));
        let gone = |all: &[Value]| {
            all.iter()
                .all(|line| line["text"] != "soon gone" && line["text"] != "gone as well")
        };
        if hers == his && gone(&hers) && outstanding(&alice) + outstanding(&bob) == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(hers, his);
    // Each message stands once.
    let ids: Vec<&Value> = hers.iter().map(|line| &line["id"]).collect();
    let mut once = ids.clone();
    once.dedup();
    assert_eq!(ids, once);
    let of = |text: &str| hers.iter().filter(|line| line["text"] == text).count();
    assert_eq!(
        (of("stays"), of("soon gone"), of("gone as well")),
        (1, 0, 0)
    );
    let deleted = hers.iter().filter(|line| line["deleted"] == true).count();
    assert_eq!(deleted, ROUNDS - ROUNDS / 3, "{hers:#?}");
    for round in 0..ROUNDS {
        let edited = hers.iter().filter(|line| {
            line["first"] == format!("first {round}").as_str() && line["edits"].as_u64() >= Some(1)
        });
        assert_eq!(
            edited.count(),
            usize::from(round % 3 != 0),
            "{round}: {hers:#?}"
        );
        let answers = hers
            .iter()
            .filter(|line| line["text"] == format!("answer {round}").as_str());
        assert_eq!(answers.count(), usize::from(round % 3 != 1), "{round}");
    }
    println!("{} kills", stage.turn);
}

/// How many of somebody's messages are not with the other side's program.
fn outstanding(person: &Person) -> usize {
    let events = done(person.run(&["--json", "outbox"])).events();
    events.len()
}
