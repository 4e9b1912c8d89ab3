//! `slow-reader`: a durable subscriber that takes its time while a publisher does not.

use std::sync::Arc;

use clap::Args;

use crate::connection::{Connection, Introduction, Limits};
use crate::frames::Frames;
use crate::ledger::{Ledger, MAX_MESSAGES};
use crate::load::{Audience, LoadError, Run, failed, run_load};
use crate::loopback::LoopbackAddr;
use crate::packet::Qos;
use crate::publisher::{Publisher, Quota};
use crate::report::{Report, Unit};
use crate::stamp::{Clock, filler};
use crate::subscriber::Subscriber;
use crate::throughput::{add_counts, add_processes, per_second};

/// Bytes of the slow reader's buffer: small, so that what it did not take yet waits in the broker and not here.
const SLOW_READ_BUFFER: usize = 16 * 1024;

/// What is published, and how slowly it is taken.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub(crate) struct SlowReader {
    /// Messages
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=MAX_MESSAGES))]
    pub(crate) messages: u64,
    /// Messages a second that the subscriber takes
    #[arg(long, default_value_t = 10_000.0)]
    pub(crate) rate: f64,
    /// Bytes of each payload; 24 at least
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(24..=1_048_576))]
    pub(crate) size: u32,
    /// Messages that the publisher may have unacknowledged
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) window: u16,
}

impl SlowReader {
    /// The work in words.
    pub(crate) fn work(&self) -> String {
        let Self {
            messages,
            rate,
            size,
            window,
        } = self;
        format!(
            "slow-reader: {messages} messages of {size} bytes, window {window}; a durable subscriber takes {rate} a second"
        )
    }

    /// Runs it once, and leaves no session behind.
    pub(crate) fn run(
        &self,
        broker: LoopbackAddr,
        pid: Option<u32>,
        limits: Limits,
    ) -> Result<Report, LoadError> {
        let run = Run::new(broker, pid, limits);
        let client_id = run.client_id("slow");
        let topic = "inbox/bench-slow";
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        let durable = Introduction {
            client_id: &client_id,
            clean_session: false,
            credentials: None,
        };
        let mut connection = Connection::open(broker, &durable, limits, SLOW_READ_BUFFER)
            .map_err(|source| failed("slow reader", source))?;
        connection
            .subscribe(topic, Qos::AtLeastOnce)
            .map_err(|source| failed("slow reader", source))?;
        let subscriber = Subscriber {
            connection,
            ledger: Ledger::new(run.number, 0, 1),
            filler: Arc::new(filler(size)),
            pace: Some(self.rate.clamp(1.0, 1e7)),
            timed: false,
            may_miss: false,
        };
        let publisher = Publisher {
            connection: run.connect("p0")?,
            frames: Frames::new(topic, Qos::AtLeastOnce, size, usize::from(self.window)),
            qos: Qos::AtLeastOnce,
            run: run.number,
            number: 0,
        };
        let audience = Audience {
            role: "slow reader".to_owned(),
            subscriber,
            publishers: 0..1,
        };
        let quota = Quota {
            messages: self.messages,
            time: None,
        };
        let outcome = run_load(&run, Clock::start(), vec![publisher], quota, vec![audience]);
        // A clean session of the same client id ends the durable one.
        let clean = Introduction {
            client_id: &client_id,
            clean_session: true,
            credentials: None,
        };
        if let Ok(connection) = Connection::open(broker, &clean, limits, 1024) {
            connection.close();
        }
        let outcome = outcome?;

        let mut report = Report {
            work: self.work(),
            flaws: outcome.flaws.clone(),
            ..Report::default()
        };
        let mut end = 0;
        for published in &outcome.published {
            report.add(
                "acknowledged",
                per_second(published.acknowledged, published.last),
                Unit::PerSecond,
            );
            end = end.max(published.last);
        }
        for (received, tally) in &outcome.received {
            report.add(
                "taken",
                per_second(tally.received, received.last),
                Unit::PerSecond,
            );
            end = end.max(received.last);
            add_counts(&mut report, tally.expected, tally);
        }
        add_processes(&mut report, &outcome, end);
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy_broker::{self, Fault};

    #[test]
    fn a_slow_reader_gets_everything_at_its_own_pace() {
        let slow_reader = SlowReader {
            messages: 1000,
            rate: 2000.0,
            size: 200,
            window: 100,
        };
        let report = slow_reader
            .run(toy_broker::start(Fault::None), None, toy_broker::limits())
            .unwrap();
        assert_eq!(report.flaws, [""; 0]);
        let figure = |name| {
            report
                .figures
                .iter()
                .find(|figure| figure.name == name)
                .unwrap()
                .value
        };
        assert!(figure("taken") < 2200.0, "{}", report.text());
    }

    #[test]
    fn a_loss_behind_a_slow_reader_is_reported() {
        let slow_reader = SlowReader {
            messages: 200,
            rate: 2000.0,
            size: 200,
            window: 100,
        };
        let report = slow_reader
            .run(toy_broker::start(Fault::Loses), None, toy_broker::limits())
            .unwrap();
        assert!(
            report
                .flaws
                .contains(&"slow reader: 1 of 200 LOST".to_owned()),
            "{:?}",
            report.flaws
        );
    }
}
