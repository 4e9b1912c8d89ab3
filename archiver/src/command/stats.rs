//! `stats`: an archive in numbers.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sealpost_archive::log_reader::LogReader;
use sealpost_archive::query::Query;
use sealpost_archive::stats::{Amount, Stats};

use super::{archive, plot, print, progress_of_lines, shown};
use crate::cli::reading::StatsArgs;
use crate::exit::ProgramError;
use crate::moment::Moment;

/// How many senders and recipients people are shown: those with the most bytes.
const SHOWN: usize = 20;

/// Counts, and prints.
///
/// # Errors
/// [`ProgramError`].
pub fn run(flags: &StatsArgs) -> Result<(), ProgramError> {
    let directory = archive(&flags.dir)?;
    let reader = LogReader::open(&directory, flags.log.into())?;
    let first = reader.first().unwrap_or(1);
    let lines = reader.last()?.map_or(0, |(last, _)| last + 1 - first);
    let query = Query {
        since: flags.since.map(|Moment(at)| at),
        until: flags.until.map(|Moment(at)| at),
        ..Query::default()
    };
    let bar = progress_of_lines(lines, "stats");
    let mut stats = Stats::default();
    query.run(&reader, 1).for_each(|line| {
        stats.add(line.archived_at, line.bytes);
        if line.seq.is_multiple_of(4_096) {
            bar.set_position(line.seq + 1 - first);
        }
        true
    })?;
    bar.finish_and_clear();
    if let Some(path) = &flags.plot {
        let svg = plot::svg(&stats)
            .map_err(|error| ProgramError::Setup("draw the picture", error.to_string()))?;
        std::fs::write(path, svg).map_err(|error| ProgramError::Input {
            path: path.clone(),
            reason: error.to_string(),
        })?;
    }
    if flags.json {
        let json = serde_json::to_string(&stats)
            .map_err(|error| ProgramError::Setup("write JSON", error.to_string()))?;
        print(&format!("{json}\n"));
    } else {
        print(&text(&stats));
    }
    Ok(())
}

/// What people read.
fn text(stats: &Stats) -> String {
    let mut text = String::new();
    let kinds = [
        ("envelopes", stats.envelopes),
        ("key bundles", stats.bundles),
        ("unfit", stats.unfit),
        ("erased", stats.erased),
        ("records", stats.records),
        ("damaged", stats.damaged),
        ("all", stats.all),
    ];
    let some = kinds
        .iter()
        .filter(|(name, amount)| amount.lines > 0 || *name == "all");
    let some: Vec<(String, Amount)> = some
        .map(|(name, amount)| ((*name).to_owned(), *amount))
        .collect();
    table(&mut text, "kind", &some);
    let days: Vec<(String, Amount)> = stats
        .days
        .iter()
        .map(|(day, amount)| (day.clone(), *amount))
        .collect();
    table(&mut text, "day (UTC)", &days);
    table(
        &mut text,
        "sender",
        &most(&stats.senders, stats.other_senders),
    );
    table(
        &mut text,
        "recipient",
        &most(&stats.recipients, stats.other_recipients),
    );
    let sizes: Vec<(String, Amount)> = stats
        .sizes
        .iter()
        .map(|(size, amount)| (format!("to {size} bytes"), *amount))
        .collect();
    table(&mut text, "length of lines", &sizes);
    text
}

/// Those with the most bytes, and the others together.
fn most(names: &BTreeMap<String, Amount>, beyond: Amount) -> Vec<(String, Amount)> {
    let mut rows: Vec<(String, Amount)> = names
        .iter()
        .map(|(name, amount)| (shown(name), *amount))
        .collect();
    rows.sort_by_key(|(_, amount)| std::cmp::Reverse(amount.bytes));
    let mut others = beyond;
    for (_, amount) in rows.drain(SHOWN.min(rows.len())..) {
        others.lines += amount.lines;
        others.bytes += amount.bytes;
    }
    if others.lines > 0 {
        rows.push(("(others)".to_owned(), others));
    }
    rows
}

fn table(text: &mut String, title: &str, rows: &[(String, Amount)]) {
    if rows.is_empty() {
        return;
    }
    let width = rows
        .iter()
        .map(|(name, _)| name.chars().count())
        .chain([title.chars().count()])
        .max()
        .unwrap_or(0);
    // Writing to a string does not fail.
    let _ = writeln!(text, "{title:<width$}  {:>12}  {:>16}", "lines", "bytes");
    for (name, amount) in rows {
        let _ = writeln!(
            text,
            "{name:<width$}  {:>12}  {:>16}",
            amount.lines, amount.bytes
        );
    }
    text.push('\n');
}
