//! Kill -9 of the broker under load, again and again: what it acknowledged is there, at QoS 2 once, and in order.
//!
//! `SEALPOST_KILL_ROUNDS` says how often (4); `make soak` does it 100 times.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::RngExt;
use sealpost_tests::raw::Connect;
use sealpost_tests::{Broker, BrokerOptions, Habit, Publisher, Raw, Subscriber, Weather};

/// Milliseconds between a start and the kill that follows: from the middle of the reconnections to full load.
const LIFE: std::ops::Range<u64> = 5..400;

fn rounds() -> u32 {
    match std::env::var("SEALPOST_KILL_ROUNDS") {
        Ok(rounds) => rounds.parse().expect("SEALPOST_KILL_ROUNDS is a number"),
        Err(_) => 4,
    }
}

/// The retained number is not older than `answered` was before it was asked for.
fn assert_retained(broker: &Broker, answered: &AtomicU64) {
    let least = answered.load(Ordering::SeqCst);
    if least == 0 {
        return;
    }
    let mut reader = Raw::connect(broker.address(), &Connect::v311("glance"));
    reader.subscribe(4, "state", 0);
    let (_, body) = reader.read().expect("the retained message");
    let text = std::str::from_utf8(&body[7..]).unwrap();
    let number = text.trim_end_matches(" end").parse::<u64>().unwrap();
    assert!(number >= least, "retained {number}, acknowledged {least}");
}

#[test]
fn what_was_acknowledged_outlives_kill_9_again_and_again_once_at_qos_2_and_in_order() {
    let mut broker = Broker::start(BrokerOptions {
        open: true,
        ..BrokerOptions::default()
    });
    let weather = Weather::of(broker.address());
    let publishers = [
        Publisher::new("one-by-one", 4, 1, 1),
        Publisher::new("many", 5, 1, 50),
        Publisher::new("once", 5, 2, 10),
        Publisher::new("once-old", 4, 2, 1),
    ];
    let retaining = Publisher::retaining("state");
    let subscriber = |name, level, qos, habit| Subscriber {
        name,
        level,
        qos,
        habit,
    };
    let subscribers = [
        subscriber("stays", 5, 1, Habit::Stays),
        subscriber("wanders", 4, 1, Habit::Wanders),
        subscriber("slow-once", 5, 2, Habit::IsSlow),
        subscriber("wanders-once", 4, 2, Habit::Wanders),
    ];
    for subscriber in &subscribers {
        subscriber.enrol(&weather);
    }
    let rounds = rounds();
    std::thread::scope(|scope| {
        let (weather, retaining) = (&weather, &retaining);
        let _end = weather.end_in_any_case();
        let state = scope.spawn(move || retaining.run(weather));
        let published = publishers
            .each_ref()
            .map(|publisher| scope.spawn(|| publisher.run(weather)));
        let read = subscribers
            .each_ref()
            .map(|subscriber| scope.spawn(|| subscriber.run(weather, publishers.len())));
        for _ in 0..rounds {
            std::thread::sleep(Duration::from_millis(rand::rng().random_range(LIFE)));
            weather.set_up(false);
            broker.kill();
            broker.restart();
            weather.set_up(true);
            assert_retained(&broker, &retaining.answered);
        }
        weather.end();
        let began = Instant::now();
        let counts = published.map(|publisher| publisher.join().unwrap());
        let states = state.join().unwrap();
        let notes = read.map(|reader| reader.join().unwrap());
        assert_retained(&broker, &retaining.answered);
        println!(
            "{rounds} kills, {states} retained, drained in {:?}",
            began.elapsed()
        );
        for (publisher, count) in publishers.iter().zip(counts) {
            assert_eq!(publisher.answered.load(Ordering::SeqCst), count);
            let repeated = publisher.repeated.load(Ordering::SeqCst);
            println!(
                "{}: {count} acknowledged, {repeated} sent again",
                publisher.name
            );
            for (reader, notes) in subscribers.iter().zip(&notes) {
                let again = reader.assert_complete(notes, publisher, count);
                println!("  {}: all, {again} again", reader.name);
            }
        }
    });
    let log = broker.process.stderr();
    assert!(
        !log.iter().any(|line| line.contains("panicked")),
        "{log:#?}"
    );
}
