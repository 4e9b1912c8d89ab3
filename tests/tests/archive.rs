//! The archive has every message, once, and nothing but ciphertext.

use std::time::Duration;

use rumqttc::v5::mqttbytes::v5::PubAckReason;
use sealpost_core::{Content, Envelope, MessageId};
use sealpost_tests::{Archiver, Broker, Device, Link};

/// The envelope inside a line of the log, as its own bytes.
fn envelope_of(line: &str) -> Envelope {
    let (_, rest) = line
        .split_once("\"archived_at\":")
        .expect("an archived line");
    let (_, envelope) = rest.split_once(',').expect("an envelope after archived_at");
    Envelope::parse(format!("{{{envelope}").as_bytes()).expect("the envelope's own bytes")
}

/// Publishes an envelope. Nobody but the archive keeps it: its recipient has no session.
async fn send(link: &mut Link, envelope: &Envelope) {
    let topic = format!("inbox/{}", envelope.to());
    let reason = link.publish(&topic, false, envelope.as_bytes()).await;
    assert_eq!(reason, PubAckReason::NoMatchingSubscribers);
}

#[tokio::test]
async fn a_line_is_the_sealed_message_byte_for_byte_and_holds_no_text() {
    let mut archiver = Archiver::prepare();
    let broker = Broker::for_archiver(&archiver);
    archiver.run(&broker.url());
    let (alice, bob) = (Device::new("alice"), Device::new("bob"));
    bob.register(broker.address()).await;
    let envelope = alice.seal(&bob, "the needle in the haystack");
    send(&mut alice.connect(broker.address(), "a").await, &envelope).await;
    let lines = archiver.expect_lines(1);
    assert!(
        lines[0].starts_with("{\"seq\":1,\"archived_at\":"),
        "{}",
        lines[0]
    );
    assert_eq!(envelope_of(&lines[0]).as_bytes(), envelope.as_bytes());
    for file in walk(archiver.log().parent().unwrap()) {
        let bytes = std::fs::read(&file).unwrap();
        assert!(
            !bytes.windows(6).any(|window| window == b"needle"),
            "{file:?} holds the text"
        );
    }
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| {
            if path.is_dir() {
                return walk(&path);
            }
            // Of what is no file, such as the control socket, there is nothing to read.
            Vec::from_iter(path.is_file().then_some(path))
        })
        .collect()
}

#[tokio::test]
async fn an_archiver_that_is_killed_again_and_again_ends_with_every_message_once() {
    let mut archiver = Archiver::prepare();
    let broker = Broker::for_archiver(&archiver);
    archiver.run(&broker.url());
    let (alice, bob) = (Device::new("alice"), Device::new("bob"));
    bob.register(broker.address()).await;
    let mut link = alice.connect(broker.address(), "a").await;
    let (mut rng, mut sealer) = (rand::rng(), alice.burst(&bob));
    let mut sent = Vec::new();
    for round in 0..5 {
        for number in 0..200 {
            let now = sealpost_tests::now();
            let id = MessageId::new(now, &mut rng);
            let content = Content::Text {
                text: format!("{round} {number}"),
            };
            let envelope = sealer
                .seal(&mut rng, now, id, sent.last().copied(), &content)
                .unwrap();
            send(&mut link, &envelope).await;
            sent.push(id);
            if number == 100 {
                archiver.process().kill();
            }
        }
        archiver.run(&broker.url());
    }
    let lines = archiver.expect_lines(sent.len());
    let kept = lines
        .iter()
        .map(|line| *envelope_of(line).id())
        .collect::<Vec<_>>();
    assert_eq!(kept, sent, "all, once, in order");
}

#[tokio::test]
async fn an_archiver_that_comes_back_to_a_new_broker_goes_on_by_itself() {
    let mut archiver = Archiver::prepare();
    let mut broker = Broker::for_archiver(&archiver);
    archiver.run(&broker.url());
    let (alice, bob) = (Device::new("alice"), Device::new("bob"));
    bob.register(broker.address()).await;
    send(
        &mut alice.connect(broker.address(), "a").await,
        &alice.seal(&bob, "before"),
    )
    .await;
    archiver.expect_lines(1);
    broker.kill();
    broker.restart();
    archiver.process().expect_error("subscribed again");
    send(
        &mut alice.connect(broker.address(), "a").await,
        &alice.seal(&bob, "after"),
    )
    .await;
    archiver.expect_lines(2);
}

/// The slow reader that other brokers lose messages to: it stands still while 100,000 messages of 1 KiB and more pass.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_archiver_gets_every_one_of_100_000_messages() {
    const MESSAGES: usize = 100_000;
    let mut archiver = Archiver::prepare();
    let broker = Broker::for_archiver(&archiver);
    archiver.run(&broker.url());
    let (alice, bob) = (Device::new("alice"), Device::new("bob"));
    bob.register(broker.address()).await;
    archiver.process().pause();

    let token = alice.token("a");
    let mut flood = sealpost_tests::Flood::connect(broker.address(), "alice", &token, "a");
    let (mut rng, mut sealer) = (rand::rng(), alice.burst(&bob));
    let text = "x".repeat(400);
    for number in 0..MESSAGES {
        let now = sealpost_tests::now();
        let id = MessageId::new(now, &mut rng);
        let envelope = sealer
            .seal(
                &mut rng,
                now,
                id,
                None,
                &Content::Text {
                    text: format!("{number} {text}"),
                },
            )
            .unwrap();
        assert!(envelope.as_bytes().len() >= 1024);
        flood.publish("inbox/bob", envelope.as_bytes());
        if number == MESSAGES / 2 {
            archiver.process().resume();
            archiver.expect_lines(1);
            archiver.process().pause();
        }
    }
    flood.finish();
    archiver.process().resume();
    let lines = archiver.expect_lines_within(MESSAGES, Duration::from_secs(240));
    assert_eq!(lines.len(), MESSAGES);
    for (number, line) in lines.iter().enumerate() {
        assert!(line.starts_with(&format!("{{\"seq\":{},", number + 1)));
    }
    let ids = lines
        .iter()
        .map(|line| *envelope_of(line).id())
        .collect::<std::collections::HashSet<_>>();
    assert_eq!(ids.len(), MESSAGES);
}
