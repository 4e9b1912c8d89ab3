//! One writer for each directory: the lock file, held for as long as the writer lives.
//!
//! The lock is the operating system's, on the open file: it is gone with the process, however it
//! ended, so there is never a stale one to remove. The file itself stays.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// The lock file's name in the archive's directory.
pub const LOCK_FILE: &str = "archiver.lock";

/// How long a writer tries: `status` takes the lock for an instant to see whether it is free.
const PATIENCE: Duration = Duration::from_millis(250);

/// The right to write in a directory.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

/// Why a directory could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error("another archiver is writing in {0}")]
    Taken(PathBuf),
    /// The lock file could not be opened or locked.
    #[error("cannot lock {path}: {source}")]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl DirectoryLock {
    /// Takes the lock of `directory`, or says that another has it.
    pub fn take(directory: &Path) -> Result<DirectoryLock, LockError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match try_lock(directory)? {
                Some(file) => return Ok(DirectoryLock { _file: file }),
                None if Instant::now() < deadline => thread::sleep(Duration::from_millis(10)),
                None => return Err(LockError::Taken(directory.to_owned())),
            }
        }
    }

    /// Whether somebody holds the lock of `directory` at this moment.
    pub fn is_taken(directory: &Path) -> Result<bool, LockError> {
        let path = directory.join(LOCK_FILE);
        // Reading is enough to ask: whoever looks may have no right to write.
        let asked = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(source) => Err(source),
            Ok(file) => match file.try_lock() {
                Ok(()) => Ok(false),
                Err(TryLockError::WouldBlock) => Ok(true),
                Err(TryLockError::Error(source)) => Err(source),
            },
        };
        asked.map_err(|source| LockError::Io { path, source })
    }
}

fn try_lock(directory: &Path) -> Result<Option<File>, LockError> {
    let path = directory.join(LOCK_FILE);
    let attempt = || {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    };
    attempt().map_err(|source| LockError::Io {
        path: path.clone(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_writer_is_refused_until_the_first_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        assert!(!DirectoryLock::is_taken(directory.path()).unwrap());
        let first = DirectoryLock::take(directory.path()).unwrap();
        assert!(DirectoryLock::is_taken(directory.path()).unwrap());
        assert!(matches!(
            DirectoryLock::take(directory.path()),
            Err(LockError::Taken(_))
        ));
        drop(first);
        assert!(!DirectoryLock::is_taken(directory.path()).unwrap());
        DirectoryLock::take(directory.path()).unwrap();
    }
}
