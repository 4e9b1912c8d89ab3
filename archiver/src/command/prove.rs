//! `prove`, `check-proof` and `consistency`: evidence that holds without the archive.

use std::path::Path;

use sealpost_archive::checkpoint::CheckpointVerifier;
use sealpost_archive::layout::LogName;
use sealpost_archive::log_reader::LogReader;
use sealpost_archive::proof::{self, InclusionProof};
use sealpost_archive::query::Query;
use sealpost_archive::storage::Directory;
use sealpost_archive::tree::TreeHead;
use serde_json::json;

use super::verify::{keys, own_key};
use super::{archive, origin_of, print, read_small, shown};
use crate::cli::reading::{CheckProofArgs, ConsistencyArgs, ProveArgs};
use crate::exit::ProgramError;

/// Prints a proof of a line.
///
/// # Errors
/// [`ProgramError`].
pub fn prove(flags: &ProveArgs) -> Result<(), ProgramError> {
    let directory = archive(&flags.dir)?;
    let log = flags.log.into();
    let verifier = match &flags.key {
        Some(key) => only(&keys(std::slice::from_ref(key))?)?.clone(),
        None => own_key(directory.path(), log)?,
    };
    let seq = match (flags.seq, flags.id) {
        (Some(seq), _) => seq,
        (None, Some(id)) => {
            let query = Query {
                id: Some(id),
                ..Query::default()
            };
            line_of(&directory, log, &query)?
        }
        (None, None) => return Err(ProgramError::NotFound),
    };
    let proof = InclusionProof::make(&directory, log, &verifier, seq)?;
    match &flags.out {
        None => print(&String::from_utf8_lossy(&proof.to_bytes())),
        Some(path) => {
            std::fs::write(path, proof.to_bytes()).map_err(|error| ProgramError::Input {
                path: path.clone(),
                reason: error.to_string(),
            })?;
        }
    }
    Ok(())
}

/// The one line that a query finds.
fn line_of(directory: &Directory, log: LogName, query: &Query) -> Result<u64, ProgramError> {
    let reader = LogReader::open(directory, log)?;
    let mut found = Vec::new();
    query.run(&reader, 1).for_each(|line| {
        found.push(line.seq);
        found.len() < 2
    })?;
    match found.as_slice() {
        [] => Err(ProgramError::NotFound),
        [seq] => Ok(*seq),
        [first, second, ..] => Err(ProgramError::Several(*first, *second)),
    }
}

/// Checks a proof, without any archive.
///
/// # Errors
/// [`ProgramError::Unproved`] if it proves nothing.
pub fn check(flags: &CheckProofArgs) -> Result<(), ProgramError> {
    let proof = read_small(&flags.file)?;
    let keys = keys(std::slice::from_ref(&flags.key))?;
    let verifier = only(&keys)?;
    let given = match &flags.line {
        None => None,
        Some(path) => {
            let mut line = read_small(path)?;
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            Some(line)
        }
    };
    let proof = InclusionProof::parse(&proof)?;
    let (line, head) = proof.check(verifier, given.as_deref())?;
    if flags.print {
        print(&format!("{}\n", shown(&String::from_utf8_lossy(&line))));
    } else {
        print(&format!(
            "line {} is among the {} lines that {} signed\n",
            proof.seq,
            head.size,
            shown(verifier.as_str())
        ));
    }
    Ok(())
}

fn only(keys: &[(LogName, CheckpointVerifier)]) -> Result<&CheckpointVerifier, ProgramError> {
    let key = keys.first().map(|(_, verifier)| verifier);
    key.ok_or(ProgramError::NotFound)
}

/// Shows that one checkpoint grew into another.
///
/// # Errors
/// [`ProgramError`]; [`ProgramError::Prove`] if it did not.
pub fn consistency(flags: &ConsistencyArgs) -> Result<(), ProgramError> {
    let directory = archive(&flags.dir)?;
    let (old, new) = (read_small(&flags.old)?, read_small(&flags.new)?);
    let log = origin_of(&flags.new, &new)?;
    let verifier = match &flags.key {
        Some(key) => only(&keys(std::slice::from_ref(key))?)?.clone(),
        None => own_key(directory.path(), log)?,
    };
    let head = |path: &Path, note: &[u8]| -> Result<TreeHead, ProgramError> {
        verifier
            .verify(note)
            .map_err(|reason| ProgramError::Checkpoint {
                path: path.to_owned(),
                reason,
            })
    };
    let older = head(&flags.old, &old)?;
    let newer = head(&flags.new, &new)?;
    let hashes = proof::consistency(&directory, log, older, newer)?;
    if flags.json {
        let hashes: Vec<String> = hashes.iter().map(ToString::to_string).collect();
        let head = |head: TreeHead| json!({"lines": head.size, "root": head.root.to_string()});
        let text = json!({"old": head(older), "new": head(newer), "proof": hashes});
        print(&format!("{text}\n"));
    } else {
        print(&format!(
            "the {} lines of {} begin with the {} lines of {}, unchanged\n",
            newer.size,
            shown(&flags.new.display().to_string()),
            older.size,
            shown(&flags.old.display().to_string()),
        ));
    }
    Ok(())
}
