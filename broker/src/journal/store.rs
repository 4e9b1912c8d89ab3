//! The seam under the journal: ordered tables of bytes, written in atomic batches.
//!
//! What the journal asks of a store, and nothing more: a batch is written whole or not at all; once a commit with
//! [`Durability::Synced`] has returned, that batch and all before it survive a loss of power; of the batches after it any
//! may be lost.

use std::path::PathBuf;

use bytes::Bytes;

/// A table of keys and values, ordered by key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// One record: the format's version.
    Format,
    /// Durable sessions, by the number of their mailbox.
    Sessions,
    /// Subscriptions of durable sessions: mailbox number, filter.
    Subscriptions,
    /// QoS 2 messages received and not yet released: mailbox number, packet identifier.
    Received,
    /// What each mailbox is owed: mailbox number, sequence number.
    Queue,
    /// Messages that mailboxes are owed, by number: stored once, however many are owed them.
    Messages,
    /// Retained messages, by topic.
    Retained,
    /// Who has written to whom: a user, U+0000, and another.
    Answered,
}

impl Table {
    /// All of them.
    pub const ALL: [Table; 8] = [
        Table::Format,
        Table::Sessions,
        Table::Subscriptions,
        Table::Received,
        Table::Queue,
        Table::Messages,
        Table::Retained,
        Table::Answered,
    ];

    /// Its name on disk.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Table::Format => "format",
            Table::Sessions => "sessions",
            Table::Subscriptions => "subscriptions",
            Table::Received => "received",
            Table::Queue => "queue",
            Table::Messages => "messages",
            Table::Retained => "retained",
            Table::Answered => "answered",
        }
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Where.
    pub table: Table,
    /// The key.
    pub key: Vec<u8>,
    /// The new value; none removes the key.
    pub value: Option<Vec<u8>>,
}

/// What has to hold when a commit returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The batch can be read. A loss of power may undo it.
    Written,
    /// This batch and all before it are on the medium.
    Synced,
}

/// A key and its value.
pub type Row = (Bytes, Bytes);

/// Ordered tables of bytes.
pub trait Store: Send + Sync + std::fmt::Debug + 'static {
    /// Writes a batch, whole or not at all. An empty one with [`Durability::Synced`] syncs what came before.
    ///
    /// # Errors
    /// [`StoreError::Failed`]; what is on the medium is unknown then, and nothing may be written any more.
    fn commit(&self, batch: Vec<Write>, durability: Durability) -> Result<(), StoreError>;

    /// The value of a key.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// At most `limit` rows in order whose keys are `from` or later and begin with `prefix`.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        from: &[u8],
        limit: usize,
    ) -> Result<Vec<Row>, StoreError>;

    /// Bytes that are free on the medium, or none where nobody can say.
    fn free(&self) -> Option<u64>;

    /// All tables as they are now, whatever is written later.
    ///
    /// # Errors
    /// [`StoreError::Failed`], also where a store cannot do that.
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        Err(StoreError::Failed("this store takes no snapshots".into()))
    }
}

/// All tables as they were at one moment.
pub trait Snapshot: Send + Sync + std::fmt::Debug + 'static {
    /// At most `limit` rows in order whose keys are `from` or later.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    fn scan(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Row>, StoreError>;
}

/// Why a store cannot go on.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error("{0:?} is in use by another broker")]
    InUse(PathBuf),
    /// Reading or writing failed.
    #[error("{0}")]
    Failed(String),
    /// A record is not what was written. Nothing is guessed.
    #[error("a record in table {table} is damaged: {why}")]
    Damaged {
        /// The table's name.
        table: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// It was written by another version of this program.
    #[error("the journal has format {found}, and this broker writes format {known}")]
    Format {
        /// The format on disk.
        found: u8,
        /// The one that this program knows.
        known: u8,
    },
}
