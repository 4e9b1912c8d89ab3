//! The archiver as it is seen from outside: whether it lives and is ready, and its numbers for Prometheus.
//!
//! No number names a user or a topic: who talks to whom is in the log alone.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use sealpost_archive::layout::LogName;
use sealpost_archive::storage::{Directory, Storage as _};
use sealpost_service::Observed;
use sealpost_service::pen::{Pen, Process};

use crate::health::Health;

/// How long writing and syncing a batch may take. A disk that takes longer is failing.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is told, and of which archiver.
#[derive(Debug)]
pub struct Observer {
    health: Arc<Health>,
    numbers: Registry,
}

impl Observer {
    /// Of an archiver whose threads tell `health`, and which keeps its archive in `directory`, of whose disk `reserve` bytes are to
    /// stay free.
    #[must_use]
    pub fn new(health: Arc<Health>, directory: Directory, reserve: u64) -> Observer {
        let mut numbers = Registry::default();
        // Names that every program has, so without our prefix.
        numbers.register_collector(Box::new(Process));
        let ours = numbers.sub_registry_with_prefix("sealpost_archiver");
        ours.register(
            "build",
            "The archiver's version",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        ours.register_collector(Box::new(Readings {
            health: Arc::clone(&health),
            directory,
            reserve,
        }));
        Observer { health, numbers }
    }
}

impl Observed for Observer {
    async fn feel(&self) -> Result<(), String> {
        let busy = self
            .health
            .facts()
            .busy_since
            .and_then(|since| since.elapsed().ok());
        match busy.filter(|busy| *busy > PATIENCE) {
            Some(busy) => Err(format!(
                "a batch has been on its way to the disk for {} s",
                busy.as_secs()
            )),
            None => Ok(()),
        }
    }

    fn is_ready(&self) -> (bool, String) {
        let facts = self.health.facts();
        match (facts.no_room, facts.subscribed_since) {
            (Some((_, reason)), _) => (false, format!("no room: {reason}")),
            (None, None) => (false, "not subscribed".to_owned()),
            (None, Some(_)) => (true, "archiving".to_owned()),
        }
    }

    fn metrics(&self) -> Option<String> {
        let mut out = String::new();
        text::encode(&mut out, &self.numbers).ok()?;
        Some(out)
    }
}

/// What is read when somebody asks.
#[derive(Debug)]
struct Readings {
    health: Arc<Health>,
    directory: Directory,
    reserve: u64,
}

impl Collector for Readings {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let facts = self.health.facts();
        let mut pen = Pen::new(encoder);
        for log in LogName::ALL {
            let counts = facts.of(log);
            let name = log.as_str();
            for (what, help, value) in [
                ("written", "Lines written", counts.written),
                (
                    "unfit",
                    "Of these, what did not belong on its topic",
                    counts.unfit,
                ),
                (
                    "duplicates",
                    "What came again and was there already",
                    counts.duplicates,
                ),
            ] {
                pen.counter(&format!("{name}_{what}"), help, value)?;
            }
            let (signed, age) = match counts.signed {
                Some((at, lines)) => (lines, at.elapsed().unwrap_or_default()),
                None => (0, Duration::ZERO),
            };
            pen.gauge(
                &format!("{name}_signed_lines"),
                "Lines that the newest checkpoint of this life signs",
                None,
                signed,
            )?;
            pen.real(
                &format!("{name}_checkpoint_age"),
                "How long ago it was signed; 0 before the first",
                Some(&Unit::Seconds),
                age.as_secs_f64(),
            )?;
        }
        pen.gauge(
            "subscribed",
            "1 while the broker delivers",
            None,
            u64::from(facts.subscribed_since.is_some()),
        )?;
        pen.gauge(
            "disk_full",
            "1 while nothing is taken for want of room",
            None,
            u64::from(facts.no_room.is_some()),
        )?;
        if let Ok(free) = self.directory.free_bytes() {
            pen.gauge("disk_free", "Bytes that are free", Some(&Unit::Bytes), free)?;
        }
        pen.gauge(
            "disk_reserve",
            "Bytes that must stay free",
            Some(&Unit::Bytes),
            self.reserve,
        )?;
        let busy = facts
            .busy_since
            .and_then(|since| SystemTime::now().duration_since(since).ok());
        pen.real(
            "commit_busy",
            "For how long a batch has been on its way to the disk",
            Some(&Unit::Seconds),
            busy.unwrap_or_default().as_secs_f64(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_ready_while_it_is_subscribed_and_has_room() {
        let parent = tempfile::tempdir().unwrap();
        let health = Arc::new(Health::default());
        let directory = Directory::open(parent.path()).unwrap();
        let observer = Observer::new(Arc::clone(&health), directory, 7);
        assert_eq!(observer.is_ready(), (false, "not subscribed".to_owned()));
        health.subscribed();
        assert!(observer.is_ready().0);
        health.has_no_room("none is left");
        assert_eq!(
            observer.is_ready(),
            (false, "no room: none is left".to_owned())
        );
        assert_eq!(observer.feel().await, Ok(()), "it lives all the same");
        health.has_room();
        assert!(observer.is_ready().0);
        health.away("gone");
        assert!(!observer.is_ready().0);
    }

    #[test]
    fn its_numbers_are_those_of_the_threads() {
        let parent = tempfile::tempdir().unwrap();
        let health = Arc::new(Health::default());
        let directory = Directory::open(parent.path()).unwrap();
        let observer = Observer::new(Arc::clone(&health), directory, 7);
        health.archived(LogName::EncryptedLogs, 5, 1, 2);
        health.archived(LogName::KeyHistory, 3, 0, 0);
        let text = observer.metrics().unwrap();
        for line in [
            "sealpost_archiver_encrypted_logs_written_total 5",
            "sealpost_archiver_encrypted_logs_unfit_total 1",
            "sealpost_archiver_encrypted_logs_duplicates_total 2",
            "sealpost_archiver_key_history_written_total 3",
            "sealpost_archiver_subscribed 0",
            "sealpost_archiver_disk_reserve_bytes 7",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
