//! Why a log could not be read.

use std::io;

use crate::log_file;
use crate::manifest::ManifestError;

/// Why a log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The directory could not be listed.
    #[error("cannot list the archive: {0}")]
    List(#[source] io::Error),
    /// A file could not be read, or is damaged.
    #[error("cannot read {path}: {source}")]
    File {
        /// The file, below the archive's directory.
        path: String,
        /// What is wrong.
        source: io::Error,
    },
    /// A manifest is damaged.
    #[error("the manifest {path} is of no use: {reason}")]
    Manifest {
        /// The file, below the archive's directory.
        path: String,
        /// What is wrong.
        reason: ManifestError,
    },
    /// A line is longer than any that the archiver writes.
    #[error("{path}: the line at byte {offset} has no end")]
    EndlessLine {
        /// The file, below the archive's directory.
        path: String,
        /// Where the line begins, in the file or, of a segment, in its lines.
        offset: u64,
    },
    /// A line does not begin as a line does.
    #[error("{path}: the line at byte {offset} does not begin with \"seq\" and \"archived_at\"")]
    Head {
        /// The file, below the archive's directory.
        path: String,
        /// Where the line begins, in the file or, of a segment, in its lines.
        offset: u64,
    },
    /// Numbers are missing, or come twice.
    #[error("{path}: line {found} is where line {expected} was to come")]
    OutOfSequence {
        /// The file, below the archive's directory.
        path: String,
        /// The number that belongs there.
        expected: u64,
        /// The number that is there.
        found: u64,
    },
    /// The files changed each time they were listed.
    #[error("the files of the archive change all the time")]
    Restless,
}

/// An error about the lines of the file at `path`.
pub(super) fn of_lines(path: &str, error: log_file::ReadError) -> ReadError {
    let path = path.to_owned();
    match error {
        log_file::ReadError::Io(source) => ReadError::File { path, source },
        log_file::ReadError::LineTooLong { offset } => ReadError::EndlessLine { path, offset },
    }
}
