//! `latency`: one publisher, one subscriber, one message at a time on an idle broker.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use crate::connection::{Connection, ConnectionError, Limits};
use crate::frames::Frames;
use crate::ledger::{Ledger, MAX_MESSAGES};
use crate::load::{LoadError, Run, failed};
use crate::loopback::LoopbackAddr;
use crate::packet::{Packet, Qos};
use crate::publisher::Final;
use crate::report::{Report, Unit, add_latencies};
use crate::stamp::{Clock, Stamp, filler};
use crate::subscriber::Subscriber;
use crate::throughput::{add_counts, per_second};

/// What is published, and how often.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub(crate) struct Latency {
    /// Messages
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..=MAX_MESSAGES))]
    pub(crate) messages: u64,
    /// Messages a second: low enough that each finds the broker idle
    #[arg(long, default_value_t = 500.0)]
    pub(crate) rate: f64,
    /// Bytes of each payload; 24 at least
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(24..=1_048_576))]
    pub(crate) size: u32,
}

/// What the publisher saw.
#[derive(Default)]
struct Answers {
    acknowledged: u64,
    /// From handing a message to the socket to its PUBACK, in nanoseconds.
    latencies: Vec<u64>,
    /// Messages that left more than one interval after their time, because the one before took so long.
    late: u64,
    last: u64,
    error: Option<ConnectionError>,
}

impl Latency {
    /// The work in words.
    pub(crate) fn work(&self) -> String {
        let Self {
            messages,
            rate,
            size,
        } = self;
        format!("latency: {messages} messages, {rate} a second, {size} bytes, QoS 1")
    }

    /// Runs it once.
    pub(crate) fn run(
        &self,
        broker: LoopbackAddr,
        pid: Option<u32>,
        limits: Limits,
    ) -> Result<Report, LoadError> {
        let run = Run::new(broker, pid, limits);
        let topic = "inbox/bench-0";
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        let mut connection = run.connect("s0")?;
        connection
            .subscribe(topic, Qos::AtLeastOnce)
            .map_err(|source| failed("s0", source))?;
        let subscriber = Subscriber {
            connection,
            ledger: Ledger::new(run.number, 0, 1),
            filler: Arc::new(filler(size)),
            pace: None,
            timed: true,
            may_miss: false,
        };
        let publisher = run.connect("p0")?;
        let frames = Frames::new(topic, Qos::AtLeastOnce, size, 1);
        let done = [Final::unknown()];
        let clock = Clock::start();
        let (answers, received) = thread::scope(|scope| {
            let receiving = scope.spawn(|| subscriber.run(clock, &done));
            let answers = self.publish(publisher, frames, run.number, clock);
            done[0].set(answers.acknowledged);
            receiving
                .join()
                .map(|received| (answers, received))
                .map_err(|_| LoadError::Panicked)
        })?;

        let tally = received.ledger.close(&[answers.acknowledged]);
        let mut report = Report {
            work: self.work(),
            flaws: tally.flaws(),
            ..Report::default()
        };
        report
            .flaws
            .extend(answers.error.map(|error| format!("publisher: {error}")));
        report
            .flaws
            .extend(received.error.map(|error| format!("subscriber: {error}")));
        add_latencies(
            &mut report,
            [
                "delivered p50",
                "delivered p99",
                "delivered p99.9",
                "delivered max",
            ],
            received.latencies,
        );
        add_latencies(
            &mut report,
            [
                "acknowledged p50",
                "acknowledged p99",
                "acknowledged p99.9",
                "acknowledged max",
            ],
            answers.latencies,
        );
        report.add(
            "rate",
            per_second(answers.acknowledged, answers.last),
            Unit::PerSecond,
        );
        #[allow(clippy::cast_precision_loss)]
        report.add("sent late", answers.late as f64, Unit::Count);
        add_counts(&mut report, answers.acknowledged, &tally);
        Ok(report)
    }

    fn publish(
        &self,
        mut connection: Connection,
        mut frames: Frames,
        run: u32,
        clock: Clock,
    ) -> Answers {
        let mut answers = Answers::default();
        answers.error = self
            .publish_all(&mut connection, &mut frames, run, clock, &mut answers)
            .err();
        if answers.error.is_none() {
            connection.close();
        }
        answers
    }

    fn publish_all(
        &self,
        connection: &mut Connection,
        frames: &mut Frames,
        run: u32,
        clock: Clock,
        answers: &mut Answers,
    ) -> Result<(), ConnectionError> {
        let interval = Duration::from_secs_f64(1.0 / self.rate.clamp(0.1, 1e6));
        let mut due = Instant::now();
        for sequence in 0..self.messages {
            let now = Instant::now();
            if now < due {
                thread::sleep(due - now);
            } else if now > due + interval {
                // The schedule starts anew, so that no burst makes up for the delay: it would not find the broker idle.
                answers.late += 1;
                due = now;
            }
            due += interval;
            let sent = clock.now();
            frames.stamp(
                0,
                &Stamp {
                    run,
                    publisher: 0,
                    sequence,
                    sent,
                },
            );
            connection.send(frames.bytes(0, 1))?;
            wait_for_ack(connection)?;
            answers.last = clock.now();
            answers.latencies.push(answers.last - sent);
            answers.acknowledged += 1;
        }
        Ok(())
    }
}

fn wait_for_ack(connection: &mut Connection) -> Result<(), ConnectionError> {
    let asked = Instant::now();
    loop {
        match connection.next_packet()? {
            Some(Packet::PubAck { .. }) => return Ok(()),
            Some(other) => return Err(ConnectionError::Unexpected(format!("{other:?}"), "PUBACK")),
            None => {}
        }
        if connection.fill()? == 0
            && let Some(exceeded) = connection.limits().exceeded(asked)
        {
            return Err(exceeded);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy_broker::{self, Fault};

    #[test]
    fn every_message_is_timed() {
        let latency = Latency {
            messages: 100,
            rate: 2000.0,
            size: 200,
        };
        let report = latency
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
        assert_eq!(figure("messages"), 100.0);
        assert!(
            figure("delivered p50") > 0.0 && figure("delivered p50") <= figure("delivered max")
        );
    }
}
