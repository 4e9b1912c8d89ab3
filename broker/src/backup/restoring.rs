//! Restores a backup into a directory that is not there yet.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use sealpost_core::{Realm, UserId};

use super::reader::{Item, ReadError, Reader};
use super::taking::Taken;
use crate::files::{PRIVATE, create_new, create_private_dir, sync_dir};
use crate::inspection;
use crate::journal::disk::DiskStore;
use crate::journal::store::{Durability, Store, StoreError, Write};

/// Rows written at once.
const AT_ONCE: usize = 1_000;

/// Why nothing was restored. The directory is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The file is no whole backup.
    #[error("{path:?}: {why}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        why: ReadError,
    },
    /// It is another deployment's.
    #[error("the backup is of realm {found:?}, and the settings say {asked}")]
    Realm {
        /// The backup's.
        found: String,
        /// The settings'.
        asked: Realm,
    },
    /// There is something already.
    #[error("{0:?} is there and not empty")]
    NotEmpty(PathBuf),
    /// A restore before this one was cut short.
    #[error("{0:?} is left of a restore that was cut short")]
    CutShort(PathBuf),
    /// The directory cannot be written.
    #[error("{path:?}: {why}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        why: io::Error,
    },
    /// The journal cannot be written.
    #[error("journal: {0}")]
    Journal(#[from] StoreError),
    /// What was restored is not whole.
    #[error("what the backup holds cannot be used: {0}")]
    Unsound(String),
}

/// Reads the whole file first; then writes all beside `data`, looks it over, and moves it there.
///
/// # Errors
/// See [`RestoreError`].
pub fn restore(file: &Path, data: &Path, realm: &Realm) -> Result<Taken, RestoreError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |why| RestoreError::Io { path, why }
    };
    match fs::read_dir(data) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(RestoreError::NotEmpty(data.to_owned()));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(at(data)(error)),
    }
    let unreadable = |why| RestoreError::File {
        path: file.to_owned(),
        why,
    };
    let mut reader = Reader::open(file).map_err(unreadable)?;
    while let Some(item) = reader.next().map_err(unreadable)? {
        match item {
            Item::About(name, found) if name == "realm" && found != realm.as_str() => {
                let asked = realm.clone();
                return Err(RestoreError::Realm { found, asked });
            }
            _ => {}
        }
    }

    let data = std::path::absolute(data).map_err(at(data))?;
    let mut beside = data.clone().into_os_string();
    beside.push(".restoring");
    let beside = PathBuf::from(beside);
    if beside.exists() {
        return Err(RestoreError::CutShort(beside));
    }
    let filled = fill(file, &beside, realm).and_then(|taken| {
        fs::rename(&beside, &data).map_err(at(&data))?;
        let above = data.parent().unwrap_or(&data);
        sync_dir(above).map_err(at(above))?;
        Ok(taken)
    });
    if filled.is_err() {
        // Made by us a moment ago.
        let _ = fs::remove_dir_all(&beside);
    }
    filled
}

fn fill(file: &Path, dir: &Path, realm: &Realm) -> Result<Taken, RestoreError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |why| RestoreError::Io { path, why }
    };
    let unreadable = |why| RestoreError::File {
        path: file.to_owned(),
        why,
    };
    let users_dir = dir.join("users");
    create_private_dir(&users_dir).map_err(at(&users_dir))?;
    let store = DiskStore::open(&dir.join("journal"))?;
    let (mut users, mut rows) = (0, 0);
    let mut batch = Vec::new();
    let mut reader = Reader::open(file).map_err(unreadable)?;
    while let Some(item) = reader.next().map_err(unreadable)? {
        match item {
            Item::About(..) => {}
            Item::User(name, bytes) => {
                // No name leads out of the directory.
                let user = UserId::parse(&name)
                    .map_err(|_| unreadable(ReadError::Damaged("a user without a name")))?;
                let path = users_dir.join(format!("{user}.json"));
                let made = create_new(&path, PRIVATE).and_then(|mut file| {
                    file.write_all(&bytes)?;
                    file.sync_all()
                });
                made.map_err(at(&path))?;
                users += 1;
            }
            Item::Row(table, key, value) => {
                batch.push(Write {
                    table,
                    key,
                    value: Some(value),
                });
                rows += 1;
                if batch.len() >= AT_ONCE {
                    store.commit(std::mem::take(&mut batch), Durability::Written)?;
                }
            }
        }
    }
    store.commit(batch, Durability::Written)?;
    store.commit(Vec::new(), Durability::Synced)?;
    for dir in [&users_dir, dir] {
        let synced = fs::File::open(dir).and_then(|dir| dir.sync_all());
        synced.map_err(at(dir))?;
    }
    let mut findings = inspection::journal(&store)?;
    drop(store);
    inspection::users(&users_dir, realm, &mut findings).map_err(at(&users_dir))?;
    if let Some(problem) = findings.problems.first() {
        return Err(RestoreError::Unsound(problem.clone()));
    }
    let bytes = fs::metadata(file).map_err(at(file))?.len();
    Ok(Taken { users, rows, bytes })
}
