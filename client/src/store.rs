//! The store: contacts with their pins, what was received, what was seen, what waits. One SQLite file in the home,
//! mode 0600, in WAL mode with `synchronous=FULL`: when a transaction has committed, it is on disk.
//!
//! Two processes may use it at once (`chat` in one terminal, `send` in another): every change is one immediate
//! transaction, and who comes second waits.

mod contacts;
mod inbox;
mod waiting;

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::KeyInit;
use rand::RngExt;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use sealpost_core::{Timestamp, UserId};
use zeroize::Zeroizing;

pub(crate) use contacts::ContactChange;
pub use contacts::{Contact, Failures, SUSPENDED_AFTER};
pub use inbox::{Acceptance, Incoming, MAX_SEEN_PER_SENDER, SeenState, StoredMessage};
pub use waiting::{Hold, MAX_HELD_PER_SENDER, MAX_HELD_SENDERS, WaitingFor};

/// The version of the schema below, in SQLite's `user_version`.
const SCHEMA_VERSION: u32 = 1;
/// How long a second process waits for the first one's transaction. Transactions take milliseconds; a disk may not.
const BUSY_TIME: Duration = Duration::from_secs(10);

const SCHEMA: &str = "
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Whose identity was pinned. `offered` is the bundle of a changed identity that waits for a decision.
CREATE TABLE contacts (
    user      TEXT PRIMARY KEY,
    identity  BLOB NOT NULL,
    seq       INTEGER NOT NULL,
    digest    BLOB NOT NULL,
    verified  INTEGER NOT NULL,
    pinned_at INTEGER NOT NULL,
    bundle    BLOB NOT NULL,
    offered   BLOB,
    failures  INTEGER NOT NULL DEFAULT 0,
    last_sent BLOB
) STRICT, WITHOUT ROWID;

-- What was received, text encrypted. `shown` is 0 until it was printed.
CREATE TABLE messages (
    number      INTEGER PRIMARY KEY,
    sender      TEXT NOT NULL,
    id          BLOB NOT NULL,
    prev        BLOB,
    ts          INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    body        BLOB NOT NULL,
    shown       INTEGER NOT NULL DEFAULT 0,
    UNIQUE (sender, id)
) STRICT;
CREATE INDEX messages_unshown ON messages (number) WHERE shown = 0;

-- Which messages must not be opened again; below `floor` (ms since the epoch) nothing of that sender is.
CREATE TABLE seen (
    sender   TEXT NOT NULL,
    id       BLOB NOT NULL,
    ts       INTEGER NOT NULL,
    reported INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (sender, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX seen_by_time ON seen (sender, ts);
CREATE TABLE senders (
    user       TEXT PRIMARY KEY,
    seen_count INTEGER NOT NULL DEFAULT 0,
    floor      INTEGER
) STRICT, WITHOUT ROWID;

-- Envelopes that cannot be opened yet, and which refused ones were reported already.
CREATE TABLE waiting (
    digest   BLOB PRIMARY KEY,
    sender   TEXT NOT NULL,
    reason   TEXT NOT NULL,
    at       INTEGER NOT NULL,
    envelope BLOB NOT NULL
) STRICT;
CREATE INDEX waiting_by_sender ON waiting (sender, at);
CREATE TABLE refused (
    digest BLOB PRIMARY KEY,
    at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX refused_by_time ON refused (at);
";

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite or the disk under it.
    #[error("the store failed: {0}")]
    Database(#[from] rusqlite::Error),
    /// The file cannot be created or is not ours alone.
    #[error("cannot use the store: {0}")]
    File(#[from] crate::home::HomeError),
    /// Written by a later program.
    #[error("the store has version {0}, which this program does not know")]
    Version(u32),
    /// A row does not decode: the file was damaged or changed.
    #[error("the store is damaged: {0}")]
    Damaged(&'static str),
    /// A message at rest does not open under the keystore's key.
    #[error("a stored message does not open: the store and the keystore do not belong together")]
    WrongKey,
}

/// The open store.
pub struct Store {
    db: Connection,
    cipher: Aes256Gcm,
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
        let mode = {
            use std::os::unix::fs::MetadataExt;
            std::fs::metadata(path).map_err(file_error)?.mode() & 0o7777
        };
        if mode & 0o077 != 0 {
            return Err(StoreError::File(crate::home::HomeError::LooseMode {
                path: path.to_owned(),
                mode,
            }));
        }
        let mut db = Connection::open(path)?;
        db.busy_timeout(BUSY_TIME)?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        db.pragma_update(None, "trusted_schema", false)?;
        // What is deleted is overwritten.
        db.pragma_update(None, "secure_delete", true)?;
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let version: u32 = tx.pragma_query_value(None, "user_version", |row| row.get(0))?;
        match version {
            0 => {
                tx.execute_batch(SCHEMA)?;
                let client: [u8; 8] = rand::rng().random();
                let client: String = client.iter().map(|b| format!("{b:02x}")).collect();
                tx.execute(
                    "INSERT INTO meta (key, value) VALUES ('installation', ?1)",
                    [&client],
                )?;
                tx.pragma_update(None, "user_version", SCHEMA_VERSION)?;
            }
            SCHEMA_VERSION => {}
            later => return Err(StoreError::Version(later)),
        }
        tx.commit()?;
        Ok(Store {
            db,
            cipher: Aes256Gcm::new((&**key).into()),
        })
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

    /// When this installation last had its mailbox opened at a broker: from then on mail is kept there while we are
    /// away.
    pub fn mailbox_opened(&self, broker: &str) -> Result<Option<Timestamp>, StoreError> {
        let at: Option<String> = self
            .db
            .query_row(
                "SELECT value FROM meta WHERE key = ?1",
                [format!("mailbox {broker}")],
                |row| row.get(0),
            )
            .optional()?;
        at.map(|at| Timestamp::parse(&at).map_err(|_| StoreError::Damaged("a time is malformed")))
            .transpose()
    }

    /// Remembers that it was, now.
    pub fn set_mailbox_opened(&mut self, broker: &str, now: Timestamp) -> Result<(), StoreError> {
        self.db.execute(
            "INSERT INTO meta (key, value) VALUES (?1, ?2)
             ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            [format!("mailbox {broker}"), now.to_string()],
        )?;
        Ok(())
    }

    /// From now on every write fails, as on a full disk.
    #[cfg(test)]
    pub(crate) fn refuse_writes(&self) {
        self.db.pragma_update(None, "query_only", true).unwrap();
    }

    fn immediate(&mut self) -> Result<rusqlite::Transaction<'_>, StoreError> {
        Ok(self
            .db
            .transaction_with_behavior(TransactionBehavior::Immediate)?)
    }
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
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

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
    fn the_store_knows_where_a_mailbox_was_opened() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(&folder);
        assert_eq!(store.mailbox_opened("mqtt://h:1").unwrap(), None);
        for now in [at(5), at(6)] {
            store.set_mailbox_opened("mqtt://h:1", now).unwrap();
            assert_eq!(store.mailbox_opened("mqtt://h:1").unwrap(), Some(now));
        }
        assert_eq!(store.mailbox_opened("mqtt://other:1").unwrap(), None);
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
