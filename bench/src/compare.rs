//! `compare`: the same work on several brokers in turn, so that a machine that drifts drifts for all of them.

use std::fmt::Write as _;
use std::time::Duration;

use clap::{Args, Parser};
use serde_json::{Value, json};
use thiserror::Error;

use crate::bars::Bar;
use crate::broker_process::{BrokerError, Peer};
use crate::connection::Limits;
use crate::idle::Idle;
use crate::latency::Latency;
use crate::load::LoadError;
use crate::loopback::LoopbackAddr;
use crate::new_topic::NewTopic;
use crate::report::{Report, Spread, Unit};
use crate::slow_reader::SlowReader;
use crate::storm::Storm;
use crate::throughput::Throughput;

/// The work of a comparison that names none.
const DEFAULT_WORK: [&str; 3] = [
    "throughput --seconds 4",
    "throughput --seconds 4 --watcher inbox/+",
    "latency --messages 2000",
];

/// One kind of work, with its settings.
#[derive(Clone, Debug, Parser)]
#[command(no_binary_name = true)]
pub(crate) enum Work {
    /// Publishers at full speed
    Throughput(Throughput),
    /// One message at a time
    Latency(Latency),
    /// A durable subscriber that takes its time
    SlowReader(SlowReader),
    /// Connections that are only there
    Idle(Idle),
    /// The first message on topics that are new
    NewTopic(NewTopic),
    /// Clients that return at once
    Storm(Storm),
}

impl Work {
    /// Reads it as it is written on the command line, without the program's name.
    pub(crate) fn parse_words(text: &str) -> Result<Self, String> {
        Self::try_parse_from(text.split_whitespace()).map_err(|error| error.to_string())
    }

    /// Does it once.
    pub(crate) fn run(
        &self,
        broker: LoopbackAddr,
        pid: Option<u32>,
        limits: Limits,
    ) -> Result<Report, LoadError> {
        match self {
            Self::Throughput(throughput) => throughput.run(broker, pid, limits),
            Self::Latency(latency) => latency.run(broker, pid, limits),
            Self::SlowReader(slow_reader) => slow_reader.run(broker, pid, limits),
            Self::Idle(idle) => idle.run(broker, pid, limits),
            Self::NewTopic(new_topic) => new_topic.run(broker, pid, limits),
            Self::Storm(storm) => storm.run(broker, pid, limits),
        }
    }
}

/// Who is compared, at what, and how often.
#[derive(Args, Clone, Debug)]
pub(crate) struct Compare {
    /// The brokers; the first is what the others are measured against. `mosquitto[:PATH]`, `sealpost[:PATH]` or
    /// NAME@HOST:PORT for one that runs already
    #[arg(long = "peer", default_values = ["mosquitto", "sealpost"])]
    pub(crate) peers: Vec<Peer>,
    /// What they do, as a subcommand with its settings; can be given several times
    #[arg(long = "work", value_parser = Work::parse_words, default_values = DEFAULT_WORK)]
    pub(crate) works: Vec<Work>,
    /// How often each does it, in turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: u32,
}

/// Why a comparison could not be made.
#[derive(Debug, Error)]
pub(crate) enum CompareError {
    /// A broker did not start.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// A run could not be made.
    #[error("{peer}: {source}")]
    Load {
        /// With which broker.
        peer: String,
        /// Why.
        source: LoadError,
    },
}

/// The reports of one kind of work: for each peer, one for each round.
struct Series {
    reports: Vec<Vec<Report>>,
}

/// A comparison that was made.
pub(crate) struct Comparison {
    command: String,
    rounds: u32,
    machine: String,
    /// Name and version of each peer.
    peers: Vec<String>,
    series: Vec<Series>,
}

/// One line of the table.
struct Line {
    figure: &'static str,
    unit: Unit,
    /// For each peer.
    spreads: Vec<Option<Spread>>,
    /// For each peer but the first: the middle of what it is of the first, round by round.
    ratios: Vec<Option<f64>>,
}

impl Compare {
    /// Makes it. `deadline` and `patience` bound each run; `tell` hears of each run as it ends.
    pub(crate) fn run(
        &self,
        deadline: Duration,
        patience: Duration,
        mut tell: impl FnMut(&str),
    ) -> Result<Comparison, CompareError> {
        let peers = self
            .peers
            .iter()
            .map(|peer| {
                Ok(format!("{} {}", peer.name(), peer.version()?)
                    .trim()
                    .to_owned())
            })
            .collect::<Result<Vec<String>, BrokerError>>()?;
        let mut series = Vec::new();
        for work in &self.works {
            let mut reports = vec![Vec::new(); peers.len()];
            for round in 1..=self.rounds {
                for ((peer, name), reports) in self.peers.iter().zip(&peers).zip(&mut reports) {
                    // A fresh broker each time: nothing of one run is left for the next.
                    let broker = peer.start()?;
                    let limits = Limits::from_now(deadline, patience);
                    let report =
                        work.run(broker.addr(), broker.pid(), limits)
                            .map_err(|source| CompareError::Load {
                                peer: name.clone(),
                                source,
                            })?;
                    tell(&format!(
                        "round {round} of {}, {name}: {}",
                        self.rounds,
                        report.text()
                    ));
                    reports.push(report);
                }
            }
            series.push(Series { reports });
        }
        Ok(Comparison {
            command: command(),
            rounds: self.rounds,
            machine: machine(),
            peers,
            series,
        })
    }
}

/// What this program was called with, as it can be typed again.
pub(crate) fn command() -> String {
    let arguments = std::env::args().skip(1);
    ["sealpost-bench".to_owned()]
        .into_iter()
        .chain(arguments.map(|argument| quoted(&argument)))
        .collect::<Vec<_>>()
        .join(" ")
}

/// An argument as a shell reads it.
fn quoted(argument: &str) -> String {
    if argument.contains(|c: char| c.is_whitespace() || "'\"\\$`*?[]#~&;|<>()".contains(c)) {
        format!("'{}'", argument.replace('\'', r"'\''"))
    } else {
        argument.to_owned()
    }
}

/// Processor and system, as Linux names them.
pub(crate) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find(|line| line.starts_with("model name"))
        .and_then(|line| line.split_once(": "));
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{cores} cores, {}, Linux {}",
        model.map_or("unknown processor", |(_, model)| model),
        kernel.trim()
    )
}

impl Series {
    fn work(&self) -> &str {
        self.reports
            .iter()
            .flatten()
            .next()
            .map_or("", |report| &report.work)
    }

    /// The figures of the reports, in their order.
    fn lines(&self) -> Vec<Line> {
        let Some(first) = self.reports.iter().flatten().next() else {
            return Vec::new();
        };
        first
            .figures
            .iter()
            .map(|figure| {
                let values: Vec<Vec<f64>> = self
                    .reports
                    .iter()
                    .map(|rounds| {
                        rounds
                            .iter()
                            .filter_map(|report| value(report, figure.name))
                            .collect()
                    })
                    .collect();
                let base = values.first().cloned().unwrap_or_default();
                let ratios = values
                    .iter()
                    .skip(1)
                    .map(|values| ratio(&base, values))
                    .collect();
                let spreads = values.into_iter().map(Spread::of).collect();
                Line {
                    figure: figure.name,
                    unit: figure.unit,
                    spreads,
                    ratios,
                }
            })
            .collect()
    }

    fn flaws(&self, peers: &[String]) -> Vec<String> {
        let mut flaws = Vec::new();
        for (peer, rounds) in peers.iter().zip(&self.reports) {
            for (round, report) in (1..).zip(rounds) {
                flaws.extend(
                    report
                        .flaws
                        .iter()
                        .map(|flaw| format!("{peer}, round {round}: {flaw}")),
                );
            }
        }
        flaws
    }
}

fn value(report: &Report, name: &str) -> Option<f64> {
    report
        .figures
        .iter()
        .find(|figure| figure.name == name)
        .map(|figure| figure.value)
}

/// The middle of the ratios of runs that followed each other.
fn ratio(base: &[f64], values: &[f64]) -> Option<f64> {
    let ratios: Vec<f64> = base
        .iter()
        .zip(values)
        .filter(|(base, _)| **base > 0.0)
        .map(|(base, value)| value / base)
        .collect();
    Spread::of(ratios).map(|spread| spread.median)
}

impl Comparison {
    /// What went wrong in any run.
    pub(crate) fn flaws(&self) -> Vec<String> {
        self.series
            .iter()
            .flat_map(|series| series.flaws(&self.peers))
            .collect()
    }

    /// The middle of a figure for a peer by its place, of the first work that has it.
    pub(crate) fn median(&self, figure: &str, peer: usize) -> Option<(f64, Unit)> {
        let line = self.line(figure)?;
        let spread = line.spreads.get(peer).copied().flatten()?;
        Some((spread.median, line.unit))
    }

    /// What a peer by its place, which is not the first, has of the first's.
    pub(crate) fn ratio(&self, figure: &str, peer: usize) -> Option<f64> {
        let line = self.line(figure)?;
        line.ratios.get(peer.checked_sub(1)?).copied().flatten()
    }

    /// A figure of all peers, to be drawn.
    pub(crate) fn bars(&self, figure: &str) -> (Vec<Bar>, Unit) {
        let Some(line) = self.line(figure) else {
            return (Vec::new(), Unit::Count);
        };
        let bar = |(name, spread): (&String, &Option<Spread>)| {
            spread.map(|Spread { median, min, max }| Bar {
                name: name.clone(),
                median,
                min,
                max,
            })
        };
        let bars = self.peers.iter().zip(&line.spreads).filter_map(bar);
        (bars.collect(), line.unit)
    }

    fn line(&self, figure: &str) -> Option<Line> {
        self.series
            .iter()
            .flat_map(Series::lines)
            .find(|line| line.figure == figure)
    }

    /// As tables in Markdown, and what they mean.
    pub(crate) fn text(&self) -> String {
        let first = self.peers.first().map_or("", String::as_str);
        format!(
            "{}Median (min to max) of {} rounds, the brokers in turn; ratio: median of each round's, to {first}.\n\
             Machine: {}.\nCommand: {}\n",
            self.tables(),
            self.rounds,
            self.machine,
            self.command
        )
    }

    /// As tables in Markdown.
    pub(crate) fn tables(&self) -> String {
        let mut text = String::new();
        for series in &self.series {
            let _ = writeln!(text, "{}\n", series.work());
            let mut rows = vec![vec!["".to_owned()]];
            if let Some(header) = rows.first_mut() {
                header.extend(self.peers.iter().cloned());
                header.extend(self.peers.iter().skip(1).map(|_| "ratio".to_owned()));
            }
            for line in series.lines() {
                let mut row = vec![line.figure.to_owned()];
                row.extend(line.spreads.iter().map(|spread| cell(line.unit, *spread)));
                row.extend(
                    line.ratios
                        .iter()
                        .map(|ratio| ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"))),
                );
                rows.push(row);
            }
            text.push_str(&table(&rows));
            let flaws = series.flaws(&self.peers);
            for flaw in &flaws {
                let _ = writeln!(text, "\n{flaw}");
            }
            if flaws.is_empty() {
                text.push_str("\nNothing lost, duplicated, out of order or damaged.\n");
            }
            text.push('\n');
        }
        text
    }

    /// As JSON, with every round.
    pub(crate) fn json(&self) -> Value {
        let series: Vec<Value> = self
            .series
            .iter()
            .map(|series| {
                let figures: Vec<Value> = series.lines().iter().map(|line| self.line_json(line)).collect();
                let rounds: Vec<Value> = self
                    .peers
                    .iter()
                    .zip(&series.reports)
                    .map(|(peer, reports)| {
                        json!({ "peer": peer, "reports": reports.iter().map(Report::json).collect::<Vec<_>>() })
                    })
                    .collect();
                json!({ "work": series.work(), "figures": figures, "flaws": series.flaws(&self.peers), "rounds": rounds })
            })
            .collect();
        json!({
            "command": self.command,
            "machine": self.machine,
            "rounds": self.rounds,
            "peers": self.peers,
            "series": series,
        })
    }

    fn line_json(&self, line: &Line) -> Value {
        let peers: Vec<Value> = self
            .peers
            .iter()
            .zip(&line.spreads)
            .map(|(peer, spread)| match spread {
                Some(Spread { median, min, max }) => {
                    json!({ "peer": peer, "median": median, "min": min, "max": max })
                }
                None => json!({ "peer": peer }),
            })
            .collect();
        json!({ "figure": line.figure, "unit": line.unit.name(), "peers": peers, "ratios": line.ratios })
    }
}

fn cell(unit: Unit, spread: Option<Spread>) -> String {
    match spread {
        None => "-".to_owned(),
        #[allow(clippy::float_cmp)]
        Some(Spread { median, min, max }) if min == max => unit.format(median),
        Some(Spread { median, min, max }) => {
            format!(
                "{} ({} to {})",
                unit.format(median),
                unit.number(min),
                unit.number(max)
            )
        }
    }
}

/// Rows of equal length, the first of them the header, as a Markdown table whose columns stand in line.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for (place, row) in rows.iter().enumerate() {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ = if column == 0 {
                write!(text, "| {cell:<width$} ")
            } else {
                write!(text, "| {cell:>width$} ")
            };
        }
        text.push_str("|\n");
        if place == 0 {
            for (column, width) in widths.iter().enumerate() {
                let dashes = "-".repeat(width + 1);
                let _ = if column == 0 {
                    write!(text, "|{dashes}-")
                } else {
                    write!(text, "|{dashes}:")
                };
            }
            text.push_str("|\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(rate: f64) -> Report {
        let mut report = Report {
            work: "work".into(),
            ..Report::default()
        };
        report.add("delivered", rate, Unit::PerSecond);
        report
    }

    fn comparison() -> Comparison {
        let reports = vec![
            vec![report(10.0), report(20.0), report(40.0)],
            vec![report(60.0), report(60.0), report(80.0)],
        ];
        Comparison {
            command: "compare".into(),
            rounds: 3,
            machine: "machine".into(),
            peers: vec!["a 1".into(), "b 2".into()],
            series: vec![Series { reports }],
        }
    }

    #[test]
    fn the_ratio_is_the_middle_of_each_rounds_ratio() {
        let lines = comparison().series[0].lines();
        assert_eq!(
            lines[0].spreads[0],
            Some(Spread {
                median: 20.0,
                min: 10.0,
                max: 40.0
            })
        );
        assert_eq!(lines[0].ratios, [Some(3.0)]);
    }

    #[test]
    fn the_table_says_medians_ends_and_ratio() {
        let text = comparison().text();
        assert!(
            text.contains("| delivered | 20/s (10 to 40) | 60/s (60 to 80) |  3.00 |"),
            "{text}"
        );
    }

    #[test]
    fn a_flaw_is_told_with_its_broker_and_its_round() {
        let mut comparison = comparison();
        comparison.series[0].reports[1][2]
            .flaws
            .push("1 of 2 LOST".into());
        assert_eq!(comparison.flaws(), ["b 2, round 3: 1 of 2 LOST"]);
        assert!(comparison.text().contains("\nb 2, round 3: 1 of 2 LOST\n"));
        assert_eq!(
            comparison.json()["series"][0]["flaws"][0],
            "b 2, round 3: 1 of 2 LOST"
        );
    }

    #[test]
    fn work_is_written_as_on_the_command_line() {
        for words in DEFAULT_WORK {
            assert!(Work::parse_words(words).is_ok(), "{words}");
        }
        assert!(matches!(
            Work::parse_words("slow-reader --rate 5"),
            Ok(Work::SlowReader(_))
        ));
        assert!(Work::parse_words("throughput --pairs 0").is_err());
    }

    #[test]
    fn the_command_can_be_typed_again() {
        assert_eq!(quoted("--rounds"), "--rounds");
        assert_eq!(
            quoted("throughput --watcher inbox/+"),
            "'throughput --watcher inbox/+'"
        );
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
