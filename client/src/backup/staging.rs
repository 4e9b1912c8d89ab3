//! A home in the making: beside its place, under another name, until it is whole.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::RestoreError;

/// How often we begin again when another restore has just ended.
const ATTEMPTS: u32 = 8;

/// The folder (mode 0700). Dropped before [`Staging::finish`], it is gone with all that is in it.
pub(super) struct Staging {
    path: PathBuf,
    target: PathBuf,
    /// The folder itself, locked, so that no two fill the same one and one that was killed is told from one at work.
    folder: File,
    finished: bool,
}

impl Staging {
    /// Begins a home that is to be at `target`, where nothing may be but an empty folder.
    pub(super) fn begin(target: &Path) -> Result<Staging, RestoreError> {
        let taken = fs::read_dir(target).map(|mut entries| entries.next().is_some());
        match taken {
            Ok(false) => {}
            Ok(true) => return Err(RestoreError::Exists(target.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(RestoreError::Exists(target.to_owned()));
            }
            Err(source) => return Err(write_error(target)(source)),
        }
        let name = target
            .file_name()
            .ok_or_else(|| RestoreError::Exists(target.to_owned()))?;
        let path = target.with_file_name(format!(".{}.restoring", name.to_string_lossy()));
        let failed = write_error(&path);
        if let Some(parent) = path.parent().filter(|parent| *parent != Path::new("")) {
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(0o700);
            builder.create(parent).map_err(&failed)?;
        }
        for _ in 0..ATTEMPTS {
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(failed(error));
                }
                _ => {}
            }
            let folder = match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                folder => folder.map_err(&failed)?,
            };
            match folder.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(RestoreError::Busy(path)),
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
            // Another one may have put it in its place, or removed it, before we had the lock.
            let of = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
            let found = folder.metadata().map_err(&failed)?;
            if found.uid() != rustix::process::geteuid().as_raw() {
                return Err(RestoreError::Foreign(path));
            }
            if found.mode() & 0o077 != 0 {
                let private = fs::Permissions::from_mode(0o700);
                folder.set_permissions(private).map_err(&failed)?;
            }
            let ours = of(found);
            if fs::symlink_metadata(&path).map(of).ok() != Some(ours) {
                continue;
            }
            let staging = Staging {
                target: target.to_owned(),
                folder,
                finished: false,
                path: path.clone(),
            };
            // What one that was killed has left.
            for entry in fs::read_dir(&path).map_err(&failed)? {
                fs::remove_file(entry.map_err(&failed)?.path()).map_err(&failed)?;
            }
            return Ok(staging);
        }
        Err(RestoreError::Busy(path))
    }

    /// The folder.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts it in its place. The files in it must be on the disk already.
    pub(super) fn finish(mut self) -> Result<(), RestoreError> {
        self.folder.sync_all().map_err(write_error(&self.path))?;
        // Over an empty folder this works, over anything else it does not.
        fs::rename(&self.path, &self.target).map_err(|error| match error.kind() {
            io::ErrorKind::DirectoryNotEmpty
            | io::ErrorKind::AlreadyExists
            | io::ErrorKind::NotADirectory => RestoreError::Exists(self.target.clone()),
            _ => write_error(&self.target)(error),
        })?;
        self.finished = true;
        match self
            .target
            .parent()
            .filter(|parent| *parent != Path::new(""))
        {
            Some(parent) => File::open(parent)
                .and_then(|parent| parent.sync_all())
                .map_err(write_error(parent)),
            None => Ok(()),
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.finished {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Something of the new home cannot be written.
pub(super) fn write_error(path: &Path) -> impl Fn(io::Error) -> RestoreError + use<> {
    let path = path.to_owned();
    move |source| RestoreError::Write {
        path: path.clone(),
        source,
    }
}
