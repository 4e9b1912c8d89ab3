//! The committer: the one thread that writes the journal.

use std::collections::{HashMap, HashSet};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Instant;

use super::record::{MailboxId, Note, encode_message, encode_subscription};
use super::store::{Durability, Store, StoreError, Table, Write};
use super::{Change, Done, Journal, LAZY, LAZY_CHANGES};

/// Rows of a mailbox that ended which are removed with one group, so that the end of a large one holds nobody up.
const ENDED_AT_ONCE: usize = 1_024;

/// How many mailboxes each message is owed to.
pub type References = HashMap<u64, u32>;

/// The committer.
#[derive(Debug)]
pub struct Committer {
    journal: Journal,
    references: References,
    /// Mailboxes whose rows are yet to be removed.
    ended: Vec<MailboxId>,
    /// Bytes that must stay free on the medium.
    reserve: u64,
}

struct Group {
    number: u64,
    changes: Vec<Change>,
    done: Vec<Done>,
    closing: bool,
}

impl Committer {
    pub(super) fn new(
        journal: Journal,
        references: References,
        ended: Vec<MailboxId>,
        reserve: u64,
    ) -> Committer {
        Committer {
            journal,
            references,
            ended,
            reserve,
        }
    }

    /// Starts the thread. It ends when the journal is closed, or with the error that [`Journal::failed`] then returns.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn spawn(mut self) -> std::io::Result<JoinHandle<()>> {
        let journal = self.journal.clone();
        std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || {
                let run = std::panic::AssertUnwindSafe(|| self.run());
                let ended = std::panic::catch_unwind(run)
                    .unwrap_or_else(|_| Err(StoreError::Failed("the committer panicked".into())));
                if let Err(error) = ended {
                    journal.fail(error);
                }
            })
    }

    /// For tests: writes what was recorded so far, on this thread. Returns whether there was anything to do.
    #[cfg(test)]
    pub(crate) fn step(&mut self) -> bool {
        self.try_step().unwrap()
    }

    /// As [`Committer::step`], with a store that may fail.
    #[cfg(test)]
    pub(crate) fn try_step(&mut self) -> Result<bool, StoreError> {
        let mut pending = self.journal.pending();
        if pending.changes.is_empty() && pending.done.is_empty() && self.ended.is_empty() {
            return Ok(false);
        }
        pending.wanted = true;
        drop(pending);
        let group = self.take();
        self.commit(group)?;
        Ok(true)
    }

    fn run(&mut self) -> Result<(), StoreError> {
        loop {
            let group = self.take();
            let closing = group.closing;
            self.commit(group)?;
            if closing && self.ended.is_empty() {
                return Ok(());
            }
        }
    }

    /// Waits for a group worth writing and takes it.
    fn take(&self) -> Group {
        let shared = &self.journal.shared;
        let mut pending = self.journal.pending();
        loop {
            let urgent = pending.wanted
                || !pending.done.is_empty()
                || pending.changes.len() >= LAZY_CHANGES
                || pending.closing
                || !self.ended.is_empty();
            if urgent {
                break;
            }
            if pending.changes.is_empty() {
                pending = shared
                    .wake
                    .wait(pending)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            // Changes that nobody waits for: somebody may come in a moment.
            let (waited, timeout) = shared
                .wake
                .wait_timeout(pending, LAZY)
                .unwrap_or_else(PoisonError::into_inner);
            pending = waited;
            if timeout.timed_out() {
                break;
            }
        }
        drop(pending);
        // Nobody is within a turn now, so none is cut in two.
        let turns = shared.turns.write().unwrap_or_else(PoisonError::into_inner);
        let mut pending = self.journal.pending();
        let number = shared.group.fetch_add(1, Ordering::Relaxed);
        let group = Group {
            number,
            changes: std::mem::take(&mut pending.changes),
            done: std::mem::take(&mut pending.done),
            closing: pending.closing,
        };
        pending.bytes = 0;
        pending.wanted = false;
        drop(pending);
        drop(turns);
        group
    }

    fn commit(&mut self, group: Group) -> Result<(), StoreError> {
        let shared = &self.journal.shared;
        let store = &*shared.store;
        let full = store.free().is_some_and(|free| free < self.reserve);
        if shared.full.swap(full, Ordering::Relaxed) != full {
            match full {
                true => tracing::error!(
                    reserve = self.reserve,
                    "the disk is almost full: nothing that must be kept is taken until there is room; what is kept is delivered"
                ),
                false => tracing::info!("there is room on the disk again"),
            }
        }
        let durability = if group.done.is_empty() && !group.closing {
            Durability::Written
        } else {
            Durability::Synced
        };
        let changes = group.changes.len();
        let mut batch = Batch {
            references: &mut self.references,
            ended: &mut self.ended,
            writes: Vec::with_capacity(group.changes.len() * 2),
        };
        batch.all(group.changes);
        batch.some_of_what_ended(store)?;
        let writes = last_of_each(batch.writes);
        let began = Instant::now();
        store.commit(writes, durability)?;
        if durability == Durability::Synced {
            shared.meter.synced(changes, began.elapsed());
        }
        shared.committed.send_replace(group.number);
        for done in group.done {
            done();
        }
        Ok(())
    }
}

/// Of several writes to one key the last: stores order the writes of a batch in no way of their own.
fn last_of_each(mut writes: Vec<Write>) -> Vec<Write> {
    let mut seen = HashSet::with_capacity(writes.len());
    let mut last = writes
        .iter()
        .rev()
        .map(|write| seen.insert((write.table, write.key.as_slice())))
        .collect::<Vec<_>>();
    if last.iter().all(|last| *last) {
        return writes;
    }
    writes.retain(|_| last.pop().unwrap_or(true));
    writes
}

/// A group as writes.
struct Batch<'a> {
    references: &'a mut References,
    ended: &'a mut Vec<MailboxId>,
    writes: Vec<Write>,
}

impl Batch<'_> {
    fn put(&mut self, table: Table, key: impl Into<Vec<u8>>, value: Vec<u8>) {
        self.writes.push(Write {
            table,
            key: key.into(),
            value: Some(value),
        });
    }

    fn remove(&mut self, table: Table, key: impl Into<Vec<u8>>) {
        self.writes.push(Write {
            table,
            key: key.into(),
            value: None,
        });
    }

    fn all(&mut self, changes: Vec<Change>) {
        // What came and went within the group need not be written: a reader who keeps up costs the disk nothing.
        let done = changes
            .iter()
            .filter_map(|change| match change {
                Change::Done { mailbox, seq, .. } => Some((*mailbox, *seq)),
                _ => None,
            })
            .collect::<HashSet<_>>();
        let mut passing = HashSet::new();
        for change in changes {
            match change {
                Change::Owe { mailbox, seq, .. } if done.contains(&(mailbox, seq)) => {
                    passing.insert((mailbox, seq));
                }
                Change::Released { mailbox, seq, .. } | Change::Done { mailbox, seq, .. }
                    if passing.contains(&(mailbox, seq)) => {}
                change => self.one(change),
            }
        }
    }

    fn one(&mut self, change: Change) {
        match change {
            Change::Session(id, record) => self.put(Table::Sessions, id.key(), record.encode()),
            Change::End(id) => {
                // Without this record nothing of it counts any more.
                self.remove(Table::Sessions, id.key());
                self.ended.push(id);
            }
            Change::Subscribe(id, filter, subscription, group) => self.put(
                Table::Subscriptions,
                id.filter_key(&filter),
                encode_subscription(&subscription, group),
            ),
            Change::Unsubscribe(id, filter) => {
                self.remove(Table::Subscriptions, id.filter_key(&filter));
            }
            Change::Owe {
                mailbox,
                seq,
                note,
                message,
            } => {
                let references = self.references.entry(message.number).or_default();
                *references += 1;
                if *references == 1 {
                    let bytes = encode_message(&message, note.qos());
                    self.put(Table::Messages, message.number.to_be_bytes(), bytes);
                }
                self.put(Table::Queue, mailbox.entry_key(seq), note.encode());
            }
            Change::Done {
                mailbox,
                seq,
                message,
            } => {
                self.remove(Table::Queue, mailbox.entry_key(seq));
                self.let_go(message);
            }
            Change::Released { mailbox, seq, note } => {
                self.put(Table::Queue, mailbox.entry_key(seq), note.encode());
            }
            Change::Received(id, pkid) => {
                self.put(Table::Received, id.received_key(pkid), Vec::new());
            }
            Change::Completed(id, pkid) => self.remove(Table::Received, id.received_key(pkid)),
            Change::Retain(message, qos) => {
                let bytes = encode_message(&message, qos);
                self.put(Table::Retained, message.topic.as_str().as_bytes(), bytes);
            }
            Change::Answered(user, other) => {
                let key = [user.as_bytes(), b"\0", other.as_bytes()].concat();
                self.put(Table::Answered, key, Vec::new());
            }
            Change::Forget(topic) => self.remove(Table::Retained, topic.as_str().as_bytes()),
        }
    }

    fn let_go(&mut self, message: u64) {
        if let Some(references) = self.references.get_mut(&message) {
            *references -= 1;
            if *references == 0 {
                self.references.remove(&message);
                self.remove(Table::Messages, message.to_be_bytes());
            }
        }
    }

    fn some_of_what_ended(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        let Some(&id) = self.ended.first() else {
            return Ok(());
        };
        // Rows of this very group are not in the store yet; they are found the next time.
        let fresh = self.writes.iter().any(|write| {
            write.value.is_some()
                && write.table != Table::Messages
                && write.key.starts_with(&id.key())
        });
        // Rows that this group removes have let their messages go already.
        let removed = self
            .writes
            .iter()
            .filter(|write| write.table == Table::Queue && write.value.is_none())
            .map(|write| write.key.clone())
            .collect::<HashSet<_>>();
        let mut left = ENDED_AT_ONCE;
        for table in [Table::Subscriptions, Table::Received, Table::Queue] {
            for (key, value) in store.scan(table, &id.key(), &id.key(), left)? {
                left -= 1;
                if table == Table::Queue {
                    if removed.contains(&key[..]) {
                        continue;
                    }
                    self.let_go(Note::decode(&value)?.message);
                }
                self.remove(table, key.to_vec());
            }
        }
        if left > 0 && !fresh {
            self.ended.remove(0);
        }
        Ok(())
    }
}
