//! `idle`: connections that are only there, each subscribed to its own inbox. What does one cost the broker in memory?

use std::time::Instant;

use clap::Args;

use crate::connection::{Connection, Limits};
use crate::load::{LoadError, Run, failed};
use crate::loopback::LoopbackAddr;
use crate::packet::Qos;
use crate::process_stats::ProcessStats;
use crate::report::{Report, Unit};

/// Bytes of a KiB.
const KIB: f64 = 1024.0;

/// How many are there.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub(crate) struct Idle {
    /// Connections. Two files each have to be allowed: ulimit -n
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    connections: u32,
}

impl Idle {
    /// Runs it once.
    pub(crate) fn run(
        &self,
        broker: LoopbackAddr,
        pid: Option<u32>,
        limits: Limits,
    ) -> Result<Report, LoadError> {
        let run = Run::new(broker, pid, limits);
        // What the broker sets up with its first connection is no cost of the ten thousandth.
        let mut connections = vec![self.listen(&run, 0)?];
        let resident = || pid.and_then(ProcessStats::of).map(|stats| stats.memory);
        let before = resident();
        let begun = Instant::now();
        for number in 1..=self.connections {
            connections.push(self.listen(&run, number)?);
        }
        let took = begun.elapsed().as_secs_f64();
        let mut report = Report {
            work: format!(
                "idle: {} connections, each subscribed to a topic of its own",
                self.connections
            ),
            ..Report::default()
        };
        let count = f64::from(self.connections);
        if let (Some(before), Some(after)) = (before, resident()) {
            // Exact up to 2^53.
            let grown = after.saturating_sub(before) as f64;
            report.add("memory of each", grown / count / KIB, Unit::Kibibytes);
            report.add("memory of all", after as f64 / KIB / KIB, Unit::Mebibytes);
        }
        report.add("connected", count / took, Unit::PerSecond);
        Ok(report)
    }

    fn listen(&self, run: &Run, number: u32) -> Result<Connection, LoadError> {
        let role = format!("i{number}");
        let mut connection = run.connect_small(&role, true)?;
        connection
            .subscribe(&format!("inbox/bench-{number}"), Qos::AtLeastOnce)
            .map_err(|source| failed(&role, source))?;
        Ok(connection)
    }
}
