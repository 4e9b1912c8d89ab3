//! `sealpost-bench`: measures an MQTT broker of this machine, and counts every message on the way.
//!
//! It speaks MQTT 3.1.1 itself, with threads, blocking sockets, and large reads and writes, so that the broker is
//! what is measured and not the generator.

#![forbid(unsafe_code)]

mod archive;
mod archive_reader;
mod archiver_process;
mod bars;
mod broker_process;
mod child_process;
mod compare;
mod connection;
mod decryption_key;
mod document;
mod frames;
mod idle;
mod latency;
mod ledger;
mod load;
mod loopback;
mod new_topic;
mod opener;
mod opening_subscriber;
mod packet;
mod party;
mod pipe;
mod process_stats;
mod publisher;
mod report;
mod rest;
mod sealed_text;
mod sealing_publisher;
mod slow_reader;
mod stamp;
mod storm;
mod subscriber;
mod throughput;
#[cfg(test)]
mod toy_broker;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use serde_json::{Value, json};

use crate::archive::Archive;
use crate::compare::{Compare, Work};
use crate::connection::Limits;
use crate::document::Document;
use crate::idle::Idle;
use crate::latency::Latency;
use crate::loopback::LoopbackAddr;
use crate::new_topic::NewTopic;
use crate::pipe::Pipe;
use crate::report::Report;
use crate::slow_reader::SlowReader;
use crate::storm::Storm;
use crate::throughput::Throughput;

/// Measures MQTT brokers on this machine, and counts every message: a run that lost one says so in capitals.
///
/// Exit status: 0 every message came once, in order and whole; 1 something was lost or did not work; 2 usage.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print one JSON object instead of text
    #[arg(long, global = true)]
    json: bool,
    /// Seconds after which a run ends, whatever is missing then
    #[arg(long, global = true, default_value_t = 120.0)]
    deadline: f64,
    /// Seconds without any progress that are a stall
    #[arg(long, global = true, default_value_t = 10.0)]
    patience: f64,
}

#[derive(Subcommand)]
enum Command {
    /// Publishers at full speed, each with its own topic and subscriber: messages a second
    Throughput(Once<Throughput>),
    /// One message at a time through an idle broker: microseconds from publish to delivery and to PUBACK
    Latency(Once<Latency>),
    /// A durable subscriber that takes its time while a publisher does not: is any message lost?
    SlowReader(Once<SlowReader>),
    /// Connections that are only there: what each costs the broker in memory
    Idle(Once<Idle>),
    /// The first message on topics that are new, beside many subscriptions: microseconds
    NewTopic(Once<NewTopic>),
    /// Clients with kept sessions that return at once: how long until each has what waited for it
    Storm(Once<Storm>),
    /// The same work on several brokers in turn: a table of medians and ratios
    Compare(Compare),
    /// The archiver beside a plain subscriber that writes to a file: lines a second, and what each costs
    Archive(Archive),
    /// The whole way of a text, with login, broker and archiver: sealed, routed, archived, opened
    Pipe(Pipe),
    /// All of it, written as a page with pictures
    Document(Document),
}

/// Work that is done once, on a broker that runs already.
#[derive(Args)]
struct Once<W: Args> {
    #[command(flatten)]
    broker: Broker,
    #[command(flatten)]
    work: W,
}

/// The broker that is measured.
#[derive(Args)]
struct Broker {
    /// Where it listens; a loopback address
    #[arg(long, default_value = "127.0.0.1:1883")]
    broker: LoopbackAddr,
    /// Its process, to report what it uses
    #[arg(long)]
    pid: Option<u32>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sealpost-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all was well.
fn run(cli: &Cli) -> Result<bool, Box<dyn Error>> {
    let seconds = |seconds: f64| Duration::from_secs_f64(seconds.clamp(0.1, 86_400.0));
    let (deadline, patience) = (seconds(cli.deadline), seconds(cli.patience));
    let (text, json, flawless) = match &cli.command {
        Command::Throughput(once) => once.run(Work::Throughput, deadline, patience)?,
        Command::Latency(once) => once.run(Work::Latency, deadline, patience)?,
        Command::SlowReader(once) => once.run(Work::SlowReader, deadline, patience)?,
        Command::Idle(once) => once.run(Work::Idle, deadline, patience)?,
        Command::NewTopic(once) => once.run(Work::NewTopic, deadline, patience)?,
        Command::Storm(once) => once.run(Work::Storm, deadline, patience)?,
        Command::Compare(compare) => {
            let comparison = compare.run(deadline, patience, |progress| eprintln!("{progress}"))?;
            (
                comparison.text(),
                comparison.json(),
                comparison.flaws().is_empty(),
            )
        }
        Command::Archive(archive) => {
            let report = archive.run(deadline, patience, |progress| eprintln!("{progress}"))?;
            (report.text(), report.json(), report.flaws.is_empty())
        }
        Command::Pipe(pipe) => {
            let reports = pipe.run(deadline, patience, |report| eprintln!("{}", report.text()))?;
            let text: Vec<String> = reports.iter().map(Report::text).collect();
            let flawless = reports.iter().all(|report| report.flaws.is_empty());
            (
                text.join("\n"),
                reports.iter().map(Report::json).collect(),
                flawless,
            )
        }
        Command::Document(document) => {
            let page = document.run(deadline, patience, |progress| eprintln!("{progress}"))?;
            for flaw in &page.flaws {
                eprintln!("{flaw}");
            }
            (page.text.clone(), json!(page.flaws), page.flaws.is_empty())
        }
    };
    if cli.json {
        println!("{json}");
    } else {
        print!("{text}");
    }
    Ok(flawless)
}

impl<W: Args + Clone> Once<W> {
    fn run(
        &self,
        work: fn(W) -> Work,
        deadline: Duration,
        patience: Duration,
    ) -> Result<(String, Value, bool), Box<dyn Error>> {
        let Broker { broker, pid } = self.broker;
        let limits = Limits::from_now(deadline, patience);
        let report = work(self.work.clone()).run(broker, pid, limits)?;
        Ok((report.text(), report.json(), report.flaws.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
