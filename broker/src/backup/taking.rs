//! Takes a backup.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sealpost_core::{Realm, Timestamp, UserId};

use super::writer::Writer;
use super::{ABOUT, ROW, USER, number};
use crate::journal::store::{Snapshot, StoreError, Table};

/// Rows read at once.
const AT_ONCE: usize = 256;

/// What there is to back up.
#[derive(Debug)]
pub struct Contents {
    /// The journal's tables at one moment.
    pub journal: Box<dyn Snapshot>,
    /// The directory of users' files.
    pub users: PathBuf,
    /// The deployment.
    pub realm: Realm,
    /// When.
    pub now: Timestamp,
}

/// What was backed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Users.
    pub users: u64,
    /// Rows of the journal.
    pub rows: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is a file of that name.
    #[error("{0:?} exists, and nothing is overwritten")]
    Exists(PathBuf),
    /// The file cannot be written.
    #[error("{path:?}: {why}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        why: io::Error,
    },
    /// The journal cannot be read.
    #[error("journal: {0}")]
    Journal(#[from] StoreError),
}

impl Contents {
    /// Writes all into a new file, and syncs it. Blocks for as long as that takes. When it fails, there is no file.
    ///
    /// # Errors
    /// See [`BackupError`].
    pub fn write_to(&self, file: &Path) -> Result<Taken, BackupError> {
        let at = |why| BackupError::Io {
            path: file.to_owned(),
            why,
        };
        let writer = Writer::create(file).map_err(|why| match why.kind() {
            io::ErrorKind::AlreadyExists => BackupError::Exists(file.to_owned()),
            _ => at(why),
        })?;
        let taken = self.fill(writer, file);
        if taken.is_err() {
            // Half a backup is none; if this fails too, the file has no end, and is refused.
            let _ = fs::remove_file(file);
        } else if let Some(dir) = file.parent() {
            let dir = if dir.as_os_str().is_empty() {
                Path::new(".")
            } else {
                dir
            };
            fs::File::open(dir)
                .and_then(|dir| dir.sync_all())
                .map_err(at)?;
        }
        taken
    }

    fn fill(&self, mut writer: Writer, file: &Path) -> Result<Taken, BackupError> {
        let at = |why| BackupError::Io {
            path: file.to_owned(),
            why,
        };
        for (name, value) in [
            ("realm", self.realm.to_string()),
            ("made", self.now.millis().to_string()),
            ("program", env!("CARGO_PKG_VERSION").to_owned()),
        ] {
            writer
                .record(ABOUT, name.as_bytes(), value.as_bytes())
                .map_err(at)?;
        }
        let mut rows = 0;
        for table in Table::ALL {
            let mut from = Vec::new();
            loop {
                let some = self.journal.scan(table, &from, AT_ONCE)?;
                let Some((last, _)) = some.last() else {
                    break;
                };
                // The smallest key after the last.
                from = last.to_vec();
                from.push(0);
                for (key, value) in some {
                    let name = [&[number(table)], &key[..]].concat();
                    writer.record(ROW, &name, &value).map_err(at)?;
                    rows += 1;
                }
            }
        }
        let users = self.users(&mut writer, file)?;
        let (_, bytes) = writer.finish().map_err(at)?;
        Ok(Taken { users, rows, bytes })
    }

    fn users(&self, writer: &mut Writer, file: &Path) -> Result<u64, BackupError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |why| BackupError::Io { path, why }
        };
        let mut users = 0;
        for entry in fs::read_dir(&self.users).map_err(at(&self.users))? {
            let path = entry.map_err(at(&self.users))?.path();
            let is_user = path
                .extension()
                .is_some_and(|extension| extension == "json");
            let name = path.file_stem().and_then(|stem| stem.to_str());
            let Some(user) = name
                .filter(|_| is_user)
                .and_then(|name| UserId::parse(name).ok())
            else {
                continue;
            };
            // Files are replaced whole, so each is read as it was or as it is.
            let bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                // Removed since the directory was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(at(&path)(error)),
            };
            writer
                .record(USER, user.as_str().as_bytes(), &bytes)
                .map_err(at(file))?;
            users += 1;
        }
        Ok(users)
    }
}
