//! `export`: what is found, for other programs.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;

use sealpost_archive::envelope_names::EnvelopeNames;
use sealpost_archive::line::{Body, Line, Verified};
use sealpost_archive::log_reader::{FoundLine, LogReader};

use super::{archive, progress_of_lines};
use crate::cli::reading::{ExportArgs, ExportFormat};
use crate::exit::ProgramError;

/// The columns of a CSV. What is in an envelope beside its names is ciphertext: for that, there are the lines.
const COLUMNS: [&str; 9] = [
    "seq",
    "archived_at",
    "kind",
    "from",
    "to",
    "id",
    "prev",
    "verified",
    "bytes",
];

/// Writes what is found to a file, or to stdout.
///
/// # Errors
/// [`ProgramError`].
pub fn run(flags: &ExportArgs) -> Result<(), ProgramError> {
    let directory = archive(&flags.dir)?;
    let query = flags.what.query();
    let reader = LogReader::open(&directory, flags.what.log.into())?;
    let first = reader.first().unwrap_or(1);
    let lines = reader.last()?.map_or(0, |(last, _)| last + 1 - first);
    let failed = |error: io::Error| ProgramError::Setup("write the export", error.to_string());
    let out: Box<dyn Write> = match &flags.out {
        None => Box::new(io::stdout().lock()),
        Some(path) => {
            let file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)
                .map_err(|error| ProgramError::Input {
                    path: path.clone(),
                    reason: error.to_string(),
                })?;
            Box::new(file)
        }
    };
    let bar = progress_of_lines(lines, "export");
    let mut writer = Writer::new(BufWriter::new(out), flags.format).map_err(failed)?;
    let mut written = Ok(());
    query.run(&reader, 1).for_each(|line| {
        if line.seq.is_multiple_of(4_096) {
            bar.set_position(line.seq + 1 - first);
        }
        written = writer.write(&line);
        written.is_ok()
    })?;
    bar.finish_and_clear();
    written.and_then(|()| writer.finish()).map_err(failed)
}

enum Writer<W: Write> {
    Lines(W),
    Csv(Box<csv::Writer<W>>),
}

impl<W: Write> Writer<W> {
    fn new(out: W, format: ExportFormat) -> io::Result<Writer<W>> {
        Ok(match format {
            ExportFormat::Jsonl => Writer::Lines(out),
            ExportFormat::Csv => {
                let mut csv = csv::Writer::from_writer(out);
                csv.write_record(COLUMNS)?;
                Writer::Csv(Box::new(csv))
            }
        })
    }

    fn write(&mut self, line: &FoundLine<'_>) -> io::Result<()> {
        match self {
            Writer::Lines(out) => {
                out.write_all(line.bytes)?;
                out.write_all(b"\n")
            }
            Writer::Csv(csv) => Ok(csv.write_record(record(line))?),
        }
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Writer::Lines(mut out) => out.flush(),
            Writer::Csv(mut csv) => csv.flush(),
        }
    }
}

/// A line as a record of [`COLUMNS`].
fn record(line: &FoundLine<'_>) -> [String; 9] {
    let mut record = [const { String::new() }; 9];
    let [seq, at, kind, from, to, id, prev, verified, bytes] = &mut record;
    *seq = line.seq.to_string();
    *at = line.archived_at.to_string();
    *bytes = (line.bytes.len() + 1).to_string();
    let body = Line::parse(line.bytes).map(|line| line.body);
    *kind = match &body {
        Ok(Body::Message(message)) if message.error.is_some() => "unfit",
        Ok(Body::Message(message)) if message.topic.starts_with(b"keys/") => "bundle",
        Ok(Body::Message(_)) => "message",
        Ok(Body::Erasure { .. }) => "erasure",
        Ok(Body::Retirement { .. }) => "retirement",
        Ok(Body::Tombstone { .. }) => "erased",
        Err(_) => "damaged",
    }
    .to_owned();
    if let Ok(Body::Message(message)) = &body {
        *verified = message
            .verified
            .map_or("", |verified| match verified {
                Verified::True => "true",
                Verified::False => "false",
                Verified::Unknown => "unknown",
            })
            .to_owned();
    }
    if let Some(names) = EnvelopeNames::of(line.bytes) {
        *from = names.from.into_owned();
        *to = names.to.into_owned();
        *id = names.id.to_string();
        *prev = names.prev.map_or_else(String::new, |prev| prev.to_string());
    }
    record
}
