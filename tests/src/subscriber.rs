//! A subscriber with a session that is kept, which checks every number that reaches it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::RngExt;

use crate::packet::packet;
use crate::raw::Connect;
use crate::weather::Weather;
use crate::{Publisher, Raw};

/// Messages between two rests of a slow subscriber, and how long it rests.
const REST: (u64, Duration) = (20, Duration::from_millis(20));
/// Of how many messages one makes a reader stall, and for how long at most.
const STALL: (u32, Duration) = (2_000, Duration::from_secs(1));
/// Packets at most between two disconnections of one that wanders.
const STAY: u32 = 400;

/// Who subscribes to `load/#`, and how.
#[derive(Debug)]
pub struct Subscriber {
    /// Its client id.
    pub name: &'static str,
    /// 4 for MQTT 3.1.1, 5 for MQTT 5.
    pub level: u8,
    /// 1 or 2.
    pub qos: u8,
    /// How it behaves.
    pub habit: Habit,
    /// Messages that reached it, each counted once.
    pub came: AtomicU64,
}

/// How a subscriber behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    /// Connected as long as the broker is up.
    Stays,
    /// Hangs up at random with messages that it has not acknowledged, and comes back at once.
    Wanders,
    /// Stops reading at random, for up to a second.
    Stalls,
    /// Rests between messages, with a window of 20 (MQTT 5).
    IsSlow,
}

/// What reached a subscriber, by topic.
pub(crate) type Notes = BTreeMap<String, Numbers>;

/// The numbers that came on one topic. Each has to come for the first time in its order.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    last: u64,
    /// Those that were left out: the broker must have refused them.
    missing: BTreeSet<u64>,
    /// How many came again.
    again: u64,
}

impl Numbers {
    /// Whether it came for the first time.
    fn take(&mut self, number: u64) -> bool {
        assert!(
            !self.missing.contains(&number),
            "{number} came late, or although it was refused"
        );
        let first = number > self.last;
        if first {
            self.missing.extend(self.last + 1..number);
            self.last = number;
        } else {
            self.again += 1;
        }
        first
    }
}

/// A packet that came with a message.
struct Delivery {
    qos: u8,
    pkid: u16,
    topic: String,
    payload: String,
}

impl Subscriber {
    /// A subscriber that has not begun.
    #[must_use]
    pub fn new(name: &'static str, level: u8, qos: u8, habit: Habit) -> Subscriber {
        Subscriber {
            name,
            level,
            qos,
            habit,
            came: AtomicU64::new(0),
        }
    }

    fn connect(&self) -> Connect<'static> {
        Connect {
            level: self.level,
            clean: false,
            // Session expiry of an hour; Receive Maximum 20.
            properties: match (self.level, self.habit) {
                (5, Habit::IsSlow) => b"\x11\x00\x00\x0e\x10\x21\x00\x14",
                (5, _) => b"\x11\x00\x00\x0e\x10",
                _ => b"",
            },
            ..Connect::v311(self.name)
        }
    }

    /// Subscribes, and goes.
    pub(crate) fn enrol(&self, weather: &Weather) {
        let (mut raw, _) = weather.connect(&self.connect());
        raw.subscribe(self.level, "load/#", self.qos);
        raw.disconnect();
    }

    /// Reads until so many topics have had their last message.
    ///
    /// # Panics
    /// When the broker has forgotten the session, or sends what it should not.
    pub(crate) fn run(&self, weather: &Weather, topics: usize) -> Notes {
        let (mut notes, mut ended) = (Notes::new(), HashSet::new());
        // QoS 2: identifiers of messages that came and were not released.
        let mut held = HashSet::new();
        let (mut count, mut rng) = (0, rand::rng());
        loop {
            let (mut raw, present) = weather.connect(&self.connect());
            assert!(present, "{}: the session is gone", self.name);
            let mut stay = match self.habit {
                Habit::Wanders => rng.random_range(1..STAY),
                _ => u32::MAX,
            };
            while let Some((first, body)) = raw.read() {
                let Some(delivery) = self.take(first, &body, &mut held, &mut raw) else {
                    continue;
                };
                let (number, end) = match delivery.payload.split_once(' ') {
                    Some((number, _)) => (number, true),
                    None => (delivery.payload.as_str(), false),
                };
                let numbers = notes.entry(delivery.topic.clone()).or_default();
                let fresh = delivery.qos < 2 || held.insert(delivery.pkid);
                if fresh && numbers.take(number.parse().unwrap()) {
                    self.came.fetch_add(1, Ordering::Relaxed);
                }
                if end {
                    ended.insert(delivery.topic);
                }
                stay -= 1;
                if stay == 0 && !weather.ending() {
                    break;
                }
                stay = stay.max(1);
                let answer = if delivery.qos == 2 { 0x50 } else { 0x40 };
                raw.send(&packet(answer, &delivery.pkid.to_be_bytes()));
                if ended.len() == topics {
                    return notes;
                }
                count += 1;
                if self.habit == Habit::Stalls && !weather.ending() && rng.random_ratio(1, STALL.0)
                {
                    std::thread::sleep(rng.random_range(Duration::ZERO..STALL.1));
                }
                if self.habit == Habit::IsSlow && count % REST.0 == 0 && !weather.ending() {
                    std::thread::sleep(REST.1);
                }
            }
        }
    }

    /// All numbers up to `count` came that were not refused, and no other. Returns how many came again.
    ///
    /// # Panics
    /// When one is missing; at QoS 2 also when one came again.
    pub(crate) fn assert_complete(&self, notes: &Notes, publisher: &Publisher, count: u64) -> u64 {
        let numbers = &notes[&format!("load/{}", publisher.name)];
        let who = format!("{} of {}", self.name, publisher.name);
        assert_eq!(numbers.last, count, "{who}");
        assert_eq!(
            numbers.missing,
            *publisher.refused.lock().unwrap(),
            "{who}: what is missing is what was refused"
        );
        let once = self.qos == 2 && publisher.qos == 2;
        assert!(
            !once || numbers.again == 0,
            "{who}: {} came again",
            numbers.again
        );
        numbers.again
    }

    /// Answers a PUBREL, or returns the message that came.
    fn take(
        &self,
        first: u8,
        body: &[u8],
        held: &mut HashSet<u16>,
        raw: &mut Raw,
    ) -> Option<Delivery> {
        let short = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
        if first == 0x62 {
            held.remove(&short(0));
            raw.send(&packet(0x70, &body[..2]));
            return None;
        }
        assert_eq!(first >> 4, 3, "{}: {first:x} {body:x?}", self.name);
        let qos = first >> 1 & 3;
        assert!((1..=self.qos).contains(&qos), "{}: QoS {qos}", self.name);
        let topic = 2 + usize::from(short(0));
        // The properties' length, which is below 128.
        let skip = match self.level {
            5 => 1 + usize::from(body[topic + 2]),
            _ => 0,
        };
        Some(Delivery {
            qos,
            pkid: short(topic),
            topic: String::from_utf8(body[2..topic].to_vec()).unwrap(),
            payload: String::from_utf8(body[topic + 2 + skip..].to_vec()).unwrap(),
        })
    }
}
