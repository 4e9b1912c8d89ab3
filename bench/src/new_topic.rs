//! `new-topic`: the first message on a topic that the broker has never seen, while others have many subscriptions. A broker that
//! asks each of them takes longer with each.

use std::time::Instant;

use clap::Args;

use crate::connection::{Connection, Limits};
use crate::load::{LoadError, Run, failed};
use crate::loopback::LoopbackAddr;
use crate::packet::{Packet, Qos, put_publish};
use crate::report::{Report, add_latencies};

/// How many subscriptions each connection has: fewer than every broker allows.
const EACH: u32 = 500;

/// How many subscriptions there are, and how many new topics.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub(crate) struct NewTopic {
    /// Subscriptions of others, each to a topic of its own
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    filters: u32,
    /// New topics
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    topics: u32,
}

impl NewTopic {
    /// Runs it once.
    pub(crate) fn run(
        &self,
        broker: LoopbackAddr,
        pid: Option<u32>,
        limits: Limits,
    ) -> Result<Report, LoadError> {
        let run = Run::new(broker, pid, limits);
        let mut watcher = run.connect("w")?;
        watcher
            .subscribe("inbox/+", Qos::AtMostOnce)
            .map_err(|source| failed("w", source))?;
        let mut publisher = run.connect("p")?;
        let few = self.publish(&run, "few", &mut publisher, &mut watcher)?;
        let others = (0..self.filters.div_ceil(EACH))
            .map(|number| self.listen(&run, number))
            .collect::<Result<Vec<_>, LoadError>>()?;
        let many = self.publish(&run, "many", &mut publisher, &mut watcher)?;
        drop(others);
        let mut report = Report {
            work: format!(
                "new-topic: first message on each of {} topics, with 1 subscription and with {} more",
                self.topics, self.filters
            ),
            ..Report::default()
        };
        add_latencies(
            &mut report,
            ["p50 with 1", "p99 with 1", "p99.9 with 1", "max with 1"],
            few,
        );
        add_latencies(
            &mut report,
            [
                "p50 with many",
                "p99 with many",
                "p99.9 with many",
                "max with many",
            ],
            many,
        );
        Ok(report)
    }

    /// Nanoseconds from the publisher's write to the delivery, for each topic.
    fn publish(
        &self,
        run: &Run,
        phase: &str,
        publisher: &mut Connection,
        watcher: &mut Connection,
    ) -> Result<Vec<u64>, LoadError> {
        let mut latencies = Vec::new();
        let mut out = Vec::new();
        for number in 0..self.topics {
            out.clear();
            let topic = format!("inbox/{phase}-{number}-{:08x}", run.number);
            put_publish(&mut out, &topic, Qos::AtMostOnce, false, 0, b"the first");
            let begun = Instant::now();
            publisher.send(&out).map_err(|source| failed("p", source))?;
            watcher
                .wait_for(|packet| match packet {
                    Packet::Publish { topic: came, .. } => {
                        (*came == topic.as_bytes()).then_some(())
                    }
                    _ => None,
                })
                .map_err(|source| failed("w", source))?;
            latencies.push(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        Ok(latencies)
    }

    fn listen(&self, run: &Run, number: u32) -> Result<Connection, LoadError> {
        let role = format!("f{number}");
        let mut connection = run.connect_small(&role, true)?;
        let from = number * EACH;
        for filter in from..(from + EACH).min(self.filters) {
            connection
                .subscribe(&format!("inbox/bench-{filter}"), Qos::AtLeastOnce)
                .map_err(|source| failed(&role, source))?;
        }
        Ok(connection)
    }
}
