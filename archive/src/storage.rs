//! The seam to the disk: the few operations the archive needs of a directory and of a file, and no
//! others. Paths are relative to the archive's directory, with `/` between their parts.
//!
//! [`Directory`] is the real one. Tests put a simulated disk in its place, which fails on demand,
//! records what happened in which order, and forgets what was not synced.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A directory of files.
pub trait Storage {
    /// A file in it.
    type File: StoredFile;

    /// Opens a file for reading and appending; makes it, readable by its owner alone, when it is
    /// not there.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// Makes a file that must not be there yet; [`io::ErrorKind::AlreadyExists`] when it is.
    fn create_new(&self, name: &str) -> io::Result<Self::File>;

    /// Opens a file for reading and appending that is there; [`io::ErrorKind::NotFound`] when it is not.
    fn open_existing(&self, name: &str) -> io::Result<Self::File>;

    /// Gives a file another name, in the place of whatever had that name. Atomic.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file; [`io::ErrorKind::NotFound`] when it is not there.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Removes the directory `path`, which is empty; [`io::ErrorKind::NotFound`] when it is not there.
    fn remove_directory(&self, path: &str) -> io::Result<()>;

    /// The names in the directory `path`, files and directories alike, without order; nothing when it is not there.
    fn list(&self, path: &str) -> io::Result<Vec<String>>;

    /// Makes the directory `path`, open to its owner alone, with those above it. No error when it is there. The names are
    /// durable when it returns.
    fn make_directory(&self, path: &str) -> io::Result<()>;

    /// Makes the directory `path` itself durable: the names of files made, changed and removed in it. `""` is the archive's own.
    fn sync_directory(&self, path: &str) -> io::Result<()>;

    /// How many bytes are free to its user.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// A file that only grows at its end, or is cut.
pub trait StoredFile {
    /// Its length in bytes.
    fn length(&self) -> io::Result<u64>;

    /// Reads at `offset` into `buffer`, and says how many bytes; 0 at the end. May read less than
    /// there is.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `bytes` at the end. On an error, any part of them may have been written.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the file to `length` bytes.
    fn truncate(&mut self, length: u64) -> io::Result<()>;

    /// Returns when what was written is on the medium, with the length needed to read it back
    /// (fdatasync).
    fn sync(&mut self) -> io::Result<()>;
}

/// Fills `buffer` from `offset` on.
///
/// # Errors
/// [`io::ErrorKind::UnexpectedEof`] if the file ends before; whatever the disk says.
pub fn read_exact_at<F: StoredFile>(
    file: &F,
    mut offset: u64,
    mut buffer: &mut [u8],
) -> io::Result<()> {
    while !buffer.is_empty() {
        let read = file.read_at(offset, buffer)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        offset += read as u64;
        buffer = buffer.get_mut(read..).unwrap_or_default();
    }
    Ok(())
}

/// Puts a file in the place of another, whole or not at all: written beside, synced, and renamed. Its name is durable
/// when the directory is synced.
///
/// # Errors
/// Whatever the disk says. What was there before is still there then.
pub fn replace<S: Storage>(storage: &S, path: &str, bytes: &[u8]) -> io::Result<()> {
    let beside = format!("{path}.new");
    remove_if_there(storage, &beside)?;
    let mut file = storage.create_new(&beside)?;
    file.append(bytes)?;
    file.sync()?;
    storage.rename(&beside, path)
}

/// Removes a file, if it is there.
///
/// # Errors
/// Whatever the disk says.
pub fn remove_if_there<S: Storage>(storage: &S, path: &str) -> io::Result<()> {
    match storage.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The directory that a path lies in; `""` is the archive's own.
#[must_use]
pub fn directory_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}

/// A directory of the file system.
#[derive(Debug, Clone)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// Takes the directory at `path`; makes it, open to its owner alone, when it is not there.
    pub fn open(path: &Path) -> io::Result<Directory> {
        if !path.is_dir() {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)?;
            // The new name lies in the parent: without this a power cut could take the whole
            // directory away.
            if let Some(parent) = path
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty())
            {
                File::open(parent)?.sync_all()?;
            }
        }
        Ok(Directory {
            path: path.to_owned(),
        })
    }

    /// Takes the directory at `path`, which is there.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] or [`io::ErrorKind::NotADirectory`] if it is none.
    pub fn existing(path: &Path) -> io::Result<Directory> {
        if !std::fs::metadata(path)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Directory {
            path: path.to_owned(),
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Storage for Directory {
    type File = File;

    fn open(&self, name: &str) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(self.path.join(name))
    }

    fn create_new(&self, name: &str) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(self.path.join(name))
    }

    fn open_existing(&self, name: &str) -> io::Result<File> {
        let path = self.path.join(name);
        match OpenOptions::new().read(true).append(true).open(&path) {
            // An auditor may have no right to write.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                File::open(path)
            }
            other => other,
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }

    fn remove_directory(&self, path: &str) -> io::Result<()> {
        std::fs::remove_dir(self.path.join(path))
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let entries = match std::fs::read_dir(self.path.join(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut names = Vec::new();
        for entry in entries {
            // A name that is not UTF-8 is none of the archive's.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn make_directory(&self, path: &str) -> io::Result<()> {
        let mut made = self.path.clone();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let above = made.clone();
            made.push(part);
            match std::fs::DirBuilder::new().mode(0o700).create(&made) {
                Ok(()) => File::open(above)?.sync_all()?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn sync_directory(&self, path: &str) -> io::Result<()> {
        File::open(self.path.join(path))?.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let volume = rustix::fs::statvfs(&self.path)?;
        Ok(volume.f_bavail.saturating_mul(volume.f_frsize))
    }
}

impl StoredFile for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match FileExt::read_at(self, buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}
