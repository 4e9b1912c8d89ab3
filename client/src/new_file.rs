//! A new file that appears whole or not at all, and never takes the place of another.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// A file that is being written, under another name (mode 0600). Dropped before [`NewFile::finish`], it is gone.
#[derive(Debug)]
pub struct NewFile {
    path: PathBuf,
    file: NamedTempFile,
}

/// Why there is no new file.
#[derive(Debug, thiserror::Error)]
pub enum NewFileError {
    /// Something of that name is there already.
    #[error("{0} is there already")]
    Exists(PathBuf),
    /// The operating system refused.
    #[error("cannot write {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl NewFile {
    /// Begins a file at this path, in a folder that is there.
    pub fn create(path: &Path) -> Result<NewFile, NewFileError> {
        let io = |source| NewFileError::Io {
            path: path.to_owned(),
            source,
        };
        if path.symlink_metadata().is_ok() {
            return Err(NewFileError::Exists(path.to_owned()));
        }
        let Some(name) = path.file_name() else {
            return Err(io(io::ErrorKind::InvalidFilename.into()));
        };
        let file = tempfile::Builder::new()
            .prefix(&format!(".{}.", name.to_string_lossy()))
            .suffix(".part")
            .tempfile_in(folder_of(path))
            .map_err(io)?;
        Ok(NewFile {
            path: path.to_owned(),
            file,
        })
    }

    /// Brings it to the disk, and then under its name.
    pub fn finish(self) -> Result<(), NewFileError> {
        let path = self.path.clone();
        self.finish_as(&path).map_err(|(_, error)| error)
    }

    /// The same under another name in the same folder. After an error it can be tried once more, but for the file being gone.
    pub fn finish_as(self, path: &Path) -> Result<(), (Option<NewFile>, NewFileError)> {
        let io = |source| NewFileError::Io {
            path: path.to_owned(),
            source,
        };
        if let Err(error) = self.file.as_file().sync_all() {
            return Err((Some(self), io(error)));
        }
        if let Err(failed) = self.file.persist_noclobber(path) {
            let error = match failed.error.kind() {
                io::ErrorKind::AlreadyExists => NewFileError::Exists(path.to_owned()),
                _ => io(failed.error),
            };
            let again = NewFile {
                path: self.path,
                file: failed.file,
            };
            return Err((Some(again), error));
        }
        File::open(folder_of(path))
            .and_then(|folder| folder.sync_all())
            .map_err(|error| (None, io(error)))
    }

    /// A failure to write to it.
    #[must_use]
    pub fn failed(&self, source: io::Error) -> NewFileError {
        NewFileError::Io {
            path: self.path.clone(),
            source,
        }
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The folder in which this path is.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn names(folder: &tempfile::TempDir) -> Vec<String> {
        let entries = std::fs::read_dir(folder.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn it_appears_whole_and_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let mut file = NewFile::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        assert!(!path.exists());
        file.write_all(b" and half").unwrap();
        file.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"half and half");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(names(&folder), ["f"]);
    }

    #[test]
    fn one_that_is_given_up_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = NewFile::create(&folder.path().join("f")).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert!(names(&folder).is_empty());
    }

    #[test]
    fn another_file_of_that_name_stays_as_it_is_whenever_it_came() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let file = NewFile::create(&path).unwrap();
        std::fs::write(&path, "theirs").unwrap();
        assert!(matches!(file.finish(), Err(NewFileError::Exists(_))));
        assert!(matches!(
            NewFile::create(&path),
            Err(NewFileError::Exists(_))
        ));
        assert_eq!(std::fs::read(&path).unwrap(), b"theirs");
        assert_eq!(names(&folder), ["f"]);
    }
}
