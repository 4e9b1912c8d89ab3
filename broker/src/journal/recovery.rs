//! Recovery: what the journal holds when the broker starts.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rumqttd::protocol::QoS;

use super::Journal;
use super::Kept;
use super::committer::{Committer, References};
use super::record::{
    FORMAT, FORMAT_KEY, MailboxId, Note, SessionRecord, damaged, decode_message,
    decode_subscription, number, split_key,
};
use super::store::{Durability, Row, Store, StoreError, Table, Write};
use crate::protocol::message::Message;
use crate::protocol::subscription::Subscription;
use crate::protocol::topic_name::FilterName;

/// Rows read at once.
const AT_ONCE: usize = 4_096;

/// A mailbox as it was left.
#[derive(Debug, Default)]
pub struct RecoveredMailbox {
    /// Messages owed, less those that are superseded.
    pub messages: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Of these, messages and bytes of each sender.
    pub senders: HashMap<String, (usize, usize)>,
    /// The first sequence number owed.
    pub first: Option<u64>,
    /// The last.
    pub last: Option<u64>,
    /// Messages of topics of which a reader is served the newest alone.
    pub newest: Vec<Kept>,
}

/// A durable session as it was left.
#[derive(Debug)]
pub struct RecoveredSession {
    /// Its mailbox.
    pub id: MailboxId,
    /// What was noted of it.
    pub record: SessionRecord,
    /// Its subscriptions, and the mailbox of those who share one.
    pub subscriptions: Vec<(FilterName, Subscription, Option<MailboxId>)>,
    /// Packet identifiers of QoS 2 messages received and not yet released.
    pub received: Vec<u16>,
    /// What it is owed.
    pub mailbox: RecoveredMailbox,
}

/// All that was kept.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Durable sessions.
    pub sessions: Vec<RecoveredSession>,
    /// Mailboxes of those who share a subscription.
    pub groups: HashMap<MailboxId, RecoveredMailbox>,
    /// Retained messages.
    pub retained: Vec<(Arc<Message>, QoS)>,
    /// Who has written to whom.
    pub answered: Vec<(String, String)>,
}

/// Opens the journal in a store: reads all but the mail itself, and makes the committer, which has yet to be started.
/// `reserve`: bytes that must stay free on the medium for anything new to be taken.
///
/// # Errors
/// See [`StoreError`]. What a loss of power may leave behind is put right; anything else that does not fit is an error.
pub fn open(
    store: Arc<dyn Store>,
    reserve: u64,
) -> Result<(Journal, Committer, Recovered), StoreError> {
    check_format(&*store)?;
    let mut reading = Reading::default();
    reading.sessions(&*store)?;
    reading.subscriptions(&*store)?;
    reading.received(&*store)?;
    reading.messages(&*store)?;
    reading.queue(&*store)?;
    reading.newest(&*store)?;
    reading.put_right(&*store)?;
    let references = reading.references;
    let mut recovered = Recovered {
        sessions: reading.sessions.into_values().collect(),
        groups: reading.groups,
        retained: Vec::new(),
        answered: Vec::new(),
    };
    recovered.sessions.sort_by_key(|session| session.id);
    let mut numbers = reading.next_message;
    each(&*store, Table::Retained, |(_, value)| {
        let (message, qos) = decode_message(Table::Retained, numbers, &value)?;
        numbers += 1;
        recovered.retained.push((Arc::new(message), qos));
        Ok(())
    })?;
    each(&*store, Table::Answered, |(key, _)| {
        let text = std::str::from_utf8(&key).map_err(|error| damaged(Table::Answered, error))?;
        let pair = text.split_once('\0');
        let (user, other) = pair.ok_or_else(|| damaged(Table::Answered, "a key without U+0000"))?;
        recovered.answered.push((user.into(), other.into()));
        Ok(())
    })?;
    let journal = Journal::new(store, numbers, reading.next_mailbox);
    let ended = reading.orphans.into_iter().collect();
    let committer = Committer::new(journal.clone(), references, ended, reserve);
    Ok((journal, committer, recovered))
}

fn check_format(store: &dyn Store) -> Result<(), StoreError> {
    match store.get(Table::Format, FORMAT_KEY)?.as_deref() {
        Some([FORMAT]) => Ok(()),
        Some([found]) => Err(StoreError::Format {
            found: *found,
            known: FORMAT,
        }),
        Some(_) => Err(damaged(Table::Format, "the format is not one byte")),
        None => store.commit(
            vec![Write {
                table: Table::Format,
                key: FORMAT_KEY.to_vec(),
                value: Some(vec![FORMAT]),
            }],
            Durability::Synced,
        ),
    }
}

fn each(
    store: &dyn Store,
    table: Table,
    mut row: impl FnMut(Row) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut from = Vec::new();
    loop {
        let rows = store.scan(table, b"", &from, AT_ONCE)?;
        let Some((last, _)) = rows.last() else {
            return Ok(());
        };
        // The smallest key after the last.
        from = last.to_vec();
        from.push(0);
        for (key, value) in rows {
            row((key, value))?;
        }
    }
}

#[derive(Default)]
struct Reading {
    sessions: HashMap<MailboxId, RecoveredSession>,
    groups: HashMap<MailboxId, RecoveredMailbox>,
    /// Mailboxes that nothing refers to: their sessions ended, and a crash cut the tidying short.
    orphans: HashSet<MailboxId>,
    references: References,
    /// Numbers of the messages that are there.
    present: HashSet<u64>,
    /// Rows that lead nowhere. Only a loss of power leaves any: of two changes that nobody had been told of, the later
    /// one survived, or one that took a message away. So nobody is owed them.
    strays: Vec<Write>,
    newest: Vec<(MailboxId, u64, Note)>,
    next_message: u64,
    next_mailbox: u64,
}

impl Reading {
    fn saw(&mut self, id: MailboxId) {
        self.next_mailbox = self.next_mailbox.max(id.0 + 1);
    }

    fn sessions(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        each(store, Table::Sessions, |(key, value)| {
            let (id, _) = split_key(Table::Sessions, &key)?;
            self.saw(id);
            self.sessions.insert(
                id,
                RecoveredSession {
                    id,
                    record: SessionRecord::decode(&value)?,
                    subscriptions: Vec::new(),
                    received: Vec::new(),
                    mailbox: RecoveredMailbox::default(),
                },
            );
            Ok(())
        })
    }

    fn subscriptions(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        each(store, Table::Subscriptions, |(key, value)| {
            let (id, filter) = split_key(Table::Subscriptions, &key)?;
            let (subscription, group) = decode_subscription(&value)?;
            self.saw(id);
            let Some(session) = self.sessions.get_mut(&id) else {
                self.orphans.insert(id);
                return Ok(());
            };
            let filter = std::str::from_utf8(filter)
                .map_err(|error| damaged(Table::Subscriptions, error))?;
            let filter =
                FilterName::parse(filter).map_err(|error| damaged(Table::Subscriptions, error))?;
            session.subscriptions.push((filter, subscription, group));
            if let Some(group) = group {
                self.groups.entry(group).or_default();
                self.saw(group);
            }
            Ok(())
        })
    }

    fn received(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        each(store, Table::Received, |(key, _)| {
            let (id, pkid) = split_key(Table::Received, &key)?;
            self.saw(id);
            let Some(session) = self.sessions.get_mut(&id) else {
                self.orphans.insert(id);
                return Ok(());
            };
            let pkid = pkid
                .try_into()
                .map_err(|_| damaged(Table::Received, "a key is not a packet identifier"))?;
            session.received.push(u16::from_be_bytes(pkid));
            Ok(())
        })
    }

    fn queue(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        each(store, Table::Queue, |(key, value)| {
            let (id, seq) = split_key(Table::Queue, &key)?;
            let seq = number(Table::Queue, seq)?;
            let note = Note::decode(&value)?;
            self.saw(id);
            // Its message may be gone: another one with that number would be taken for it.
            self.next_message = self.next_message.max(note.message + 1);
            if !self.present.contains(&note.message) {
                self.stray(Table::Queue, &key);
                return Ok(());
            }
            *self.references.entry(note.message).or_default() += 1;
            let mailbox = match self.sessions.get_mut(&id) {
                Some(session) => &mut session.mailbox,
                None => match self.groups.get_mut(&id) {
                    Some(group) => group,
                    None => {
                        self.orphans.insert(id);
                        return Ok(());
                    }
                },
            };
            mailbox.last = Some(seq);
            if note.supersedes {
                self.newest.push((id, seq, note));
                return Ok(());
            }
            mailbox.first.get_or_insert(seq);
            mailbox.messages += 1;
            let size = usize::try_from(note.size).unwrap_or(usize::MAX);
            mailbox.bytes += size;
            if let Some(sender) = note.sender {
                let of_sender = mailbox.senders.entry(sender).or_default();
                of_sender.0 += 1;
                of_sender.1 += size;
            }
            Ok(())
        })
    }

    fn messages(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        each(store, Table::Messages, |(key, _)| {
            let number = number(Table::Messages, &key)?;
            self.next_message = self.next_message.max(number + 1);
            self.present.insert(number);
            Ok(())
        })
    }

    /// Reads the messages that mailboxes keep in memory.
    fn newest(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        for (id, seq, note) in std::mem::take(&mut self.newest) {
            let value = store.get(Table::Messages, &note.message.to_be_bytes())?;
            let value = value.ok_or_else(|| damaged(Table::Messages, "a message is gone"))?;
            let (message, _) = decode_message(Table::Messages, note.message, &value)?;
            let mailbox = match self.sessions.get_mut(&id) {
                Some(session) => &mut session.mailbox,
                None => self.groups.entry(id).or_default(),
            };
            mailbox.newest.push(Kept {
                seq,
                note,
                message: Arc::new(message),
            });
        }
        Ok(())
    }

    fn stray(&mut self, table: Table, key: &[u8]) {
        self.strays.push(Write {
            table,
            key: key.to_vec(),
            value: None,
        });
    }

    fn put_right(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        for number in std::mem::take(&mut self.present) {
            if !self.references.contains_key(&number) {
                self.stray(Table::Messages, &number.to_be_bytes());
            }
        }
        let strays = std::mem::take(&mut self.strays);
        if strays.is_empty() {
            return Ok(());
        }
        tracing::info!(
            rows = strays.len(),
            "removed what a loss of power left behind"
        );
        store.commit(strays, Durability::Written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::simulated::SimulatedStore;

    /// A store as a loss of power may leave it: a message that nobody is owed, an entry whose message is gone, and a
    /// subscription of a session that is gone.
    fn torn() -> SimulatedStore {
        let store = SimulatedStore::default();
        let message = Message {
            number: 7,
            topic: crate::protocol::topic_name::TopicName::parse(b"t").unwrap(),
            payload: bytes::Bytes::from_static(b"x"),
            properties: None,
            expires: None,
            sender: None,
            supersedes: false,
        };
        let gone = Note::new(
            &Message {
                number: 9,
                ..message.clone()
            },
            QoS::AtLeastOnce,
            false,
            &[],
        );
        let rows = [
            (Table::Format, FORMAT_KEY.to_vec(), vec![FORMAT]),
            (
                Table::Messages,
                7u64.to_be_bytes().to_vec(),
                super::super::record::encode_message(&message, QoS::AtLeastOnce),
            ),
            (
                Table::Queue,
                MailboxId(3).entry_key(1).to_vec(),
                gone.encode(),
            ),
            (
                Table::Received,
                MailboxId(5).received_key(1).to_vec(),
                Vec::new(),
            ),
        ];
        let writes = rows.map(|(table, key, value)| Write {
            table,
            key,
            value: Some(value),
        });
        store.commit(writes.into(), Durability::Synced).unwrap();
        store
    }

    #[test]
    fn a_loss_of_power_while_the_broker_recovers_changes_nothing_of_what_the_next_recovery_finds() {
        // The write of the recovery itself is lost, or is there, although it was never reported; or the power goes later,
        // before the committer has removed the rest.
        for fails_in in 0..4 {
            for survives in [false, true] {
                let mut store = Arc::new(torn());
                for _ in 0..3 {
                    store.fail_in(fails_in);
                    let torn = store.len(Table::Queue) > 0;
                    if let Ok((journal, mut committer, recovered)) =
                        open(Arc::clone(&store) as Arc<_>, 0)
                    {
                        assert!(recovered.sessions.is_empty() && recovered.groups.is_empty());
                        // Whatever still refers to a number would be taken for the next one's.
                        assert!(journal.next_message() > 9 || !torn);
                        while let Ok(true) = committer.try_step() {}
                    }
                    store = Arc::new(store.after_power_loss(|| survives));
                }
                let (_, mut committer, _) = open(Arc::clone(&store) as Arc<_>, 0).unwrap();
                while committer.step() {}
                for table in [Table::Messages, Table::Queue, Table::Received] {
                    assert_eq!(store.len(table), 0, "{table:?}, {fails_in}, {survives}");
                }
            }
        }
    }
}
