//! Whoever has the keys reads their own past out of an archive, and nobody else's.

use sealpost_tests::{Answer, Archiver, Broker, Forger, Forgery, Person};
use serde_json::{Value, json};

fn done(answer: Answer) -> Answer {
    assert_eq!(answer.code, 0, "{answer:?}");
    answer
}

fn texts(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .map(|event| event["text"].as_str().unwrap())
        .collect()
}

#[test]
fn who_has_the_keys_reads_what_was_sent_to_them_out_of_an_archive() {
    let mut archiver = Archiver::prepare();
    let mut broker = Broker::for_archiver(&archiver);
    archiver.run(&broker.url());
    let alice = Person::settle("alice", &broker.url());
    let bob = Person::settle("bob", &broker.url());
    for text in ["one", "two", "three"] {
        done(alice.run(&["send", "bob", text]));
        done(bob.run(&["listen", "--count", "1", "--timeout", "30s"]));
    }
    done(bob.run(&["send", "alice", "an answer"]));
    // Receipts are archived too.
    archiver.expect_lines(4);
    archiver.process().terminate();
    broker.kill();

    let dir = archiver.dir().to_str().unwrap();
    let read = |person: &Person, more: &[&str]| {
        let mut arguments = vec!["--json", "history", "--from-archive", dir];
        arguments.extend(more);
        done(person.run(&arguments))
    };
    let his = read(&bob, &[]).events();
    assert_eq!(texts(&his), ["one", "two", "three"]);
    assert_eq!(his[0]["from"], "alice");
    assert_eq!(his[0]["trust"], "known");
    assert_eq!(texts(&read(&alice, &[]).events()), ["an answer"]);
    assert_eq!(
        texts(&read(&bob, &["--limit", "2"]).events()),
        ["two", "three"]
    );
    assert_eq!(texts(&read(&bob, &["--search", "TWO"]).events()), ["two"]);
    assert!(read(&bob, &["--with", "carol"]).events().is_empty());

    // Somebody new under the same name has none of the keys.
    let stranger = Person::newcomer("bob", "mqtt://127.0.0.1:9").settled();
    let answer = done(stranger.run(&["history", "--from-archive", dir]));
    assert_eq!(answer.stdout, "", "{answer:?}");
    assert!(
        answer
            .stderr
            .contains("3 messages to you could not be opened"),
        "{answer:?}"
    );
    assert!(
        answer.stderr.contains("3 are sealed to a key"),
        "{answer:?}"
    );

    let answer = read(&stranger, &[]);
    assert_eq!(
        answer.events(),
        [json!({"event": "unopened", "key_gone": 3, "not_the_senders": 0, "damaged": 0})]
    );

    let nowhere = bob.run(&["history", "--from-archive", "/nowhere"]);
    assert_eq!(nowhere.code, 1, "{nowhere:?}");
    assert!(nowhere.stderr.contains("--dir"), "{nowhere:?}");
}

#[tokio::test]
async fn what_its_sender_sealed_twice_is_shown_once() {
    let mut archiver = Archiver::prepare();
    let broker = Broker::for_archiver(&archiver);
    archiver.run(&broker.url());
    let bob = Person::settle("bob", &broker.url());
    let mut alice = Forger::register(broker.address(), "alice", "bob").await;
    let (first, second) = (Forgery::text("first"), Forgery::text("second"));
    for forgery in [&first, &second, &first] {
        alice.send(forgery).await;
    }
    archiver.expect_lines(3);
    let dir = archiver.dir().to_str().unwrap();
    let his = done(bob.run(&["--json", "history", "--from-archive", dir])).events();
    assert_eq!(texts(&his), ["first", "second"]);
}
