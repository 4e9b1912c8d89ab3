//! `gaps`: what senders sent and the archive never saw.

use std::fmt::Write as _;

use sealpost_archive::gaps::{self, Gaps, MAX_UNSEEN};
use sealpost_archive::layout::LogName;
use sealpost_archive::log_reader::LogReader;

use super::{archive, print, progress_of_lines, shown};
use crate::cli::reading::GapsArgs;
use crate::exit::ProgramError;

/// Lists the gaps.
///
/// # Errors
/// [`ProgramError`].
pub fn run(flags: &GapsArgs) -> Result<(), ProgramError> {
    let directory = archive(&flags.dir)?;
    let reader = LogReader::open(&directory, LogName::EncryptedLogs)?;
    let first = reader.first().unwrap_or(1);
    let lines = reader.last()?.map_or(0, |(last, _)| last + 1 - first);
    let bar = progress_of_lines(lines.saturating_mul(2), "gaps");
    let gaps = gaps::find(&reader, |read| bar.set_position(read))?;
    bar.finish_and_clear();
    if flags.json {
        let json = serde_json::to_string(&gaps)
            .map_err(|error| ProgramError::Setup("write JSON", error.to_string()))?;
        print(&format!("{json}\n"));
    } else {
        print(&text(&gaps));
    }
    Ok(())
}

/// What people read.
fn text(gaps: &Gaps) -> String {
    let mut text = String::new();
    for gap in &gaps.gaps {
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{} > {}: {} is missing before {} in line {}",
            shown(&gap.from),
            shown(&gap.to),
            gap.missing,
            gap.next,
            gap.before_line
        );
    }
    let _ = writeln!(
        text,
        "{} messages are missing that {} envelopes name",
        gaps.gaps.len(),
        gaps.envelopes
    );
    if gaps.erased > 0 {
        let _ = writeln!(
            text,
            "  {} lines were erased: some may be those",
            gaps.erased
        );
    }
    if gaps.retired > 0 {
        let _ = writeln!(
            text,
            "  {} lines were retired: some may be those",
            gaps.retired
        );
    }
    if gaps.incomplete {
        let _ = writeln!(
            text,
            "  there may be more: only {MAX_UNSEEN} unseen messages are remembered"
        );
    }
    text
}
