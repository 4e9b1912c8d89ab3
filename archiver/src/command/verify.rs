//! `verify`: holds the whole archive against what was signed.

use std::fmt::Write as _;
use std::path::Path;

use sealpost_archive::checkpoint::CheckpointVerifier;
use sealpost_archive::layout::LogName;
use sealpost_archive::verify::{KeptNote, Report, Verification};
use serde::Serialize;

use super::{archive, is_there, origin_of, print, progress, read_small, shown};
use crate::cli::VerifyArgs;
use crate::exit::ProgramError;
use crate::key;

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Verified {
    /// Whether all holds.
    ok: bool,
    logs: Vec<VerifiedLog>,
}

#[derive(Debug, Serialize)]
struct VerifiedLog {
    /// The verifier key.
    key: String,
    /// Whether the key came from elsewhere than the archive.
    key_given: bool,
    #[serde(flatten)]
    report: Report,
}

/// Verifies, and prints what came out.
///
/// # Errors
/// [`ProgramError::NotVerified`] if something does not hold; others if it could not be looked at.
pub fn run(flags: &VerifyArgs) -> Result<(), ProgramError> {
    let directory = archive(&flags.dir)?;
    let keys = keys(&flags.key)?;
    let notes = notes(&flags.checkpoint)?;
    let wanted = flags.log.map(LogName::from);
    let mut logs = Vec::new();
    for log in LogName::ALL {
        if wanted.is_some_and(|wanted| wanted != log) {
            continue;
        }
        let given = keys.iter().find(|(of, _)| *of == log);
        let kept: Vec<KeptNote> = notes
            .iter()
            .filter(|(of, _)| *of == log)
            .map(|(_, note)| note.clone())
            .collect();
        if given.is_none() && kept.is_empty() && !is_there(&directory, log) {
            continue;
        }
        let verifier = match given {
            Some((_, verifier)) => verifier.clone(),
            None => own_key(directory.path(), log)?,
        };
        let verification = Verification::open(directory.clone(), log, &verifier, &kept)?;
        let bar = progress(verification.bytes(), log.as_str());
        let report = verification.run(|read| bar.set_position(read));
        bar.finish_and_clear();
        logs.push(VerifiedLog {
            key: verifier.as_str().to_owned(),
            key_given: given.is_some(),
            report,
        });
    }
    let unused = |log: LogName| !logs.iter().any(|verified| verified.report.log == log);
    if let Some((log, note)) = notes.iter().find(|(log, _)| unused(*log)) {
        return Err(ProgramError::Input {
            path: note.name.clone().into(),
            reason: format!(
                "it is a checkpoint of {}, which is not verified",
                log.as_str()
            ),
        });
    }
    if logs.is_empty() {
        return Err(ProgramError::NoArchive(directory.path().to_owned()));
    }
    let verified = Verified {
        ok: logs.iter().all(|log| log.report.ok),
        logs,
    };
    if flags.json {
        let json = serde_json::to_string(&verified)
            .map_err(|error| ProgramError::Setup("write JSON", error.to_string()))?;
        print(&format!("{json}\n"));
    } else {
        verified.logs.iter().for_each(|log| print(&text(log)));
    }
    let wrong: u64 = verified
        .logs
        .iter()
        .map(|log| log.report.findings.len() as u64 + log.report.more_findings)
        .sum();
    match wrong {
        0 => Ok(()),
        wrong => Err(ProgramError::NotVerified(wrong)),
    }
}

/// The verifier key of the archive's own `checkpoint.key`.
pub(super) fn own_key(directory: &Path, log: LogName) -> Result<CheckpointVerifier, ProgramError> {
    key::stored_signer(directory, log)?
        .verifier()
        .map_err(|error| ProgramError::Setup("use the archive's key", error.to_string()))
}

/// The verifier keys that were given, with the logs that they are for.
pub(super) fn keys(texts: &[String]) -> Result<Vec<(LogName, CheckpointVerifier)>, ProgramError> {
    texts
        .iter()
        .map(|text| {
            let key = CheckpointVerifier::parse(text)
                .map_err(|error| ProgramError::VerifierKey(shown(text), error.to_string()))?;
            let log = LogName::of_origin(key.origin()).ok_or_else(|| {
                let reason = "it is for none of an archive's logs".to_owned();
                ProgramError::VerifierKey(shown(text), reason)
            })?;
            Ok((log, key))
        })
        .collect()
}

/// The checkpoints that were given, with the logs that they say they are of.
fn notes(paths: &[std::path::PathBuf]) -> Result<Vec<(LogName, KeptNote)>, ProgramError> {
    paths
        .iter()
        .map(|path| {
            let bytes = read_small(path)?;
            let log = origin_of(path, &bytes)?;
            let name = path.display().to_string();
            Ok((log, KeptNote { name, bytes }))
        })
        .collect()
}

/// What people read.
fn text(log: &VerifiedLog) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = describe(&mut text, log);
    text
}

fn describe(text: &mut String, log: &VerifiedLog) -> std::fmt::Result {
    let report = &log.report;
    let first = report.first.unwrap_or(0);
    writeln!(
        text,
        "{}: lines {first} to {}, {} segments",
        report.log.as_str(),
        report.last,
        report.segments
    )?;
    match report.signed {
        Some(signed) if signed == report.last => {
            writeln!(text, "  signed     all lines, with {}", shown(&log.key))?;
        }
        Some(signed) => writeln!(
            text,
            "  signed     lines 1 to {signed}, with {}; the rest will be by the next checkpoint",
            shown(&log.key)
        )?,
        None if report.last == 0 && report.ok => writeln!(text, "  signed     nothing yet")?,
        None => writeln!(
            text,
            "  signed     not as they are, with {}",
            shown(&log.key)
        )?,
    }
    if !log.key_given {
        writeln!(
            text,
            "  key        the archive's own: this proves only that the archive agrees with itself (--key)"
        )?;
    }
    for grown in &report.grew_from {
        writeln!(
            text,
            "  grew from  {}, which signs {} lines",
            shown(&grown.note),
            grown.lines
        )?;
    }
    if report.retired > 0 {
        writeln!(
            text,
            "  retired    lines 1 to {}, by a record",
            report.retired
        )?;
    }
    if report.tombstones > 0 {
        writeln!(
            text,
            "  erased     {} lines, each by a record",
            report.tombstones
        )?;
    }
    if report.erasures_undone > 0 {
        writeln!(
            text,
            "  unfinished {} erasures are recorded and not done: an archiver does them when it starts",
            report.erasures_undone
        )?;
    }
    if report.retired_left > 0 {
        writeln!(
            text,
            "  unfinished {} files of retired lines are still there: an archiver removes them when it starts",
            report.retired_left
        )?;
    }
    if report.missing_tiles > 0 {
        writeln!(
            text,
            "  tiles      {} missing; they can be made again from the lines",
            report.missing_tiles
        )?;
    }
    for (place, finding) in report.findings.iter().enumerate() {
        let label = if place == 0 { "FIRST BAD" } else { "bad" };
        writeln!(text, "  {label:<10} {}", shown(&finding.to_string()))?;
    }
    if report.more_findings > 0 {
        writeln!(text, "  and {} more", report.more_findings)?;
    }
    writeln!(text, "  {}", if report.ok { "ok" } else { "NOT VERIFIED" })
}
