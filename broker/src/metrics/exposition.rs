//! The numbers as Prometheus reads them: OpenMetrics text, written by its own library.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use sealpost_service::pen::{Pen, Process};

use crate::broker::Broker;
use crate::lifetime::Phase;
use crate::order::router_link::CREDIT_BYTES;

/// All that can be told of a broker.
#[derive(Debug)]
pub struct Exposition(Registry);

impl Exposition {
    /// Of this broker.
    #[must_use]
    pub fn of(broker: &Arc<Broker>) -> Exposition {
        let mut all = Registry::default();
        // Names that every program has, so without our prefix.
        all.register_collector(Box::new(Process));
        let ours = all.sub_registry_with_prefix("sealpost");
        ours.register(
            "build",
            "The broker's version",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        broker.board.totals().publishes.register(ours);
        broker.entrance.register(ours);
        broker.board.journal().meter().register(ours);
        ours.register_collector(Box::new(Readings(Arc::clone(broker))));
        Exposition(all)
    }

    /// As text.
    ///
    /// # Errors
    /// None that anybody has seen: writing into a string does not fail.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.0)?;
        Ok(out)
    }
}

/// What is read off the broker when somebody asks.
#[derive(Debug)]
struct Readings(Arc<Broker>);

impl Collector for Readings {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Readings(broker) = self;
        let mut pen = Pen::new(encoder);
        let bytes = Some(&Unit::Bytes);
        let limits = &broker.settings.limits;

        let load = broker.board.load();
        pen.gauge(
            "sessions",
            "Sessions, connected or not",
            None,
            load.sessions,
        )?;
        pen.gauge(
            "retained_messages",
            "Retained messages that are no key bundles",
            None,
            load.retained,
        )?;
        pen.gauge(
            "queue_messages",
            "Messages that all sessions are owed, those sent and not acknowledged too",
            None,
            load.messages,
        )?;
        pen.gauge(
            "queue",
            "Bytes that all kept mailboxes are owed",
            bytes,
            load.kept_bytes,
        )?;
        pen.gauge(
            "mail",
            "Bytes that users' mailboxes are owed and that have to be kept",
            bytes,
            load.mail_bytes,
        )?;
        pen.gauge(
            "mail_limit",
            "Bytes of mail of all users; as it gets near, those who hold most are refused more",
            bytes,
            limits.total_mailbox_bytes,
        )?;
        // Exact: at most a few thousand.
        #[expect(clippy::cast_precision_loss)]
        let fullest = load.fullest as f64 / 1_000.0;
        pen.real(
            "queue_fullest_ratio",
            "How full the fullest mailbox or archiver's queue is in messages, of all sessions of its owner",
            None,
            fullest,
        )?;
        pen.real(
            "queue_oldest",
            "How long the message that has waited longest has waited at least",
            Some(&Unit::Seconds),
            load.oldest.as_secs_f64(),
        )?;
        pen.counter(
            "deliveries",
            "Messages sent to subscribers; one that is sent again counts again",
            load.sent,
        )?;
        pen.counter(
            "dropped",
            "Messages of QoS 0 that were dropped because a reader was slow or away",
            load.dropped,
        )?;
        pen.counter(
            "expired",
            "Messages that expired before they were delivered",
            load.expired,
        )?;

        let totals = broker.board.totals();
        for (name, help, counter) in [
            (
                "sessions_ended_full",
                "Sessions that were ended with what they were owed, because their owner held all that it may",
                &totals.ended_full,
            ),
            (
                "archivers_parted",
                "Of these, archivers'",
                &totals.archivers_parted,
            ),
            (
                "clean_sessions_too_slow",
                "Clean sessions that were disconnected because they held up those who wrote to them",
                &totals.too_slow,
            ),
        ] {
            pen.counter(name, help, counter.load(Ordering::Relaxed))?;
        }

        let journal = broker.board.journal();
        pen.gauge(
            "journal_full",
            "1 while there is so little room on the disk that nothing that must be kept is taken",
            None,
            u64::from(journal.is_full()),
        )?;
        pen.gauge(
            "journal_pending",
            "Bytes of messages that wait to be written",
            bytes,
            journal.pending_bytes(),
        )?;
        if let Some(free) = journal.free() {
            pen.gauge(
                "disk_free",
                "Bytes that are free on the journal's disk",
                bytes,
                free,
            )?;
        }
        pen.gauge(
            "disk_reserve",
            "Bytes that must stay free on the journal's disk",
            bytes,
            limits.disk_reserve,
        )?;

        pen.gauge(
            "router_outstanding",
            "Bytes that went into the router and have not come out yet",
            bytes,
            broker.order.outstanding_bytes(),
        )?;
        pen.gauge(
            "router_limit",
            "Bytes that may be in the router; then publishers wait",
            bytes,
            CREDIT_BYTES,
        )?;
        pen.gauge(
            "users",
            "Names that are taken, offered or were removed",
            None,
            broker.registry.len(),
        )?;
        pen.gauge(
            "ready",
            "1 while the broker serves and is not about to end",
            None,
            u64::from(broker.life.phase() == Phase::Ready),
        )
    }
}
