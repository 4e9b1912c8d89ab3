//! What an archive has is given to its recipient once more, and shown once.

use std::process::{Command, Output};

use sealpost_tests::{Answer, Archiver, Broker, BrokerOptions, Person, program};
use serde_json::Value;

fn done(answer: Answer) -> Answer {
    assert_eq!(answer.code, 0, "{answer:?}");
    answer
}

fn replay(archiver: &Archiver, broker: &Broker, operator: &Archiver, more: &[&str]) -> Output {
    Command::new(program("sealpost-archiver"))
        .args(["replay", "--broker", &broker.url(), "--dir"])
        .arg(archiver.dir())
        .arg("--operator-key")
        .arg(operator.dir().join("archiver.key"))
        .args(more)
        .output()
        .unwrap()
}

fn texts(answer: &Answer) -> Vec<String> {
    let events = answer.events();
    let messages = events.iter().filter(|event| event["event"] == "message");
    messages
        .map(|event: &Value| event["text"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn archived_mail_comes_once_more_from_an_operator_and_is_shown_once() {
    let mut archiver = Archiver::prepare();
    // An operator's key is made as an archiver's is.
    let operator = Archiver::named("replay");
    let broker = Broker::start(BrokerOptions {
        archivers: vec![archiver.credential()],
        operators: vec![operator.credential()],
        ..BrokerOptions::default()
    });
    archiver.run(&broker.url());
    let alice = Person::settle("alice", &broker.url());
    let bob = Person::settle("bob", &broker.url());
    let carol = Person::settle("carol", &broker.url());
    // Bob's session begins.
    done(bob.run(&["listen", "--timeout", "1s"]));
    for text in ["one", "two"] {
        done(alice.run(&["send", "bob", text]));
    }
    done(alice.run(&["send", "carol", "not for bob"]));
    assert_eq!(
        texts(&done(bob.run(&[
            "--json",
            "listen",
            "--count",
            "2",
            "--timeout",
            "30s"
        ]))),
        ["one", "two"]
    );
    archiver.expect_lines(3);

    let output = replay(&archiver, &broker, &operator, &["--to", "bob"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(said.contains("the broker took 2 messages"), "{said}");
    // He has them, and is not shown them again; what is new still comes.
    done(alice.run(&["send", "bob", "three"]));
    let answer = done(bob.run(&["--json", "listen", "--count", "1", "--timeout", "30s"]));
    assert_eq!(texts(&answer), ["three"]);

    // A part of it, for somebody who never had it: carol reads hers.
    let output = replay(&archiver, &broker, &operator, &["--to", "carol"]);
    assert!(output.status.success(), "{output:?}");
    let answer = done(carol.run(&["--json", "listen", "--count", "1", "--timeout", "30s"]));
    assert_eq!(texts(&answer), ["not for bob"]);

    // Who is no operator gives nobody anything.
    let output = replay(&archiver, &broker, &archiver, &["--to", "bob"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("--from-seq 1"), "{said}");
}
