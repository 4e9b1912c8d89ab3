//! Numbers as Prometheus reads them: OpenMetrics text, written by its own library.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// What the text is (the OpenMetrics specification, section "Content type").
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Writes single numbers.
#[derive(Debug)]
pub struct Pen<'a>(DescriptorEncoder<'a>);

impl<'a> Pen<'a> {
    /// Writes with `encoder`.
    #[must_use]
    pub fn new(encoder: DescriptorEncoder<'a>) -> Pen<'a> {
        Pen(encoder)
    }

    /// A number that goes up and down.
    ///
    /// # Errors
    /// None that anybody has seen: writing into a string does not fail. So with the others.
    pub fn gauge(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: impl TryInto<u64>,
    ) -> fmt::Result {
        self.real(
            name,
            help,
            unit,
            // Exact up to 2^53, which is how Prometheus keeps numbers.
            #[expect(clippy::cast_precision_loss)]
            {
                value.try_into().unwrap_or(u64::MAX) as f64
            },
        )
    }

    /// The same, with a fraction.
    ///
    /// # Errors
    /// As [`Pen::gauge`].
    pub fn real(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: f64) -> fmt::Result {
        let gauge = ConstGauge::new(value);
        let encoder = self
            .0
            .encode_descriptor(name, help, unit, gauge.metric_type())?;
        gauge.encode(encoder)
    }

    /// A number that only grows.
    ///
    /// # Errors
    /// As [`Pen::gauge`].
    pub fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let counter = ConstCounter::new(value);
        let encoder = self
            .0
            .encode_descriptor(name, help, None, counter.metric_type())?;
        counter.encode(encoder)
    }
}

/// What is told of every process.
#[derive(Debug)]
pub struct Process;

impl Collector for Process {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        match resident_bytes() {
            Some(resident) => Pen::new(encoder).gauge(
                "process_resident_memory",
                "Resident memory size in bytes",
                Some(&Unit::Bytes),
                resident,
            ),
            None => Ok(()),
        }
    }
}

/// The process's resident memory, where the system tells it (Linux).
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let mut lines = status.lines();
    let line = lines.find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?;
    Some(kib * 1024)
}
