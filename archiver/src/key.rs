//! The archive's keys: the Ed25519 key that the archiver signs in with, and for each log the one that signs its tree heads.
//! None opens a message; nobody seals to them.
//!
//! `archiver.key` holds the 32-byte seed as base64 and a newline, `checkpoint.key` a signer key as c2sp.org/signed-note writes
//! it. Both are readable by their owner alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::TryRng as _;
use rand::rngs::SysRng;
use sealpost_archive::checkpoint::CheckpointSigner;
use sealpost_archive::layout::LogName;
use sealpost_core::{Identity, Realm, UserId};
use zeroize::Zeroizing;

/// The key file's name in the archive's directory.
pub const KEY_FILE: &str = "archiver.key";

/// More than a key takes as text; a longer file is something else.
const MAX_FILE: u64 = 512;

/// Why a key could not be read or made.
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
    /// It is not a signer key.
    #[error("{0} is not a key that signs checkpoints")]
    NotASigner(PathBuf),
    /// It signs for another log: another realm or name, or a key from elsewhere.
    #[error("{path} signs for {found:?}, not for {expected:?}")]
    OtherLog {
        /// The key file.
        path: PathBuf,
        /// The log that it was to sign for.
        expected: String,
        /// The log that it signs for.
        found: String,
    },
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
///
/// # Errors
/// [`KeyError`].
pub fn load(directory: &Path) -> Result<Identity, KeyError> {
    load_file(directory.join(KEY_FILE))
}

/// Reads a key file.
///
/// # Errors
/// [`KeyError`].
pub fn load_file(path: PathBuf) -> Result<Identity, KeyError> {
    let text = read(&path)?;
    let mut seed = Zeroizing::new([0; 32]);
    match STANDARD.decode_slice(text.trim_end(), seed.as_mut_slice()) {
        Ok(32) => Ok(Identity::from_seed(&seed)),
        _ => Err(KeyError::Malformed(path)),
    }
}

/// Reads the key of `directory`, and makes one when there is none.
///
/// # Errors
/// [`KeyError`]; a key that is there is never replaced.
pub fn load_or_create(directory: &Path) -> Result<Identity, KeyError> {
    match load(directory) {
        Err(KeyError::Missing(path)) => {
            create(&path, &Zeroizing::new(STANDARD.encode(*seed()?)))?;
        }
        other => return other,
    }
    // Read back rather than kept: when two made one at once, both must use the one that is there.
    load(directory)
}

/// The name under which the tree heads of a log are signed.
#[must_use]
pub fn origin(realm: &Realm, name: &UserId, log: LogName) -> String {
    format!("sealpost/{realm}/{name}/{}", log.as_str())
}

/// Reads the key that signs the tree heads of `log`, whatever it calls the log.
///
/// # Errors
/// [`KeyError`].
pub fn stored_signer(directory: &Path, log: LogName) -> Result<CheckpointSigner, KeyError> {
    let path = directory.join(log.checkpoint_key());
    let text = read(&path)?;
    CheckpointSigner::parse(text.trim_end()).map_err(|_| KeyError::NotASigner(path))
}

/// Reads the key that signs the tree heads of `log`, which are known as those of `origin`.
///
/// # Errors
/// [`KeyError`].
pub fn load_signer(
    directory: &Path,
    log: LogName,
    origin: &str,
) -> Result<CheckpointSigner, KeyError> {
    let signer = stored_signer(directory, log)?;
    if signer.origin() != origin {
        return Err(KeyError::OtherLog {
            path: directory.join(log.checkpoint_key()),
            expected: origin.to_owned(),
            found: signer.origin().to_owned(),
        });
    }
    Ok(signer)
}

/// Reads the key that signs the tree heads of `log`, and makes one when there is none.
///
/// # Errors
/// [`KeyError`]; a key that is there is never replaced.
pub fn load_or_create_signer(
    directory: &Path,
    log: LogName,
    origin: &str,
) -> Result<CheckpointSigner, KeyError> {
    match load_signer(directory, log, origin) {
        Err(KeyError::Missing(path)) => {
            create(&path, &CheckpointSigner::text_from_seed(origin, &*seed()?))?;
        }
        other => return other,
    }
    load_signer(directory, log, origin)
}

fn seed() -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let mut seed = Zeroizing::new([0; 32]);
    SysRng
        .try_fill_bytes(seed.as_mut_slice())
        .map_err(|error| KeyError::Random(error.to_string()))?;
    Ok(seed)
}

/// The text of a key file that only its owner may read.
fn read(path: &Path) -> Result<Zeroizing<String>, KeyError> {
    let failed = |source| KeyError::Io {
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(KeyError::Missing(path.to_owned()));
        }
        other => other.map_err(failed)?,
    };
    let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    // Room for the whole file from the start, so that no copy is left behind by growing.
    let mut text = Zeroizing::new(String::with_capacity(MAX_FILE as usize));
    file.take(MAX_FILE)
        .read_to_string(&mut text)
        .map_err(failed)?;
    Ok(text)
}

/// Makes a key file, unless there is one.
fn create(path: &Path, key: &str) -> Result<(), KeyError> {
    let failed = |source| KeyError::Io {
        path: path.to_owned(),
        source,
    };
    let directory = path.parent().unwrap_or(Path::new(""));
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(failed)?;
    // Written beside and then linked: the name never stands for half a key, and never replaces a
    // key that is there.
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(format!(".new-{}", std::process::id()));
    let unfinished = PathBuf::from(unfinished);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&unfinished)
        .map_err(failed)?;
    let text = Zeroizing::new(format!("{key}\n"));
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

    #[test]
    fn each_log_has_a_key_of_its_own_which_signs_for_that_log_alone() {
        let directory = tempfile::tempdir().unwrap();
        let (realm, name) = (
            Realm::parse("local").unwrap(),
            UserId::parse("archiver").unwrap(),
        );
        let [messages, keys] = LogName::ALL.map(|log| {
            let origin = origin(&realm, &name, log);
            let made = load_or_create_signer(directory.path(), log, &origin).unwrap();
            let again = load_or_create_signer(directory.path(), log, &origin).unwrap();
            assert_eq!(made.verifier_key(), again.verifier_key());
            assert_eq!(made.origin(), origin);
            assert!(matches!(
                load_signer(directory.path(), log, "another"),
                Err(KeyError::OtherLog { .. })
            ));
            made
        });
        assert_ne!(messages.verifier_key(), keys.verifier_key());
        let path = directory.path().join("checkpoint.key");
        fs::write(&path, "hello\n").unwrap();
        assert!(matches!(
            load_or_create_signer(directory.path(), LogName::EncryptedLogs, messages.origin()),
            Err(KeyError::NotASigner(_))
        ));
        assert_eq!(fs::read_to_string(&path).unwrap(), "hello\n");
    }
}
