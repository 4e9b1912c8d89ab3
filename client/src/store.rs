//! The store: contacts with their pins, what was received, what was seen, what waits. One SQLite file in the home,
//! mode 0600, in WAL mode with `synchronous=FULL`: when a transaction has committed, it is on disk.
//!
//! Two processes may use it at once (`chat` in one terminal, `send` in another): every change is one immediate
//! transaction, and who comes second waits.

mod change;
mod changes;
mod contacts;
mod conversations;
mod files;
mod history;
mod inbox;
mod outbox;
mod pages;
mod receipts;
mod ring;
mod schema;
mod send_keys;
mod waiting;

use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use rand::RngExt;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, TransactionBehavior};
use sealpost_core::{Content, Timestamp, UserId};
use zeroize::Zeroizing;

use change::Change;
pub(crate) use contacts::ContactChange;
pub use contacts::{Contact, Failures, SUSPENDED_AFTER};
pub use conversations::{Conversation, MAX_REQUESTED, MAX_REQUESTS, Notify};
pub(crate) use files::{Asked, SUMS_IN_A_ROW, ToAsk};
pub use files::{
    ChunkSum, ChunkTaken, FileCause, FileEntry, FileRules, FileState, MAX_OFFERS,
    MAX_OFFERS_PER_SENDER, MAX_UNSAVED, MAX_UNSAVED_PER_SENDER, OFFER_TIME, WINDOW,
};
pub(crate) use history::snippet;
pub use history::{HistoryEntry, HistoryRange, ImportedMessage, Place, Revised, Side};
pub use inbox::{Acceptance, Incoming, MAX_SEEN_PER_SENDER, SeenState, StoredMessage, Wanted};
pub use outbox::{
    Attempt, Due, GIVE_UP, LONGEST_WAIT, MAX_QUEUED, MAX_QUEUED_BYTES, OutboxEntry, Problem,
    Sealed, SendState,
};
pub use pages::{Edge, Mark, Partner};
pub use ring::{
    FEWEST_BYTES, FEWEST_READINGS, Fresh, LONGEST_READING, MOST_BYTES, MOST_READINGS, PushError,
    Pushed, Ring, RingLimits,
};
pub use send_keys::Once;
pub use waiting::{Hold, MAX_HELD_PER_SENDER, MAX_HELD_SENDERS, WaitingFor};

/// How long a second process waits for the first one's transaction. Transactions take milliseconds; a disk may not.
const BUSY_TIME: Duration = Duration::from_secs(10);

/// Of AES-GCM at rest, in bytes.
const NONCE_LEN: usize = 12;

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite or the disk under it.
    #[error("the store failed: {0}")]
    Database(#[source] rusqlite::Error),
    /// There is no room for what was to be written.
    #[error("cannot write to the store: the disk is full")]
    DiskFull,
    /// Another process holds the store for longer than any of ours does.
    #[error("another process holds the store")]
    Busy,
    /// The file cannot be created or is not ours alone.
    #[error("cannot use the store: {0}")]
    File(#[from] crate::home::HomeError),
    /// Written by a later program.
    #[error("the store has version {0}, which this program does not know")]
    Version(u32),
    /// A row does not decode: the file was damaged or changed.
    #[error("the store is damaged: {0}")]
    Damaged(&'static str),
    /// Too many messages wait to be sent.
    #[error(
        "the outbox is full: {MAX_QUEUED} messages or {} MiB wait to be sent",
        MAX_QUEUED_BYTES / (1024 * 1024)
    )]
    OutboxFull,
    /// A message at rest does not open under the keystore's key.
    #[error("a stored message does not open: the store and the keystore do not belong together")]
    WrongKey,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> StoreError {
        match error.sqlite_error() {
            // The index of the journal is made when the store is opened; its error has no code of its own for ENOSPC.
            Some(why) if why.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE => {
                StoreError::DiskFull
            }
            Some(why) if why.code == ErrorCode::DiskFull => StoreError::DiskFull,
            Some(why) if why.code == ErrorCode::DatabaseBusy => StoreError::Busy,
            _ => StoreError::Database(error),
        }
    }
}

/// The open store.
pub struct Store {
    db: Connection,
    cipher: Aes256Gcm,
    /// Whose it is, where that was said.
    owner: Option<UserId>,
    /// Whether who is new asks before anything of theirs is shown.
    strangers_ask: bool,
    /// Where files lie that came and were not saved.
    files_folder: PathBuf,
    rules: FileRules,
    pub(crate) parts: crate::files::Parts,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store(..)")
    }
}

impl Store {
    /// Opens the file, or makes it. `key` encrypts message texts at rest and lives in the keystore.
    pub fn open(path: &Path, key: &Zeroizing<[u8; 32]>) -> Result<Store, StoreError> {
        let file_error = |source| crate::home::HomeError::Io {
            path: path.to_owned(),
            source,
        };
        // SQLite gives its journal files the mode of the database, so ours decides for all.
        std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(file_error)?;
        check_mode(path)?;
        let mut db = Connection::open(path)?;
        db.busy_timeout(BUSY_TIME)?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        db.pragma_update(None, "trusted_schema", false)?;
        // What is deleted is overwritten.
        db.pragma_update(None, "secure_delete", true)?;
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        schema::bring_up(&tx)?;
        tx.commit()?;
        Ok(Store::over(db, path, key))
    }

    fn over(db: Connection, path: &Path, key: &Zeroizing<[u8; 32]>) -> Store {
        Store {
            db,
            cipher: Aes256Gcm::new((&**key).into()),
            owner: None,
            strangers_ask: false,
            files_folder: path.with_file_name("files"),
            rules: FileRules::default(),
            parts: crate::files::Parts::default(),
        }
    }

    /// Where files lie that came and were not saved, encrypted: a folder beside the store.
    #[must_use]
    pub fn files_folder(&self) -> PathBuf {
        self.files_folder.clone()
    }

    /// Says whose it is, so that a message which answers one of ours can be shown with it.
    pub fn belongs_to(&mut self, owner: &UserId) {
        self.owner = Some(owner.clone());
    }

    /// Opens the file to look into it, and changes nothing. `None` when there is none, or one of an earlier version.
    ///
    /// # Errors
    /// As [`Store::open`]; and whatever would change something fails.
    pub fn look(path: &Path, key: &Zeroizing<[u8; 32]>) -> Result<Option<Store>, StoreError> {
        if !path.exists() {
            return Ok(None);
        }
        check_mode(path)?;
        let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        db.busy_timeout(BUSY_TIME)?;
        if !schema::is_current(&db)? {
            return Ok(None);
        }
        Ok(Some(Store::over(db, path, key)))
    }

    /// 16 hexadecimal digits that name this installation: two homes of one user are two MQTT sessions.
    pub fn installation(&self) -> Result<String, StoreError> {
        self.db
            .query_row(
                "SELECT value FROM meta WHERE key = 'installation'",
                [],
                |row| row.get(0),
            )
            .optional()?
            .ok_or(StoreError::Damaged("it does not know its installation"))
    }

    /// The digest of the bundle of ours that a broker was known to have last.
    pub fn published(&self, broker: &str) -> Result<Option<String>, StoreError> {
        Ok(self
            .db
            .query_row(
                "SELECT value FROM meta WHERE key = ?1",
                [format!("published {broker}")],
                |row| row.get(0),
            )
            .optional()?)
    }

    /// Remembers that it has this one. Writes only when that is news.
    pub fn set_published(&mut self, broker: &str, digest: &[u8; 32]) -> Result<(), StoreError> {
        let digest = hex(digest);
        if self.published(broker)?.as_ref() == Some(&digest) {
            return Ok(());
        }
        self.db.execute(
            "INSERT INTO meta (key, value) VALUES (?1, ?2)
             ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            [format!("published {broker}"), digest],
        )?;
        Ok(())
    }

    /// Writes the store as it is at one moment into a new file (mode 0600), without what was deleted. Others go on.
    pub(crate) fn snapshot(&self, path: &Path) -> Result<(), StoreError> {
        let name = path.to_str().ok_or_else(|| crate::home::HomeError::Io {
            path: path.to_owned(),
            source: std::io::ErrorKind::InvalidFilename.into(),
        })?;
        // SQLite takes over an empty file with its mode.
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|source| crate::home::HomeError::Io {
                path: path.to_owned(),
                source,
            })?;
        self.db.execute("VACUUM INTO ?1", [name])?;
        Ok(())
    }

    /// Whether the file is sound.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let found: String = self
            .db
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        match found.as_str() {
            "ok" => Ok(()),
            _ => Err(StoreError::Damaged("its tables do not fit together")),
        }
    }

    /// A number that changes when another process, or another connection, has changed something.
    pub fn data_version(&self) -> Result<u32, StoreError> {
        Ok(self
            .db
            .pragma_query_value(None, "data_version", |row| row.get(0))?)
    }

    /// From now on every write fails, as on a full disk.
    #[cfg(test)]
    pub(crate) fn refuse_writes(&self) {
        self.db.pragma_update(None, "query_only", true).unwrap();
    }

    /// Encrypts a text for the disk; `place` binds it to where it is kept.
    fn encrypt(&self, place: &[u8], text: &[u8]) -> Result<Vec<u8>, StoreError> {
        let nonce: [u8; NONCE_LEN] = rand::rng().random();
        let payload = Payload {
            msg: text,
            aad: place,
        };
        let sealed = self
            .cipher
            .encrypt(&Nonce::from(nonce), payload)
            .map_err(|_| StoreError::Damaged("AES-GCM refused to encrypt a message"))?;
        Ok([&nonce[..], &sealed].concat())
    }

    fn decrypt(&self, place: &[u8], body: &[u8]) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let (nonce, sealed) = body
            .split_first_chunk::<NONCE_LEN>()
            .ok_or(StoreError::Damaged("a stored message is cut short"))?;
        let payload = Payload {
            msg: sealed,
            aad: place,
        };
        self.cipher
            .decrypt(&Nonce::from(*nonce), payload)
            .map(Zeroizing::new)
            .map_err(|_| StoreError::WrongKey)
    }

    /// Does several things in one transaction, with one write to the disk: when this returns they are on disk, or, after an
    /// error, none of them is.
    pub(crate) fn group<T, E: From<StoreError>>(
        &mut self,
        within: impl FnOnce(&mut Store) -> Result<T, E>,
    ) -> Result<T, E> {
        let part = Change::begin(&self.db)?.keep();
        let done = within(self);
        let all = Change::resume(&self.db, part);
        // Dropped without a commit, nothing of it is left.
        let done = done?;
        all.commit()?;
        Ok(done)
    }

    /// Does something whose writes may be lost with the power, though not with the process: without a sync of the disk, for what is
    /// found out again. A later write that is synced syncs these, too.
    pub(crate) fn lightly<T, E: From<StoreError>>(
        &mut self,
        within: impl FnOnce(&mut Store) -> Result<T, E>,
    ) -> Result<T, E> {
        let sync = |store: &Store, how: &str| {
            let set = store.db.pragma_update(None, "synchronous", how);
            set.map_err(StoreError::from)
        };
        sync(self, "NORMAL")?;
        let done = within(self);
        sync(self, "FULL")?;
        done
    }

    fn immediate(&mut self) -> Result<Change<'_>, StoreError> {
        Change::begin(&self.db)
    }
}

/// Nobody else may read or write it.
fn check_mode(path: &Path) -> Result<(), StoreError> {
    let metadata = std::fs::metadata(path).map_err(|source| crate::home::HomeError::Io {
        path: path.to_owned(),
        source,
    })?;
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(StoreError::File(crate::home::HomeError::LooseMode {
            path: path.to_owned(),
            mode,
        }));
    }
    Ok(())
}

/// What a stored body says; `None` when it is malformed.
pub(crate) fn stored_content(body: &[u8]) -> Option<Content> {
    Content::parse(std::str::from_utf8(body).ok()?).ok()
}

/// As `published` gives it.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn user_from(text: &str) -> Result<UserId, StoreError> {
    UserId::parse(text).map_err(|_| StoreError::Damaged("a user name is malformed"))
}

fn timestamp_from(millis: u64) -> Result<Timestamp, StoreError> {
    Timestamp::from_millis(millis).map_err(|_| StoreError::Damaged("a time is out of range"))
}

/// SQLite's integers are signed; times and sequence numbers stay far below their limit.
fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn from_sql(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| StoreError::Damaged("a number is negative"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    pub(crate) fn key() -> Zeroizing<[u8; 32]> {
        Zeroizing::new([7; 32])
    }

    pub(crate) fn user(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    pub(crate) fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis).unwrap()
    }

    pub(crate) fn store(folder: &tempfile::TempDir) -> Store {
        Store::open(&folder.path().join("store.sqlite"), &key()).unwrap()
    }

    #[test]
    fn the_store_and_its_journals_are_for_the_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(&folder);
        store.note_refused(&[1; 32], at(1)).unwrap();
        let mut files = 0;
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().mode() & 0o777, 0o600, "{entry:?}");
            files += 1;
        }
        assert!(files >= 2, "the write-ahead log is there too");
    }

    #[test]
    fn a_store_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.sqlite");
        drop(store(&folder));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            Store::open(&path, &key()),
            Err(StoreError::File(_))
        ));
    }

    #[test]
    fn a_store_of_a_later_version_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.sqlite");
        store(&folder)
            .db
            .pragma_update(None, "user_version", 99)
            .unwrap();
        assert!(matches!(
            Store::open(&path, &key()),
            Err(StoreError::Version(99))
        ));
    }

    #[test]
    fn the_store_knows_what_was_published_where() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(&folder);
        assert_eq!(store.published("mqtt://h:1").unwrap(), None);
        for digest in [[1; 32], [2; 32]] {
            store.set_published("mqtt://h:1", &digest).unwrap();
            assert_eq!(store.published("mqtt://h:1").unwrap(), Some(hex(&digest)));
        }
        assert_eq!(store.published("mqtt://other:1").unwrap(), None);
    }

    #[test]
    fn what_another_process_writes_is_noticed_and_what_we_write_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (mut one, mut two) = (store(&folder), store(&folder));
        let before = one.data_version().unwrap();
        one.set_published("mqtt://h", &[1; 32]).unwrap();
        assert_eq!(one.data_version().unwrap(), before);
        two.set_published("mqtt://h", &[2; 32]).unwrap();
        assert_ne!(one.data_version().unwrap(), before);
    }

    #[test]
    fn the_installation_keeps_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let name = store(&folder).installation().unwrap();
        assert_eq!(name.len(), 16);
        assert_eq!(store(&folder).installation().unwrap(), name);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(super::tests::store(&other).installation().unwrap(), name);
    }
}
