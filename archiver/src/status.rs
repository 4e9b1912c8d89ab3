//! What is in an archive, and whether somebody writes to it, without disturbing whoever does.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use sealpost_archive::layout::LogName;
use sealpost_archive::log_reader::{LogReader, ReadError};
use sealpost_archive::storage::{Directory, Storage as _};
use serde::Serialize;

use crate::control::answer::Answer;
use crate::control::caller::{self, CallError};
use crate::control::request::Request;
use crate::live::Live;
use crate::lock::{DirectoryLock, LockError};

/// Why the status could not be told.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// There is no log.
    #[error("there is no archive in {0}")]
    NoArchive(PathBuf),
    /// The directory could not be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The log could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The archiver that runs could not be asked.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The lock could not be looked at.
    #[error(transparent)]
    Lock(#[from] LockError),
}

/// An archive at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The active file.
    pub log: PathBuf,
    /// How many lines it has.
    pub lines: u64,
    /// How long its files are, in bytes: the segments as they are compressed.
    pub bytes: u64,
    /// When the last line was written, in seconds since the epoch; `None` for an empty log.
    pub last_archived_at: Option<String>,
    /// How many sealed segments there are.
    pub segments: usize,
    /// The oldest line that is there; later than 1 when older ones were retired. `None` for an empty log.
    pub first: Option<u64>,
    /// How many bytes of the disk are free.
    pub disk_free: u64,
    /// Whether an archiver is running on it.
    pub running: bool,
    /// What that one says; `None` when none does.
    pub live: Option<Live>,
}

impl Status {
    /// Looks at the archive in `directory`. A line that is being written at this moment is not
    /// counted.
    pub fn of(directory: &Path) -> Result<Status, StatusError> {
        let log = LogName::EncryptedLogs;
        let none = || StatusError::NoArchive(directory.to_owned());
        let storage = match Directory::existing(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(none()),
            other => other.map_err(|source| StatusError::Io {
                path: directory.to_owned(),
                source,
            })?,
        };
        let reader = LogReader::open(&storage, log)?;
        let active = directory.join(log.active());
        if reader.parts().is_empty() && !active.exists() {
            return Err(none());
        }
        let last = reader.last()?;
        Ok(Status {
            lines: last.map_or(0, |(seq, _)| seq),
            last_archived_at: last.map(|(_, archived_at)| archived_at.to_string()),
            running: DirectoryLock::is_taken(directory)?,
            bytes: reader.bytes(),
            segments: reader
                .parts()
                .iter()
                .filter(|part| part.manifest.is_some())
                .count(),
            first: reader.first(),
            disk_free: storage.free_bytes().map_err(|source| StatusError::Io {
                path: directory.to_owned(),
                source,
            })?,
            log: active,
            live: None,
        })
    }

    /// With what a running archiver says of itself.
    ///
    /// # Errors
    /// [`StatusError::Call`].
    pub fn with_live(mut self, directory: &Path) -> Result<Status, StatusError> {
        if let Some(Answer::Status(live)) = caller::ask(directory, &Request::Status {})? {
            self.live = Some(*live);
        }
        Ok(self)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "log         {}", self.log.display())?;
        writeln!(f, "lines       {}", self.lines)?;
        if let Some(first) = self.first.filter(|first| *first > 1) {
            writeln!(f, "retired     up to line {}", first - 1)?;
        }
        writeln!(f, "bytes       {}", self.bytes)?;
        writeln!(f, "segments    {}", self.segments)?;
        writeln!(f, "disk free   {} MiB", self.disk_free >> 20)?;
        writeln!(
            f,
            "last at     {}",
            self.last_archived_at.as_deref().unwrap_or("never")
        )?;
        let running = if self.running {
            "running"
        } else {
            "not running"
        };
        write!(f, "archiver    {running}")?;
        let Some(live) = &self.live else {
            return Ok(());
        };
        match (&live.subscribed_since, &live.away_because) {
            (Some(since), _) => write!(f, "\nsubscribed  since {since}")?,
            // What a broker says is not for a terminal as it is.
            (None, Some(why)) => write!(f, "\nsubscribed  no: {}", why.escape_debug())?,
            (None, None) => write!(f, "\nsubscribed  not yet")?,
        }
        if let (Some(since), Some(why)) = (&live.no_room_since, &live.no_room_because) {
            write!(f, "\nheld up     by a full disk, since {since}: {why}")?;
        }
        if let (Some(lines), Some(at)) = (live.signed, &live.signed_at) {
            write!(f, "\ncheckpoint  of {lines} lines, at {at}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sealpost_core::Timestamp;

    use super::*;
    use crate::arrival::Arrival;
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
        let (mut writer, _) = Writer::open(&directory, LogName::EncryptedLogs, 10, None).unwrap();
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
