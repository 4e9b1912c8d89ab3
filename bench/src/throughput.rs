//! `throughput`: publishers at full speed, each to its own topic with its own subscriber.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use crate::connection::Limits;
use crate::frames::Frames;
use crate::ledger::{Ledger, MAX_MESSAGES, Tally};
use crate::load::{Audience, LoadError, Outcome, Run, failed, run_load};
use crate::loopback::LoopbackAddr;
use crate::packet::Qos;
use crate::publisher::{Publisher, Quota};
use crate::report::{Report, Unit};
use crate::stamp::{Clock, filler};
use crate::subscriber::Subscriber;

/// Messages of a run that was told neither a number nor a time: some seconds of work for the slower brokers.
const DEFAULT_MESSAGES: u64 = 200_000;

/// What is published, how, and who listens.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub(crate) struct Throughput {
    /// Publishers, each with a topic and a subscriber of its own
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) pairs: u32,
    /// Bytes of each payload; 24 at least
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(24..=1_048_576))]
    pub(crate) size: u32,
    /// Messages of all publishers together [default: 200000, or without end if --seconds is given]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=MAX_MESSAGES))]
    pub(crate) messages: Option<u64>,
    /// Publish for so many seconds, so that fast and slow brokers work for the same time
    #[arg(long)]
    pub(crate) seconds: Option<f64>,
    /// Quality of service of publishers and subscribers: 0 or 1
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=1))]
    pub(crate) qos: u8,
    /// Messages that each publisher may have unacknowledged
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) window: u16,
    /// Subscribers have sessions that are kept: the broker has to keep each message until its subscriber has it
    #[arg(long)]
    pub(crate) durable: bool,
    /// One more subscriber, to this filter, that has to get the messages of all: for example inbox/+
    #[arg(long)]
    pub(crate) watcher: Option<String>,
    /// Topics are this and the pair's number
    #[arg(long, default_value = "inbox/bench-")]
    pub(crate) topic: String,
}

impl Throughput {
    /// The work in words.
    pub(crate) fn work(&self) -> String {
        let Self {
            pairs,
            size,
            qos,
            window,
            durable,
            ..
        } = self;
        let kept = if *durable { ", kept sessions" } else { "" };
        let watched = self.watcher.as_ref().map_or(String::new(), |filter| {
            format!(", one more subscriber to {filter}")
        });
        format!(
            "throughput: {pairs} pairs, {size} bytes, QoS {qos}, window {window}{kept}{watched}"
        )
    }

    /// Runs it once.
    pub(crate) fn run(
        &self,
        broker: LoopbackAddr,
        pid: Option<u32>,
        limits: Limits,
    ) -> Result<Report, LoadError> {
        let run = Run::new(broker, pid, limits);
        let qos = if self.qos == 0 {
            Qos::AtMostOnce
        } else {
            Qos::AtLeastOnce
        };
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        let filler = Arc::new(filler(size));
        let topic = |number: u32| format!("{}{number}", self.topic);

        let mut audiences = Vec::new();
        let mut publishers = Vec::new();
        if let Some(filter) = &self.watcher {
            let pairs = usize::try_from(self.pairs).unwrap_or(0);
            audiences.push(audience(
                &run,
                "watcher",
                filter,
                qos,
                Ledger::new(run.number, 0, pairs),
                0..pairs,
                &filler,
                self.durable,
            )?);
        }
        for (place, number) in (0..self.pairs).enumerate() {
            let ledger = Ledger::new(run.number, number, 1);
            let publisher = place..place + 1;
            audiences.push(audience(
                &run,
                &format!("s{number}"),
                &topic(number),
                qos,
                ledger,
                publisher,
                &filler,
                self.durable,
            )?);
            publishers.push(Publisher {
                connection: run.connect(&format!("p{number}"))?,
                frames: Frames::new(&topic(number), qos, size, usize::from(self.window)),
                qos,
                run: run.number,
                number,
            });
        }
        let messages = self.messages.unwrap_or(if self.seconds.is_some() {
            u64::MAX
        } else {
            DEFAULT_MESSAGES
        });
        let quota = Quota {
            messages: messages.div_ceil(u64::from(self.pairs)),
            time: self
                .seconds
                .map(|seconds| Duration::from_secs_f64(seconds.clamp(0.0, 86_400.0))),
        };
        let outcome = run_load(&run, Clock::start(), publishers, quota, audiences);
        if self.durable {
            let roles = (0..self.pairs).map(|number| format!("s{number}"));
            for role in roles.chain(self.watcher.is_some().then(|| "watcher".to_owned())) {
                // A clean session of the same client id ends the kept one.
                if let Ok(connection) = run.connect(&role) {
                    connection.close();
                }
            }
        }
        Ok(self.report(&outcome?))
    }

    fn report(&self, outcome: &Outcome) -> Report {
        let mut report = Report {
            work: self.work(),
            flaws: outcome.flaws.clone(),
            ..Report::default()
        };
        let (watchers, subscribers) = outcome
            .received
            .split_at(usize::from(self.watcher.is_some()).min(outcome.received.len()));
        let acknowledged: u64 = outcome
            .published
            .iter()
            .map(|published| published.acknowledged)
            .sum();
        let acknowledged_in = outcome
            .published
            .iter()
            .map(|published| published.last)
            .max()
            .unwrap_or(0);
        report.add(
            "acknowledged",
            per_second(acknowledged, acknowledged_in),
            Unit::PerSecond,
        );

        let mut pairs = Tally::default();
        for (_, tally) in subscribers {
            pairs.add(tally);
        }
        let mut end = subscribers
            .iter()
            .map(|(received, _)| received.last)
            .max()
            .unwrap_or(0);
        report.add(
            "delivered",
            per_second(pairs.received, end),
            Unit::PerSecond,
        );
        for (received, tally) in watchers {
            report.add(
                "watched",
                per_second(tally.received, received.last),
                Unit::PerSecond,
            );
            pairs.add(tally);
            end = end.max(received.last);
        }
        add_counts(&mut report, acknowledged, &pairs);
        add_processes(&mut report, outcome, end.max(acknowledged_in));
        report
    }
}

/// A connected and subscribed session, clean or kept.
#[expect(clippy::too_many_arguments)]
fn audience(
    run: &Run,
    role: &str,
    filter: &str,
    qos: Qos,
    ledger: Ledger,
    publishers: std::ops::Range<usize>,
    filler: &Arc<Vec<u8>>,
    durable: bool,
) -> Result<Audience, LoadError> {
    let mut connection = if durable {
        run.connect_durably(role)?
    } else {
        run.connect(role)?
    };
    connection
        .subscribe(filter, qos)
        .map_err(|source| failed(role, source))?;
    let subscriber = Subscriber {
        connection,
        ledger,
        filler: Arc::clone(filler),
        pace: None,
        timed: false,
        may_miss: qos == Qos::AtMostOnce,
    };
    Ok(Audience {
        role: format!("subscriber {role}"),
        subscriber,
        publishers,
    })
}

/// Adds how many messages there were, and what became of them.
pub(crate) fn add_counts(report: &mut Report, messages: u64, tally: &Tally) {
    for (name, count) in [
        ("messages", messages),
        ("lost", tally.lost),
        ("duplicated", tally.duplicates),
        ("out of order", tally.disorder),
        ("damaged", tally.damaged + tally.foreign),
    ] {
        #[allow(clippy::cast_precision_loss)]
        report.add(name, count as f64, Unit::Count);
    }
}

/// Adds what the processes used while it ran, `end` nanoseconds.
pub(crate) fn add_processes(report: &mut Report, outcome: &Outcome, end: u64) {
    let seconds = seconds(end);
    report.add("time", seconds, Unit::Seconds);
    if let Some(cpu) = outcome.own_cpu {
        report.add("generator cpu", cpu / seconds, Unit::Cores);
    }
    if let Some(cpu) = outcome.broker_cpu {
        report.add("broker cpu", cpu / seconds, Unit::Cores);
    }
    if let Some(bytes) = outcome.broker_memory {
        #[allow(clippy::cast_precision_loss)]
        report.add(
            "broker memory, most",
            bytes as f64 / (1024.0 * 1024.0),
            Unit::Mebibytes,
        );
    }
}

/// Nanoseconds as seconds, never 0.
pub(crate) fn seconds(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds.max(1)).as_secs_f64()
}

/// A rate.
pub(crate) fn per_second(count: u64, nanoseconds: u64) -> f64 {
    #[allow(clippy::cast_precision_loss)]
    let count = count as f64;
    count / seconds(nanoseconds)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::toy_broker::{self, Fault};

    #[derive(Parser)]
    #[command(no_binary_name = true)]
    struct Words {
        #[command(flatten)]
        throughput: Throughput,
    }

    fn run(fault: Fault, arguments: &str) -> Report {
        let words = Words::parse_from(arguments.split_whitespace());
        words
            .throughput
            .run(toy_broker::start(fault), None, toy_broker::limits())
            .unwrap()
    }

    fn figure(report: &Report, name: &str) -> f64 {
        report
            .figures
            .iter()
            .find(|figure| figure.name == name)
            .unwrap()
            .value
    }

    #[test]
    fn a_broker_that_does_its_work_has_no_flaw() {
        let report = run(Fault::None, "--messages 4000 --size 100 --window 10");
        assert_eq!(report.flaws, [""; 0]);
        assert_eq!(figure(&report, "messages"), 4000.0);
        let report = run(Fault::None, "--messages 2000 --pairs 2 --watcher inbox/+");
        assert_eq!(report.flaws, [""; 0]);
        assert!(figure(&report, "watched") > 0.0);
    }

    #[test]
    fn a_run_can_be_bounded_by_time() {
        let report = run(Fault::None, "--seconds 0.2 --pairs 1 --window 1");
        assert_eq!(report.flaws, [""; 0]);
        assert!(
            (0.1..5.0).contains(&figure(&report, "time")),
            "{}",
            report.text()
        );
    }

    #[test]
    fn each_fault_of_a_broker_is_reported() {
        let faults = [
            (Fault::Loses, "subscriber s0: 1 of 200 LOST"),
            (Fault::Repeats, "subscriber s0: 1 of 200 DUPLICATED"),
            (Fault::Swaps, "subscriber s0: 1 of 200 OUT OF ORDER"),
            (Fault::Damages, "subscriber s0: 1 of 200 DAMAGED"),
        ];
        for (fault, flaw) in faults {
            let report = run(fault, "--messages 200 --pairs 1");
            assert!(
                report.flaws.iter().any(|found| found == flaw),
                "{fault:?}: {:?}",
                report.flaws
            );
        }
    }

    #[test]
    fn what_is_missing_at_qos_0_is_counted_and_is_no_stall() {
        let report = run(Fault::Loses, "--messages 200 --pairs 1 --qos 0");
        assert_eq!(report.flaws, ["subscriber s0: 1 of 200 LOST"]);
    }

    #[test]
    fn a_broker_that_stops_is_a_stall_and_not_a_hang() {
        let report = run(Fault::Stops, "--messages 200 --pairs 1 --window 1");
        assert!(
            report
                .flaws
                .iter()
                .any(|flaw| flaw.starts_with("publisher 0: STALLED")),
            "{:?}",
            report.flaws
        );
        assert!(
            report.text().contains("(49 of 50 messages acknowledged)"),
            "{:?}",
            report.flaws
        );
    }

    #[test]
    fn a_broker_that_closes_the_connection_is_reported() {
        let report = run(Fault::Closes, "--messages 200 --pairs 1 --window 1");
        let closed =
            "publisher 0: the broker closed the connection (49 of 50 messages acknowledged)";
        assert_eq!(report.flaws, [closed]);
    }
}
