//! Counters and gauges that the broker counts in as it goes.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::access::admission::Denied;
use crate::protocol::outcome::Outcome;
use crate::protocol::packet::Version;

/// One label and its value. Every value is a word of this program, never of a client.
pub type Label = [(&'static str, &'static str); 1];

/// A connection's version and transport.
type Kind = [(&'static str, &'static str); 2];

/// Publishes, by how they ended.
#[derive(Debug)]
pub struct PublishMeter {
    family: Family<Label, Counter>,
    // Looked up once, so that counting is one atomic addition.
    counters: [(Outcome, Counter); Outcome::ALL.len()],
}

impl Default for PublishMeter {
    fn default() -> PublishMeter {
        let family = Family::<Label, Counter>::default();
        let counter = |outcome: Outcome| {
            let label = [("outcome", outcome.word())];
            (outcome, family.get_or_create_owned(&label))
        };
        PublishMeter {
            counters: Outcome::ALL.map(counter),
            family,
        }
    }
}

impl PublishMeter {
    /// Counts a publish.
    pub fn count(&self, outcome: Outcome) {
        if let Some(counter) = self.counter(outcome) {
            counter.inc();
        }
    }

    /// Publishes that ended so.
    #[must_use]
    pub fn counted(&self, outcome: Outcome) -> u64 {
        self.counter(outcome).map_or(0, Counter::get)
    }

    fn counter(&self, outcome: Outcome) -> Option<&Counter> {
        let kind = std::mem::discriminant(&outcome);
        let mut counters = self.counters.iter();
        let found = counters.find(|(known, _)| std::mem::discriminant(known) == kind);
        found.map(|(_, counter)| counter)
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "publishes",
            "Publishes of clients, of any QoS, by how they ended",
            self.family.clone(),
        );
    }
}

/// What carries a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Carrier {
    /// TCP alone.
    #[default]
    Tcp,
    /// TLS.
    Tls,
    /// WebSocket on TCP.
    WebSocket,
    /// WebSocket inside TLS.
    SecureWebSocket,
}

impl Carrier {
    const ALL: [Carrier; 4] = [
        Carrier::Tcp,
        Carrier::Tls,
        Carrier::WebSocket,
        Carrier::SecureWebSocket,
    ];

    fn word(self) -> &'static str {
        match self {
            Carrier::Tcp => "tcp",
            Carrier::Tls => "tls",
            Carrier::WebSocket => "ws",
            Carrier::SecureWebSocket => "wss",
        }
    }
}

/// Connections and logins.
#[derive(Debug)]
pub struct EntranceMeter {
    connections: Family<Kind, Gauge>,
    logins: Family<Label, Counter>,
    turned_away: Counter,
}

impl Default for EntranceMeter {
    fn default() -> EntranceMeter {
        let meter = EntranceMeter {
            connections: Family::default(),
            logins: Family::default(),
            turned_away: Counter::default(),
        };
        // There from the start, so that a query finds 0 and not nothing.
        for version in [Version::V311, Version::V5] {
            for carrier in Carrier::ALL {
                let _ = meter.connections.get_or_create(&kind(version, carrier));
            }
        }
        for word in std::iter::once(ACCEPTED).chain(Denied::WORDS) {
            let _ = meter.logins.get_or_create(&[("outcome", word)]);
        }
        meter
    }
}

const ACCEPTED: &str = "accepted";

fn kind(version: Version, carrier: Carrier) -> Kind {
    let version = match version {
        Version::V311 => "3.1.1",
        Version::V5 => "5",
    };
    [("version", version), ("transport", carrier.word())]
}

/// Counts a connection for as long as it lives.
#[derive(Debug)]
pub struct Connected(Gauge);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl EntranceMeter {
    /// A client has its session.
    #[must_use]
    pub fn connected(&self, version: Version, carrier: Carrier) -> Connected {
        let gauge = self
            .connections
            .get_or_create_owned(&kind(version, carrier));
        gauge.inc();
        Connected(gauge)
    }

    /// Somebody was let in.
    pub fn logged_in(&self) {
        self.logins.get_or_create(&[("outcome", ACCEPTED)]).inc();
    }

    /// Somebody was not let in, for the reason that this word names.
    pub fn turned_away(&self, why: &'static str) {
        self.logins.get_or_create(&[("outcome", why)]).inc();
    }

    /// A connection was closed unheard, for there were too many, of all or of its address.
    pub fn turned_away_at_the_door(&self) {
        self.turned_away.inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "connections_turned_away",
            "Connections that were closed unheard, for there were too many, of all or of their address",
            self.turned_away.clone(),
        );
        registry.register(
            "connections",
            "Clients that have sent their CONNECT and were let in, by version of MQTT and transport",
            self.connections.clone(),
        );
        registry.register(
            "logins",
            "CONNECT packets that asked to be let in, by how that ended",
            self.logins.clone(),
        );
    }
}

/// The journal's groups.
#[derive(Debug, Clone)]
pub struct CommitMeter {
    seconds: Histogram,
    changes: Histogram,
}

impl Default for CommitMeter {
    fn default() -> CommitMeter {
        CommitMeter {
            // From a fast disk's 0.1 ms to the 6.5 s of one that is failing.
            seconds: Histogram::new(exponential_buckets(0.000_1, 2.0, 17)),
            // From one to the 16,384 that come in a flood.
            changes: Histogram::new(exponential_buckets(1.0, 4.0, 8)),
        }
    }
}

impl CommitMeter {
    /// A group of so many changes was written and synced in so many seconds. Groups that nobody waits for, and that are
    /// therefore not synced, are not counted.
    pub fn synced(&self, changes: usize, took: std::time::Duration) {
        self.seconds.observe(took.as_secs_f64());
        // Exact up to 2^53.
        #[expect(clippy::cast_precision_loss)]
        self.changes.observe(changes as f64);
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "journal_commit",
            "How long writing and syncing a group of changes took, which publishers wait for",
            Unit::Seconds,
            self.seconds.clone(),
        );
        registry.register(
            "journal_group_changes",
            "Changes in a group that was synced",
            self.changes.clone(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_is_counted_under_its_own_word() {
        let meter = PublishMeter::default();
        for (times, outcome) in Outcome::ALL.into_iter().enumerate() {
            for _ in 0..times {
                meter.count(outcome);
            }
        }
        let mut registry = Registry::default();
        meter.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for (times, outcome) in Outcome::ALL.into_iter().enumerate() {
            let line = format!(
                "publishes_total{{outcome=\"{}\"}} {times}\n",
                outcome.word()
            );
            assert!(text.contains(&line), "{line}{text}");
        }
    }

    #[test]
    fn a_connection_counts_until_it_is_dropped() {
        let meter = EntranceMeter::default();
        let connected = meter.connected(Version::V5, Carrier::Tls);
        let count = || {
            meter
                .connections
                .get_or_create_owned(&kind(Version::V5, Carrier::Tls))
        };
        assert_eq!(count().get(), 1);
        drop(connected);
        assert_eq!(count().get(), 0);
    }
}
