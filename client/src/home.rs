//! The home of one user on this machine: a folder of mode 0700 with the keystore, the store and the lock files.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What the lock file says of a process that holds it only while it opens the mailbox.
const GIVES_WAY: &str = "send, process";

/// A user's folder.
#[derive(Debug, Clone)]
pub struct Home {
    path: PathBuf,
}

/// Why a home cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// The folder or a file in it cannot be read or written.
    #[error("cannot use {path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Others can read or write a file that guards private keys.
    #[error("{path} has mode {mode:04o}: others on this machine can get at it")]
    LooseMode {
        /// The file or folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Another process holds the lock.
    #[error("another sealpost ({holder}) is already receiving for this user")]
    AlreadyReceiving {
        /// What the other process wrote into the lock file.
        holder: String,
        /// Whether it only opens the mailbox, and is about to go.
        gives_way: bool,
    },
}

/// A lock on the home, released when dropped or when the process ends, however it ends.
#[derive(Debug)]
pub struct HomeLock {
    file: File,
}

impl Drop for HomeLock {
    fn drop(&mut self) {
        // The next holder shall not be taken for us before it has written who it is.
        let _ = self.file.set_len(0);
    }
}

impl Home {
    /// Makes the folder (mode 0700) when it is not there, and refuses one that others can write to.
    pub fn open(path: &Path) -> Result<Home, HomeError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|source| HomeError::Io {
                path: path.to_owned(),
                source,
            })?;
        let mode = fs::metadata(path)
            .map_err(|source| HomeError::Io {
                path: path.to_owned(),
                source,
            })?
            .mode()
            & 0o7777;
        // Reading the names of our files harms little; being able to swap them does.
        if mode & 0o022 != 0 {
            return Err(HomeError::LooseMode {
                path: path.to_owned(),
                mode,
            });
        }
        Ok(Home {
            path: path.to_owned(),
        })
    }

    /// As it is, for who looks and does not use it: see [`Home::open`].
    #[must_use]
    pub fn at(path: &Path) -> Home {
        Home {
            path: path.to_owned(),
        }
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the keys are.
    #[must_use]
    pub fn keystore(&self) -> PathBuf {
        self.path.join("keystore.json")
    }

    /// Where contacts and messages are.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.path.join("store.sqlite")
    }

    /// Where a copy of the store is while a backup begins.
    #[must_use]
    pub(crate) fn snapshot(&self) -> PathBuf {
        self.path.join("store.snapshot")
    }

    /// Held while that copy has a name. Waits: a copy takes seconds.
    pub(crate) fn lock_backup(&self) -> Result<HomeLock, HomeError> {
        self.wait_for("backup.lock")
    }

    /// Held by the one process that receives and sends (`chat`, `listen` or `daemon`): two would share one MQTT session
    /// and take it from each other for ever.
    pub fn lock_receiving(&self) -> Result<HomeLock, HomeError> {
        self.lock_inbox(&format!("process {}", std::process::id()))
    }

    /// The same lock for a process that has an errand (`send`) and gives way as soon as [`Home::is_wanted`] says so.
    pub fn lock_errand(&self) -> Result<HomeLock, HomeError> {
        self.lock_inbox(&format!("{GIVES_WAY} {}", std::process::id()))
    }

    /// Held by who waits for the lock. `None` when somebody else does.
    pub fn want_receiving(&self) -> Result<Option<HomeLock>, HomeError> {
        let path = self.path.join("receiving.next");
        let file = self.lock_file(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(HomeLock { file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(HomeError::Io { path, source }),
        }
    }

    /// Whether somebody waits for the lock.
    pub fn is_wanted(&self) -> Result<bool, HomeError> {
        Ok(self.want_receiving()?.is_none())
    }

    fn lock_inbox(&self, holder: &str) -> Result<HomeLock, HomeError> {
        let path = self.path.join("receiving.lock");
        let mut file = self.lock_file(&path)?;
        match file.try_lock() {
            Ok(()) => {
                let io = |source| HomeError::Io {
                    path: path.clone(),
                    source,
                };
                file.set_len(0).map_err(io)?;
                writeln!(file, "{holder}").map_err(io)?;
                Ok(HomeLock { file })
            }
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.take(64).read_to_string(&mut holder);
                let holder = crate::terminal::clean_line(holder.trim());
                // Who has just locked it has written nothing yet.
                let gives_way = holder.is_empty() || holder.starts_with(GIVES_WAY);
                Err(HomeError::AlreadyReceiving { holder, gives_way })
            }
            Err(TryLockError::Error(source)) => Err(HomeError::Io { path, source }),
        }
    }

    /// Held while the keystore is read, changed and written, so that two processes do not undo each other's change.
    /// Waits: holders are brief (one Argon2id at most).
    pub fn lock_keystore(&self) -> Result<HomeLock, HomeError> {
        self.wait_for("keystore.lock")
    }

    fn wait_for(&self, name: &str) -> Result<HomeLock, HomeError> {
        let path = self.path.join(name);
        let file = self.lock_file(&path)?;
        file.lock()
            .map_err(|source| HomeError::Io { path, source })?;
        self.clear_away();
        Ok(HomeLock { file })
    }

    /// Removes what processes that were killed while they wrote the keystore have left: copies of secrets that nothing
    /// else would ever destroy. Who holds the lock is the only one who writes.
    fn clear_away(&self) {
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.as_encoded_bytes().starts_with(b"keystore.tmp-") {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn lock_file(&self, path: &Path) -> Result<File, HomeError> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|source| HomeError::Io {
                path: path.to_owned(),
                source,
            })
    }
}

/// Reads a whole private file, of at most `limit` bytes, after checking that only its owner can. `None` when it is not
/// there.
pub fn read_private(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, HomeError> {
    let io_error = |source| HomeError::Io {
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io_error(e)),
    };
    let metadata = file.metadata().map_err(io_error)?;
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(HomeError::LooseMode {
            path: path.to_owned(),
            mode,
        });
    }
    if metadata.len() > limit {
        return Err(io_error(io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "{} bytes, more than the {limit} it may have",
                metadata.len()
            ),
        )));
    }
    // Room for all of it at once: a buffer that grows leaves copies of secrets behind.
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0) + 1);
    file.take(limit).read_to_end(&mut bytes).map_err(io_error)?;
    Ok(Some(bytes))
}

/// Writes a private file (mode 0600) so that after a crash at any instant either the old or the new content is there,
/// whole: a temporary file in the same folder, fsync, rename, fsync of the folder.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), HomeError> {
    let temporary = path.with_extension(format!("tmp-{}", std::process::id()));
    let attempt = || -> io::Result<()> {
        let _ = fs::remove_file(&temporary);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        match path.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    };
    attempt().map_err(|source| {
        let _ = fs::remove_file(&temporary);
        HomeError::Io {
            path: path.to_owned(),
            source,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn a_new_home_and_its_files_are_for_the_owner_alone() {
        let folder = folder();
        let home = Home::open(&folder.path().join("alice")).unwrap();
        assert_eq!(fs::metadata(home.path()).unwrap().mode() & 0o777, 0o700);
        write_private(&home.keystore(), b"secret").unwrap();
        assert_eq!(fs::metadata(home.keystore()).unwrap().mode() & 0o777, 0o600);
        let leftovers: Vec<_> = fs::read_dir(home.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(leftovers, ["keystore.json"]);
    }

    #[test]
    fn what_a_killed_process_left_of_the_keystore_is_gone_with_the_next_change() {
        let folder = folder();
        let home = Home::open(folder.path()).unwrap();
        let left = folder.path().join("keystore.tmp-4711");
        fs::write(&left, b"secrets").unwrap();
        write_private(&home.keystore(), b"kept").unwrap();
        drop(home.lock_keystore().unwrap());
        assert!(!left.exists());
        assert!(home.keystore().exists());
    }

    #[test]
    fn a_home_that_others_can_write_to_is_refused() {
        let folder = folder();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let refused = Home::open(folder.path());
        assert!(
            matches!(refused, Err(HomeError::LooseMode { mode: 0o777, .. })),
            "{refused:?}"
        );
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let folder = folder();
        let path = folder.path().join("f");
        write_private(&path, b"x").unwrap();
        assert_eq!(read_private(&path, 10).unwrap().unwrap(), b"x");
        for loose in [0o644, 0o640, 0o604, 0o660] {
            fs::set_permissions(&path, fs::Permissions::from_mode(loose)).unwrap();
            let refused = read_private(&path, 10);
            assert!(
                matches!(refused, Err(HomeError::LooseMode { mode, .. }) if mode == loose),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn an_oversize_file_is_refused_before_it_is_read() {
        let folder = folder();
        let path = folder.path().join("f");
        write_private(&path, &[0; 100]).unwrap();
        assert!(matches!(read_private(&path, 99), Err(HomeError::Io { .. })));
    }

    #[test]
    fn a_second_receiver_on_one_home_is_told_who_is_there() {
        let folder = folder();
        let home = Home::open(folder.path()).unwrap();
        let first = home.lock_receiving().unwrap();
        match home.lock_receiving() {
            Err(HomeError::AlreadyReceiving { holder, gives_way }) => {
                assert_eq!(holder, format!("process {}", std::process::id()));
                assert!(!gives_way);
            }
            other => panic!("{other:?}"),
        }
        drop(first);
        let sending = home.lock_errand().unwrap();
        assert!(matches!(
            home.lock_receiving(),
            Err(HomeError::AlreadyReceiving {
                gives_way: true,
                ..
            })
        ));
        assert!(!home.is_wanted().unwrap());
        let wanted = home.want_receiving().unwrap().unwrap();
        assert!(home.is_wanted().unwrap());
        drop(sending);
        drop(wanted);
        assert!(!home.is_wanted().unwrap());
        home.lock_receiving().unwrap();
    }
}
