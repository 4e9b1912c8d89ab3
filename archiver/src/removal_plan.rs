//! What may be removed: found out before anything is recorded.

use sealpost_archive::digest::Digest;
use sealpost_archive::layout::LogName;
use sealpost_archive::line::{Body, Erased, Line, LineError};
use sealpost_archive::log_reader::{LogReader, ReadError, Selection};
use sealpost_archive::manifest::Manifest;
use sealpost_archive::storage::{Storage, StoredFile};
use sealpost_archive::tree::TreeHead;
use sealpost_core::Timestamp;

use crate::holds::{HoldError, Holds};

/// Why something is not removed.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The log could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The holds could not be read.
    #[error(transparent)]
    Holds(#[from] HoldError),
    /// There is no such line.
    #[error("there is no line {0}")]
    NoLine(u64),
    /// The line is damaged.
    #[error("line {line} is damaged: {reason}")]
    Damaged {
        /// The line.
        line: u64,
        /// What is wrong with it.
        reason: LineError,
    },
    /// The line is erased already.
    #[error("line {line} is erased already, by the record in line {record}")]
    Erased {
        /// The line.
        line: u64,
        /// The record.
        record: u64,
    },
    /// The line is a record of the archive, which tells of other lines.
    #[error("line {0} is a record of what was removed, and stays")]
    Record(u64),
    /// A hold covers it.
    #[error("line {line} is under the hold {hold:?}")]
    Held {
        /// The line.
        line: u64,
        /// The hold.
        hold: String,
    },
}

/// Which of the oldest segments are to be retired: those that any of these says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// All lines were written before this.
    pub before: Option<Timestamp>,
    /// The segments from there on have so many bytes, compressed.
    pub keep_bytes: Option<u64>,
}

/// The oldest segments that may be retired.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retirable {
    /// The last line of them, and the tree up to it; `None` if there are none.
    pub until: Option<TreeHead>,
    /// How many segments.
    pub segments: u64,
    /// The line under a hold, and the hold, because of which there are not more.
    pub held: Option<(u64, String)>,
}

/// A line that may be erased, as its record tells of it.
///
/// # Errors
/// [`PlanError`] says why it may not.
pub fn erasable<S: Storage>(storage: &S, log: LogName, line: u64) -> Result<Erased, PlanError> {
    let holds = Holds::read(storage)?;
    let reader = LogReader::open(storage, log)?;
    let mut lines = reader.lines(Selection::line(line));
    let found = lines.next_line()?.ok_or(PlanError::NoLine(line))?;
    let parsed = Line::parse(found.bytes).map_err(|reason| PlanError::Damaged { line, reason })?;
    let digest = match &parsed.body {
        Body::Message(message) => Digest::of(&message.topic, &message.payload),
        Body::Tombstone { erased_by, .. } => {
            return Err(PlanError::Erased {
                line,
                record: *erased_by,
            });
        }
        Body::Erasure { .. } | Body::Retirement { .. } => return Err(PlanError::Record(line)),
    };
    match holds.covering(&parsed) {
        None => Ok(Erased {
            seq: parsed.seq,
            archived_at: parsed.archived_at,
            digest,
            leaf: parsed.leaf(found.bytes),
        }),
        Some(hold) => Err(PlanError::Held {
            line,
            hold: hold.name.clone(),
        }),
    }
}

/// The oldest segments that are beyond the limits and under no hold. The newest segment always stays.
///
/// # Errors
/// [`PlanError`].
pub fn retirable<S: Storage>(
    storage: &S,
    log: LogName,
    limits: Limits,
) -> Result<Retirable, PlanError> {
    let holds = Holds::read(storage)?;
    let reader = LogReader::open(storage, log)?;
    let manifests: Vec<&Manifest> = reader
        .parts()
        .iter()
        .filter_map(|part| part.manifest.as_ref())
        .collect();
    let mut bytes: u64 = manifests
        .iter()
        .map(|manifest| manifest.compressed_bytes)
        .sum();
    let mut found = Retirable::default();
    let older = manifests.len().saturating_sub(1);
    for manifest in manifests.into_iter().take(older) {
        let old = limits.before.is_some_and(|before| manifest.until < before);
        let much = limits.keep_bytes.is_some_and(|keep| bytes > keep);
        if !old && !much {
            break;
        }
        found.held = held_in(&reader, manifest, &holds)?;
        if found.held.is_some() {
            break;
        }
        bytes -= manifest.compressed_bytes;
        found.segments += 1;
        found.until = Some(TreeHead {
            size: manifest.last,
            root: manifest.root,
        });
    }
    Ok(found)
}

/// The first line of a segment that is under a hold, and the hold.
fn held_in<F: StoredFile>(
    reader: &LogReader<F>,
    manifest: &Manifest,
    holds: &Holds,
) -> Result<Option<(u64, String)>, PlanError> {
    if !holds.any_between(manifest.from, manifest.until) {
        return Ok(None);
    }
    let mut lines = reader.lines(Selection {
        numbers: manifest.first..=manifest.last,
        ..Selection::default()
    });
    while let Some(found) = lines.next_line()? {
        let line = found.seq;
        let parsed =
            Line::parse(found.bytes).map_err(|reason| PlanError::Damaged { line, reason })?;
        if let Some(hold) = holds.covering(&parsed) {
            return Ok(Some((line, hold.name.clone())));
        }
    }
    Ok(None)
}
