//! A stranger who has read SPEC.md and nothing else talks with the real programs, in Python, with paho-mqtt and
//! `cryptography`.

use std::path::PathBuf;
use std::process::Command;

use sealpost_tests::{Broker, BrokerOptions, Person, Process, root};
use tempfile::TempDir;

struct Stranger {
    broker: Broker,
    home: TempDir,
}

fn program() -> PathBuf {
    root().join("tests/stranger/stranger")
}

impl Stranger {
    fn start(&self, mqtt: &str, arguments: &[&str]) -> Process {
        let mut command = Command::new(program());
        command.args([
            "--user",
            "carol",
            "--mqtt",
            mqtt,
            "--broker",
            &self.broker.address().to_string(),
        ]);
        command.arg("--home").arg(self.home.path()).args(arguments);
        Process::spawn("stranger", &mut command)
    }
}

fn both_open_each_others(mqtt: &str) {
    let broker = Broker::start(BrokerOptions::default());
    let bob = Person::settle("bob", &broker.url());
    let carol = Stranger {
        broker,
        home: tempfile::tempdir().unwrap(),
    };

    let mut sending = carol.start(mqtt, &["send", "bob", "Guten Tag, Bob \u{1f4ee}"]);
    assert!(sending.wait().success(), "{:?}", sending.stderr());
    let answer = bob.run(&["listen", "--count", "1", "--timeout", "30s"]);
    assert_eq!(
        answer.stdout, "From carol: Guten Tag, Bob \u{1f4ee}",
        "{answer:?}"
    );

    let mut listening = carol.start(mqtt, &["listen", "--count", "1"]);
    listening.expect_error("listening");
    let answer = bob.run(&["send", "carol", "Bonjour Carol"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    listening.expect("From bob: Bonjour Carol");
    assert!(listening.wait().success());
}

#[test]
fn a_stranger_and_bob_open_each_others_messages_over_mqtt_5() {
    both_open_each_others("5");
}

#[test]
fn a_stranger_and_bob_open_each_others_messages_over_mqtt_3_1_1() {
    both_open_each_others("4");
}

#[test]
fn the_stranger_agrees_with_every_vector() {
    let mut command = Command::new(program());
    command.arg("vectors").arg(root().join("tests/vectors"));
    let mut replay = Process::spawn("stranger", &mut command);
    let status = replay.wait();
    let last = replay.stdout().pop().unwrap_or_default();
    assert!(
        status.success() && last.ends_with(" 0 failed"),
        "{last}\n{}",
        replay.stderr().join("\n")
    );
}
