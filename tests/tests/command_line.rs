//! What a command does at its edges: output that nobody reads, input that cannot be read, brokers that do not answer.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

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
    std::thread::sleep(Duration::from_secs(2));
    typed.write_all(b"msg alice yes\n").unwrap();
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

/// Alice, with keys that no broker has seen.
fn offline_alice(url: &str) -> Person {
    let alice = Person::newcomer("alice", url);
    let made = alice.run(&["keys", "init", "--no-passphrase", "--no-publish"]);
    assert_eq!(made.code, 0, "{made:?}");
    alice
}

#[test]
fn standard_input_that_cannot_be_read_is_not_called_output() {
    let alice = offline_alice("mqtt://127.0.0.1:1");
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

/// One packet: its first byte and its body.
fn packet(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut byte = [0];
    stream.read_exact(&mut byte).ok()?;
    let first = byte[0];
    let (mut length, mut shift) = (0_usize, 0);
    loop {
        stream.read_exact(&mut byte).ok()?;
        length |= usize::from(byte[0] & 0x7f) << shift;
        shift += 7;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((first, body))
}

/// A broker that accepts logins, answers pings, and grants each subscription with these codes, or never. Its URL.
fn odd_broker(codes: Option<&'static [u8]>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("mqtt://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                while let Some((first, body)) = packet(&mut stream) {
                    let answer = match (first >> 4, codes) {
                        (1, _) => vec![0x20, 3, 0, 0, 0],
                        (12, _) => vec![0xd0, 0],
                        (8, Some(codes)) => {
                            let length = 3 + u8::try_from(codes.len()).unwrap();
                            let mut answer = vec![0x90, length, body[0], body[1], 0];
                            answer.extend(codes);
                            answer
                        }
                        _ => vec![],
                    };
                    if stream.write_all(&answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    url
}

/// The exit code, and how long it took; `None` when it is still running after 20 s.
fn ends(command: &mut Command) -> Option<(i32, Duration)> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(20) {
        if let Some(status) = child.try_wait().unwrap() {
            return Some((status.code().unwrap_or(-1), since.elapsed()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}

#[test]
fn a_timeout_counts_from_the_start_of_connecting() {
    let alice = offline_alice(&odd_broker(None));
    for arguments in [
        &["send", "bob", "hi", "--timeout", "1s"][..],
        &["listen", "--count", "1", "--timeout", "1s"][..],
    ] {
        let (code, took) = ends(alice.command().args(arguments)).expect("an end");
        assert_eq!(code, 3, "{arguments:?}");
        assert!(took < Duration::from_secs(3), "{arguments:?}: {took:?}");
    }
}

#[test]
fn a_send_that_opens_the_mailbox_does_not_keep_listen_from_starting() {
    let broker = broker();
    let mut alice = offline_alice(&odd_broker(None));
    let mut hanging = alice.start(&["send", "bob", "hi", "--timeout", "1m"]);
    std::thread::sleep(Duration::from_secs(1));
    alice.move_to(&broker.url());
    let listen = alice.run(&["listen", "--timeout", "1s"]);
    assert_eq!(listen.code, 0, "{listen:?}");
    hanging.kill();
}

#[test]
fn a_subscription_that_is_not_granted_as_asked_is_refused() {
    for codes in [&[0, 0][..], &[1][..], &[0x87, 0x87][..]] {
        let alice = offline_alice(&odd_broker(Some(codes)));
        let ended = ends(alice.command().args(["listen", "--timeout", "5s"]));
        assert_eq!(ended.map(|(code, _)| code), Some(5), "{codes:?}");
    }
}

#[test]
fn an_unanswered_subscription_is_a_lost_connection() {
    let alice = offline_alice(&odd_broker(None));
    let listen = alice.start(&["listen"]);
    listen.expect_error("no answer to a subscription within 10 s");
}
