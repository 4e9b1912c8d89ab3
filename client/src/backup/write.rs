//! Making a backup.

use std::fs::File;
use std::io::{self, Read, Write};

use age::secrecy::SecretString;
use age::{Encryptor, scrypt};
use sealpost_core::Timestamp;

use super::{
    KEYSTORE, MANIFEST, MAX_STORE, ManifestJson, SETTINGS, STORE, SettingsFile, VERSION,
    WORK_FACTOR,
};
use crate::account::Account;
use crate::home::HomeError;
use crate::keystore::KeystoreError;
use crate::passphrase::Passphrase;
use crate::store::{Store, StoreError};

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The home.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The keys.
    #[error(transparent)]
    Keystore(#[from] KeystoreError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// More than a backup holds.
    #[error("the store has more than {} GiB", MAX_STORE >> 30)]
    TooLarge,
    /// It cannot be written.
    #[error("cannot write the backup: {0}")]
    Write(io::Error),
    /// It was asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// A library failed inside.
    #[error("{0}")]
    Internal(&'static str),
}

/// Writes a backup of an account, also while other processes use its home: it is as if made at one moment.
pub fn write(
    account: &Account,
    store: &Store,
    settings: Option<&SettingsFile>,
    passphrase: &Passphrase,
    out: &mut dyn Write,
    now: Timestamp,
    is_stopped: &dyn Fn() -> bool,
) -> Result<(), BackupError> {
    let snapshot = snapshot(account, store)?;
    let length = snapshot.metadata().map_err(BackupError::Write)?.len();
    if length > MAX_STORE {
        return Err(BackupError::TooLarge);
    }
    // After the store: keys that are younger than it have simply not been published yet, by what it knows. Older ones
    // could lack what it builds upon.
    let keystore = account.keystore_for_backup()?;
    let manifest = serde_json::to_vec(&ManifestJson {
        sealpost_backup: VERSION,
        user: account.user().as_str(),
        realm: account.realm().as_str(),
        created: now.millis(),
    })
    .map_err(|_| BackupError::Internal("the manifest cannot be written as JSON"))?;

    let encrypt = || -> Result<(), io::Error> {
        let mut recipient = scrypt::Recipient::new(SecretString::from(passphrase.as_str()));
        recipient.set_work_factor(WORK_FACTOR);
        let recipient: &dyn age::Recipient = &recipient;
        let encryptor =
            Encryptor::with_recipients(std::iter::once(recipient)).map_err(io::Error::other)?;
        let mut archive = tar::Builder::new(encryptor.wrap_output(out)?);
        let mut put = |name, length, from: &mut dyn Read| {
            let mut header = tar::Header::new_ustar();
            header.set_mode(0o600);
            header.set_mtime(now.millis() / 1_000);
            header.set_size(length);
            archive.append_data(&mut header, name, from)
        };
        put(MANIFEST, manifest.len() as u64, &mut &manifest[..])?;
        put(KEYSTORE, keystore.len() as u64, &mut &keystore[..])?;
        if let Some(SettingsFile { text, .. }) = settings {
            put(SETTINGS, text.len() as u64, &mut &text[..])?;
        }
        let mut store = Stoppable {
            from: &snapshot,
            is_stopped,
        };
        put(STORE, length, &mut store)?;
        archive.into_inner()?.finish()?.flush()
    };
    encrypt().map_err(|error| match is_stopped() {
        true => BackupError::Interrupted,
        false => BackupError::Write(error),
    })
}

/// The store as it is at one moment. The file has no name any more: it is gone when it is closed.
fn snapshot(account: &Account, store: &Store) -> Result<File, BackupError> {
    let home = account.home();
    let _one_at_a_time = home.lock_backup()?;
    let path = home.snapshot();
    let io = |source| HomeError::Io {
        path: path.clone(),
        source,
    };
    // What one that was killed has left.
    remove(&path).map_err(io)?;
    let taken = store.snapshot(&path);
    let file = File::open(&path);
    remove(&path).map_err(io)?;
    taken?;
    Ok(file.map_err(io)?)
}

fn remove(path: &std::path::Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A file whose reading fails once it was asked to stop.
struct Stoppable<'a> {
    from: &'a File,
    is_stopped: &'a dyn Fn() -> bool,
}

impl Read for Stoppable<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if (self.is_stopped)() {
            // Not `Interrupted`, which means: try again.
            return Err(io::Error::other("asked to stop"));
        }
        self.from.read(buffer)
    }
}
