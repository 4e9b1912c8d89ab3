//! Making a home of a backup again.

use std::fs::OpenOptions;
use std::io::{self, BufRead, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use age::secrecy::SecretString;
use age::{DecryptError, Decryptor, scrypt};
use sealpost_core::{IdentityKey, Realm, Timestamp, UserId};
use zeroize::Zeroizing;

use super::staging::{Staging, write_error};
use super::{
    KEYSTORE, MANIFEST, MAX_KEYSTORE, MAX_MANIFEST, MAX_SETTINGS, MAX_STORE, MAX_WORK_FACTOR,
    Manifest, ManifestJson, SETTINGS, STORE, VERSION, Versioned,
};
use crate::account::Account;
use crate::home::{Home, HomeError, write_private};
use crate::keystore::KeystoreError;
use crate::passphrase::Passphrase;
use crate::store::{HistoryRange, Store, StoreError};

/// Bytes that are copied at once.
const BUFFER: usize = 65_536;

/// Why nothing was restored. Then nothing is left of it either.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The file cannot be read.
    #[error("cannot read the backup: {0}")]
    Read(io::Error),
    /// It is something else.
    #[error("this is no backup: {0}")]
    NotABackup(&'static str),
    /// It asks for more memory than any of ours.
    #[error("the backup asks for scrypt with 2^{0}, more than 2^{MAX_WORK_FACTOR}")]
    TooMuchWork(u8),
    /// The passphrase does not fit, or its part of the file was changed: the two cannot be told apart.
    #[error("wrong passphrase for the backup, or the file was changed")]
    WrongPassphrase,
    /// Less than was written, or something else.
    #[error("the backup was cut short or changed")]
    Damaged,
    /// Written by a later program.
    #[error("the backup has version {0}, which this program does not know")]
    Version(u32),
    /// There is something at the new home's place.
    #[error("{0} is there already")]
    Exists(PathBuf),
    /// Another restore is at work there.
    #[error("another restore is at work in {0}")]
    Busy(PathBuf),
    /// Somebody else has made the folder in which the home is to grow.
    #[error("{0:?} belongs to somebody else")]
    Foreign(PathBuf),
    /// The new home cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The keys in it.
    #[error(transparent)]
    Keystore(#[from] KeystoreError),
    /// The store in it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The new home.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// It was asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// What to make of a backup.
#[derive(Debug)]
pub enum Destination {
    /// A home in a folder that is not there yet, with keys under this passphrase, or in the clear.
    Home(PathBuf, Option<Passphrase>),
    /// Nothing: it is only looked at whole.
    Nothing,
}

/// What was in the backup.
#[derive(Debug)]
pub struct Restored {
    /// Whose it is, and of when.
    pub manifest: Manifest,
    /// The identity.
    pub identity: IdentityKey,
    /// How many messages the history has.
    pub messages: u64,
    /// Whether there were settings, which are now beside the keys.
    pub settings: bool,
}

/// Makes a home of a backup: whole, or not at all. `choose` is told whose it is and says where to.
pub fn restore<E: From<RestoreError>>(
    input: impl BufRead,
    passphrase: &Passphrase,
    choose: impl FnOnce(&Manifest) -> Result<Destination, E>,
    now: Timestamp,
    is_stopped: &dyn Fn() -> bool,
) -> Result<Restored, E> {
    let mut archive = tar::Archive::new(decrypt(input, passphrase)?);
    let (manifest, keystore, settings, staged) = {
        // As they are: what headers may say besides, such as other names, would be read into memory whatever its length.
        let mut entries = archive.entries().map_err(unreadable)?.raw(true);
        let mut next = || match entries.next() {
            Some(Ok(entry)) => Ok(entry),
            Some(Err(error)) => Err(unreadable(error)),
            None => Err(RestoreError::Damaged),
        };
        let manifest = manifest(&content(next()?, MANIFEST, MAX_MANIFEST)?)?;
        let keystore = content(next()?, KEYSTORE, MAX_KEYSTORE)?;
        let mut entry = next()?;
        let settings = match is(&entry, SETTINGS) {
            true => {
                let settings = content(entry, SETTINGS, MAX_SETTINGS)?;
                entry = next()?;
                Some(settings)
            }
            false => None,
        };
        let staged = Staged::begin(choose(&manifest)?)?;
        staged.write_store(entry, is_stopped)?;
        (manifest, keystore, settings, staged)
    };
    // That the file goes on to its true end is known only there.
    drain(archive.into_inner(), is_stopped)?;

    let account = Account::from_backup(&staged.home()?, &manifest.user, &manifest.realm, &keystore)
        .map_err(RestoreError::from)?;
    let messages = staged.check_store(&account)?;
    let restored = Restored {
        identity: account.identity_key(),
        messages,
        settings: settings.is_some(),
        manifest,
    };
    staged.finish(account, settings.as_deref().map(Vec::as_slice), now)?;
    Ok(restored)
}

/// Where the backup is put together before it has its place.
enum Staged {
    /// Beside the new home, whose keys are to be protected by this passphrase.
    Home(Staging, Option<Passphrase>),
    /// In a folder that is gone afterwards.
    Nothing(tempfile::TempDir),
}

impl Staged {
    fn begin(destination: Destination) -> Result<Staged, RestoreError> {
        Ok(match destination {
            Destination::Home(target, passphrase) => {
                Staged::Home(Staging::begin(&target)?, passphrase)
            }
            Destination::Nothing => {
                let folder = tempfile::Builder::new().prefix("sealpost-check.").tempdir();
                Staged::Nothing(folder.map_err(write_error(&std::env::temp_dir()))?)
            }
        })
    }

    fn path(&self) -> &Path {
        match self {
            Staged::Home(staging, _) => staging.path(),
            Staged::Nothing(folder) => folder.path(),
        }
    }

    fn home(&self) -> Result<Home, RestoreError> {
        Ok(Home::open(self.path())?)
    }

    fn write_store(
        &self,
        mut entry: tar::Entry<'_, impl Read>,
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<(), RestoreError> {
        expect(&entry, STORE, MAX_STORE)?;
        let path = self.home()?.store();
        let failed = write_error(&path);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(&failed)?;
        let mut buffer = vec![0; BUFFER];
        loop {
            if is_stopped() {
                return Err(RestoreError::Interrupted);
            }
            let read = entry.read(&mut buffer).map_err(unreadable)?;
            let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
                break;
            };
            file.write_all(bytes).map_err(&failed)?;
        }
        file.sync_all().map_err(&failed)
    }

    /// Whether the store is sound and its texts open with the keys; returns how many messages it has.
    fn check_store(&self, account: &Account) -> Result<u64, RestoreError> {
        let store = Store::open(&self.home()?.store(), account.store_key())?;
        store.check()?;
        for place in store.history(&HistoryRange::default(), 1)? {
            store.history_entry(place)?;
        }
        Ok(store.count_messages()?)
    }

    fn finish(
        self,
        account: Account,
        settings: Option<&[u8]>,
        now: Timestamp,
    ) -> Result<(), RestoreError> {
        let Staged::Home(staging, passphrase) = self else {
            return Ok(());
        };
        account.settle(passphrase.as_ref(), now)?;
        if let Some(settings) = settings {
            write_private(&staging.path().join(SETTINGS), settings)?;
        }
        staging.finish()
    }
}

fn decrypt<R: BufRead>(
    input: R,
    passphrase: &Passphrase,
) -> Result<age::stream::StreamReader<R>, RestoreError> {
    let decryptor = Decryptor::new_buffered(input).map_err(refused)?;
    if !decryptor.is_scrypt() {
        return Err(RestoreError::NotABackup(
            "it is an age file for a key, and not under a passphrase",
        ));
    }
    let mut identity = scrypt::Identity::new(SecretString::from(passphrase.as_str()));
    identity.set_max_work_factor(MAX_WORK_FACTOR);
    let identity: &dyn age::Identity = &identity;
    decryptor
        .decrypt(std::iter::once(identity))
        .map_err(refused)
}

fn refused(error: DecryptError) -> RestoreError {
    match error {
        DecryptError::Io(error) => unreadable(error),
        DecryptError::ExcessiveWork { required, .. } => RestoreError::TooMuchWork(required),
        DecryptError::InvalidHeader | DecryptError::UnknownFormat => {
            RestoreError::NotABackup("it is no age file, or its beginning was changed")
        }
        DecryptError::InvalidMac => RestoreError::Damaged,
        _ => RestoreError::WrongPassphrase,
    }
}

/// An error of the operating system is that; what remains is what the libraries say of bytes that do not fit.
fn unreadable(error: io::Error) -> RestoreError {
    match error.raw_os_error() {
        Some(_) => RestoreError::Read(error),
        None => RestoreError::Damaged,
    }
}

fn is(entry: &tar::Entry<'_, impl Read>, name: &str) -> bool {
    entry.header().entry_type().is_file() && *entry.path_bytes() == *name.as_bytes()
}

fn expect(entry: &tar::Entry<'_, impl Read>, name: &str, limit: u64) -> Result<(), RestoreError> {
    match is(entry, name) && entry.size() <= limit {
        true => Ok(()),
        false => Err(RestoreError::NotABackup("something else is in it")),
    }
}

fn content(
    entry: tar::Entry<'_, impl Read>,
    name: &str,
    limit: u64,
) -> Result<Zeroizing<Vec<u8>>, RestoreError> {
    expect(&entry, name, limit)?;
    // Room for all of it at once: a buffer that grows leaves copies of secrets behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(
        usize::try_from(entry.size()).unwrap_or(0) + 1,
    ));
    entry
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    Ok(bytes)
}

fn manifest(bytes: &[u8]) -> Result<Manifest, RestoreError> {
    const MALFORMED: RestoreError = RestoreError::NotABackup("its manifest is malformed");
    let Versioned { sealpost_backup } = serde_json::from_slice(bytes).map_err(|_| MALFORMED)?;
    if sealpost_backup != VERSION {
        return Err(RestoreError::Version(sealpost_backup));
    }
    let json: ManifestJson<'_> = serde_json::from_slice(bytes).map_err(|_| MALFORMED)?;
    Ok(Manifest {
        user: UserId::parse(json.user).map_err(|_| MALFORMED)?,
        realm: Realm::parse(json.realm).map_err(|_| MALFORMED)?,
        created: Timestamp::from_millis(json.created).map_err(|_| MALFORMED)?,
    })
}

fn drain(mut rest: impl Read, is_stopped: &dyn Fn() -> bool) -> Result<(), RestoreError> {
    let mut buffer = vec![0; BUFFER];
    while rest.read(&mut buffer).map_err(unreadable)? > 0 {
        if is_stopped() {
            return Err(RestoreError::Interrupted);
        }
    }
    Ok(())
}
