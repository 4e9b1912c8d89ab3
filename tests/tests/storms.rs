//! Crowds that come and go, and readers that stall: those who are owed mail get all of it, in order, at QoS 2 once.
//!
//! `SEALPOST_SOAK_SECONDS` says for how long (2); `make soak` does it for ten minutes.

use std::time::Duration;

use rand::RngExt;
use sealpost_tests::raw::Connect;
use sealpost_tests::{Broker, BrokerOptions, Habit, Publisher, Raw, Subscriber, Weather};

/// How many come at once.
const CROWD: usize = 30;

/// Between two crowds. More would use up this machine's ports, each of which rests for a minute after its connection.
const LULL: Duration = Duration::from_millis(150);

fn seconds() -> u64 {
    match std::env::var("SEALPOST_SOAK_SECONDS") {
        Ok(seconds) => seconds.parse().expect("SEALPOST_SOAK_SECONDS is a number"),
        Err(_) => 2,
    }
}

/// Crowds of clean sessions, of which some go before their CONNACK and some in the middle of their messages.
fn storm(broker: &Broker, weather: &Weather) -> usize {
    let (mut rng, mut crowds) = (rand::rng(), 0);
    while !weather.ending() {
        let crowd = (0..CROWD).map(|number| {
            if rng.random() {
                // Some share a client id, and take each other's session over.
                let client_id = format!("rush-{}", number % 7);
                let mut raw = Raw::open(broker.address());
                raw.send(&Connect::v311(&client_id).packet());
                return raw;
            }
            let client_id = format!("crowd-{number}");
            let connect = Connect::v311(&client_id);
            let mut raw = Raw::connect(broker.address(), &connect);
            raw.subscribe(4, "load/#", 1);
            raw
        });
        drop(crowd.collect::<Vec<_>>());
        crowds += 1;
        std::thread::sleep(LULL);
    }
    crowds
}

#[test]
fn crowds_that_come_and_go_and_readers_that_stall_cost_nobody_a_message() {
    let broker = Broker::start(BrokerOptions {
        open: true,
        // As many as a stalled reader may be behind after hours.
        settings: "[limits]\narchiver_messages = 1000000000".into(),
        ..BrokerOptions::default()
    });
    let weather = Weather::of(broker.address());
    let publishers = [
        Publisher::new("one-by-one", 4, 1, 1),
        Publisher::new("some", 5, 1, 10),
        Publisher::new("once", 5, 2, 10),
    ];
    let subscriber = |name, level, qos, habit| Subscriber {
        name,
        level,
        qos,
        habit,
    };
    let subscribers = [
        subscriber("stalls", 5, 1, Habit::Stalls),
        subscriber("stalls-once", 4, 2, Habit::Stalls),
        subscriber("wanders", 4, 1, Habit::Wanders),
        subscriber("wanders-once", 5, 2, Habit::Wanders),
    ];
    for subscriber in &subscribers {
        subscriber.enrol(&weather);
    }
    std::thread::scope(|scope| {
        let (weather, broker) = (&weather, &broker);
        let _end = weather.end_in_any_case();
        let storm = scope.spawn(move || storm(broker, weather));
        let published = publishers
            .each_ref()
            .map(|publisher| scope.spawn(|| publisher.run(weather)));
        let read = subscribers
            .each_ref()
            .map(|subscriber| scope.spawn(|| subscriber.run(weather, publishers.len())));
        std::thread::sleep(Duration::from_secs(seconds()));
        weather.end();
        let crowds = storm.join().unwrap();
        let counts = published.map(|publisher| publisher.join().unwrap());
        let notes = read.map(|reader| reader.join().unwrap());
        let peak = broker.process.peak_kib();
        println!("{crowds} crowds of {CROWD}, at most {peak} KiB");
        for (publisher, count) in publishers.iter().zip(counts) {
            println!("{}: {count} acknowledged", publisher.name);
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
