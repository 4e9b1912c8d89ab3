//! What outlives the process: durable sessions, their subscriptions, what they are owed, QoS 2 under way, and retained
//! messages.
//!
//! Everything that changes is **recorded** as a [`Change`], in memory and in order. One thread, the committer, takes all that
//! was recorded since it last looked (a **group**), writes it as one batch, syncs it if somebody waits for that, and
//! then tells those who wait. So one sync serves all who came while the sync before it ran.
//!
//! What is recorded within one [`Turn`] is in one group: it survives together or not at all.
//!
//! Nobody waits for changes that only take something away, so these are written with the next group or a few
//! milliseconds later; a crash before that delivers a message once more.

pub mod committer;
pub mod disk;
pub mod record;
pub mod recovery;
#[cfg(test)]
pub mod simulated;
pub mod store;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use rumqttd::protocol::QoS;
use tokio::sync::{oneshot, watch};

use self::record::{MailboxId, Note, SessionRecord, decode_message};
use self::store::{Snapshot, Store, StoreError, Table};
use crate::metrics::meters::CommitMeter;
use crate::protocol::message::Message;
use crate::protocol::subscription::Subscription;
use crate::protocol::topic_name::{FilterName, TopicName};

/// Bytes of recorded messages that may wait to be written; then the one order waits, and with it all publishers.
pub const PENDING_BYTES: usize = 16 * 1024 * 1024;

/// Changes that nobody waits for, at which they are written all the same.
const LAZY_CHANGES: usize = 4_096;

/// How long changes that nobody waits for may wait.
const LAZY: Duration = Duration::from_millis(20);

/// A change to what is kept.
#[derive(Debug)]
pub enum Change {
    /// A durable session begins, or what is noted of it changes.
    Session(MailboxId, SessionRecord),
    /// A session or group ends, with its subscriptions and all that its mailbox is owed.
    End(MailboxId),
    /// A subscription is made or replaced. The last: the mailbox of those who share it.
    Subscribe(MailboxId, FilterName, Subscription, Option<MailboxId>),
    /// A subscription ends.
    Unsubscribe(MailboxId, FilterName),
    /// A mailbox is owed a message.
    Owe {
        /// The mailbox.
        mailbox: MailboxId,
        /// The entry's sequence number in it.
        seq: u64,
        /// What it notes.
        note: Note,
        /// The message.
        message: Arc<Message>,
    },
    /// A mailbox is no longer owed a message.
    Done {
        /// The mailbox.
        mailbox: MailboxId,
        /// The entry's sequence number.
        seq: u64,
        /// The message's number.
        message: u64,
    },
    /// The receiver has a message of QoS 2; only its release is due.
    Released {
        /// The mailbox.
        mailbox: MailboxId,
        /// The entry's sequence number.
        seq: u64,
        /// What it notes.
        note: Note,
    },
    /// A message of QoS 2 was received under this packet identifier.
    Received(MailboxId, u16),
    /// It was released: the identifier is free again.
    Completed(MailboxId, u16),
    /// A topic's retained message.
    Retain(Arc<Message>, QoS),
    /// A topic has no retained message any more.
    Forget(TopicName),
    /// A user has written to another for the first time.
    Answered(Arc<str>, String),
}

impl Change {
    fn size(&self) -> usize {
        match self {
            Change::Owe { message, .. } | Change::Retain(message, _) => message.size(),
            _ => 64,
        }
    }
}

type Done = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Pending {
    changes: Vec<Change>,
    bytes: usize,
    done: Vec<Done>,
    /// Somebody waits for it to be written.
    wanted: bool,
    closing: bool,
}

struct Shared {
    store: Arc<dyn Store>,
    /// The number of the group that is being recorded. Advanced with `turns` held for writing and `pending` locked.
    group: AtomicU64,
    turns: RwLock<()>,
    pending: Mutex<Pending>,
    /// Wakes the committer.
    wake: Condvar,
    /// The last group that is written (and synced, if somebody waited for that).
    committed: watch::Sender<u64>,
    failed: watch::Sender<Option<StoreError>>,
    full: AtomicBool,
    numbers: AtomicU64,
    mailboxes: AtomicU64,
    meter: CommitMeter,
}

/// A handle on the journal.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").finish_non_exhaustive()
    }
}

/// While it is held, all that is recorded goes into one group.
#[derive(Debug)]
pub struct Turn<'a> {
    _guard: RwLockReadGuard<'a, ()>,
}

/// An entry of a mailbox as the journal keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// Its sequence number.
    pub seq: u64,
    /// What is noted of it.
    pub note: Note,
    /// The message.
    pub message: Arc<Message>,
}

impl Journal {
    fn new(store: Arc<dyn Store>, numbers: u64, mailboxes: u64) -> Journal {
        Journal {
            shared: Arc::new(Shared {
                store,
                group: AtomicU64::new(1),
                turns: RwLock::new(()),
                pending: Mutex::default(),
                wake: Condvar::new(),
                committed: watch::Sender::new(0),
                failed: watch::Sender::new(None),
                full: AtomicBool::new(false),
                numbers: AtomicU64::new(numbers),
                mailboxes: AtomicU64::new(mailboxes),
                meter: CommitMeter::default(),
            }),
        }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.shared
            .pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a turn. Take it before any other lock, and not twice.
    #[must_use]
    pub fn turn(&self) -> Turn<'_> {
        let turns = self.shared.turns.read();
        Turn {
            _guard: turns.unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Records a change and returns the number of the group it is in.
    pub fn record(&self, change: Change) -> u64 {
        let mut pending = self.pending();
        pending.bytes += change.size();
        pending.changes.push(change);
        if pending.changes.len() == 1 || pending.changes.len() == LAZY_CHANGES {
            self.shared.wake.notify_one();
        }
        self.shared.group.load(Ordering::Relaxed)
    }

    /// Calls `done` on the committer's thread once all that was recorded so far is on the medium. If that fails it is
    /// dropped without having been called.
    pub fn after(&self, done: impl FnOnce() + Send + 'static) {
        self.pending().done.push(Box::new(done));
        self.shared.wake.notify_one();
    }

    /// The group that is being recorded. It does not change within a turn.
    #[must_use]
    pub fn group(&self) -> u64 {
        self.shared.group.load(Ordering::Relaxed)
    }

    /// The last group that is written.
    #[must_use]
    pub fn committed(&self) -> u64 {
        *self.shared.committed.borrow()
    }

    /// Has the group written soon if it is the one that is being recorded.
    fn want(&self, group: u64) {
        let mut pending = self.pending();
        if group == self.group() {
            pending.wanted = true;
            self.shared.wake.notify_one();
        }
    }

    /// Waits until a group is written; for ever if the journal has failed, for the process ends then.
    pub async fn reached(&self, group: u64) {
        self.want(group);
        let mut committed = self.shared.committed.subscribe();
        // The sender lives as long as `self`.
        let _ = committed.wait_for(|committed| *committed >= group).await;
    }

    /// Waits until there is room for more to be recorded.
    pub async fn room(&self) {
        let mut committed = self.shared.committed.subscribe();
        loop {
            committed.mark_unchanged();
            if self.has_room() || committed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Whether [`Journal::room`] would return at once.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.pending().bytes < PENDING_BYTES
    }

    /// Completes when the journal has failed: nothing may be acknowledged any more.
    pub async fn failed(&self) -> StoreError {
        let mut failed = self.shared.failed.subscribe();
        loop {
            if let Some(error) = failed.borrow_and_update().clone() {
                return error;
            }
            if failed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Whether there is so little room on the medium that nothing new is taken.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.shared.full.load(Ordering::Relaxed)
    }

    /// Bytes that are free on the medium, or none where nobody can say.
    #[must_use]
    pub fn free(&self) -> Option<u64> {
        self.shared.store.free()
    }

    /// All that was recorded so far, and nothing of what is recorded later, at the boundary between two groups.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        let (taken, snapshot) = oneshot::channel();
        let store = Arc::clone(&self.shared.store);
        // On the committer's thread, which writes nothing meanwhile.
        self.after(move || {
            let _ = taken.send(store.snapshot());
        });
        let gone = |_| StoreError::Failed("the journal has ended".into());
        snapshot.await.map_err(gone)?
    }

    /// Bytes of messages that wait to be written.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.pending().bytes
    }

    /// How long its groups took, and how large they were.
    #[must_use]
    pub fn meter(&self) -> &CommitMeter {
        &self.shared.meter
    }

    /// A number for a new message.
    #[must_use]
    pub fn next_message(&self) -> u64 {
        self.shared.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// A number for a new mailbox.
    #[must_use]
    pub fn next_mailbox(&self) -> MailboxId {
        MailboxId(self.shared.mailboxes.fetch_add(1, Ordering::Relaxed))
    }

    /// Reads entries of a mailbox, from a sequence number on, in order: at most `limit`, and no more once they have
    /// `bytes`. Entries whose message is gone by now are left out. Also says whether there were no more.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn load(
        &self,
        mailbox: MailboxId,
        from: u64,
        limit: usize,
        bytes: usize,
    ) -> Result<Loaded, StoreError> {
        let store = Arc::clone(&self.shared.store);
        let loaded =
            tokio::task::spawn_blocking(move || load(&*store, mailbox, from, limit, bytes)).await;
        loaded.map_err(|error| StoreError::Failed(error.to_string()))?
    }

    /// Ends the process's use of the journal because of an error found outside the committer.
    pub fn fail(&self, error: StoreError) {
        self.shared
            .failed
            .send_if_modified(|failed| failed.replace(error).is_none());
    }

    /// Asks the committer to write all that was recorded and to end.
    pub fn close(&self) {
        self.pending().closing = true;
        self.shared.wake.notify_one();
    }
}

/// Entries read from the journal.
#[derive(Debug)]
pub struct Loaded {
    /// In order.
    pub entries: Vec<Kept>,
    /// Where to go on.
    pub next: u64,
    /// Whether there were no more.
    pub exhausted: bool,
}

fn load(
    store: &dyn Store,
    mailbox: MailboxId,
    from: u64,
    limit: usize,
    bytes: usize,
) -> Result<Loaded, StoreError> {
    let rows = store.scan(
        Table::Queue,
        &mailbox.key(),
        &mailbox.entry_key(from),
        limit,
    )?;
    let mut loaded = Loaded {
        entries: Vec::new(),
        next: from,
        exhausted: rows.len() < limit,
    };
    let mut size = 0;
    for (key, value) in rows {
        if size >= bytes {
            loaded.exhausted = false;
            break;
        }
        let (_, rest) = record::split_key(Table::Queue, &key)?;
        let seq = record::number(Table::Queue, rest)?;
        let note = Note::decode(&value)?;
        loaded.next = seq + 1;
        // What is superseded stays in memory; see the mailbox.
        if note.supersedes {
            continue;
        }
        if let Some(value) = store.get(Table::Messages, &note.message.to_be_bytes())? {
            let (message, _) = decode_message(Table::Messages, note.message, &value)?;
            size += message.size();
            loaded.entries.push(Kept {
                seq,
                note,
                message: Arc::new(message),
            });
        }
    }
    Ok(loaded)
}
