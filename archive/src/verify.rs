//! Verifies a log: reads all of it again, and holds it against signed tree heads, its manifests and its tiles. It shares with what
//! writes an archive the format, and nothing else; above all it makes the tree's roots itself.
//!
//! It goes over the lines once, in constant memory: a frame of a segment (6 MiB), a tile of each level, and 150 bytes for each
//! tombstone whose record has not come yet. It only reads, so that an archiver may run at the same time; the checkpoint is read before
//! the lines, and may be behind them.

mod compact_range;
mod finding;
mod form;
mod half_retired;
mod removals;
mod segment_frames;
mod snapshot;
mod stored_tiles;
mod tally;
mod walk;

use serde::Serialize;

pub use finding::{Fault, Finding, MAX_FINDINGS, Place};

use crate::checkpoint::{CheckpointVerifier, MAX_NOTE};
use crate::layout::LogName;
use crate::log_reader::{ReadError, read_whole};
use crate::storage::Storage;
use crate::tree::TreeHead;
use snapshot::{PartKind, Snapshot};
use walk::{KnownHead, Walk};

/// A checkpoint that somebody kept elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptNote {
    /// What to call it: its file.
    pub name: String,
    /// The signed note.
    pub bytes: Vec<u8>,
}

/// A log about to be verified.
#[derive(Debug)]
pub struct Verification<S: Storage> {
    storage: S,
    log: LogName,
    snapshot: Snapshot<S::File>,
    /// The archive's own checkpoint.
    own: Option<TreeHead>,
    kept: Vec<(String, TreeHead)>,
    /// What is wrong with checkpoints.
    wrong: Vec<Finding>,
}

/// What came out of a verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Which log.
    pub log: LogName,
    /// Whether all holds.
    pub ok: bool,
    /// The number of the first line that is there; `None` if there is none.
    pub first: Option<u64>,
    /// The number of the last line; 0 if there is none.
    pub last: u64,
    /// How many segments there are.
    pub segments: usize,
    /// How many lines the archive's own checkpoint signs, if they are those.
    pub signed: Option<u64>,
    /// The kept checkpoints that the log grew out of, and how many lines each signs.
    pub grew_from: Vec<Grown>,
    /// How many lines are tombstones.
    pub tombstones: u64,
    /// How many erasures are recorded whose line is still there: a crash came between, and the archiver erases it when it starts.
    pub erasures_undone: u64,
    /// How many lines, from the first on, a record retires.
    pub retired: u64,
    /// How many files of retired segments are still there: a crash came between, and the archiver removes them when it starts. Lines
    /// of the log they are no more.
    pub retired_left: u64,
    /// How many tiles are missing that can be made again from the lines.
    pub missing_tiles: u64,
    /// What is wrong, in the order of lines, [`MAX_FINDINGS`] at the most.
    pub findings: Vec<Finding>,
    /// How much more is wrong.
    pub more_findings: u64,
}

/// A kept checkpoint that a log grew out of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Grown {
    /// What it is called.
    pub note: String,
    /// How many lines it signs.
    pub lines: u64,
}

impl<S: Storage> Verification<S> {
    /// Opens a log as it is now, to be held against its own checkpoint and `kept` ones, all of which `verifier` must have signed.
    ///
    /// # Errors
    /// [`ReadError`] if files cannot be listed or opened. What is wrong with them is told by [`run`](Self::run).
    pub fn open(
        storage: S,
        log: LogName,
        verifier: &CheckpointVerifier,
        kept: &[KeptNote],
    ) -> Result<Verification<S>, ReadError> {
        let mut wrong = Vec::new();
        let mut head_of = |name: String, bytes: &[u8]| match verifier.verify(bytes) {
            Ok(head) => Some((name, head)),
            Err(reason) => {
                let place = Place::file(name);
                let fault = Fault::Checkpoint(reason);
                wrong.push(Finding { place, fault });
                None
            }
        };
        let kept = kept
            .iter()
            .filter_map(|note| head_of(note.name.clone(), &note.bytes))
            .collect();
        // Before the lines: what it signs is on the disk when it is.
        let note = read_whole(&storage, &log.checkpoint(), MAX_NOTE as u64)?;
        let missing = note.is_none();
        let own = note
            .and_then(|note| head_of(log.checkpoint(), &note))
            .map(|(_, head)| head);
        let snapshot = Snapshot::take(&storage, log)?;
        if missing && snapshot.parts.iter().any(|part| part.length > 0) {
            wrong.push(Finding {
                place: Place::file(log.checkpoint()),
                fault: Fault::NoCheckpoint,
            });
        }
        Ok(Verification {
            storage,
            log,
            snapshot,
            own,
            kept,
            wrong,
        })
    }

    /// How many bytes will be read.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.snapshot.parts.iter().map(|part| part.length).sum()
    }

    /// Reads everything. `progress` is told now and then how many bytes were read.
    pub fn run(mut self, mut progress: impl FnMut(u64)) -> Report {
        let own_note = self.log.checkpoint();
        let heads = (self.kept.iter().cloned())
            .chain(self.own.map(|head| (own_note.clone(), head)))
            .map(|(note, head)| KnownHead::new(note, head))
            .collect();
        let mut walk = Walk::new(&self.storage, self.log, heads, &mut progress);
        for finding in self.wrong {
            walk.find(finding.place, finding.fault);
        }
        if let Some(own) = self.own {
            for (note, kept) in self.kept.iter().filter(|(_, kept)| kept.size > own.size) {
                let fault = Fault::SetBack {
                    own: own.size,
                    kept: kept.size,
                    note: note.clone(),
                };
                walk.find(Place::file(&own_note), fault);
            }
        }
        let retired_left = half_retired::take_out(&mut self.snapshot);
        let first = first_line(&self.snapshot);
        let removed = first.map_or(0, |first| first - 1);
        if removed > 0 {
            walk.removed(removed);
        }
        for part in &self.snapshot.parts {
            walk.part(part);
        }
        let retired = |walk: &Walk<'_, S>| {
            let records = walk.removals.retirements();
            records.iter().map(|record| record.retires).max()
        };
        let retired = retired(&walk).unwrap_or(0);
        for manifest in &self.snapshot.alone {
            // A segment that is retired goes before its manifest.
            let last = manifest.content.as_ref().map_or(0, |content| content.last);
            if last == 0 || last > retired {
                let first = manifest.content.as_ref().ok().map(|content| content.first);
                let mut place = Place::file(&manifest.path);
                place.seq = first;
                walk.find(place, Fault::NoSegment);
            }
        }
        let outcome = walk.finish(removed);
        let holds = |note: &str| {
            let mut heads = outcome.heads.iter();
            heads.any(|known| known.note == note && known.holds())
        };
        let is_sealed = |kind: &PartKind| matches!(kind, PartKind::Sealed { .. });
        let segments = self.snapshot.parts.iter();
        Report {
            log: self.log,
            ok: outcome.findings.is_empty(),
            first: first.filter(|_| outcome.last > 0),
            last: outcome.last,
            segments: segments.filter(|part| is_sealed(&part.kind)).count(),
            signed: self.own.map(|head| head.size).filter(|_| holds(&own_note)),
            grew_from: (self.kept.iter())
                .filter(|(note, _)| holds(note))
                .map(|(note, head)| Grown {
                    note: note.clone(),
                    lines: head.size,
                })
                .collect(),
            tombstones: outcome.tombstones,
            erasures_undone: outcome.undone,
            retired: outcome.retired,
            retired_left,
            missing_tiles: outcome.missing_tiles,
            findings: outcome.findings,
            more_findings: outcome.more,
        }
    }
}

/// The number of the first line that is there; `None` for an empty log.
fn first_line<F: crate::storage::StoredFile>(snapshot: &Snapshot<F>) -> Option<u64> {
    let mut parts = snapshot.parts.iter().filter(|part| part.length > 0);
    let part = parts.next()?;
    if let PartKind::Sealed { first, .. } = part.kind {
        return Some(first.max(1));
    }
    let end = crate::log_file::end_of_whole_lines(&part.file, part.length).ok()?;
    let mut lines = crate::log_file::lines(&part.file, 0..end);
    let line = lines.next_line().ok()??;
    // A line that is none is told of when all are read.
    Some(crate::line::head_of(line.bytes).map_or(1, |(seq, _)| seq.max(1)))
}
