//! What a broker has for others, read for another broker: everybody's key bundle, and mail that somebody is still owed.

use bytes::Bytes;
use sealpost_core::{Timestamp, Topic};

use crate::journal::record::{decode_message, number};
use crate::journal::store::{Row, Store, StoreError, Table};

/// Rows read at once.
const AT_ONCE: usize = 1_000;

/// Mail that is owed, in the order in which it was taken.
pub struct Mail<'a> {
    store: &'a dyn Store,
    rows: std::vec::IntoIter<Row>,
    /// The key to go on from; none at the end.
    from: Option<Vec<u8>>,
    now: Timestamp,
    /// Messages of other topics, which only rules of this broker's give.
    left_out: u64,
}

impl<'a> Mail<'a> {
    /// Of this journal. `now`: what has expired by then is not owed.
    pub fn new(store: &'a dyn Store, now: Timestamp) -> Mail<'a> {
        Mail {
            store,
            rows: Vec::new().into_iter(),
            from: Some(Vec::new()),
            now,
            left_out: 0,
        }
    }

    /// How many messages of other topics were passed over so far.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The next envelope, and whose inbox it is for.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn next_envelope(&mut self) -> Result<Option<(Topic, Bytes)>, StoreError> {
        while let Some((key, value)) = self.next_row()? {
            let number = number(Table::Messages, &key)?;
            let (message, _) = decode_message(Table::Messages, number, &value)?;
            if message.is_expired(self.now) {
                continue;
            }
            match Topic::parse(message.topic.as_str()) {
                Ok(topic @ Topic::Inbox(_)) => return Ok(Some((topic, message.payload))),
                // Bundles are in the users' files.
                Ok(Topic::Keys(_)) => {}
                Err(_) => self.left_out += 1,
            }
        }
        Ok(None)
    }

    fn next_row(&mut self) -> Result<Option<Row>, StoreError> {
        loop {
            if let Some(row) = self.rows.next() {
                return Ok(Some(row));
            }
            let Some(from) = self.from.take() else {
                return Ok(None);
            };
            let rows = self.store.scan(Table::Messages, b"", &from, AT_ONCE)?;
            if let Some((last, _)) = rows.last() {
                // The smallest key after the last.
                let mut next = last.to_vec();
                next.push(0);
                self.from = Some(next);
            }
            self.rows = rows.into_iter();
        }
    }
}
