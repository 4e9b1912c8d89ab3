//! What a command does at the edges of its process: output that nobody reads, input that cannot be read, signals.

use std::process::Stdio;

use sealpost_tests::{Broker, BrokerOptions, Person};

fn broker() -> Broker {
    Broker::start(BrokerOptions::default())
}

/// A pipe that nobody reads.
fn without_reader() -> std::io::PipeWriter {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer
}

#[test]
fn send_sends_although_nobody_reads_its_remarks() {
    let broker = broker();
    let alice = Person::settle("alice", &broker.url());
    let bob = Person::settle("bob", &broker.url());
    // The first contact is remarked upon before anything is sealed.
    let status = alice
        .command()
        .args(["send", "bob", "hello"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(without_reader())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
    let status = alice
        .command()
        .args(["--json", "send", "bob", "hello again"])
        .stdin(Stdio::null())
        .stdout(without_reader())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
    let got = bob.run(&["listen", "--count", "2", "--timeout", "5s"]);
    assert_eq!(got.stdout, "From alice: hello\nFrom alice: hello again");
}

#[test]
fn chat_sends_although_nobody_reads_and_leaves_what_comes_unshown() {
    let broker = broker();
    let alice = Person::settle("alice", &broker.url());
    let bob = Person::settle("bob", &broker.url());
    assert_eq!(alice.run(&["send", "bob", "you there?"]).code, 0);
    let (input, mut typed) = std::io::pipe().unwrap();
    let mut chat = bob
        .command()
        .arg("chat")
        .stdin(input)
        .stdout(without_reader())
        .stderr(without_reader())
        .spawn()
        .unwrap();
    // Written when the mail has come, so that the chat goes on after it could not be shown.
    std::thread::sleep(std::time::Duration::from_secs(2));
    std::io::Write::write_all(&mut typed, b"msg alice yes\n").unwrap();
    drop(typed);
    let status = chat.wait().unwrap();
    assert!(status.success(), "{status}");
    let got = alice.run(&["listen", "--count", "1", "--timeout", "5s"]);
    assert_eq!(got.stdout, "From bob: yes");
    let got = bob.run(&["listen", "--count", "1", "--timeout", "5s"]);
    assert_eq!(got.stdout, "From alice: you there?");
}

#[test]
fn listen_is_done_when_nobody_reads_and_the_message_stays_for_the_next() {
    let broker = broker();
    let alice = Person::settle("alice", &broker.url());
    let bob = Person::settle("bob", &broker.url());
    assert_eq!(alice.run(&["send", "bob", "hello"]).code, 0);
    let status = bob
        .command()
        .args(["listen", "--timeout", "10s"])
        .stdin(Stdio::null())
        .stdout(without_reader())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
    let got = bob.run(&["listen", "--count", "1", "--timeout", "5s"]);
    assert_eq!(got.stdout, "From alice: hello");
}

#[test]
fn standard_input_that_cannot_be_read_is_not_called_output() {
    let alice = Person::newcomer("alice", "mqtt://127.0.0.1:1");
    let made = alice.run(&["keys", "init", "--no-passphrase", "--no-publish"]);
    assert_eq!(made.code, 0, "{made:?}");
    let output = alice
        .command()
        .args(["send", "bob", "-"])
        .stdin(std::fs::File::open("/").unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot read standard input"), "{said}");
}
