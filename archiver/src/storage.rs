//! The seam to the disk: the few operations the archive needs of a directory and of a file, and no
//! others.
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

    /// Makes the directory itself durable: the names of files made since.
    fn sync_directory(&self) -> io::Result<()>;
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

    fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
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
