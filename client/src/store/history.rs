//! The history: what was received, what we wrote, and what was imported, in one order.
//!
//! Imported messages have a table of their own, which nothing that decides about incoming mail reads: they can neither make
//! a message count as seen, nor give a receipt, nor change whom we trust.

use rusqlite::{OptionalExtension, Row, params};
use sealpost_core::{MessageId, Timestamp, UserId};
use zeroize::Zeroizing;

use super::contacts::message_id;
use super::outbox::{self, OutboxEntry, SendState};
use super::{Store, StoreError, from_sql, inbox, timestamp_from, to_sql, user_from};

/// Which part of the history is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistoryRange {
    /// With whom; `None`: everybody.
    pub with: Option<UserId>,
    /// From then on, by our clock.
    pub since: Option<Timestamp>,
    /// Before then, by our clock.
    pub until: Option<Timestamp>,
}

/// Where a message of the history is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Among those that were received.
    Received(i64),
    /// In the outbox.
    Written(i64),
    /// Among those that were imported.
    Imported(i64),
}

/// Whose message it is.
#[derive(Debug, Clone)]
pub enum Side {
    /// Somebody else's.
    Theirs {
        /// Who sent it.
        from: UserId,
        /// Its name.
        id: MessageId,
        /// The sender's clock.
        ts: Timestamp,
        /// Our clock when it came.
        received: Timestamp,
    },
    /// Ours, and how far it has got.
    Ours(OutboxEntry),
}

/// A message of the history.
#[derive(Debug)]
pub struct HistoryEntry {
    /// Whose it is.
    pub side: Side,
    /// Whether it came from a file and not over a broker: nobody's signature was checked.
    pub imported: bool,
    /// The plaintext JSON.
    pub body: Zeroizing<Vec<u8>>,
}

impl HistoryEntry {
    /// With whom it was exchanged.
    #[must_use]
    pub fn partner(&self) -> &UserId {
        match &self.side {
            Side::Theirs { from, .. } => from,
            Side::Ours(entry) => &entry.to,
        }
    }

    /// When it came or was written, by our clock: its place in the history.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        match &self.side {
            Side::Theirs { received, .. } => *received,
            Side::Ours(entry) => entry.written,
        }
    }
}

/// A message out of a file.
#[derive(Debug)]
pub struct ImportedMessage {
    /// Whose it is.
    pub side: Side,
    /// The plaintext JSON.
    pub body: Zeroizing<String>,
}

/// The places of a part of the history, newest first. `imported` gives way to the same message that really came or was
/// really written here.
const PLACES: &str = "
    SELECT 1 AS kind, number, received_at AS at FROM messages
    WHERE (?1 IS NULL OR sender = ?1) AND received_at >= ?2 AND received_at < ?3
    UNION ALL
    SELECT 2, number, written FROM outbox
    WHERE (?1 IS NULL OR recipient = ?1) AND written >= ?2 AND written < ?3
    UNION ALL
    SELECT 0, number, at FROM imported AS this
    WHERE (?1 IS NULL OR partner = ?1) AND at >= ?2 AND at < ?3
    AND NOT EXISTS (SELECT 1 FROM messages WHERE this.state IS NULL AND sender = partner AND id = this.id)
    AND NOT EXISTS (SELECT 1 FROM outbox WHERE this.state IS NOT NULL AND id = this.id)
    ORDER BY at DESC, kind DESC, number DESC LIMIT ?4";

impl Store {
    /// Where the messages of a part of the history are, newest first, at most `limit` of them.
    pub fn history(&self, range: &HistoryRange, limit: u32) -> Result<Vec<Place>, StoreError> {
        let bound =
            |at: Option<Timestamp>, otherwise| at.map_or(otherwise, |at| to_sql(at.millis()));
        let mut statement = self.db.prepare_cached(PLACES)?;
        let rows = statement.query_map(
            params![
                range.with.as_ref().map(UserId::as_str),
                bound(range.since, 0),
                bound(range.until, i64::MAX),
                limit
            ],
            |row| {
                let number = row.get(1)?;
                Ok(match row.get::<_, u8>(0)? {
                    0 => Place::Imported(number),
                    1 => Place::Received(number),
                    _ => Place::Written(number),
                })
            },
        )?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The message there; `None` when it was dropped in the meantime.
    pub fn history_entry(&self, place: Place) -> Result<Option<HistoryEntry>, StoreError> {
        match place {
            Place::Received(number) => self.received_entry(number),
            Place::Written(number) => self.written_entry(number),
            Place::Imported(number) => self.imported_entry(number),
        }
    }

    /// How many messages there are, in both directions.
    pub fn count_messages(&self) -> Result<u64, StoreError> {
        let count: i64 = self.db.query_row(
            "SELECT (SELECT count(*) FROM messages) + (SELECT count(*) FROM outbox) + (SELECT count(*) FROM imported)",
            [],
            |row| row.get(0),
        )?;
        from_sql(count)
    }

    fn received_entry(&self, number: i64) -> Result<Option<HistoryEntry>, StoreError> {
        let row = self
            .db
            .prepare_cached(
                "SELECT sender, id, ts, received_at, body FROM messages WHERE number = ?1",
            )?
            .query_row([number], raw_theirs)
            .optional()?;
        let Some((from, id, ts, received, body)) = row else {
            return Ok(None);
        };
        let (from, id) = (user_from(&from)?, message_id(&id)?);
        let body = self.decrypt(&inbox::theirs(&from, &id), &body)?;
        Ok(Some(HistoryEntry {
            side: Side::Theirs {
                ts: timestamp_from(from_sql(ts)?)?,
                received: timestamp_from(from_sql(received)?)?,
                from,
                id,
            },
            imported: false,
            body,
        }))
    }

    fn written_entry(&self, number: i64) -> Result<Option<HistoryEntry>, StoreError> {
        let row = self
            .db
            .prepare_cached(&format!(
                "SELECT {}, body FROM outbox WHERE number = ?1",
                outbox::ENTRY
            ))?
            .query_row([number], |row| {
                Ok((outbox::raw_entry(row)?, row.get::<_, Vec<u8>>("body")?))
            })
            .optional()?;
        let Some((raw, body)) = row else {
            return Ok(None);
        };
        let entry = outbox::entry(raw)?;
        let body = self.decrypt(&outbox::ours(&entry.to, &entry.id), &body)?;
        Ok(Some(HistoryEntry {
            side: Side::Ours(entry),
            imported: false,
            body,
        }))
    }

    fn imported_entry(&self, number: i64) -> Result<Option<HistoryEntry>, StoreError> {
        let row = self
            .db
            .prepare_cached(
                "SELECT partner, id, ts, at, body, state FROM imported WHERE number = ?1",
            )?
            .query_row([number], |row| {
                Ok((raw_theirs(row)?, row.get::<_, Option<u8>>(5)?))
            })
            .optional()?;
        let Some(((partner, id, ts, at, body), state)) = row else {
            return Ok(None);
        };
        let (partner, id) = (user_from(&partner)?, message_id(&id)?);
        let (ts, at) = (
            timestamp_from(from_sql(ts)?)?,
            timestamp_from(from_sql(at)?)?,
        );
        let side = match state {
            None => Side::Theirs {
                from: partner,
                id,
                ts,
                received: at,
            },
            Some(state) => Side::Ours(OutboxEntry {
                to: partner,
                id,
                written: at,
                state: SendState::read(state)?,
                changed: at,
                problem: None,
            }),
        };
        let body = self.decrypt(&imported_place(&side), &body)?;
        Ok(Some(HistoryEntry {
            side,
            imported: true,
            body,
        }))
    }

    /// Takes messages out of a file into the history, all or none, but for those that are there already: by (sender, id)
    /// each is there once. Returns how many were new.
    pub fn import_history(&mut self, messages: &[ImportedMessage]) -> Result<usize, StoreError> {
        let sealed = messages
            .iter()
            .map(|message| self.encrypt(&imported_place(&message.side), message.body.as_bytes()))
            .collect::<Result<Vec<_>, _>>()?;
        let tx = self.immediate()?;
        let mut fresh = 0;
        for (message, body) in messages.iter().zip(&sealed) {
            fresh += match &message.side {
                Side::Theirs {
                    from,
                    id,
                    ts,
                    received,
                } => tx
                    .prepare_cached(
                        "INSERT OR IGNORE INTO imported (partner, id, ts, at, body) SELECT ?1, ?2, ?3, ?4, ?5
                         WHERE NOT EXISTS (SELECT 1 FROM messages WHERE sender = ?1 AND id = ?2)",
                    )?
                    .execute(params![
                        from.as_str(),
                        id.as_bytes(),
                        to_sql(ts.millis()),
                        to_sql(received.millis()),
                        body
                    ])?,
                Side::Ours(entry) => tx
                    .prepare_cached(
                        "INSERT OR IGNORE INTO imported (partner, id, ts, at, body, state) SELECT ?1, ?2, ?3, ?3, ?4, ?5
                         WHERE NOT EXISTS (SELECT 1 FROM outbox WHERE id = ?2)",
                    )?
                    .execute(params![
                        entry.to.as_str(),
                        entry.id.as_bytes(),
                        to_sql(entry.written.millis()),
                        body,
                        entry.state.number()
                    ])?,
            };
        }
        tx.commit()?;
        Ok(fresh)
    }
}

type RawTheirs = (String, Vec<u8>, i64, i64, Vec<u8>);

fn raw_theirs(row: &Row<'_>) -> rusqlite::Result<RawTheirs> {
    Ok((
        row.get(0)?,
        row.get(1)?,
        row.get(2)?,
        row.get(3)?,
        row.get(4)?,
    ))
}

/// Binds the text of an imported message to its place.
fn imported_place(side: &Side) -> Vec<u8> {
    let (whose, partner, id) = match side {
        Side::Theirs { from, id, .. } => ("theirs", from, id),
        Side::Ours(entry) => ("ours", &entry.to, &entry.id),
    };
    format!("sealpost/1 imported message\n{whose}\n{partner}\n{id}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{at, store, user};
    use super::super::{Acceptance, Incoming};
    use super::*;

    fn id(ms: u64) -> MessageId {
        MessageId::new(at(ms), &mut rand::rng())
    }

    fn receive(store: &mut Store, from: &str, id: &MessageId, text: &str, now: u64) -> Acceptance {
        let from = user(from);
        let message = Incoming {
            from: &from,
            id,
            prev: None,
            ts: at(7),
            body: text.as_bytes(),
            digest: [7; 32],
        };
        store.accept(&message, at(now)).unwrap()
    }

    fn write(store: &mut Store, to: &str, text: &str, now: u64) -> MessageId {
        let id = id(now);
        let message = [(id, Zeroizing::new(text.to_owned()))];
        store.enqueue(&user(to), &message, at(now)).unwrap();
        id
    }

    fn theirs(from: &str, id: MessageId, text: &str, received: u64) -> ImportedMessage {
        ImportedMessage {
            side: Side::Theirs {
                from: user(from),
                id,
                ts: at(7),
                received: at(received),
            },
            body: Zeroizing::new(text.to_owned()),
        }
    }

    fn ours(
        to: &str,
        id: MessageId,
        text: &str,
        state: SendState,
        written: u64,
    ) -> ImportedMessage {
        ImportedMessage {
            side: Side::Ours(OutboxEntry {
                to: user(to),
                id,
                written: at(written),
                state,
                changed: at(written),
                problem: None,
            }),
            body: Zeroizing::new(text.to_owned()),
        }
    }

    /// The texts of a part of the history, oldest first.
    fn texts(store: &Store, range: &HistoryRange, limit: u32) -> Vec<String> {
        let places = store.history(range, limit).unwrap();
        let entries = places.into_iter().rev().map(|place| {
            let entry = store.history_entry(place).unwrap().unwrap();
            String::from_utf8(entry.body.to_vec()).unwrap()
        });
        entries.collect()
    }

    fn all(store: &Store) -> Vec<String> {
        texts(store, &HistoryRange::default(), 100)
    }

    #[test]
    fn both_directions_are_in_one_order_and_a_part_of_it_can_be_had() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(&folder);
        receive(&mut store, "alice", &id(1), "one", 100);
        write(&mut store, "alice", "two", 200);
        receive(&mut store, "carol", &id(1), "three", 300);
        write(&mut store, "carol", "four", 400);
        assert_eq!(all(&store), ["one", "two", "three", "four"]);
        let everything = HistoryRange::default();
        assert_eq!(
            texts(&store, &everything, 2),
            ["three", "four"],
            "the newest"
        );
        let with = HistoryRange {
            with: Some(user("alice")),
            ..everything.clone()
        };
        assert_eq!(texts(&store, &with, 100), ["one", "two"]);
        let between = HistoryRange {
            since: Some(at(200)),
            until: Some(at(400)),
            ..everything
        };
        assert_eq!(texts(&store, &between, 100), ["two", "three"]);
        assert_eq!(store.count_messages().unwrap(), 4);
    }

    #[test]
    fn an_entry_tells_whose_it_is_and_how_far_it_has_got() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(&folder);
        let theirs = id(1);
        receive(&mut store, "alice", &theirs, "one", 100);
        let ours = write(&mut store, "alice", "two", 200);
        let places = store.history(&HistoryRange::default(), 10).unwrap();
        let newest = store.history_entry(places[0]).unwrap().unwrap();
        assert!(matches!(
            newest.side,
            Side::Ours(OutboxEntry { id, state: SendState::Queued, .. }) if id == ours
        ));
        assert_eq!((newest.partner(), newest.at()), (&user("alice"), at(200)));
        let oldest = store.history_entry(places[1]).unwrap().unwrap();
        assert!(matches!(oldest.side, Side::Theirs { id, ts, .. } if id == theirs && ts == at(7)));
        assert_eq!(oldest.at(), at(100));
        store.drop_outgoing(&ours).unwrap();
        assert!(store.history_entry(places[0]).unwrap().is_none());
    }

    #[test]
    fn an_import_takes_each_message_once_and_among_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(&folder);
        let (here, mine) = (id(1), write(&mut store, "alice", "here too", 200));
        receive(&mut store, "alice", &here, "here", 100);
        let messages = [
            theirs("alice", here, "another text", 100),
            theirs("carol", here, "carol's has the same id", 150),
            ours("alice", mine, "another text", SendState::Read, 200),
            ours("alice", id(5), "read", SendState::Read, 170),
        ];
        assert_eq!(store.import_history(&messages).unwrap(), 2);
        assert_eq!(store.import_history(&messages).unwrap(), 0);
        assert_eq!(
            all(&store),
            ["here", "carol's has the same id", "read", "here too"]
        );
        let places = store.history(&HistoryRange::default(), 10).unwrap();
        let imported: Vec<bool> = places
            .iter()
            .map(|place| store.history_entry(*place).unwrap().unwrap().imported)
            .collect();
        assert_eq!(imported, [false, true, true, false]);
    }

    #[test]
    fn an_imported_message_is_neither_seen_nor_receipted_nor_sent_nor_a_contact() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(&folder);
        let (theirs_id, ours_id) = (id(1), id(2));
        let messages = [
            theirs("carol", theirs_id, "what the file says", 100),
            ours("carol", ours_id, "never went out", SendState::Queued, 100),
        ];
        store.import_history(&messages).unwrap();
        let carol = user("carol");
        assert!(!store.seen(&carol, &theirs_id).unwrap().contains);
        assert!(store.unshown(0, 10).unwrap().is_empty());
        assert!(store.receipts_due().unwrap().is_empty());
        assert!(store.due(at(u32::MAX.into()), 10).unwrap().is_empty());
        assert_eq!(store.queued().unwrap(), 0);
        assert!(store.outbox_entry(&ours_id).unwrap().is_none());
        assert!(store.contacts().unwrap().is_empty());

        // The real one is taken, and the history then shows that one alone.
        let taken = receive(&mut store, "carol", &theirs_id, "what carol wrote", 300);
        assert_eq!(taken, Acceptance::Stored);
        assert_eq!(all(&store), ["never went out", "what carol wrote"]);
    }

    #[test]
    fn no_text_of_either_direction_is_readable_in_any_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut open = store(&folder);
        receive(&mut open, "alice", &id(1), "meet me at the lighthouse", 100);
        let ours = write(&mut open, "alice", "the lighthouse it is", 200);
        open.import_history(&[theirs("carol", id(3), "a lighthouse of old", 50)])
            .unwrap();
        open.drop_outgoing(&ours).unwrap();
        let clear = |folder: &tempfile::TempDir| {
            std::fs::read_dir(folder.path()).unwrap().any(|entry| {
                let bytes = std::fs::read(entry.unwrap().path()).unwrap();
                bytes.windows(10).any(|window| window == b"lighthouse")
            })
        };
        assert!(!clear(&folder), "with the write-ahead log");
        drop(open);
        assert!(!clear(&folder), "without");
    }
}
