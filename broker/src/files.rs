//! Files that only their owner reads, and what makes a change of them last.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use rustix::fs::{Gid, Uid, fchown};

/// Makes a directory, and those above it, that only its owner enters. One that is there stays as it is.
pub(crate) fn create_private_dir(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// Who may read a new file: its owner alone.
pub(crate) const PRIVATE: u32 = 0o600;

/// Who may read a new file: everybody.
pub(crate) const PUBLIC: u32 = 0o644;

/// A new file; one that is there is never written over. Who makes it owns it.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`], and what else creating a file may meet.
pub(crate) fn create_new(path: &Path, mode: u32) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    options.open(path)
}

/// An empty file that only its owner reads.
pub(crate) fn create_private(path: &Path) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    give_to_owner_of_directory(&file, path)?;
    Ok(file)
}

/// What an administrator makes as root belongs to whoever owns the directory: the broker could not read it otherwise.
fn give_to_owner_of_directory(file: &File, path: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let Some(dir) = path
        .parent()
        .filter(|_| rustix::process::geteuid().is_root())
    else {
        return Ok(());
    };
    let owner = fs::metadata(dir)?;
    if owner.uid() != 0 {
        let (user, group) = (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()));
        fchown(file, Some(user), Some(group))?;
    }
    Ok(())
}

/// A file that only its owner reads, to add to.
pub(crate) fn append_private(path: &Path) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    give_to_owner_of_directory(&file, path)?;
    Ok(file)
}

/// What was created, renamed or removed in a directory stays so.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Old or new, whatever happens in between.
pub(crate) fn replace(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let new = dir.join(format!("{name}.new"));
    let mut file = create_private(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, dir.join(name))?;
    sync_dir(dir)
}
