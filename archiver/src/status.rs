//! What is in an archive, and whether somebody writes to it, without disturbing whoever does.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::line::{Line, LineError};
use crate::lock::{DirectoryLock, LockError};
use crate::log_file::{self, ReadError};
use crate::storage::StoredFile as _;
use crate::writer::LOG_FILE;

/// Why the status could not be told.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// There is no log.
    #[error("there is no archive in {0}")]
    NoArchive(PathBuf),
    /// The log could not be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The log.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The last line could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The last line is damaged.
    #[error("the last line is damaged: {0}")]
    Damaged(#[from] LineError),
    /// The lock could not be looked at.
    #[error(transparent)]
    Lock(#[from] LockError),
}

/// An archive at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The log.
    pub log: PathBuf,
    /// How many lines it has.
    pub lines: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// When the last line was written, in seconds since the epoch; `None` for an empty log.
    pub last_archived_at: Option<String>,
    /// Whether an archiver is running on it.
    pub running: bool,
}

impl Status {
    /// Looks at the archive in `directory`. A line that is being written at this moment is not
    /// counted.
    pub fn of(directory: &Path) -> Result<Status, StatusError> {
        let log = directory.join(LOG_FILE);
        let failed = |source| StatusError::Io {
            path: log.clone(),
            source,
        };
        let file = match File::open(&log) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StatusError::NoArchive(directory.to_owned()));
            }
            other => other.map_err(failed)?,
        };
        let bytes = file.length().map_err(failed)?;
        let mut lines = log_file::last_whole_lines(&file, bytes, 1).map_err(failed)?;
        let last = lines
            .next_line()?
            .map(|raw| Line::parse(raw.bytes))
            .transpose()?;
        Ok(Status {
            lines: last.as_ref().map_or(0, |line| line.seq),
            last_archived_at: last.map(|line| line.archived_at.to_string()),
            running: DirectoryLock::is_taken(directory)?,
            bytes,
            log,
        })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "log       {}", self.log.display())?;
        writeln!(f, "lines     {}", self.lines)?;
        writeln!(f, "bytes     {}", self.bytes)?;
        writeln!(
            f,
            "last at   {}",
            self.last_archived_at.as_deref().unwrap_or("never")
        )?;
        write!(
            f,
            "archiver  {}",
            if self.running {
                "running"
            } else {
                "not running"
            }
        )
    }
}

#[cfg(test)]
mod tests {
    use sealpost_core::Timestamp;

    use super::*;
    use crate::arrival::Arrival;
    use crate::storage::Directory;
    use crate::writer::Writer;

    #[test]
    fn it_tells_the_last_line_and_whether_somebody_writes() {
        let parent = tempfile::tempdir().unwrap();
        assert!(matches!(
            Status::of(parent.path()),
            Err(StatusError::NoArchive(_))
        ));

        let lock = DirectoryLock::take(parent.path()).unwrap();
        let directory = Directory::open(parent.path()).unwrap();
        let (mut writer, _) = Writer::open(&directory, 10).unwrap();
        let empty = Status::of(parent.path()).unwrap();
        assert_eq!(
            (
                empty.lines,
                empty.bytes,
                empty.last_archived_at,
                empty.running
            ),
            (0, 0, None, true)
        );

        let at = Timestamp::parse("1700000000.123").unwrap();
        let arrivals =
            ["a", "b", "c"].map(|text| Arrival::new("inbox/bob".into(), text.into(), 1, None));
        writer.archive(&arrivals, at).unwrap();
        drop(lock);
        let status = Status::of(parent.path()).unwrap();
        assert_eq!((status.lines, status.running), (3, false));
        assert_eq!(status.last_archived_at.as_deref(), Some("1700000000.123"));
    }
}
