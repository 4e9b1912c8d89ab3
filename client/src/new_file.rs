//! A new file that appears whole or not at all, and never takes the place of another.
//!
//! While it is written it has no name, where the file system knows such files (Linux's O_TMPFILE), so that even `kill -9` leaves nothing
//! of it; elsewhere a hidden one.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// A file that is being written (mode 0600). Dropped before [`NewFile::finish`], it is gone.
#[derive(Debug)]
pub struct NewFile {
    path: PathBuf,
    file: Unfinished,
}

/// What there is of it on disk.
#[derive(Debug)]
enum Unfinished {
    /// Without a name.
    Nameless(File),
    /// Under another name.
    Hidden(NamedTempFile),
}

impl Unfinished {
    fn file(&self) -> &File {
        match self {
            Unfinished::Nameless(file) => file,
            Unfinished::Hidden(file) => file.as_file(),
        }
    }

    /// Gives it its name, unless something has that; otherwise it is as it was.
    fn appear(self, path: &Path) -> Result<(), (Unfinished, io::Error)> {
        match self {
            Unfinished::Nameless(file) => match link(&file, path) {
                Ok(()) => Ok(()),
                Err(error) => Err((Unfinished::Nameless(file), error)),
            },
            Unfinished::Hidden(file) => match file.persist_noclobber(path) {
                Ok(_) => Ok(()),
                Err(failed) => Err((Unfinished::Hidden(failed.file), failed.error)),
            },
        }
    }
}

/// Where a process finds its open files by number, from which one without a name gets one.
#[cfg(target_os = "linux")]
const OPEN_FILES: &str = "/proc/self/fd";

/// A file without a name on the file system of this folder, where it knows such, and where it can get one later.
#[cfg(target_os = "linux")]
fn nameless(folder: &Path) -> Option<File> {
    use rustix::fs::{Mode, OFlags};
    if !Path::new(OPEN_FILES).exists() {
        return None;
    }
    let how = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::open(folder, how, Mode::RUSR | Mode::WUSR).ok()?;
    Some(File::from(file))
}

#[cfg(not(target_os = "linux"))]
fn nameless(_folder: &Path) -> Option<File> {
    None
}

#[cfg(target_os = "linux")]
fn link(file: &File, path: &Path) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD};
    use std::os::fd::AsRawFd as _;
    let number = file.as_raw_fd();
    let from = format!("{OPEN_FILES}/{number}");
    Ok(rustix::fs::linkat(
        CWD,
        from,
        CWD,
        path,
        AtFlags::SYMLINK_FOLLOW,
    )?)
}

#[cfg(not(target_os = "linux"))]
fn link(_file: &File, _path: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
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
        let file = match nameless(folder_of(path)) {
            Some(file) => Unfinished::Nameless(file),
            None => Unfinished::Hidden(
                tempfile::Builder::new()
                    .prefix(&format!(".{}.", name.to_string_lossy()))
                    .suffix(".part")
                    .tempfile_in(folder_of(path))
                    .map_err(io)?,
            ),
        };
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
        if let Err(error) = self.file.file().sync_all() {
            return Err((Some(self), io(error)));
        }
        if let Err((file, error)) = self.file.appear(path) {
            let error = match error.kind() {
                io::ErrorKind::AlreadyExists => NewFileError::Exists(path.to_owned()),
                _ => io(error),
            };
            let again = NewFile {
                path: self.path,
                file,
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
        match &mut self.file {
            Unfinished::Nameless(file) => file.write(bytes),
            Unfinished::Hidden(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.file {
            Unfinished::Nameless(file) => file.flush(),
            Unfinished::Hidden(file) => file.flush(),
        }
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

    #[test]
    fn a_file_system_without_nameless_files_does_the_same_with_hidden_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let begin = || {
            let hidden = tempfile::NamedTempFile::new_in(folder.path()).unwrap();
            let mut file = NewFile {
                path: path.clone(),
                file: Unfinished::Hidden(hidden),
            };
            file.write_all(b"all").unwrap();
            file
        };
        drop(begin());
        assert!(names(&folder).is_empty());
        begin().finish().unwrap();
        let Err((Some(again), NewFileError::Exists(_))) = begin().finish_as(&path) else {
            panic!("it took the place of another");
        };
        again.finish_as(&folder.path().join("g")).unwrap();
        assert_eq!(names(&folder), ["f", "g"]);
        assert_eq!(std::fs::read(folder.path().join("g")).unwrap(), b"all");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_is_written_has_no_name_that_a_crash_could_leave_behind() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = NewFile::create(&folder.path().join("f")).unwrap();
        file.write_all(b"half").unwrap();
        // A file system that has no such files would make the other test the only one.
        assert!(matches!(file.file, Unfinished::Nameless(_)));
        assert!(names(&folder).is_empty());
    }
}
