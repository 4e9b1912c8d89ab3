//! What programs called the messages that they had us send, so that asking again, after a crash of either, sends nothing twice.

use rusqlite::{OptionalExtension, params};
use sealpost_core::{MessageId, Timestamp, UserId};
use zeroize::Zeroizing;

use super::contacts::message_id;
use super::outbox::ours;
use super::{Store, StoreError};

/// How many keys are remembered, the last ones: a program repeats itself within minutes or after its next start.
const MAX_KEYS: i64 = 10_000;

/// What became of a message that was to be sent once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Once {
    /// It is in the outbox, since now or since it was asked for before, under this name.
    Taken(MessageId),
    /// The key was given to another message.
    KeyOfAnother,
}

impl Store {
    /// Takes a message over as [`Store::enqueue`] does, unless one with this key was before.
    pub fn enqueue_once(
        &mut self,
        key: &str,
        to: &UserId,
        message: (MessageId, Zeroizing<String>),
        now: Timestamp,
    ) -> Result<Once, StoreError> {
        self.group(|store| {
            if let Some(before) = store.taken_before(key, to, &message.1)? {
                return Ok(before);
            }
            let id = message.0;
            store.enqueue(to, &[message], now)?;
            store.db.execute(
                "INSERT INTO send_keys (key, id) VALUES (?1, ?2)",
                params![key, id.as_bytes()],
            )?;
            store.db.execute(
                "DELETE FROM send_keys WHERE number <= ?1",
                [store.db.last_insert_rowid() - MAX_KEYS],
            )?;
            Ok(Once::Taken(id))
        })
    }

    /// What [`Store::enqueue_once`] would answer without taking anything. `None`: it would take the message.
    pub fn taken_before(
        &self,
        key: &str,
        to: &UserId,
        body: &str,
    ) -> Result<Option<Once>, StoreError> {
        let Some(before) = self.sent_as(key)? else {
            return Ok(None);
        };
        Ok(Some(match self.is_message(&before, to, body)? {
            true => Once::Taken(before),
            false => Once::KeyOfAnother,
        }))
    }

    fn sent_as(&self, key: &str) -> Result<Option<MessageId>, StoreError> {
        let id: Option<Vec<u8>> = self
            .db
            .prepare_cached("SELECT id FROM send_keys WHERE key = ?1")?
            .query_row([key], |row| row.get(0))
            .optional()?;
        id.map(|id| message_id(&id)).transpose()
    }

    /// Whether a message of ours is that one, as far as it is still there to be compared.
    fn is_message(&self, id: &MessageId, to: &UserId, body: &str) -> Result<bool, StoreError> {
        let there: Option<(String, Vec<u8>)> = self
            .db
            .prepare_cached("SELECT recipient, body FROM outbox WHERE id = ?1")?
            .query_row([id.as_bytes()], |row| row.try_into())
            .optional()?;
        let Some((recipient, sealed)) = there else {
            return Ok(true);
        };
        if recipient != to.as_str() {
            return Ok(false);
        }
        Ok(**self.decrypt(&ours(to, id), &sealed)? == *body.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{at, store, user};
    use super::*;

    fn once(store: &mut Store, key: &str, to: &str, body: &str) -> Once {
        let id = MessageId::new(at(1), &mut rand::rng());
        let message = (id, Zeroizing::new(body.to_owned()));
        store.enqueue_once(key, &user(to), message, at(1)).unwrap()
    }

    #[test]
    fn a_key_sends_one_message_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let first = once(&mut store(&folder), "k", "bob", "{}");
        let mut store = store(&folder);
        assert_eq!(once(&mut store, "k", "bob", "{}"), first);
        assert_eq!(store.queued().unwrap(), 1);
        assert_eq!(once(&mut store, "k", "bob", "{ }"), Once::KeyOfAnother);
        assert_eq!(once(&mut store, "k", "carol", "{}"), Once::KeyOfAnother);
        assert_ne!(once(&mut store, "l", "bob", "{}"), first);
        assert_eq!(store.queued().unwrap(), 2);
    }

    #[test]
    fn no_more_keys_are_remembered_than_there_may_be() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(&folder);
        let first = once(&mut store, "first", "bob", "{}");
        store
            .db
            .execute("UPDATE send_keys SET number = number - ?1", [MAX_KEYS])
            .unwrap();
        let second = once(&mut store, "second", "bob", "{}");
        assert_eq!(once(&mut store, "second", "bob", "{}"), second);
        assert_ne!(once(&mut store, "first", "bob", "{}"), first);
    }
}
