//! Much mail at once: it is written to the disk in groups, acknowledged after that, and whoever is killed meanwhile loses none of it and
//! shows none twice but the last.

use std::time::{Duration, Instant};

use rand::RngExt;
use sealpost_tests::{Broker, BrokerOptions, Forger, Forgery, Person, Process};
use serde_json::Value;

fn messages() -> usize {
    match std::env::var("SEALPOST_RECEIVED_MESSAGES") {
        Ok(messages) => messages
            .parse()
            .expect("SEALPOST_RECEIVED_MESSAGES is a number"),
        Err(_) => 2_000,
    }
}

/// A mailbox with so many messages in it.
async fn full_mailbox() -> (Broker, Person, usize) {
    let broker = Broker::start(BrokerOptions::default());
    let bob = Person::settle("bob", &broker.url());
    let mut sender = Forger::register(broker.address(), "sender", "bob").await;
    sender.send(&Forgery::text("hello")).await;
    let received = bob.run(&["listen", "--count", "1", "--timeout", "30s"]);
    assert_eq!(received.code, 0, "{received:?}");
    // Who is answered has a larger share of the mailbox.
    let sent = bob.run(&["send", "sender", "hello"]);
    assert_eq!(sent.code, 0, "{sent:?}");
    let count = messages();
    let text = |number: usize| Forgery::text(&number.to_string());
    sender.flood(&(0..count).map(text).collect::<Vec<_>>());
    (broker, bob, count)
}

fn numbers(listen: &Process) -> Vec<usize> {
    let lines = listen.stdout();
    // Killed in the middle of a line.
    let events = lines
        .iter()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events
        .filter(|event| event["event"] == "message")
        .map(|event| event["text"].as_str().unwrap().parse().unwrap())
        .collect()
}

#[tokio::test]
async fn a_full_mailbox_is_received_in_order() {
    let (_broker, bob, count) = full_mailbox().await;
    let begun = Instant::now();
    let mut listen = bob.start(&["--json", "listen", "--count", &count.to_string()]);
    assert!(listen.wait().success(), "{:?}", listen.stderr());
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    println!("{count} messages, {rate:.0} a second");
    assert!(numbers(&listen).into_iter().eq(0..count));
}

#[tokio::test]
async fn who_is_killed_again_and_again_in_the_middle_of_much_mail_gets_it_all_once() {
    let (_broker, bob, count) = full_mailbox().await;
    let mut shown: Vec<usize> = Vec::new();
    let mut kills = 0;
    while shown.last() != Some(&(count - 1)) {
        let mut listen = bob.start(&["--json", "listen"]);
        listen.expect("\"connected\"");
        std::thread::sleep(Duration::from_millis(rand::rng().random_range(0..300)));
        listen.kill();
        kills += 1;
        let mut more = numbers(&listen);
        // Killed between printing it and noting that.
        if !more.is_empty() && more.first() == shown.last() {
            more.remove(0);
        }
        shown.extend(more);
        assert!(kills < 1_000, "{} of {count}", shown.len());
    }
    println!("{count} messages, {kills} kills");
    assert!(shown.into_iter().eq(0..count));
}
