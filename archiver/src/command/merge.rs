//! `merge`: one stream out of several archives.

use std::io::{self, BufWriter, Write as _};

use sealpost_archive::log_reader::LogReader;
use sealpost_archive::merge::{Merge, WINDOW};
use sealpost_archive::query::Query;
use sealpost_archive::storage::Directory;

use super::allow_many_files;
use crate::cli::reading::MergeArgs;
use crate::exit::ProgramError;
use crate::moment::Moment;

/// Prints the messages of all archives, each once.
///
/// # Errors
/// [`ProgramError`].
pub fn run(flags: &MergeArgs) -> Result<(), ProgramError> {
    allow_many_files();
    let mut readers = Vec::new();
    for path in &flags.dirs {
        let directory =
            Directory::existing(path).map_err(|_| ProgramError::NoArchive(path.clone()))?;
        readers.push(LogReader::open(&directory, flags.log.into())?);
    }
    let query = Query {
        since: flags.since.map(|Moment(at)| at),
        until: flags.until.map(|Moment(at)| at),
        ..Query::default()
    };
    let mut merge = Merge::new(&readers, &query.selection(1), WINDOW)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut printed: u64 = 0;
    while let Some(line) = merge.next_line()? {
        let at = sealpost_archive::line::head_of(&line).map(|(_, at)| at);
        if at.is_some_and(|at| !query.matches(at, &line)) {
            continue;
        }
        // Who closed the other end wants no more.
        if out
            .write_all(&line)
            .and_then(|()| out.write_all(b"\n"))
            .is_err()
        {
            return Ok(());
        }
        printed += 1;
    }
    let _ = out.flush();
    if flags.count {
        eprintln!(
            "{printed} messages, {} repetitions left out",
            merge.repeated()
        );
    }
    Ok(())
}
