//! The archiver's own identity: the Ed25519 key it signs in with. It opens no message; nobody seals
//! to it.
//!
//! `archiver.key` holds the 32-byte seed as base64 and a newline, and is readable by its owner
//! alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::TryRng as _;
use rand::rngs::SysRng;
use sealpost_core::Identity;
use zeroize::Zeroizing;

/// The key file's name in the archive's directory.
pub const KEY_FILE: &str = "archiver.key";

/// More than a seed takes as base64; a longer file is something else.
const MAX_FILE: u64 = 256;

/// Why the archiver's key could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// There is none yet.
    #[error("there is no key at {0}")]
    Missing(PathBuf),
    /// Others than the owner may read it.
    #[error("{path} may be read by others than its owner (mode {mode:04o})")]
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is not a seed.
    #[error("{0} is not a key: it must hold 32 bytes as base64")]
    Malformed(PathBuf),
    /// The file system failed.
    #[error("cannot use {path}: {source}")]
    Io {
        /// The key file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes: {0}")]
    Random(String),
}

/// Reads the key of `directory`.
pub fn load(directory: &Path) -> Result<Identity, KeyError> {
    let path = directory.join(KEY_FILE);
    let failed = |source| KeyError::Io {
        path: path.clone(),
        source,
    };
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(KeyError::Missing(path));
        }
        other => other.map_err(failed)?,
    };
    let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Exposed { path, mode });
    }
    // Room for the whole file from the start, so that no copy is left behind by growing.
    let mut text = Zeroizing::new(String::with_capacity(MAX_FILE as usize));
    file.take(MAX_FILE)
        .read_to_string(&mut text)
        .map_err(failed)?;
    let mut seed = Zeroizing::new([0; 32]);
    match STANDARD.decode_slice(text.trim_end(), seed.as_mut_slice()) {
        Ok(32) => Ok(Identity::from_seed(&seed)),
        _ => Err(KeyError::Malformed(path)),
    }
}

/// Reads the key of `directory`, and makes one when there is none.
pub fn load_or_create(directory: &Path) -> Result<Identity, KeyError> {
    match load(directory) {
        Err(KeyError::Missing(path)) => create(directory, &path)?,
        other => return other,
    }
    // Read back rather than kept: when two made one at once, both must use the one that is there.
    load(directory)
}

fn create(directory: &Path, path: &Path) -> Result<(), KeyError> {
    let failed = |source| KeyError::Io {
        path: path.to_owned(),
        source,
    };
    let mut seed = Zeroizing::new([0; 32]);
    SysRng
        .try_fill_bytes(seed.as_mut_slice())
        .map_err(|error| KeyError::Random(error.to_string()))?;
    let text = Zeroizing::new(format!(
        "{}\n",
        Zeroizing::new(STANDARD.encode(*seed)).as_str()
    ));

    // Written beside and then linked: the name never stands for half a key, and never replaces a
    // key that is there.
    let unfinished = directory.join(format!("{KEY_FILE}.new-{}", std::process::id()));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&unfinished)
        .map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    let linked = match fs::hard_link(&unfinished, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    };
    fs::remove_file(&unfinished).map_err(failed)?;
    linked.map_err(failed)?;
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_readable_by_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(load(directory.path()), Err(KeyError::Missing(_))));
        let made = load_or_create(directory.path()).unwrap();
        let again = load_or_create(directory.path()).unwrap();
        assert_eq!(made.key(), again.key());
        let mode = fs::metadata(directory.path().join(KEY_FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let names: Vec<_> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, [KEY_FILE], "nothing else is left behind");
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        load_or_create(directory.path()).unwrap();
        let path = directory.path().join(KEY_FILE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            load_or_create(directory.path()),
            Err(KeyError::Exposed { mode: 0o640, .. })
        ));
    }

    #[test]
    fn a_damaged_key_is_refused_and_never_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(KEY_FILE);
        let short = STANDARD.encode([7; 31]);
        let long = STANDARD.encode([7; 33]);
        for damaged in ["", "hello\n", &short, &long, &"A".repeat(1000)] {
            fs::write(&path, damaged).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            assert!(
                matches!(
                    load_or_create(directory.path()),
                    Err(KeyError::Malformed(_))
                ),
                "{damaged}"
            );
            assert_eq!(fs::read_to_string(&path).unwrap(), damaged);
        }
    }
}
