//! The history: what was received, what we wrote, and what was imported, in one order.
//!
//! Imported messages have a table of their own, which nothing that decides about incoming mail reads: they can neither make
//! a message count as seen, nor give a receipt, nor change whom we trust.

use rusqlite::{OptionalExtension, Row, params};
use sealpost_core::{Content, Edit, MessageId, MessageRef, Reply, Timestamp, UserId};
use zeroize::Zeroizing;

use super::changes::Nature;
use super::contacts::message_id;
use super::outbox::{self, OutboxEntry, SendState};
use super::{
    Store, StoreError, from_sql, inbox, stored_content, timestamp_from, to_sql, user_from,
};
use crate::event::readable;
use crate::terminal::clean_line;

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
    /// The plaintext JSON: of an edited text, what it says now.
    pub body: Zeroizing<Vec<u8>>,
    /// What an edited text said before.
    pub revised: Option<Revised>,
    /// When it disappears; `None`: it stays, or its time has not begun.
    pub expires: Option<Timestamp>,
}

/// What an edited text said before.
#[derive(Debug)]
pub struct Revised {
    /// How often it was edited: 1 or more.
    pub edits: u32,
    /// When, by our clock, the edit came or was written that counts.
    pub at: Timestamp,
    /// As it was written first, the plaintext JSON.
    pub original: Zeroizing<Vec<u8>>,
}

impl HistoryEntry {
    /// Its id, which is its sender's own.
    #[must_use]
    pub fn id(&self) -> &MessageId {
        match &self.side {
            Side::Theirs { id, .. } => id,
            Side::Ours(entry) => &entry.id,
        }
    }

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
/// really written here; changes are left out where what they change is there, and so is what strangers wrote who are not let in.
const PLACES: &str = "
    SELECT 1 AS kind, number, received_at AS at FROM messages AS this
    WHERE (?1 IS NULL OR sender = ?1) AND received_at >= ?2 AND received_at < ?3
    AND (change IS NULL OR (change = 1
        AND NOT EXISTS (SELECT 1 FROM messages WHERE sender = this.sender AND id = this.target)
        AND NOT EXISTS (SELECT 1 FROM imported WHERE state IS NULL AND partner = this.sender AND id = this.target)))
    AND sender NOT IN (SELECT partner FROM conversations WHERE request = 1)
    UNION ALL
    SELECT 2, number, written FROM outbox AS this
    WHERE (?1 IS NULL OR recipient = ?1) AND written >= ?2 AND written < ?3
    AND (change IS NULL OR (change = 1
        AND NOT EXISTS (SELECT 1 FROM outbox WHERE recipient = this.recipient AND id = this.target)
        AND NOT EXISTS (SELECT 1 FROM imported WHERE state IS NOT NULL AND partner = this.recipient AND id = this.target)))
    UNION ALL
    SELECT 0, number, at FROM imported AS this
    WHERE (?1 IS NULL OR partner = ?1) AND at >= ?2 AND at < ?3
    AND NOT EXISTS (SELECT 1 FROM messages WHERE this.state IS NULL AND sender = partner AND id = this.id)
    AND NOT EXISTS (SELECT 1 FROM outbox WHERE this.state IS NOT NULL AND id = this.id)
    AND (change IS NULL OR (change = 1
        AND NOT EXISTS (SELECT 1 FROM imported AS original WHERE (original.state IS NULL) = (this.state IS NULL)
            AND original.partner = this.partner AND original.id = this.target)
        AND NOT EXISTS (SELECT 1 FROM messages WHERE this.state IS NULL AND sender = partner AND id = this.target)
        AND NOT EXISTS (SELECT 1 FROM outbox WHERE this.state IS NOT NULL AND recipient = partner AND id = this.target)))
    ORDER BY at DESC, kind DESC, number DESC LIMIT ?4";

/// Everything there is to be carried to another home: changes too, but nothing that disappears and nothing of strangers.
const ROWS: &str = "
    SELECT 1 AS kind, number, received_at AS at FROM messages
    WHERE (?1 IS NULL OR sender = ?1) AND received_at >= ?2 AND received_at < ?3
    AND lifetime IS NULL AND coalesce(change, 1) != 3
    AND sender NOT IN (SELECT partner FROM conversations WHERE request = 1)
    UNION ALL
    SELECT 2, number, written FROM outbox
    WHERE (?1 IS NULL OR recipient = ?1) AND written >= ?2 AND written < ?3 AND lifetime IS NULL
    UNION ALL
    SELECT 0, number, at FROM imported AS this
    WHERE (?1 IS NULL OR partner = ?1) AND at >= ?2 AND at < ?3
    AND NOT EXISTS (SELECT 1 FROM messages WHERE this.state IS NULL AND sender = partner AND id = this.id)
    AND NOT EXISTS (SELECT 1 FROM outbox WHERE this.state IS NOT NULL AND id = this.id)
    ORDER BY at DESC, kind DESC, number DESC LIMIT ?4";

impl Store {
    /// Where the messages of a part of the history are, newest first, at most `limit` of them.
    pub fn history(&self, range: &HistoryRange, limit: u32) -> Result<Vec<Place>, StoreError> {
        self.places(PLACES, range, limit)
    }

    /// The same of every row as it was received or written, edits and deletions by themselves: for a file. Without what disappears.
    pub fn history_rows(&self, range: &HistoryRange, limit: u32) -> Result<Vec<Place>, StoreError> {
        self.places(ROWS, range, limit)
    }

    /// How many messages of a part of the history [`Store::history_rows`] leaves out, for they disappear.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn disappearing(&self, range: &HistoryRange) -> Result<u64, StoreError> {
        let all = self.history(range, u32::MAX)?;
        let statement = |table| {
            self.db.prepare_cached(&format!(
                "SELECT 1 FROM {table} WHERE number = ?1 AND lifetime IS NOT NULL"
            ))
        };
        let (mut theirs, mut ours) = (statement("messages")?, statement("outbox")?);
        let mut count = 0;
        for place in all {
            count += u64::from(match place {
                Place::Received(number) => theirs.exists([number])?,
                Place::Written(number) => ours.exists([number])?,
                Place::Imported(_) => false,
            });
        }
        Ok(count)
    }

    fn places(
        &self,
        sql: &str,
        range: &HistoryRange,
        limit: u32,
    ) -> Result<Vec<Place>, StoreError> {
        let bound =
            |at: Option<Timestamp>, otherwise| at.map_or(otherwise, |at| to_sql(at.millis()));
        let mut statement = self.db.prepare_cached(sql)?;
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

    /// The message there, as it reads now; `None` when it was dropped in the meantime.
    pub fn history_entry(&self, place: Place) -> Result<Option<HistoryEntry>, StoreError> {
        let Some(entry) = self.history_row(place)? else {
            return Ok(None);
        };
        self.revise(entry).map(Some)
    }

    /// Where a message is: one of theirs, or of ours to them.
    pub fn find(
        &self,
        partner: &UserId,
        ours: bool,
        id: &MessageId,
    ) -> Result<Option<Place>, StoreError> {
        let (own, imported) = match ours {
            true => (
                "SELECT number FROM outbox WHERE recipient = ?1 AND id = ?2",
                "SELECT number FROM imported WHERE state IS NOT NULL AND partner = ?1 AND id = ?2",
            ),
            false => (
                "SELECT number FROM messages WHERE sender = ?1 AND id = ?2
                 AND sender NOT IN (SELECT partner FROM conversations WHERE request = 1)",
                "SELECT number FROM imported WHERE state IS NULL AND partner = ?1 AND id = ?2",
            ),
        };
        let number = |sql| {
            self.db
                .prepare_cached(sql)?
                .query_row(params![partner.as_str(), id.as_bytes()], |row| {
                    row.get::<_, i64>(0)
                })
                .optional()
        };
        if let Some(number) = number(own)? {
            return Ok(Some(match ours {
                true => Place::Written(number),
                false => Place::Received(number),
            }));
        }
        Ok(number(imported)?.map(Place::Imported))
    }

    /// Who sent a message of that id here: one name as a rule, for ids are random, and more where somebody took another's.
    pub fn senders_of(&self, id: &MessageId) -> Result<Vec<UserId>, StoreError> {
        let mut statement = self.db.prepare_cached(
            "SELECT sender FROM messages WHERE id = ?1
             AND sender NOT IN (SELECT partner FROM conversations WHERE request = 1)
             UNION SELECT partner FROM imported WHERE id = ?1 AND state IS NULL",
        )?;
        let rows = statement.query_map([id.as_bytes()], |row| row.get::<_, String>(0))?;
        rows.map(|row| user_from(&row?)).collect()
    }

    /// To whom we sent a message of that id.
    pub fn recipient_of(&self, id: &MessageId) -> Result<Option<UserId>, StoreError> {
        let to: Option<String> = self
            .db
            .prepare_cached(
                "SELECT recipient FROM outbox WHERE id = ?1
                 UNION ALL SELECT partner FROM imported WHERE id = ?1 AND state IS NOT NULL LIMIT 1",
            )?
            .query_row([id.as_bytes()], |row| row.get(0))
            .optional()?;
        to.map(|to| user_from(&to)).transpose()
    }

    /// The beginning of what a message says that another one of this conversation answers, cleaned, on one line; `None` when it is not here.
    pub fn quote(&self, partner: &UserId, name: &MessageRef) -> Result<Option<String>, StoreError> {
        let ours = name.from != *partner;
        if ours && self.owner.as_ref() != Some(&name.from) {
            return Ok(None);
        }
        let Some(place) = self.find(partner, ours, &name.id)? else {
            return Ok(None);
        };
        let Some(entry) = self.history_entry(place)? else {
            return Ok(None);
        };
        Ok(stored_content(&entry.body).map(|content| snippet(&readable(&content))))
    }

    /// What counts of the edits of a message.
    fn revise(&self, mut entry: HistoryEntry) -> Result<HistoryEntry, StoreError> {
        let (ours, id) = match &entry.side {
            Side::Theirs { id, .. } => (false, *id),
            Side::Ours(ours) => (true, ours.id),
        };
        let partner = entry.partner().clone();
        let mut statement = self.db.prepare_cached(match ours {
            false => {
                "SELECT 1 AS kind, number, ts, id FROM messages WHERE sender = ?1 AND target = ?2 AND change = 1
                 UNION ALL SELECT 0, number, ts, id FROM imported
                 WHERE state IS NULL AND partner = ?1 AND target = ?2 AND change = 1 ORDER BY ts, id"
            }
            true => {
                "SELECT 2 AS kind, number, written AS ts, id FROM outbox WHERE recipient = ?1 AND target = ?2 AND change = 1
                 UNION ALL SELECT 0, number, ts, id FROM imported
                 WHERE state IS NOT NULL AND partner = ?1 AND target = ?2 AND change = 1 ORDER BY ts, id"
            }
        })?;
        let edits = statement
            .query_map(params![partner.as_str(), id.as_bytes()], |row| {
                let number = row.get(1)?;
                Ok(match row.get::<_, u8>(0)? {
                    0 => Place::Imported(number),
                    1 => Place::Received(number),
                    _ => Place::Written(number),
                })
            })?
            .collect::<Result<Vec<_>, _>>()?;
        let Some(last) = edits.last() else {
            return Ok(entry);
        };
        let Some(edit) = self.history_row(*last)? else {
            return Ok(entry);
        };
        let (Some(before), Some(Content::Edit(Edit { text, .. }))) =
            (stored_content(&entry.body), stored_content(&edit.body))
        else {
            return Ok(entry);
        };
        let now = match before {
            Content::Text { .. } => Content::Text { text },
            Content::Reply(Reply { to, .. }) => Content::Reply(Reply { text, to }),
            _ => return Ok(entry),
        };
        let body = now
            .to_json()
            .map_err(|_| StoreError::Damaged("an edit is malformed"))?;
        let body = Zeroizing::new(body.into_bytes());
        entry.revised = Some(Revised {
            edits: u32::try_from(edits.len()).unwrap_or(u32::MAX),
            at: edit.at(),
            original: std::mem::replace(&mut entry.body, body),
        });
        Ok(entry)
    }

    /// One row as it was received or written.
    pub fn history_row(&self, place: Place) -> Result<Option<HistoryEntry>, StoreError> {
        match place {
            Place::Received(number) => self.received_entry(number),
            Place::Written(number) => self.written_entry(number),
            Place::Imported(number) => self.imported_entry(number),
        }
    }

    /// How many messages there are, in both directions.
    pub fn count_messages(&self) -> Result<u64, StoreError> {
        let count: i64 = self.db.query_row(
            "SELECT (SELECT count(*) FROM messages WHERE change IS NULL) + (SELECT count(*) FROM outbox WHERE change IS NULL)
             + (SELECT count(*) FROM imported WHERE change IS NULL)",
            [],
            |row| row.get(0),
        )?;
        from_sql(count)
    }

    fn received_entry(&self, number: i64) -> Result<Option<HistoryEntry>, StoreError> {
        let row = self
            .db
            .prepare_cached(
                "SELECT sender, id, ts, received_at, body, expires FROM messages WHERE number = ?1",
            )?
            .query_row([number], |row| {
                Ok((raw_theirs(row)?, row.get::<_, Option<i64>>(5)?))
            })
            .optional()?;
        let Some(((from, id, ts, received, body), expires)) = row else {
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
            revised: None,
            expires: moment(expires)?,
        }))
    }

    fn written_entry(&self, number: i64) -> Result<Option<HistoryEntry>, StoreError> {
        let row = self
            .db
            .prepare_cached(&format!(
                "SELECT {}, body, expires FROM outbox WHERE number = ?1",
                outbox::ENTRY
            ))?
            .query_row([number], |row| {
                Ok((
                    outbox::raw_entry(row)?,
                    row.get::<_, Vec<u8>>("body")?,
                    row.get::<_, Option<i64>>("expires")?,
                ))
            })
            .optional()?;
        let Some((raw, body, expires)) = row else {
            return Ok(None);
        };
        let entry = outbox::entry(raw)?;
        let body = self.decrypt(&outbox::ours(&entry.to, &entry.id), &body)?;
        Ok(Some(HistoryEntry {
            side: Side::Ours(entry),
            imported: false,
            body,
            revised: None,
            expires: moment(expires)?,
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
            revised: None,
            expires: None,
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
            let (target, change) = Nature::of(message.body.as_bytes()).change();
            fresh += match &message.side {
                Side::Theirs {
                    from,
                    id,
                    ts,
                    received,
                } => tx
                    .prepare_cached(
                        "INSERT OR IGNORE INTO imported (partner, id, ts, at, body, target, change) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7
                         WHERE NOT EXISTS (SELECT 1 FROM messages WHERE sender = ?1 AND id = ?2)",
                    )?
                    .execute(params![
                        from.as_str(),
                        id.as_bytes(),
                        to_sql(ts.millis()),
                        to_sql(received.millis()),
                        body,
                        target,
                        change
                    ])?,
                Side::Ours(entry) => tx
                    .prepare_cached(
                        "INSERT OR IGNORE INTO imported (partner, id, ts, at, body, state, target, change) SELECT ?1, ?2, ?3, ?3, ?4, ?5, ?6, ?7
                         WHERE NOT EXISTS (SELECT 1 FROM outbox WHERE id = ?2)",
                    )?
                    .execute(params![
                        entry.to.as_str(),
                        entry.id.as_bytes(),
                        to_sql(entry.written.millis()),
                        body,
                        entry.state.number(),
                        target,
                        change
                    ])?,
            };
        }
        tx.commit()?;
        Ok(fresh)
    }
}

/// The longest quotation, in characters: it is to be known again, on a line with other words.
const QUOTED: usize = 48;

/// The beginning of a text on one line, cleaned.
pub(crate) fn snippet(text: &str) -> String {
    // Of the longest text, only the beginning is looked at.
    let beginning: String = text.chars().take(QUOTED * 4).collect();
    let line = clean_line(&beginning);
    let line = line.trim();
    match line.char_indices().nth(QUOTED) {
        None if beginning.len() == text.len() => line.to_owned(),
        None => format!("{line}\u{2026}"),
        Some((end, _)) => format!("{}\u{2026}", line.get(..end).unwrap_or_default()),
    }
}

fn moment(at: Option<i64>) -> Result<Option<Timestamp>, StoreError> {
    at.map(|at| timestamp_from(from_sql(at)?)).transpose()
}

type RawTheirs = (String, Vec<u8>, i64, i64, Vec<u8>);

fn raw_theirs(row: &Row<'_>) -> rusqlite::Result<RawTheirs> {
    row.try_into()
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
            signer: None,
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
