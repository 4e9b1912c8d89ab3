//! What is wrong with an archive, and where.

use std::fmt;

use sealpost_core::Timestamp;
use serde::{Serialize, Serializer};

use crate::checkpoint::CheckpointError;
use crate::hash::Hash;
use crate::line::LineError;
use crate::manifest::ManifestError;

/// How many findings are kept; of more, only the number is told.
pub const MAX_FINDINGS: usize = 100;

/// Where something is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Place {
    /// The number of the line: of the first one, if several are meant.
    #[serde(rename = "line", skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// The file, below the archive's directory.
    #[serde(rename = "file")]
    pub path: String,
    /// The byte at which the line begins: in the file or, of a segment, in its lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
}

impl Place {
    /// A file as a whole.
    pub(super) fn file(path: impl Into<String>) -> Place {
        Place {
            path: path.into(),
            ..Place::default()
        }
    }

    /// A line that is not known to be in any file.
    pub(super) fn line(seq: u64, path: impl Into<String>) -> Place {
        Place {
            seq: Some(seq),
            ..Place::file(path)
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(seq) = self.seq {
            write!(f, "line {seq}, ")?;
        }
        f.write_str(&self.path)?;
        if let Some(offset) = self.offset {
            write!(f, ", byte {offset}")?;
        }
        Ok(())
    }
}

/// Something that is wrong, at its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// What.
    #[serde(serialize_with = "as_text")]
    pub fault: Fault,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.fault)
    }
}

fn as_text<S: Serializer>(fault: &Fault, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(fault)
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The file cannot be read, or not from here on.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    /// The line is none.
    #[error("it is not a line: {0}")]
    Line(LineError),
    /// The line has another form than the one that is written.
    #[error("it is not written as lines are")]
    Form,
    /// The message is none of this log.
    #[error("what it keeps is not fit for this log: {0}")]
    Message(String),
    /// Lines are missing.
    #[error("the lines {from} to {until} are missing before it")]
    Missing {
        /// The first of them.
        from: u64,
        /// The last.
        until: u64,
    },
    /// A line comes again, or was put in.
    #[error("it comes after line {after}: it is there twice, was put in, or was moved")]
    Stray {
        /// The line before it.
        after: u64,
    },
    /// A file that is full ends in half a line.
    #[error("it ends in half a line")]
    HalfALine,
    /// The line is not the one that was signed: the tree of the stored leaves is the signed one, that of the lines is not.
    #[error("it is not the line that was signed")]
    NotSigned,
    /// The line and its stored leaf disagree, and no signature tells which of them is right.
    #[error("it is not the line whose hash {0} keeps")]
    NotItsLeaf(String),
    /// The tile is not that of the lines, which are those that were signed.
    #[error("the tile is not that of the lines {from} to {until}")]
    Tile {
        /// The first line that it is wrong about.
        from: u64,
        /// The last of them.
        until: u64,
    },
    /// The leaves of removed lines are missing.
    #[error("the tile that stands for removed lines is missing or too short")]
    TileMissing,
    /// The tree of the lines is not the signed one.
    #[error("one of the lines {from} to {until} is not the one that {note} signs")]
    Root {
        /// The first that may be it.
        from: u64,
        /// The last.
        until: u64,
        /// The checkpoint.
        note: String,
    },
    /// The log ends before what was signed.
    #[error("the log ends with line {last}, but {note} signs {signed} lines")]
    Cut {
        /// The last line that is there.
        last: u64,
        /// How many were signed.
        signed: u64,
        /// The checkpoint.
        note: String,
    },
    /// The checkpoint does not count.
    #[error("the checkpoint does not count: {0}")]
    Checkpoint(CheckpointError),
    /// There are lines, but no checkpoint.
    #[error("there is no checkpoint")]
    NoCheckpoint,
    /// The archive's own checkpoint is older than one that somebody kept.
    #[error("it signs {own} lines, but {note} signs {kept} already: the archive was set back")]
    SetBack {
        /// What the archive's own checkpoint signs.
        own: u64,
        /// What the other one signs.
        kept: u64,
        /// The other one.
        note: String,
    },
    /// The manifest is none.
    #[error("the manifest is of no use: {0}")]
    Manifest(ManifestError),
    /// The manifest says something else than the segment.
    #[error("\"{member}\" is {stated}, but its lines say {found}")]
    ManifestMember {
        /// The member.
        member: &'static str,
        /// What the manifest says.
        stated: String,
        /// What the lines say.
        found: String,
    },
    /// A segment has no manifest.
    #[error("the segment has no manifest")]
    NoManifest,
    /// A manifest has no segment.
    #[error("the manifest has no segment")]
    NoSegment,
    /// A segment lies in another folder or under another name than its first line says.
    #[error("it belongs to {0}")]
    Misplaced(String),
    /// A frame has no checksum.
    #[error("the frame at byte {0} has no checksum")]
    NoChecksum(u64),
    /// A frame does not end with a line.
    #[error("the frame at byte {0} does not end with a line")]
    SplitLine(u64),
    /// The record of an erasure is missing.
    #[error("it was erased, but line {erased_by} is not the record of it")]
    NoErasure {
        /// The line that was to be the record.
        erased_by: u64,
    },
    /// The record of an erasure does not come after what it erases.
    #[error(
        "it was erased, but its record is said to be line {erased_by}, which does not come later"
    )]
    ErasedBefore {
        /// The line that was to be the record.
        erased_by: u64,
    },
    /// The record of an erasure is that of another line.
    #[error("it was erased, but its record, line {erased_by}, names line {erases} or another hash")]
    OtherErasure {
        /// The record.
        erased_by: u64,
        /// The line that it names.
        erases: u64,
    },
    /// The record of an erasure names another time than the tombstone has.
    #[error(
        "it was erased, and its record, line {erased_by}, says that it was archived at {archived_at}"
    )]
    OtherTime {
        /// The record.
        erased_by: u64,
        /// The time that it names.
        archived_at: Timestamp,
    },
    /// A record speaks of a line that does not come before it.
    #[error("it speaks of line {0}, which does not come before it")]
    OfLater(u64),
    /// The root in the record of a retirement is not that of the lines.
    #[error("it retires {retires} lines of the root {stated}, but theirs is {found}")]
    RetiredRoot {
        /// How many lines.
        retires: u64,
        /// The root that it names.
        stated: Hash,
        /// Theirs.
        found: Hash,
    },
    /// Lines are missing at the beginning, and no record says that they were retired.
    #[error("the lines 1 to {0} are missing, and no record retires them")]
    NotRetired(u64),
}
