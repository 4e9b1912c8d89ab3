//! A bad night, all at once: thousands of clients who come and go together, crowds without manners, readers that stall, a
//! disk that is full now and then, a clock that jumps, certificates that are renewed. Those who are owed mail get all of it,
//! in order, at QoS 2 once; nobody gets what was refused; what is retained stays; memory levels off.
//!
//! `SEALPOST_SOAK_SECONDS` says for how long (2); `make soak` does it for ten minutes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;
use sealpost_tests::raw::Connect;
use sealpost_tests::{
    Broker, BrokerOptions, Clock, Crowd, Filler, Habit, Lab, Publisher, Raw, Subscriber, Traffic,
    Weather,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// How many without manners come at once, and how long until the next do.
const MOB: usize = 30;
const LULL: Duration = Duration::from_millis(150);

/// From here on it is a long night: the crowd is large, there is time between two blows, and memory has to level off.
const LONG: Duration = Duration::from_secs(300);

/// Seconds by which the clock jumps, either way.
const JUMP: i64 = 3_600;

/// How often memory is looked at.
const LOOK: Duration = Duration::from_secs(10);

/// TLS connections that stay over all renewals.
const FAITHFUL: usize = 10;

/// Something that happens again and again until it is calm. Returns how often it did.
type Blow<'a> = Box<dyn FnOnce() -> u64 + Send + 'a>;

fn length() -> Duration {
    let seconds = match std::env::var("SEALPOST_SOAK_SECONDS") {
        Ok(seconds) => seconds.parse().expect("SEALPOST_SOAK_SECONDS is a number"),
        Err(_) => 2,
    };
    Duration::from_secs(seconds)
}

/// A time between two blows: in a short night there is none to lose.
fn pause(most: Duration) -> Duration {
    match length() < LONG {
        true => Duration::from_millis(300),
        false => rand::rng().random_range(most / 4..most),
    }
}

/// Crowds of clean sessions, of which some go before their CONNACK and some in the middle of their messages.
fn mobs(weather: &Weather) -> u64 {
    let (mut rng, mut mobs) = (rand::rng(), 0);
    while !weather.wait(LULL) {
        let mob = (0..MOB).map(|number| {
            if rng.random() {
                // Some share a client id, and take each other's session over.
                let client_id = format!("rush-{}", number % 7);
                let mut raw = Raw::open(weather.broker());
                raw.send(&Connect::v311(&client_id).packet());
                return raw;
            }
            let client_id = format!("mob-{number}");
            let connect = Connect::v311(&client_id);
            let mut raw = Raw::connect(weather.broker(), &connect);
            raw.subscribe(4, "load/#", 1);
            raw
        });
        drop(mob.collect::<Vec<_>>());
        mobs += 1;
    }
    mobs
}

/// Reconnections of thousands at once, until the end. Returns how many storms.
fn reconnections(weather: &Weather, members: usize) -> u64 {
    let mut crowd = Crowd::enrol(weather.broker(), members);
    loop {
        crowd.storm(weather);
        if weather.wait(pause(Duration::from_secs(4))) {
            return crowd.calls();
        }
    }
}

/// The disk is full, again and again: mail is refused, and goes on as soon as there is room.
fn full_disks(traffic: &Traffic, broker: &Broker, filler: &Filler) -> u64 {
    let (mut times, mut line) = (0, 0);
    loop {
        let refused = traffic.refused();
        filler.fill();
        line = 1 + broker
            .process
            .expect_error_from(line, "the disk is almost full")
            .0;
        await_that("mail is refused", &traffic.weather, || {
            traffic.refused() > refused
        });
        std::thread::sleep(Duration::from_millis(rand::rng().random_range(0..500)));
        let acknowledged = traffic.acknowledged();
        filler.empty();
        await_that("mail is taken again", &traffic.weather, || {
            traffic.acknowledged() > acknowledged
        });
        times += 1;
        if traffic.weather.wait(pause(Duration::from_secs(40))) {
            return times;
        }
    }
}

fn await_that(what: &str, weather: &Weather, holds: impl Fn() -> bool) {
    let until = Instant::now() + sealpost_tests::PATIENCE;
    while !holds() && !weather.ending() {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The clock jumps an hour ahead or behind, and is put right.
fn jumps(weather: &Weather, clock: &Clock) -> u64 {
    let mut jumps = 0;
    loop {
        for offset in [JUMP, 0, -JUMP, JUMP, 0] {
            clock.set(offset);
            jumps += 1;
            if weather.wait(pause(Duration::from_secs(10))) {
                return jumps;
            }
        }
    }
}

/// A TLS connection on which MQTT is spoken, which is alive.
async fn tls_connection(lab: &Lab, broker: &Broker, client_id: &str) -> TlsStream<TcpStream> {
    let mut stream = lab.connect(broker.tls_address(), None).await.unwrap();
    stream
        .write_all(&Connect::v311(client_id).packet())
        .await
        .unwrap();
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).await.unwrap();
    assert_eq!(connack, *b"\x20\x02\x00\x00");
    stream
}

async fn assert_alive(stream: &mut TlsStream<TcpStream>) {
    stream.write_all(b"\xc0\x00").await.unwrap();
    let mut pong = [0; 2];
    tokio::time::timeout(sealpost_tests::PATIENCE, stream.read_exact(&mut pong))
        .await
        .expect("a PINGRESP in time")
        .unwrap();
    assert_eq!(pong, *b"\xd0\x00");
}

/// Certificates are replaced: new connections get the new one, and none that is open ends.
fn renewals(weather: &Weather, broker: &Broker, served: &Lab) -> u64 {
    let labs = [Lab::new(), Lab::new()];
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut faithful = Vec::new();
        for number in 0..FAITHFUL {
            faithful.push(tls_connection(served, broker, &format!("faithful-{number}")).await);
        }
        let mut renewals = 0;
        for next in labs.iter().cycle() {
            served.renew_from(next);
            broker.process.hang_up();
            // Whoever trusts the next authority alone gets in once its certificate is in use.
            let until = Instant::now() + sealpost_tests::PATIENCE;
            while next.connect(broker.tls_address(), None).await.is_err() {
                assert!(Instant::now() < until, "the certificate was not renewed");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert_alive(&mut tls_connection(next, broker, "new").await).await;
            for stream in &mut faithful {
                assert_alive(stream).await;
            }
            renewals += 1;
            // Nothing else runs on this thread.
            if weather.wait(pause(Duration::from_secs(20))) {
                break;
            }
        }
        renewals
    })
}

/// Looks at the broker's memory until the time is up, or something failed.
fn watch(traffic: &Traffic, broker: &Broker, length: Duration) {
    let began = Instant::now();
    let mut resident = Vec::new();
    loop {
        let left = length.saturating_sub(began.elapsed());
        if left.is_zero() || traffic.weather.wait(left.min(LOOK)) {
            break;
        }
        let kib = broker.process.resident_kib();
        println!(
            "{:>4} s: {:>7} KiB, {} acknowledged, {} refused, the slowest {} behind",
            began.elapsed().as_secs(),
            kib,
            traffic.acknowledged(),
            traffic.refused(),
            traffic.behind()
        );
        resident.push(kib);
    }
    if length >= LONG && !traffic.weather.ending() {
        assert_level(&resident);
    }
}

/// Memory levels off: in the last third of the time it is at most a tenth above what it was in the middle.
fn assert_level(resident: &[u64]) {
    let third = resident.len() / 3;
    let most = |part: &[u64]| part.iter().copied().max().unwrap_or(0);
    let (middle, last) = (
        most(&resident[third..2 * third]),
        most(&resident[2 * third..]),
    );
    assert!(
        last * 10 <= middle * 11,
        "memory grows: {middle} KiB, then {last} KiB"
    );
}

#[test]
fn a_bad_night_costs_nobody_a_message_and_the_broker_no_memory() {
    let length = length();
    let members = if length < LONG { 300 } else { 5_000 };
    let lab = Lab::new();
    let clock = Arc::new(match length < LONG {
        true => Clock::new(),
        false => Clock::lazy(),
    });
    let disk = tempfile::tempdir().unwrap();
    let filler = Filler::of(disk.path());
    let settings = [
        // A line for each of thousands of connections would be all there is.
        "log = \"warn\"",
        &lab.settings(),
        "[limits]",
        // Far above what a stalled reader is behind.
        "archiver_messages = 1000000000",
        "handshakes = 10000",
        &format!("disk_reserve = {}", filler.reserve()),
    ];
    let broker = Broker::start(BrokerOptions {
        open: true,
        settings: settings.join("\n"),
        data: Some(disk.path().join("data")),
        clock: Some(Arc::clone(&clock)),
        ..BrokerOptions::default()
    });
    let publishers = [
        Publisher::new("one-by-one", 4, 1, 1),
        Publisher::new("some", 5, 1, 10),
        Publisher::new("once", 5, 2, 10),
    ];
    let subscribers = [
        Subscriber::new("stalls", 5, 1, Habit::Stalls),
        Subscriber::new("stalls-once", 4, 2, Habit::Stalls),
        Subscriber::new("wanders", 4, 1, Habit::Wanders),
        Subscriber::new("wanders-once", 5, 2, Habit::Wanders),
    ];
    let traffic = Traffic::new(Weather::of(broker.address()), publishers, subscribers);
    traffic.during(|| {
        std::thread::scope(|scope| {
            let (weather, traffic, broker) = (&traffic.weather, &traffic, &broker);
            let blows: [(&str, Blow<'_>); 5] = [
                ("mobs", Box::new(|| mobs(weather))),
                (
                    "reconnections",
                    Box::new(|| reconnections(weather, members)),
                ),
                (
                    "full disks",
                    Box::new(|| full_disks(traffic, broker, &filler)),
                ),
                ("jumps of the clock", Box::new(|| jumps(weather, &clock))),
                ("renewals", Box::new(|| renewals(weather, broker, &lab))),
            ];
            let blows = blows.map(|(name, blow)| {
                let blow = scope.spawn(|| {
                    // A failure ends it for all.
                    let _end = weather.end_if_it_fails();
                    blow()
                });
                (name, blow)
            });
            let _end = weather.end_in_any_case();
            watch(traffic, broker, length);
            weather.calm_down();
            for (name, blow) in blows {
                println!("{}: {name}", blow.join().unwrap());
            }
        });
        clock.set(0);
    });
    println!(
        "crowds of {members}, at most {} KiB",
        broker.process.peak_kib()
    );
    let log = broker.process.stderr();
    assert!(
        !log.iter().any(|line| line.contains("panicked")),
        "{log:#?}"
    );
}
