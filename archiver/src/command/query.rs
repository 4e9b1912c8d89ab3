//! `query`: prints the lines that are looked for.

use std::io::{self, BufWriter, IsTerminal as _, StdoutLock, Write as _};
use std::time::Duration;

use sealpost_archive::envelope_names::EnvelopeNames;
use sealpost_archive::follow::Follower;
use sealpost_archive::layout;
use sealpost_archive::line::{Body, Line};
use sealpost_archive::log_reader::{FoundLine, LogReader};
use sealpost_core::Timestamp;

use super::{archive, print, shown};
use crate::cli::reading::QueryArgs;
use crate::exit::ProgramError;

/// How often `--follow` looks for new lines.
const PAUSE: Duration = Duration::from_millis(250);

/// Prints what is found, in the order of the log.
///
/// # Errors
/// [`ProgramError`].
pub fn run(flags: &QueryArgs) -> Result<(), ProgramError> {
    let directory = archive(&flags.dir)?;
    let log = flags.what.log.into();
    let query = flags.what.query();
    let reader = LogReader::open(&directory, log)?;
    let limit = flags.limit.unwrap_or(u64::MAX);
    if flags.count {
        let mut count = 0;
        query.run(&reader, 1).for_each(|_| {
            count += 1;
            count < limit
        })?;
        print(&format!("{count}\n"));
        return Ok(());
    }
    let mut printer = Printer::new(flags.json, limit);
    let mut next = reader.last()?.map_or(1, |(last, _)| last + 1);
    if printer.wants_more() {
        query.run(&reader, 1).for_each(|line| {
            printer.print(&line);
            printer.wants_more()
        })?;
    }
    printer.flush();
    drop(reader);
    if !flags.follow {
        return Ok(());
    }
    let mut follower = Follower::new(directory, log, next);
    while printer.wants_more() {
        let before = next;
        follower.poll(|line| {
            next = line.seq + 1;
            if printer.wants_more() && query.matches(line.archived_at, line.bytes) {
                printer.print(&line);
            }
        })?;
        printer.flush();
        if next == before {
            std::thread::sleep(PAUSE);
        }
    }
    Ok(())
}

/// Prints lines, up to a limit, as long as somebody reads them.
struct Printer {
    out: BufWriter<StdoutLock<'static>>,
    json: bool,
    terminal: bool,
    left: u64,
}

impl Printer {
    fn new(json: bool, limit: u64) -> Printer {
        let stdout = io::stdout().lock();
        Printer {
            terminal: stdout.is_terminal(),
            out: BufWriter::new(stdout),
            json,
            left: limit,
        }
    }

    fn wants_more(&self) -> bool {
        self.left > 0
    }

    fn print(&mut self, line: &FoundLine<'_>) {
        self.left -= 1;
        let written = if !self.json {
            writeln!(self.out, "{}", shown(&summary(line)))
        } else if self.terminal {
            writeln!(self.out, "{}", shown(&String::from_utf8_lossy(line.bytes)))
        } else {
            self.out
                .write_all(line.bytes)
                .and_then(|()| self.out.write_all(b"\n"))
        };
        self.note(&written);
    }

    fn flush(&mut self) {
        let flushed = self.out.flush();
        self.note(&flushed);
    }

    /// Who closed the other end wants no more.
    fn note(&mut self, done: &io::Result<()>) {
        if done.is_err() {
            self.left = 0;
        }
    }
}

/// A line in a line.
fn summary(line: &FoundLine<'_>) -> String {
    let at = shown_time(line.archived_at);
    let head = format!("{:>9}  {at}", line.seq);
    let length = line.bytes.len();
    if let Some(names) = EnvelopeNames::of(line.bytes) {
        return format!(
            "{head}  {} > {}  {}  {length} bytes",
            names.from, names.to, names.id
        );
    }
    match Line::parse(line.bytes).map(|line| line.body) {
        Ok(Body::Message(message)) => {
            let topic = String::from_utf8_lossy(&message.topic);
            match &message.error {
                Some(error) => format!("{head}  {topic}  {error}  {length} bytes"),
                None => format!("{head}  {topic}  {length} bytes"),
            }
        }
        Ok(Body::Erasure { erased, reason }) => {
            format!("{head}  line {} was erased: {reason}", erased.seq)
        }
        Ok(Body::Retirement {
            retires, reason, ..
        }) => format!("{head}  lines 1 to {retires} were retired: {reason}"),
        Ok(Body::Tombstone { erased_by, .. }) => format!("{head}  erased, see line {erased_by}"),
        Err(error) => format!("{head}  damaged: {error}"),
    }
}

/// `2026-11-25 14:05:03Z`: in UTC.
fn shown_time(at: Timestamp) -> String {
    let seconds = at.seconds() % 86_400;
    let (hour, minute) = (seconds / 3_600, seconds / 60 % 60);
    let day = layout::day(at).replace('/', "-");
    format!("{day} {hour:02}:{minute:02}:{:02}Z", seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_utc() {
        let at = Timestamp::parse("1700000000.123").unwrap();
        assert_eq!(shown_time(at), "2023-11-14 22:13:20Z");
    }
}
