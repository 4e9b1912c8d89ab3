//! Kill -9 of the broker under load, again and again: what it acknowledged is there, at QoS 2 once, and in order.
//!
//! `SEALPOST_KILL_ROUNDS` says how often (4); `make soak` does it 100 times.

use std::time::Duration;

use rand::RngExt;
use sealpost_tests::{Broker, BrokerOptions, Habit, Publisher, Subscriber, Traffic, Weather};

/// Milliseconds between a start and the kill that follows: from the middle of the reconnections to full load.
const LIFE: std::ops::Range<u64> = 5..400;

fn rounds() -> u32 {
    match std::env::var("SEALPOST_KILL_ROUNDS") {
        Ok(rounds) => rounds.parse().expect("SEALPOST_KILL_ROUNDS is a number"),
        Err(_) => 4,
    }
}

#[test]
fn what_was_acknowledged_outlives_kill_9_again_and_again_once_at_qos_2_and_in_order() {
    let mut broker = Broker::start(BrokerOptions {
        open: true,
        ..BrokerOptions::default()
    });
    let publishers = [
        Publisher::new("one-by-one", 4, 1, 1),
        Publisher::new("many", 5, 1, 50),
        Publisher::new("once", 5, 2, 10),
        Publisher::new("once-old", 4, 2, 1),
    ];
    let subscribers = [
        Subscriber::new("stays", 5, 1, Habit::Stays),
        Subscriber::new("wanders", 4, 1, Habit::Wanders),
        Subscriber::new("slow-once", 5, 2, Habit::IsSlow),
        Subscriber::new("wanders-once", 4, 2, Habit::Wanders),
    ];
    let traffic = Traffic::new(Weather::of(broker.address()), publishers, subscribers);
    let rounds = rounds();
    traffic.during(|| {
        for _ in 0..rounds {
            std::thread::sleep(Duration::from_millis(rand::rng().random_range(LIFE)));
            traffic.weather.set_up(false);
            broker.kill();
            broker.restart();
            traffic.weather.set_up(true);
            traffic.assert_retained();
        }
    });
    println!("{rounds} kills");
    let log = broker.process.stderr();
    assert!(
        !log.iter().any(|line| line.contains("panicked")),
        "{log:#?}"
    );
}
