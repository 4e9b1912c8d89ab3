//! `$SYS/broker/…`: what the broker tells of itself, for operators and their dashboards.
//!
//! The names are those that other brokers have made common. Each value is a retained message that the broker itself
//! makes, at QoS 0; it is told again when it has changed. No user content is in any of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::broker::Broker;
use crate::delivery::board::Load;
use crate::protocol::message::Message;
use crate::protocol::topic_name::TopicName;

/// How often values are told, at most.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Minutes that loads are averaged over.
const AVERAGES: [u32; 3] = [1, 5, 15];

/// Publishes that have passed through the broker's doors since its start.
#[derive(Debug, Default)]
pub struct Traffic {
    received: AtomicU64,
}

impl Traffic {
    /// Counts a publish from a client.
    pub fn count_received(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }
}

/// Tells, until it is dropped.
pub async fn tell(broker: Arc<Broker>) {
    let mut sys = Sys::default();
    let started = Instant::now();
    let mut every = tokio::time::interval(TELL_EVERY);
    loop {
        let now = every.tick().await;
        let seconds = now.saturating_duration_since(started).as_secs();
        for message in sys.news(&broker, seconds) {
            broker.board.announce(&Arc::new(message));
        }
    }
}

#[derive(Debug, Default)]
struct Sys {
    told: HashMap<String, String>,
    received: Average,
    sent: Average,
}

impl Sys {
    /// The values that have changed since they were last asked for.
    fn news(&mut self, broker: &Broker, uptime: u64) -> Vec<Message> {
        let load = broker.board.load();
        let received = broker.traffic.received.load(Ordering::Relaxed);
        self.received.go_on(received);
        self.sent.go_on(load.sent);
        let values = self.values(&load, received, uptime);
        let mut news = Vec::new();
        for (name, value) in values {
            if self.told.get(&name) == Some(&value) {
                continue;
            }
            let topic = format!("$SYS/broker/{name}");
            let Ok(topic) = TopicName::parse(topic.as_bytes()) else {
                continue;
            };
            news.push(Message {
                // Never in the journal, which is what numbers are for.
                number: 0,
                topic,
                payload: Bytes::from(value.clone()),
                properties: None,
                expires: None,
                sender: None,
                supersedes: false,
            });
            self.told.insert(name, value);
        }
        news
    }

    fn values(&self, load: &Load, received: u64, uptime: u64) -> Vec<(String, String)> {
        let away = load.sessions.saturating_sub(load.connected);
        let mut values = vec![
            (
                "version",
                concat!("sealpost-broker ", env!("CARGO_PKG_VERSION")).into(),
            ),
            ("uptime", format!("{uptime} seconds")),
            ("clients/connected", load.connected.to_string()),
            ("clients/disconnected", away.to_string()),
            ("clients/total", load.sessions.to_string()),
            ("messages/received", received.to_string()),
            ("messages/sent", load.sent.to_string()),
            ("publish/messages/dropped", load.dropped.to_string()),
            ("messages/expired", load.expired.to_string()),
            ("retained messages/count", load.retained.to_string()),
            ("store/messages/bytes", load.kept_bytes.to_string()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect::<Vec<_>>();
        for (direction, average) in [("received", &self.received), ("sent", &self.sent)] {
            for (minutes, value) in AVERAGES.iter().zip(average.per_minute) {
                let name = format!("load/messages/{direction}/{minutes}min");
                values.push((name, format!("{value:.2}")));
            }
        }
        values
    }
}

/// Moving averages of a count per minute.
#[derive(Debug, Default)]
struct Average {
    last: u64,
    per_minute: [f64; AVERAGES.len()],
}

impl Average {
    /// Another interval has passed.
    fn go_on(&mut self, count: u64) {
        let new = u32::try_from(count.saturating_sub(self.last)).unwrap_or(u32::MAX);
        self.last = count;
        let interval = TELL_EVERY.as_secs_f64();
        let rate = f64::from(new) * 60.0 / interval;
        for (minutes, average) in AVERAGES.iter().zip(&mut self.per_minute) {
            let weight = 1.0 - (-interval / (60.0 * f64::from(*minutes))).exp();
            *average += (rate - *average) * weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_approach_a_steady_rate_and_forget_it() {
        let mut average = Average::default();
        let mut count = 0;
        // Ten a second for an hour.
        for _ in 0..720 {
            count += 50;
            average.go_on(count);
        }
        for per_minute in average.per_minute {
            assert!((580.0..=600.0).contains(&per_minute), "{per_minute}");
        }
        for _ in 0..720 {
            average.go_on(count);
        }
        assert!(average.per_minute[0] < 0.01);
    }

    #[test]
    fn every_name_is_a_topic() {
        for (name, _) in Sys::default().values(&Load::default(), 0, 0) {
            assert!(TopicName::parse(name.as_bytes()).is_ok(), "{name}");
        }
    }
}
