//! A device's readings: messages of the outbox, of which there are never more than a bounded number. The oldest go first, and
//! what went unsent is said in its place, so that its recipient knows.
//!
//! A reading is kept until its recipient has receipted it. When there is no room for new ones, those go first that the broker has
//! already, then the oldest that were never sealed. The few that are under way stay: they may have arrived.

use rusqlite::{OptionalExtension, params};
use sealpost_core::{
    Content, ContentError, MessageId, Reading, ReadingGap, Timestamp, UserId, padded_length,
};
use zeroize::Zeroizing;

use super::contacts::message_id;
use super::outbox::ours;
use super::{Store, StoreError, from_sql, stored_content, to_sql};

/// The fewest readings that a ring holds: four times as many as are under way at once, so that there is always one to drop.
pub const FEWEST_READINGS: u32 = 256;
/// The most: as many messages as an outbox takes.
pub const MOST_READINGS: u32 = super::MAX_QUEUED;
/// The fewest bytes that a ring takes, twice what [`FEWEST_READINGS`] small ones do.
pub const FEWEST_BYTES: u64 = 1024 * 1024;
/// The most bytes: those of an outbox.
pub const MOST_BYTES: u64 = super::MAX_QUEUED_BYTES;
/// The longest reading, in bytes: so that all that are under way at once fit into a device's memory many times.
pub const LONGEST_READING: usize = 4_096;

/// What stands around the padded content in an envelope with the largest RSA key, and around both in the store, in bytes.
const FRAME: u64 = 1_600;
/// How many readings are looked at together when there is no room.
const STRIDE: u32 = 128;
/// How many messages that came and were shown are kept: a device has no history, but a late copy of one is known for what it is.
const KEPT_MESSAGES: i64 = 256;
/// In `meta`: the number of the last reading.
const LAST_NUMBER: &str = "reading number";

/// How much a ring holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingLimits {
    /// So many readings, [`FEWEST_READINGS`] to [`MOST_READINGS`].
    pub readings: u32,
    /// So many bytes on disk, the envelopes included that they become, [`FEWEST_BYTES`] to [`MOST_BYTES`].
    pub bytes: u64,
}

/// Something that was read, to be taken over. `Debug` shows nothing of it.
#[derive(Clone)]
pub struct Fresh {
    /// The clock when it came.
    pub at: Timestamp,
    /// JSON of at most [`LONGEST_READING`] bytes.
    pub value: Zeroizing<String>,
}

impl std::fmt::Debug for Fresh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fresh({}, redacted)", self.at)
    }
}

/// What became of readings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The number of the last one that is on disk.
    pub last: u64,
    /// Older ones that had to go, and were never sent.
    pub dropped: Vec<ReadingGap>,
}

/// Why readings were not taken over.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// One of them is none.
    #[error("a reading cannot be sent: {0}")]
    Reading(#[from] ContentError),
    /// They could not be written down.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The readings for one recipient.
#[derive(Debug)]
pub struct Ring {
    to: UserId,
    limits: RingLimits,
    held: Held,
    /// Those that the recipient has, which need not be kept.
    arrived: Vec<MessageId>,
}

/// How much there is.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    readings: u64,
    bytes: u64,
}

impl Held {
    fn add(&mut self, body: u64) {
        self.readings += 1;
        self.bytes += cost(body);
    }

    fn remove(&mut self, body: u64) {
        self.readings = self.readings.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(cost(body));
    }

    fn fits(self, limits: RingLimits) -> bool {
        self.readings <= u64::from(limits.readings) && self.bytes <= limits.bytes
    }
}

/// What a message takes on disk, in bytes, with the envelope that it becomes, by the length of its text at rest.
fn cost(body: u64) -> u64 {
    let padded = padded_length(usize::try_from(body).unwrap_or(usize::MAX / 2)) as u64;
    FRAME + body + padded * 4 / 3
}

struct Candidate {
    number: i64,
    id: MessageId,
    length: u64,
    content: Content,
}

impl Ring {
    /// Looks at what there is for a recipient, and clears away what has arrived.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn open(store: &mut Store, to: &UserId, limits: RingLimits) -> Result<Ring, StoreError> {
        let tx = store.immediate()?;
        tx.execute(
            "DELETE FROM outbox WHERE recipient = ?1 AND state IN (2, 3)",
            [to.as_str()],
        )?;
        let mut held = Held::default();
        {
            let mut statement =
                tx.prepare("SELECT length(body) FROM outbox WHERE recipient = ?1")?;
            let mut rows = statement.query([to.as_str()])?;
            while let Some(row) = rows.next()? {
                held.add(from_sql(row.get(0)?)?);
            }
        }
        tx.commit()?;
        Ok(Ring {
            to: to.clone(),
            limits,
            held,
            arrived: Vec::new(),
        })
    }

    /// For whom they are.
    #[must_use]
    pub fn to(&self) -> &UserId {
        &self.to
    }

    /// How many messages are kept.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.held.readings
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.readings == 0
    }

    /// The recipient has this one: it goes with the next [`Ring::push`] or [`Ring::clear`].
    pub fn has_arrived(&mut self, id: MessageId) {
        self.arrived.push(id);
    }

    /// How many have arrived and are still there.
    #[must_use]
    pub fn cleared_next(&self) -> usize {
        self.arrived.len()
    }

    /// Takes readings over, all or none, with one write to the disk: when it returns they are on disk. Drops what there is no
    /// room for.
    ///
    /// # Errors
    /// [`PushError`]; nothing was changed then.
    pub fn push(
        &mut self,
        store: &mut Store,
        readings: &[Fresh],
        now: Timestamp,
    ) -> Result<Pushed, PushError> {
        let mut held = self.held;
        let pushed = store.group(|store| {
            clear(store, &self.arrived, &mut held)?;
            let mut number = store.last_reading()?;
            for Fresh { at, value } in readings {
                number += 1;
                let reading = Reading::new(number, *at, value).ok_or(ContentError::BadKind)?;
                let body = Zeroizing::new(reading.to_content()?.to_json()?);
                held.add(insert(store, &self.to, &body, now)?);
            }
            store.set_last_reading(number)?;
            let dropped = make_room(store, &self.to, self.limits, &mut held)?;
            super::receipts::accept(&store.db, &self.to)?;
            Ok::<_, PushError>(Pushed {
                last: number,
                dropped,
            })
        })?;
        self.held = held;
        self.arrived.clear();
        Ok(pushed)
    }

    /// Clears away what has arrived, and messages of others that were shown but for the last few.
    ///
    /// # Errors
    /// When the store cannot be written; nothing was changed then.
    pub fn clear(&mut self, store: &mut Store) -> Result<(), StoreError> {
        let mut held = self.held;
        store.group(|store| {
            store.db.execute(
                "DELETE FROM messages WHERE shown = 1 AND number <= (SELECT max(number) FROM messages) - ?1",
                [KEPT_MESSAGES],
            )?;
            clear(store, &self.arrived, &mut held)
        })?;
        self.held = held;
        self.arrived.clear();
        Ok(())
    }
}

fn clear(store: &Store, arrived: &[MessageId], held: &mut Held) -> Result<(), StoreError> {
    let mut delete = store.db.prepare_cached(
        "DELETE FROM outbox WHERE id = ?1 AND state IN (2, 3) RETURNING length(body)",
    )?;
    for id in arrived {
        let gone: Option<i64> = delete
            .query_row([id.as_bytes()], |row| row.get(0))
            .optional()?;
        if let Some(length) = gone {
            held.remove(from_sql(length)?);
        }
    }
    Ok(())
}

/// Writes a message and says how long its text is at rest.
fn insert(store: &Store, to: &UserId, body: &str, now: Timestamp) -> Result<u64, StoreError> {
    let id = MessageId::new(now, &mut rand::rng());
    let sealed = store.encrypt(&ours(to, &id), body.as_bytes())?;
    store
        .db
        .prepare_cached(
            "INSERT INTO outbox (recipient, id, written, body, changed) VALUES (?1, ?2, ?3, ?4, ?3)",
        )?
        .execute(params![
            to.as_str(),
            id.as_bytes(),
            to_sql(now.millis()),
            sealed
        ])?;
    Ok(sealed.len() as u64)
}

/// Drops the oldest until the rest fits. Returns what was never sent.
fn make_room(
    store: &Store,
    to: &UserId,
    limits: RingLimits,
    held: &mut Held,
) -> Result<Vec<ReadingGap>, StoreError> {
    // The broker has these, on its disk.
    while !held.fits(limits) {
        let gone: Option<i64> = store
            .db
            .prepare_cached(
                "DELETE FROM outbox WHERE number =
                     (SELECT number FROM outbox WHERE state = 1 AND recipient = ?1 ORDER BY due LIMIT 1)
                 RETURNING length(body)",
            )?
            .query_row([to.as_str()], |row| row.get(0))
            .optional()?;
        match gone {
            Some(length) => held.remove(from_sql(length)?),
            None => break,
        }
    }
    let mut dropped: Vec<ReadingGap> = Vec::new();
    let mut after = 0;
    // The message in the place of what was dropped, and how long its text is: what follows it right away becomes a part of it.
    let mut gap: Option<(ReadingGap, Candidate)> = None;
    while !held.fits(limits) {
        let candidates = candidates(store, to, after)?;
        let Some(last) = candidates.last() else {
            break;
        };
        after = last.number;
        for candidate in candidates {
            if held.fits(limits) {
                break;
            }
            if let Some(before) = ReadingGap::read(&candidate.content) {
                settle(store, to, gap.take(), held)?;
                gap = Some((before, candidate));
                continue;
            }
            // What somebody sends from this home by hand is not ours to drop.
            let Some(reading) = Reading::read(&candidate.content) else {
                continue;
            };
            let this = ReadingGap::of(&reading);
            match dropped.last_mut() {
                Some(last) if last.and(this).is_some() => *last = last.and(this).unwrap_or(this),
                _ => dropped.push(this),
            }
            match gap.as_mut() {
                Some((before, _)) if before.and(this).is_some() => {
                    *before = before.and(this).unwrap_or(this);
                    store
                        .db
                        .prepare_cached("DELETE FROM outbox WHERE number = ?1")?
                        .execute([candidate.number])?;
                    held.remove(candidate.length);
                }
                _ => {
                    settle(store, to, gap.take(), held)?;
                    gap = Some((this, candidate));
                }
            }
        }
    }
    settle(store, to, gap, held)?;
    Ok(dropped)
}

/// The oldest messages to a recipient, behind the one with this number, that were never sealed: nobody else can have them.
fn candidates(store: &Store, to: &UserId, after: i64) -> Result<Vec<Candidate>, StoreError> {
    let mut statement = store.db.prepare_cached(
        "SELECT number, id, body FROM outbox
         WHERE recipient = ?1 AND state = 0 AND number > ?2 AND envelope IS NULL ORDER BY number LIMIT ?3",
    )?;
    let rows = statement.query_map(params![to.as_str(), after, STRIDE], |row| {
        Ok((
            row.get(0)?,
            row.get::<_, Vec<u8>>(1)?,
            row.get::<_, Vec<u8>>(2)?,
        ))
    })?;
    rows.map(|row| {
        let (number, id, body) = row?;
        let id = message_id(&id)?;
        let text = store.decrypt(&ours(to, &id), &body)?;
        Ok(Candidate {
            number,
            id,
            length: body.len() as u64,
            content: stored_content(&text)
                .ok_or(StoreError::Damaged("a message in the outbox is malformed"))?,
        })
    })
    .collect()
}

/// Writes a gap into its place.
fn settle(
    store: &Store,
    to: &UserId,
    gap: Option<(ReadingGap, Candidate)>,
    held: &mut Held,
) -> Result<(), StoreError> {
    let Some((gap, place)) = gap else {
        return Ok(());
    };
    let content = gap.to_content();
    if content == place.content {
        return Ok(());
    }
    let body = content
        .to_json()
        .map_err(|_| StoreError::Damaged("a gap of readings cannot be written"))?;
    let body = store.encrypt(&ours(to, &place.id), body.as_bytes())?;
    store
        .db
        .prepare_cached("UPDATE outbox SET body = ?2 WHERE number = ?1")?
        .execute(params![place.number, body])?;
    held.remove(place.length);
    held.add(body.len() as u64);
    Ok(())
}

impl Store {
    /// The number of the last reading that was taken over here, to whomever; 0 before the first.
    pub fn last_reading(&self) -> Result<u64, StoreError> {
        let number: Option<String> = self
            .db
            .prepare_cached("SELECT value FROM meta WHERE key = ?1")?
            .query_row([LAST_NUMBER], |row| row.get(0))
            .optional()?;
        number.map_or(Ok(0), |number| {
            number
                .parse()
                .map_err(|_| StoreError::Damaged("the number of the last reading is malformed"))
        })
    }

    fn set_last_reading(&self, number: u64) -> Result<(), StoreError> {
        self.db
            .prepare_cached(
                "INSERT INTO meta (key, value) VALUES (?1, ?2)
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            )?
            .execute(params![LAST_NUMBER, number.to_string()])?;
        Ok(())
    }

    /// The contact link that this home was told to send to, once it was followed.
    pub fn followed_link(&self) -> Result<Option<String>, StoreError> {
        Ok(self
            .db
            .query_row(
                "SELECT value FROM meta WHERE key = 'followed link'",
                [],
                |row| row.get(0),
            )
            .optional()?)
    }

    /// Remembers it.
    pub fn set_followed_link(&mut self, link: &str) -> Result<(), StoreError> {
        self.db.execute(
            "INSERT INTO meta (key, value) VALUES ('followed link', ?1)
             ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            [link],
        )?;
        Ok(())
    }

    /// Takes little memory from now on, for more reads of the file: what SQLite keeps of it in memory is 256 KiB.
    pub fn be_small(&self) -> Result<(), StoreError> {
        self.db.pragma_update(None, "cache_size", -256)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
