//! Files under way: who offers which to whom, how much of it is where, and what is still to be said about it.
//!
//! What a file is called and its key are in the message that offers it, encrypted like every message; the chunks that came are beside
//! the store ([`crate::files`]), encrypted as they came. Here are sizes, counts, and encrypted paths.

use std::collections::HashSet;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{OptionalExtension, Row, params};
use sealpost_core::{
    Chunking, FileEnd, FileOffer, FileOutcome, FileRequest, MessageId, Timestamp, UserId,
};
use zeroize::Zeroizing;

use super::contacts::message_id;
use super::inbox::theirs;
use super::outbox::ours;
use super::{Store, StoreError, from_sql, stored_content, timestamp_from, to_sql, user_from};

/// How many open offers of one sender are kept. Whoever has more to give makes an archive of it.
pub const MAX_OFFERS_PER_SENDER: u32 = 64;
/// And of all senders together.
pub const MAX_OFFERS: u32 = 1_024;
/// What is fetched of one sender unasked and lies here unsaved, in bytes.
pub const MAX_UNSAVED_PER_SENDER: u64 = 256 * 1024 * 1024;
/// And of all together.
pub const MAX_UNSAVED: u64 = 1024 * 1024 * 1024;
/// How many chunks of a file are asked for and not here.
pub const WINDOW: u32 = 32;
/// How many files are fetched at once, one of each sender: 128 chunks, 11 MB, are then in our mailbox at most.
const AT_ONCE: usize = 4;
/// How long after nothing came it is asked for again; twice as long each time, up to the longest: 8.5 hours.
const ASK_AGAIN: Duration = Duration::from_secs(30);
const ASK_AGAIN_DOUBLINGS: u32 = 10;
/// An offer is good for so long, and a file that does not move is given up after as long: as a message is.
pub const OFFER_TIME: Duration = super::GIVE_UP;
/// How often we send a file, counted in its chunks; and so many chunks more, for small ones.
const MOST_TIMES: u64 = 4;
const MOST_MORE: u64 = 1_024;
/// Digests of so many chunks are in one row: 16 KiB.
pub(crate) const SUMS_IN_A_ROW: usize = 1_024;

/// A digest of a chunk that we offer: a part of its SHA-256.
pub type ChunkSum = [u8; 16];

/// What is done with files that come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileRules {
    /// The largest file that is sent or fetched, in bytes.
    pub limit: u64,
    /// The largest that is fetched without being asked for, from contacts who are accepted, in bytes. 0: none.
    pub fetch: u64,
    /// Where files are saved that nobody asked for.
    pub downloads: Option<PathBuf>,
}

/// How far a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileState {
    /// Nothing of it has moved.
    Offered,
    /// It is on its way.
    Moving,
    /// All of it is here, and not compared with its digest yet.
    Checking,
    /// Ours: its recipient has it. Theirs: it is here, checked, and not saved.
    Arrived,
    /// Theirs: it was saved.
    Saved,
    /// It goes no further.
    Ended,
}

impl FileState {
    const ALL: [FileState; 6] = [
        FileState::Offered,
        FileState::Moving,
        FileState::Checking,
        FileState::Arrived,
        FileState::Saved,
        FileState::Ended,
    ];

    /// As scripts see it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            FileState::Offered => "offered",
            FileState::Moving => "moving",
            FileState::Checking => "checking",
            FileState::Arrived => "arrived",
            FileState::Saved => "saved",
            FileState::Ended => "ended",
        }
    }

    /// Whether nothing happens any more by itself.
    #[must_use]
    pub fn is_over(self) -> bool {
        self >= FileState::Arrived
    }

    fn number(self) -> u8 {
        FileState::ALL
            .iter()
            .position(|state| *state == self)
            .and_then(|at| u8::try_from(at).ok())
            .unwrap_or_default()
    }

    fn read(number: u8) -> Result<FileState, StoreError> {
        FileState::ALL
            .get(usize::from(number))
            .copied()
            .ok_or(StoreError::Damaged("the state of a file is unknown"))
    }
}

/// Why a file goes no further, or not yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileCause {
    /// Theirs: it waits until somebody asks for it.
    NotAsked,
    /// Theirs: it is larger than the limit.
    TooLarge,
    /// Theirs: too much lies here unsaved.
    NoRoom,
    /// Theirs: the disk is full.
    DiskFull,
    /// Theirs: it is here and could not be saved.
    NotSaved,
    /// Ours: the source cannot be read now.
    Unreadable,
    /// Cancelled here.
    Cancelled,
    /// Ours: its recipient does not want it.
    Declined,
    /// Theirs: its sender took it back.
    Withdrawn,
    /// What came is not what was offered.
    Damaged,
    /// Ours: the source is not what it was.
    Changed,
    /// Nothing moved for 30 days.
    Expired,
    /// Ours: its recipient asked for it again and again.
    AskedTooOften,
}

impl FileCause {
    const ALL: [FileCause; 13] = [
        FileCause::NotAsked,
        FileCause::TooLarge,
        FileCause::NoRoom,
        FileCause::DiskFull,
        FileCause::NotSaved,
        FileCause::Unreadable,
        FileCause::Cancelled,
        FileCause::Declined,
        FileCause::Withdrawn,
        FileCause::Damaged,
        FileCause::Changed,
        FileCause::Expired,
        FileCause::AskedTooOften,
    ];

    /// As scripts see it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            FileCause::NotAsked => "not_asked",
            FileCause::TooLarge => "too_large",
            FileCause::NoRoom => "no_room",
            FileCause::DiskFull => "disk_full",
            FileCause::NotSaved => "not_saved",
            FileCause::Unreadable => "unreadable",
            FileCause::Cancelled => "cancelled",
            FileCause::Declined => "declined",
            FileCause::Withdrawn => "withdrawn",
            FileCause::Damaged => "damaged",
            FileCause::Changed => "changed",
            FileCause::Expired => "expired",
            FileCause::AskedTooOften => "asked_too_often",
        }
    }

    fn parse(word: &str) -> Option<FileCause> {
        FileCause::ALL
            .into_iter()
            .find(|cause| cause.as_str() == word)
    }

    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            FileCause::NotAsked => "it waits until you ask for it",
            FileCause::TooLarge => "it is larger than max_file allows",
            FileCause::NoRoom => "too much lies here unsaved",
            FileCause::DiskFull => "the disk is full",
            FileCause::NotSaved => "it could not be saved there",
            FileCause::Unreadable => "it cannot be read now",
            FileCause::Cancelled => "cancelled",
            FileCause::Declined => "its recipient does not want it",
            FileCause::Withdrawn => "its sender took it back",
            FileCause::Damaged => "what came is not what was offered",
            FileCause::Changed => "it was changed after it was offered",
            FileCause::Expired => "nothing of it moved for 30 days",
            FileCause::AskedTooOften => "its recipient asked for it again and again",
        }
    }
}

/// A file, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// What people call it here.
    pub number: i64,
    /// The other side.
    pub peer: UserId,
    /// The message that offers it.
    pub id: MessageId,
    /// Whether we offer it.
    pub ours: bool,
    /// Its sender's word, to be cleaned before it is shown, and never a path.
    pub name: String,
    /// How it is cut.
    pub chunking: Chunking,
    /// How far it is.
    pub state: FileState,
    /// Why no further.
    pub cause: Option<FileCause>,
    /// How many bytes its recipient has.
    pub done: u64,
    /// Ours: the source. Theirs: where it was saved, or is to be.
    pub place: Option<PathBuf>,
    /// Theirs: whether somebody asked for it.
    pub asked: bool,
    /// When it was offered, by our clock.
    pub began: Timestamp,
    /// Since when it is so.
    pub changed: Timestamp,
}

/// A file that we offer and of which chunks are asked for.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) number: i64,
    pub(crate) peer: UserId,
    pub(crate) id: MessageId,
    pub(crate) from: u32,
    pub(crate) until: u32,
}

/// Chunks that we are to ask for.
#[derive(Debug, Clone)]
pub(crate) struct ToAsk {
    pub(crate) number: i64,
    pub(crate) peer: UserId,
    pub(crate) request: FileRequest,
    again: u32,
}

/// What became of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkTaken {
    /// Not asked for, there already, or not of this file.
    Dropped,
    /// It has no room here: said once, until one has.
    Held(i64),
    /// It is here.
    Stored(i64),
    /// It is here, and was the last.
    Whole(i64),
}

const ENTRY: &str =
    "number, peer, id, ours, size, chunk, state, cause, have, place, asked, began, changed";

struct RawEntry {
    number: i64,
    peer: String,
    id: Vec<u8>,
    ours: bool,
    size: i64,
    chunk: u32,
    state: u8,
    cause: Option<String>,
    have: u32,
    place: Option<Vec<u8>>,
    asked: bool,
    began: i64,
    changed: i64,
}

fn raw_entry(row: &Row<'_>) -> rusqlite::Result<RawEntry> {
    Ok(RawEntry {
        number: row.get(0)?,
        peer: row.get(1)?,
        id: row.get(2)?,
        ours: row.get(3)?,
        size: row.get(4)?,
        chunk: row.get(5)?,
        state: row.get(6)?,
        cause: row.get(7)?,
        have: row.get(8)?,
        place: row.get(9)?,
        asked: row.get(10)?,
        began: row.get(11)?,
        changed: row.get(12)?,
    })
}

fn chunking(size: i64, chunk: u32) -> Result<Chunking, StoreError> {
    Chunking::new(from_sql(size)?, chunk).ok_or(StoreError::Damaged("the size of a file is wrong"))
}

/// Binds a path to its file.
fn place_of(peer: &str, id: &[u8]) -> Vec<u8> {
    [b"sealpost/1 place of a file\n", peer.as_bytes(), b"\n", id].concat()
}

impl Store {
    /// What is done with files that come.
    #[must_use]
    pub fn file_rules(&self) -> &FileRules {
        &self.rules
    }

    /// From now on, what is done with files that come; at first none is fetched.
    #[must_use]
    pub fn with_file_rules(self, rules: FileRules) -> Store {
        Store { rules, ..self }
    }

    /// A file of ours in the outbox: its offer, where it is, and what its chunks are.
    pub(crate) fn offer_file(
        &mut self,
        to: &UserId,
        message: (MessageId, Zeroizing<String>),
        chunking: Chunking,
        (source, sums): (&Path, &[ChunkSum]),
        now: Timestamp,
    ) -> Result<i64, StoreError> {
        self.group(|store| {
            let id = message.0;
            store.enqueue(to, &[message], now)?;
            let aad = place_of(to.as_str(), id.as_bytes());
            let place = store.encrypt(&aad, source.as_os_str().as_bytes())?;
            store.db.execute(
                "INSERT INTO files (peer, id, ours, size, chunk, place, began, changed) VALUES (?1, ?2, 1, ?3, ?4, ?5, ?6, ?6)",
                params![
                    to.as_str(),
                    id.as_bytes(),
                    to_sql(chunking.size()),
                    chunking.chunk(),
                    place,
                    to_sql(now.millis())
                ],
            )?;
            let number = store.db.last_insert_rowid();
            let mut insert = store
                .db
                .prepare_cached("INSERT INTO file_sums (file, part, sums) VALUES (?1, ?2, ?3)")?;
            for (part, sums) in (0_u32..).zip(sums.chunks(SUMS_IN_A_ROW)) {
                insert.execute(params![number, part, sums.as_flattened()])?;
            }
            Ok(number)
        })
    }

    /// The digests of the chunks of a file of ours, from `part` times [`SUMS_IN_A_ROW`] on.
    pub(crate) fn file_sums(&self, number: i64, part: u32) -> Result<Vec<ChunkSum>, StoreError> {
        let sums: Vec<u8> = self
            .db
            .prepare_cached("SELECT sums FROM file_sums WHERE file = ?1 AND part = ?2")?
            .query_row(params![number, part], |row| row.get(0))
            .optional()?
            .unwrap_or_default();
        Ok(sums.as_chunks().0.to_vec())
    }

    /// Somebody offers us a file; says which number it has, or nothing where too many are open.
    pub(crate) fn file_offered(
        &mut self,
        from: &UserId,
        id: &MessageId,
        offer: &FileOffer,
        now: Timestamp,
    ) -> Result<Option<i64>, StoreError> {
        let (of_sender, of_all): (u32, u32) = self
            .db
            .prepare_cached(
                "SELECT count(*) FILTER (WHERE peer = ?1), count(*) FROM files WHERE ours = 0 AND state < 3",
            )?
            .query_row([from.as_str()], |row| row.try_into())?;
        if of_sender >= MAX_OFFERS_PER_SENDER || of_all >= MAX_OFFERS {
            return Ok(None);
        }
        let inserted = self
            .db
            .prepare_cached(
                "INSERT OR IGNORE INTO files (peer, id, ours, size, chunk, began, changed) VALUES (?1, ?2, 0, ?3, ?4, ?5, ?5)",
            )?
            .execute(params![
                from.as_str(),
                id.as_bytes(),
                to_sql(offer.chunking().size()),
                offer.chunking().chunk(),
                to_sql(now.millis())
            ])?;
        Ok((inserted == 1).then(|| self.db.last_insert_rowid()))
    }

    /// Begins to fetch what may be fetched, and writes down of the rest why not. Returns what changed.
    pub(crate) fn admit_files(&mut self, now: Timestamp) -> Result<Vec<i64>, StoreError> {
        let waiting = self
            .db
            .prepare_cached(
                "SELECT number, peer, size, asked, cause, coalesce(accepted, 0) FROM files LEFT JOIN contacts ON user = peer
                 WHERE ours = 0 AND state = 0
                 AND NOT EXISTS (SELECT 1 FROM conversations WHERE partner = peer AND request = 1) ORDER BY number",
            )?
            .query_map([], |row| {
                Ok((
                    row.get::<_, i64>(0)?,
                    row.get::<_, String>(1)?,
                    row.get::<_, i64>(2)?,
                    row.get::<_, bool>(3)?,
                    row.get::<_, Option<String>>(4)?,
                    row.get::<_, bool>(5)?,
                ))
            })?
            .collect::<Result<Vec<_>, _>>()?;
        let mut changed = Vec::new();
        for (number, peer, size, asked, before, accepted) in waiting {
            let size = from_sql(size)?;
            let cause = if size > self.rules.limit {
                Some(FileCause::TooLarge)
            } else if asked {
                None
            } else if !accepted || size > self.rules.fetch {
                Some(FileCause::NotAsked)
            } else if !self.has_room_for(&peer, size)? {
                Some(FileCause::NoRoom)
            } else {
                None
            };
            if before.as_deref() == cause.map(FileCause::as_str) && cause.is_some() {
                continue;
            }
            self.db
                .prepare_cached(
                    "UPDATE files SET state = ?2, cause = ?3, changed = ?4, due = 0, tries = 0 WHERE number = ?1",
                )?
                .execute(params![
                    number,
                    match cause {
                        None => FileState::Moving,
                        Some(_) => FileState::Offered,
                    }
                    .number(),
                    cause.map(FileCause::as_str),
                    to_sql(now.millis())
                ])?;
            changed.push(number);
        }
        Ok(changed)
    }

    fn has_room_for(&self, peer: &str, size: u64) -> Result<bool, StoreError> {
        let (of_sender, of_all): (i64, i64) = self
            .db
            .prepare_cached(
                "SELECT coalesce(sum(size) FILTER (WHERE peer = ?1), 0), coalesce(sum(size), 0) FROM files
                 WHERE ours = 0 AND asked = 0 AND state IN (1, 2, 3)",
            )?
            .query_row([peer], |row| row.try_into())?;
        Ok(from_sql(of_sender)? + size <= MAX_UNSAVED_PER_SENDER
            && from_sql(of_all)? + size <= MAX_UNSAVED)
    }

    /// Somebody asks for a file: it is fetched whatever its size, up to the limit, and saved in that folder when it is here. Says whether
    /// there is such a file that is still to come.
    pub fn ask_for_file(
        &mut self,
        number: i64,
        folder: Option<&Path>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let Some(entry) = self.file(number)? else {
            return Ok(false);
        };
        let aad = place_of(entry.peer.as_str(), entry.id.as_bytes());
        let place = folder
            .map(|folder| self.encrypt(&aad, folder.as_os_str().as_bytes()))
            .transpose()?;
        let tx = self.immediate()?;
        let asked = tx
            .prepare_cached(
                "UPDATE files SET asked = 1, place = ?2, due = 0, tries = 0, changed = ?3 WHERE number = ?1 AND ours = 0 AND state < 3",
            )?
            .execute(params![number, place, to_sql(now.millis())])?;
        tx.commit()?;
        Ok(asked == 1)
    }

    /// Which chunks are to be asked for now.
    pub(crate) fn chunks_to_ask(&self, now: Timestamp) -> Result<Vec<ToAsk>, StoreError> {
        let mut statement = self.db.prepare_cached(
            "SELECT number, peer, id, size, chunk, have, want_until, due, tries FROM files
             WHERE ours = 0 AND state = 1 ORDER BY number",
        )?;
        let mut rows = statement.query([])?;
        let (mut senders, mut asks) = (HashSet::new(), Vec::new());
        while let Some(row) = rows.next()? {
            let peer: String = row.get(1)?;
            if senders.len() >= AT_ONCE {
                break;
            }
            if !senders.insert(peer.clone()) {
                continue;
            }
            let count = chunking(row.get(3)?, row.get(4)?)?.count();
            let (have, until): (u32, u32) = (row.get(5)?, row.get(6)?);
            let (due, tries): (i64, u32) = (row.get(7)?, row.get(8)?);
            let now = to_sql(now.millis());
            // A wait that is longer than any of ours began while the clock was ahead.
            let again = due <= now || due > now + to_sql(wait(ASK_AGAIN_DOUBLINGS));
            let first = match again {
                true => have,
                false if until.saturating_sub(have) <= WINDOW / 2 => until.max(have),
                false => continue,
            };
            let until = have.saturating_add(WINDOW).min(count);
            let id = message_id(&row.get::<_, Vec<u8>>(2)?)?;
            let Some(request) = FileRequest::new(id, have, first, until) else {
                continue;
            };
            asks.push(ToAsk {
                number: row.get(0)?,
                peer: user_from(&peer)?,
                request,
                again: match again {
                    true => tries + 1,
                    false => 0,
                },
            });
        }
        Ok(asks)
    }

    /// They were asked for.
    pub(crate) fn chunks_asked_for(
        &mut self,
        ask: &ToAsk,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let due = now.saturating_add(Duration::from_millis(wait(ask.again.saturating_sub(1))));
        self.db
            .prepare_cached(
                "UPDATE files SET want_until = ?2, due = ?3, tries = ?4 WHERE number = ?1",
            )?
            .execute(params![
                ask.number,
                ask.request.until(),
                to_sql(due.millis()),
                ask.again
            ])?;
        Ok(())
    }

    /// Where the next chunk of a file that somebody offers us belongs, if this one was asked for.
    pub(crate) fn expects_chunk(
        &self,
        from: &UserId,
        id: &MessageId,
        index: u32,
    ) -> Result<Option<(i64, u32)>, StoreError> {
        Ok(self
            .db
            .prepare_cached(
                "SELECT number, have FROM files
                 WHERE peer = ?1 AND id = ?2 AND ours = 0 AND state = 1 AND have = ?3 AND want_until > ?3",
            )?
            .query_row(params![from.as_str(), id.as_bytes(), index], |row| row.try_into())
            .optional()?)
    }

    /// So many chunks of a file are here.
    pub(crate) fn set_have(
        &mut self,
        number: i64,
        have: u32,
        state: FileState,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let due = now.saturating_add(ASK_AGAIN);
        self.db
            .prepare_cached(
                "UPDATE files SET have = ?2, state = ?3, cause = NULL, tries = 0, due = ?4, changed = ?5,
                     want_until = max(want_until, ?2) WHERE number = ?1",
            )?
            .execute(params![
                number,
                have,
                state.number(),
                to_sql(due.millis()),
                to_sql(now.millis())
            ])?;
        Ok(())
    }

    /// Nothing of a file is here any more: it is asked for from the beginning.
    pub(crate) fn begin_file_again(&mut self, number: i64) -> Result<(), StoreError> {
        self.db
            .prepare_cached(
                "UPDATE files SET state = 1, have = 0, want_until = 0, due = 0, tries = 0 WHERE number = ?1 AND ours = 0",
            )?
            .execute([number])?;
        Ok(())
    }

    /// A file that is fetched cannot go on now: it is asked for again in a while.
    pub(crate) fn hold_file(
        &mut self,
        number: i64,
        cause: FileCause,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let due = now.saturating_add(ASK_AGAIN);
        self.db
            .prepare_cached(
                "UPDATE files SET cause = ?2, due = ?3, want_until = have WHERE number = ?1",
            )?
            .execute(params![number, cause.as_str(), to_sql(due.millis())])?;
        Ok(())
    }

    /// Somebody asks for chunks of a file of ours. Marks the request as seen. Says which file, and whether what is under way of it is of no
    /// use any more.
    pub(crate) fn chunks_requested(
        &mut self,
        from: &UserId,
        name: (&MessageId, Timestamp),
        request: &FileRequest,
        now: Timestamp,
    ) -> Result<Option<(i64, bool)>, StoreError> {
        let tx = self.immediate()?;
        if !super::inbox::mark_seen(&tx, from, name.0, name.1, now)? {
            return Ok(None);
        }
        let known: Option<(i64, i64, u32, u32, u32, i64)> = tx
            .prepare_cached(
                "SELECT number, size, chunk, have, want_until, sent FROM files
                 WHERE peer = ?1 AND id = ?2 AND ours = 1 AND state < 3",
            )?
            .query_row(params![from.as_str(), request.file().as_bytes()], |row| {
                row.try_into()
            })
            .optional()?;
        let Some((number, size, chunk, _, until, sent)) = known else {
            tx.commit()?;
            return Ok(None);
        };
        let count = chunking(size, chunk)?.count();
        if request.until() > count {
            tx.commit()?;
            return Ok(None);
        }
        let most = u64::from(count) * MOST_TIMES + MOST_MORE;
        if from_sql(sent)? + u64::from(request.until() - request.first()) > most {
            end(
                &tx,
                number,
                FileCause::AskedTooOften,
                Some(FileOutcome::Withdrawn),
                now,
            )?;
            tx.commit()?;
            return Ok(Some((number, true)));
        }
        // What goes on where the last one ended leaves what is under way as it is.
        let goes_on = until == request.first();
        tx.prepare_cached(
            "UPDATE files SET state = 1, have = ?2, want_from = iif(?3, want_from, ?4), want_until = ?5, changed = ?6,
                 cause = iif(state = 0, NULL, cause)
             WHERE number = ?1",
        )?
        .execute(params![
            number,
            request.have(),
            goes_on,
            request.first(),
            request.until(),
            to_sql(now.millis())
        ])?;
        tx.commit()?;
        Ok(Some((number, !goes_on)))
    }

    /// The files of ours of which chunks are asked for.
    pub(crate) fn chunks_asked(&self) -> Result<Vec<Asked>, StoreError> {
        let mut statement = self.db.prepare_cached(
            "SELECT number, peer, id, want_from, want_until FROM files
             WHERE ours = 1 AND state = 1 AND want_from < want_until ORDER BY changed",
        )?;
        let rows = statement.query_map([], |row| {
            Ok((
                row.get(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, Vec<u8>>(2)?,
                row.get(3)?,
                row.get(4)?,
            ))
        })?;
        rows.map(|row| {
            let (number, peer, id, from, until) = row?;
            Ok(Asked {
                number,
                peer: user_from(&peer)?,
                id: message_id(&id)?,
                from,
                until,
            })
        })
        .collect()
    }

    /// The broker has a chunk of ours.
    pub(crate) fn chunk_sent(&mut self, number: i64, index: u32) -> Result<(), StoreError> {
        self.lightly(|store| {
            store
                .db
                .prepare_cached(
                    "UPDATE files SET sent = sent + 1, want_from = iif(want_from = ?2, ?2 + 1, want_from),
                         cause = iif(state < 3, NULL, cause) WHERE number = ?1",
                )?
                .execute(params![number, index])?;
            Ok(())
        })
    }

    /// Writes down what hinders a file, without ending it.
    pub(crate) fn hinder_file(&mut self, number: i64, cause: FileCause) -> Result<(), StoreError> {
        self.db
            .prepare_cached("UPDATE files SET cause = ?2 WHERE number = ?1 AND state < 3")?
            .execute(params![number, cause.as_str()])?;
        Ok(())
    }

    /// The other side says how a file ended. Marks that as seen; says which file.
    pub(crate) fn file_ended(
        &mut self,
        from: &UserId,
        name: (&MessageId, Timestamp),
        word: &FileEnd,
        now: Timestamp,
    ) -> Result<Option<i64>, StoreError> {
        let tx = self.immediate()?;
        if !super::inbox::mark_seen(&tx, from, name.0, name.1, now)? {
            return Ok(None);
        }
        let known: Option<(i64, bool)> = tx
            .prepare_cached(
                "SELECT number, ours FROM files WHERE peer = ?1 AND id = ?2 AND state < iif(ours, 3, 2)
                 AND ours = iif(?3 = 'withdrawn', 0, iif(?3 = 'other', ours, 1))",
            )?
            .query_row(
                params![from.as_str(), word.file.as_bytes(), word.outcome.as_str()],
                |row| row.try_into(),
            )
            .optional()?;
        let Some((number, ours)) = known else {
            tx.commit()?;
            return Ok(None);
        };
        match (ours, word.outcome) {
            (true, FileOutcome::Received) => {
                tx.execute(
                    "UPDATE files SET state = 3, cause = NULL, changed = ?2, want_until = want_from WHERE number = ?1",
                    params![number, to_sql(now.millis())],
                )?;
                tx.execute("DELETE FROM file_sums WHERE file = ?1", [number])?;
            }
            (true, FileOutcome::Damaged) => end(&tx, number, FileCause::Damaged, None, now)?,
            (true, _) => end(&tx, number, FileCause::Declined, None, now)?,
            (false, _) => end(&tx, number, FileCause::Withdrawn, None, now)?,
        }
        tx.commit()?;
        Ok(Some(number))
    }

    /// A file goes no further, and the other side is told so, where there is a word.
    pub(crate) fn end_file(
        &mut self,
        number: i64,
        cause: FileCause,
        say: Option<FileOutcome>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let tx = self.immediate()?;
        end(&tx, number, cause, say, now)?;
        tx.commit()?;
        Ok(())
    }

    /// A file that came is checked, and saved where there is a path. Its sender is told, once.
    pub(crate) fn file_arrived(
        &mut self,
        number: i64,
        saved: Option<&Path>,
        problem: Option<FileCause>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let Some(entry) = self.file(number)? else {
            return Ok(());
        };
        let aad = place_of(entry.peer.as_str(), entry.id.as_bytes());
        let place = saved
            .map(|path| self.encrypt(&aad, path.as_os_str().as_bytes()))
            .transpose()?;
        let state = match saved {
            Some(_) => FileState::Saved,
            None => FileState::Arrived,
        };
        let tx = self.immediate()?;
        tx.prepare_cached(
            "UPDATE files SET say = iif(state = 2, ?5, say), state = ?2, cause = ?3, place = ?4, changed = ?6
             WHERE number = ?1 AND state IN (2, 3)",
        )?
        .execute(params![
            number,
            state.number(),
            problem.map(FileCause::as_str),
            place,
            FileOutcome::Received.as_str(),
            to_sql(now.millis())
        ])?;
        tx.commit()?;
        Ok(())
    }

    /// What is to be told about which file to whom: of ours, once the broker has the offer, for a word about an unknown file is none.
    pub(crate) fn file_words(&self) -> Result<Vec<(i64, UserId, FileEnd)>, StoreError> {
        let mut statement = self
            .db
            .prepare_cached(
                "SELECT number, peer, id, say FROM files AS this WHERE say IS NOT NULL
                 AND NOT (ours AND EXISTS (SELECT 1 FROM outbox WHERE recipient = this.peer AND id = this.id AND state = 0))",
            )?;
        let rows = statement.query_map([], |row| {
            Ok((
                row.get(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, Vec<u8>>(2)?,
                row.get::<_, String>(3)?,
            ))
        })?;
        rows.map(|row| {
            let (number, peer, id, say) = row?;
            let outcome = match say.as_str() {
                "received" => FileOutcome::Received,
                "declined" => FileOutcome::Declined,
                "damaged" => FileOutcome::Damaged,
                _ => FileOutcome::Withdrawn,
            };
            let file = message_id(&id)?;
            Ok((number, user_from(&peer)?, FileEnd { file, outcome }))
        })
        .collect()
    }

    /// It was told.
    pub(crate) fn file_word_said(&mut self, number: i64) -> Result<(), StoreError> {
        self.db
            .prepare_cached("UPDATE files SET say = NULL WHERE number = ?1")?
            .execute([number])?;
        Ok(())
    }

    /// Gives up what has not moved for [`OFFER_TIME`], by a clock that went on as clocks do. Returns what.
    pub(crate) fn expire_files(&mut self, now: Timestamp) -> Result<Vec<i64>, StoreError> {
        let time = u64::try_from(OFFER_TIME.as_millis()).unwrap_or(u64::MAX);
        let long_ago = now.millis().saturating_sub(time);
        if self.watched_since(now)? >= long_ago {
            return Ok(Vec::new());
        }
        let old = self
            .db
            .prepare_cached("SELECT number, ours FROM files WHERE state < 3 AND changed < ?1")?
            .query_map([to_sql(long_ago)], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?))
            })?
            .collect::<Result<Vec<_>, _>>()?;
        for (number, ours) in &old {
            let say = ours.then_some(FileOutcome::Withdrawn);
            self.end_file(*number, FileCause::Expired, say, now)?;
        }
        Ok(old.into_iter().map(|(number, _)| number).collect())
    }

    /// The files under way whose messages were deleted or have outlived their time, and with them what the files are; and whether they are ours.
    pub(crate) fn files_forgotten(&self) -> Result<Vec<(i64, bool)>, StoreError> {
        let mut statement = self.db.prepare_cached(
            "SELECT number, peer, id, ours FROM files WHERE state < iif(ours, 3, 4)",
        )?;
        let mut rows = statement.query([])?;
        let mut forgotten = Vec::new();
        while let Some(row) = rows.next()? {
            let peer = user_from(&row.get::<_, String>(1)?)?;
            let id = message_id(&row.get::<_, Vec<u8>>(2)?)?;
            let is_ours = row.get(3)?;
            if self.file_offer(&peer, &id, is_ours)?.is_none() {
                forgotten.push((row.get(0)?, is_ours));
            }
        }
        Ok(forgotten)
    }

    /// The files that came in full and were not checked.
    pub(crate) fn files_to_check(&self) -> Result<Vec<i64>, StoreError> {
        let mut statement = self
            .db
            .prepare_cached("SELECT number FROM files WHERE ours = 0 AND state = 2")?;
        let rows = statement.query_map([], |row| row.get(0))?;
        Ok(rows.collect::<Result<Vec<_>, _>>()?)
    }

    /// The numbers of the files of which something lies beside the store.
    pub(crate) fn files_here(&self) -> Result<HashSet<i64>, StoreError> {
        let mut statement = self
            .db
            .prepare_cached("SELECT number FROM files WHERE ours = 0 AND state IN (1, 2, 3)")?;
        let rows = statement.query_map([], |row| row.get(0))?;
        Ok(rows.collect::<Result<HashSet<_>, _>>()?)
    }

    /// One file, by its number.
    pub fn file(&self, number: i64) -> Result<Option<FileEntry>, StoreError> {
        let raw = self
            .db
            .prepare_cached(&format!("SELECT {ENTRY} FROM files WHERE number = ?1"))?
            .query_row([number], raw_entry)
            .optional()?;
        raw.map(|raw| self.file_entry(raw)).transpose()
    }

    /// One file, by the message that offers it. A sender may give two files one name; ours, and the first, win.
    pub fn file_of_message(&self, id: &MessageId) -> Result<Option<FileEntry>, StoreError> {
        let raw = self
            .db
            .prepare_cached(&format!(
                "SELECT {ENTRY} FROM files WHERE id = ?1 ORDER BY ours DESC, number LIMIT 1"
            ))?
            .query_row([id.as_bytes()], raw_entry)
            .optional()?;
        raw.map(|raw| self.file_entry(raw)).transpose()
    }

    /// The file that a message of somebody's offers us.
    pub fn file_from(
        &self,
        from: &UserId,
        id: &MessageId,
    ) -> Result<Option<FileEntry>, StoreError> {
        self.file_of(from, id, false)
    }

    /// The file that a message offers, ours or theirs, exchanged with this person.
    pub fn file_of(
        &self,
        peer: &UserId,
        id: &MessageId,
        is_ours: bool,
    ) -> Result<Option<FileEntry>, StoreError> {
        let raw = self
            .db
            .prepare_cached(&format!(
                "SELECT {ENTRY} FROM files WHERE peer = ?1 AND id = ?2 AND ours = ?3"
            ))?
            .query_row(params![peer.as_str(), id.as_bytes(), is_ours], raw_entry)
            .optional()?;
        raw.map(|raw| self.file_entry(raw)).transpose()
    }

    /// All files, those that are under way and those that were, oldest first: the newest `limit`.
    pub fn files(&self, limit: u32) -> Result<Vec<FileEntry>, StoreError> {
        let raw = self
            .db
            .prepare_cached(&format!(
                "SELECT {ENTRY} FROM (SELECT * FROM files
                     WHERE ours OR NOT EXISTS (SELECT 1 FROM conversations WHERE partner = peer AND request = 1)
                     ORDER BY number DESC LIMIT ?1) ORDER BY number"
            ))?
            .query_map([limit], raw_entry)?
            .collect::<Result<Vec<_>, _>>()?;
        raw.into_iter().map(|raw| self.file_entry(raw)).collect()
    }

    fn file_entry(&self, raw: RawEntry) -> Result<FileEntry, StoreError> {
        let (peer, id) = (user_from(&raw.peer)?, message_id(&raw.id)?);
        let chunking = chunking(raw.size, raw.chunk)?;
        let place = raw
            .place
            .map(|place| self.decrypt(&place_of(&raw.peer, &raw.id), &place))
            .transpose()?
            .map(|place| PathBuf::from(std::ffi::OsString::from_vec(place.to_vec())));
        let name = self
            .file_offer(&peer, &id, raw.ours)?
            .map_or_else(String::new, |offer| offer.name().to_owned());
        let state = FileState::read(raw.state)?;
        let done = match (raw.ours, state) {
            (_, FileState::Checking | FileState::Arrived | FileState::Saved) => chunking.size(),
            _ => chunking.begin(raw.have).min(chunking.size()),
        };
        Ok(FileEntry {
            number: raw.number,
            peer,
            id,
            ours: raw.ours,
            name,
            chunking,
            state,
            cause: raw.cause.as_deref().and_then(FileCause::parse),
            done,
            place,
            asked: raw.asked,
            began: timestamp_from(from_sql(raw.began)?)?,
            changed: timestamp_from(from_sql(raw.changed)?)?,
        })
    }

    /// The offer of a file, out of its message; nothing where that is no longer there.
    pub(crate) fn file_offer(
        &self,
        peer: &UserId,
        id: &MessageId,
        is_ours: bool,
    ) -> Result<Option<FileOffer>, StoreError> {
        let (sql, aad) = match is_ours {
            true => (
                "SELECT body FROM outbox WHERE recipient = ?1 AND id = ?2",
                ours(peer, id),
            ),
            false => (
                "SELECT body FROM messages WHERE sender = ?1 AND id = ?2",
                theirs(peer, id),
            ),
        };
        let body: Option<Vec<u8>> = self
            .db
            .prepare_cached(sql)?
            .query_row(params![peer.as_str(), id.as_bytes()], |row| row.get(0))
            .optional()?;
        let Some(body) = body else {
            return Ok(None);
        };
        let body = self.decrypt(&aad, &body)?;
        Ok(stored_content(&body).as_ref().and_then(FileOffer::read))
    }
}

/// How long it is waited for, in ms, when it was asked for so often again.
fn wait(again: u32) -> u64 {
    let first = u64::try_from(ASK_AGAIN.as_millis()).unwrap_or(u64::MAX);
    first << again.min(ASK_AGAIN_DOUBLINGS)
}

fn end(
    tx: &rusqlite::Connection,
    number: i64,
    cause: FileCause,
    say: Option<FileOutcome>,
    now: Timestamp,
) -> Result<(), StoreError> {
    tx.prepare_cached(
        "UPDATE files SET state = 5, cause = ?2, say = ?3, changed = ?4, want_until = want_from WHERE number = ?1",
    )?
    .execute(params![
        number,
        cause.as_str(),
        say.map(FileOutcome::as_str),
        to_sql(now.millis())
    ])?;
    tx.prepare_cached("DELETE FROM file_sums WHERE file = ?1")?
        .execute([number])?;
    Ok(())
}
