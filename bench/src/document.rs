//! `document`: all that is measured, written as a page with pictures.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser};
use thiserror::Error;

use crate::archive::{Archive, ArchiveError};
use crate::bars;
use crate::broker_process::Peer;
use crate::compare::{Compare, CompareError, Comparison, Work, command, machine};
use crate::pipe::{Pipe, PipeError};
use crate::report::{Report, Unit};

/// Where the page goes, and how much of it is measured.
#[derive(Args, Clone, Debug)]
pub(crate) struct Document {
    /// The page that is written. Its pictures go into a folder of the same name beside it
    #[arg(long, default_value = "docs/benchmarks.md")]
    page: PathBuf,
    /// One short round of everything, to see that it works: its figures mean little
    #[arg(long)]
    quick: bool,
    /// How often each broker has its turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// nats-server's program: a third broker, where it can do the work
    #[arg(long)]
    nats: Option<PathBuf>,
}

/// Why the page is not written.
#[derive(Debug, Error)]
pub(crate) enum DocumentError {
    /// Brokers could not be compared.
    #[error("{chapter}: {source}")]
    Compare {
        /// At what.
        chapter: &'static str,
        /// Why.
        source: CompareError,
    },
    /// The archiver could not be measured.
    #[error("archive: {0}")]
    Archive(#[from] ArchiveError),
    /// The whole way of a text could not be measured.
    #[error("pipe: {0}")]
    Pipe(#[from] PipeError),
    /// A picture could not be drawn.
    #[error("cannot draw {name}: {reason}")]
    Picture {
        /// Which.
        name: &'static str,
        /// The plotting library's reason.
        reason: String,
    },
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// What we mean to reach, beside mosquitto in the same run.
#[derive(Clone, Copy)]
enum Target {
    /// So many times as much, or more.
    Times(f64),
    /// At most so many times as much.
    AtMostTimes(f64),
    /// At most so much.
    AtMost(f64),
    /// None was set.
    None,
}

/// Work that brokers are compared at.
struct Chapter {
    /// Its picture's name.
    name: &'static str,
    title: &'static str,
    /// What it is about, and what to know of it.
    about: &'static str,
    work: &'static str,
    quick: &'static str,
    /// The figure that counts.
    figure: &'static str,
    target: Target,
    /// Whether NATS can do it.
    nats: bool,
}

const CHAPTERS: [Chapter; 7] = [
    Chapter {
        name: "throughput",
        title: "Messages a second",
        about: "Four publishers at full speed, each with a subscriber, QoS 1, 1 KiB, clean sessions. Nobody checks anything.",
        work: "throughput --seconds 4",
        quick: "throughput --seconds 1",
        figure: "delivered",
        target: Target::Times(6.0),
        nats: true,
    },
    Chapter {
        name: "watched",
        title: "Messages a second, with a reader of all inboxes",
        about: "The same, and one more subscriber that gets every message, as an archiver does.",
        work: "throughput --seconds 4 --watcher inbox/+",
        quick: "throughput --seconds 1 --watcher inbox/+",
        figure: "delivered",
        target: Target::Times(6.0),
        nats: true,
    },
    Chapter {
        name: "durable",
        title: "Messages a second that survive a power cut",
        about: "16 publishers, window 100, sessions that are kept. Sealpost acknowledges after fdatasync; mosquitto keeps everything in memory alone.",
        work: "throughput --seconds 4 --pairs 16 --window 100 --durable",
        quick: "throughput --seconds 1 --pairs 16 --window 100 --durable",
        figure: "acknowledged",
        target: Target::Times(2.0),
        nats: true,
    },
    Chapter {
        name: "latency",
        title: "From publish to delivery",
        about: "One message at a time, 500 a second, on an idle broker.",
        work: "latency --messages 2000",
        quick: "latency --messages 500",
        figure: "delivered p50",
        target: Target::AtMostTimes(1.6),
        nats: true,
    },
    Chapter {
        name: "idle",
        title: "Memory of a connection that is only there",
        about: "9,000 of them, each with one subscription, without TLS.",
        work: "idle --connections 9000",
        quick: "idle --connections 2000",
        figure: "memory of each",
        target: Target::AtMost(4.0),
        nats: false,
    },
    Chapter {
        name: "new-topic",
        title: "The first message on a new topic",
        about: "Beside one subscription, and beside 10,000 more of others. What counts is that it takes no longer the more users there are.",
        work: "new-topic",
        quick: "new-topic --filters 2000 --topics 500",
        figure: "p50 with many",
        target: Target::None,
        nats: false,
    },
    Chapter {
        name: "storm",
        title: "All come back at once",
        about: "5,000 clients with kept sessions and a message waiting for each, 256 on their way at a time, as after a cut of the network.",
        work: "storm --clients 5000",
        quick: "storm --clients 1000",
        figure: "all served after",
        target: Target::None,
        nats: false,
    },
];

/// What came of a page.
pub(crate) struct Documented {
    /// The page.
    pub(crate) text: String,
    /// What was lost or did not work.
    pub(crate) flaws: Vec<String>,
}

impl Document {
    /// Measures everything and writes the page. `deadline` and `patience` bound each run; `tell` hears of each as it ends.
    pub(crate) fn run(
        &self,
        deadline: Duration,
        patience: Duration,
        mut tell: impl FnMut(&str),
    ) -> Result<Documented, DocumentError> {
        let pictures = self.page.with_extension("");
        write(&pictures, |path| fs::create_dir_all(path))?;
        let folder = pictures
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let mut summary = String::from(
            "| work | mosquitto | sealpost | ratio | target |\n|---|---:|---:|---:|---|\n",
        );
        let mut chapters = String::new();
        let mut flaws = Vec::new();
        for chapter in &CHAPTERS {
            let comparison = self
                .compare(chapter)
                .run(deadline, patience, &mut tell)
                .map_err(|source| DocumentError::Compare {
                    chapter: chapter.name,
                    source,
                })?;
            let _ = writeln!(summary, "{}", row(chapter, &comparison));
            let path = pictures.join(format!("{}.svg", chapter.name));
            let picture = picture(chapter, &comparison)?;
            write(&path, |path| fs::write(path, &picture))?;
            let Chapter {
                name, title, about, ..
            } = chapter;
            let _ = write!(
                chapters,
                "## {title}\n\n{about}\n\n![{title}]({folder}/{name}.svg)\n\n{}",
                comparison.tables()
            );
            flaws.extend(comparison.flaws());
        }
        for (title, report) in self.own(deadline, patience, &mut tell)? {
            let _ = write!(chapters, "## {title}\n\n```text\n{}```\n\n", report.text());
            flaws.extend(report.flaws);
        }
        let text = format!(
            "# Benchmarks\n\nWritten by `make bench`. Each broker has its turn in each round, on the same machine, on loopback, on a fresh broker with no other load; \
             figures are medians (min to max) of {}, ratios the median of each round's. Every message is counted: what was lost, doubled, out of order or \
             damaged stands in capitals below its table.\n\nMachine: {}.\n\nCommand: `{}`\n\n{summary}\n{chapters}",
            match self.rounds() {
                1 => "one round".to_owned(),
                rounds => format!("{rounds} rounds"),
            },
            machine(),
            command(),
        );
        write(&self.page, |path| {
            fs::write(path, text.trim_end().to_owned() + "\n")
        })?;
        Ok(Documented { text, flaws })
    }

    fn rounds(&self) -> u32 {
        if self.quick { 1 } else { self.rounds }
    }

    fn compare(&self, chapter: &Chapter) -> Compare {
        let mut peers = vec![Peer::Mosquitto(None), Peer::Sealpost(None)];
        if let (Some(nats), true) = (&self.nats, chapter.nats) {
            peers.push(Peer::Nats(Some(nats.clone())));
        }
        let words = if self.quick {
            chapter.quick
        } else {
            chapter.work
        };
        Compare {
            peers,
            works: Work::parse_words(words).into_iter().collect(),
            rounds: self.rounds(),
        }
    }

    /// What brokers alone cannot do.
    fn own(
        &self,
        deadline: Duration,
        patience: Duration,
        tell: &mut impl FnMut(&str),
    ) -> Result<Vec<(&'static str, Report)>, DocumentError> {
        let rounds = self.rounds().to_string();
        let messages = if self.quick { "20000" } else { "200000" };
        let mut reports = Vec::new();
        for (title, through) in [
            ("The archiver, through mosquitto", "mosquitto"),
            ("The archiver, through Sealpost's broker", "sealpost"),
        ] {
            let archive = words::<ArchiveWords>(&[
                "--rounds",
                &rounds,
                "--messages",
                messages,
                "--through",
                through,
            ]);
            if let Some(ArchiveWords { archive }) = archive {
                reports.push((title, archive.run(deadline, patience, &mut *tell)?));
            }
        }
        let pipe = if self.quick {
            words::<PipeWords>(&["--bits", "2048", "--seconds", "1"])
        } else {
            words::<PipeWords>(&[])
        };
        if let Some(PipeWords { pipe }) = pipe {
            let measured = pipe.run(deadline, patience, |report| tell(&report.text()))?;
            reports.extend(
                measured
                    .into_iter()
                    .map(|report| ("The whole way of a text", report)),
            );
        }
        Ok(reports)
    }
}

/// The settings of `archive`, as on a command line.
#[derive(Parser)]
#[command(no_binary_name = true)]
struct ArchiveWords {
    #[command(flatten)]
    archive: Archive,
}

/// The settings of `pipe`, as on a command line.
#[derive(Parser)]
#[command(no_binary_name = true)]
struct PipeWords {
    #[command(flatten)]
    pipe: Pipe,
}

/// Settings that are always right: a test reads them all.
fn words<T: Parser>(words: &[&str]) -> Option<T> {
    T::try_parse_from(words).ok()
}

fn write(
    path: &PathBuf,
    action: impl FnOnce(&PathBuf) -> io::Result<()>,
) -> Result<(), DocumentError> {
    action(path).map_err(|source| DocumentError::Write {
        path: path.clone(),
        source,
    })
}

/// The line of a chapter in the table of all.
fn row(chapter: &Chapter, comparison: &Comparison) -> String {
    let of = |peer: usize| comparison.median(chapter.figure, peer);
    let cell = |peer: usize| of(peer).map_or("-".to_owned(), |(value, unit)| unit.format(value));
    let ratio = comparison.ratio(chapter.figure, 1);
    let met = |met: bool| if met { "met" } else { "not met" };
    let unit = of(1).map_or(Unit::Count, |(_, unit)| unit);
    let target = match (chapter.target, ratio) {
        (Target::Times(times), Some(ratio)) => format!("{times} times: {}", met(ratio >= times)),
        (Target::AtMostTimes(times), Some(ratio)) => {
            format!("at most {times} times: {}", met(ratio <= times))
        }
        (Target::AtMost(most), _) => format!(
            "at most {}: {}",
            unit.format(most),
            met(of(1).is_some_and(|(value, _)| value <= most))
        ),
        _ => String::new(),
    };
    format!(
        "| {}: {} | {} | {} | {} | {target} |",
        chapter.title,
        chapter.figure,
        cell(0),
        cell(1),
        ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}")),
    )
}

fn picture(chapter: &Chapter, comparison: &Comparison) -> Result<String, DocumentError> {
    let (bars, unit) = comparison.bars(chapter.figure);
    let caption = format!("{}, {}", chapter.figure, unit.name());
    bars::svg(&caption, &bars).map_err(|error| DocumentError::Picture {
        name: chapter.name,
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_settings_are_right() {
        for chapter in &CHAPTERS {
            for words in [chapter.work, chapter.quick] {
                assert!(Work::parse_words(words).is_ok(), "{words}");
            }
        }
        assert!(words::<PipeWords>(&["--bits", "2048", "--seconds", "1"]).is_some());
        assert!(words::<PipeWords>(&[]).is_some());
        let archive = [
            "--rounds",
            "1",
            "--messages",
            "20000",
            "--through",
            "sealpost",
        ];
        assert!(words::<ArchiveWords>(&archive).is_some());
    }
}
