//! What was received: stored and marked seen in one transaction, its text encrypted.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};
use sealpost_core::{IdentityKey, MessageId, Timestamp, UserId};
use zeroize::Zeroizing;

use super::changes::{DELETION, EARLY_DELETION, EDIT, Fate, Nature, erased};
use super::contacts::message_id;
use super::{Store, StoreError, from_sql, timestamp_from, to_sql, user_from};

/// How many ids of one sender are remembered. Beyond it the oldest tenth is forgotten and the floor raised over it.
pub const MAX_SEEN_PER_SENDER: u32 = 100_000;
/// So many messages back, one that named the same missing message is looked for: work is bounded, whatever is sent.
const GAP_MEMORY: u32 = 1_000;
/// A sender's clock further ahead than this does not raise the floor.
const MAX_AHEAD: Duration = Duration::from_secs(24 * 60 * 60);
/// A message that came again so often, more than any sender repeats it, is worth a word.
const MAX_COPIES: u32 = 32;

/// A message that was opened and is to be stored.
#[derive(Debug)]
pub struct Incoming<'a> {
    /// Who sent it.
    pub from: &'a UserId,
    /// Its name.
    pub id: &'a MessageId,
    /// The sender's previous message to us, by their word.
    pub prev: Option<&'a MessageId>,
    /// The sender's clock.
    pub ts: Timestamp,
    /// The plaintext JSON.
    pub body: &'a [u8],
    /// [`Envelope::digest`](sealpost_core::Envelope::digest), for the receipt.
    pub digest: [u8; 32],
    /// Who signed it: who may edit and delete it. `None`: nobody may.
    pub signer: Option<IdentityKey>,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acceptance {
    /// Stored and marked seen.
    Stored,
    /// It was there already.
    Seen,
    /// Marked seen, and there is nothing to show: one edit too many, or of no concern any more.
    Quiet,
    /// Stored, for when its sender is let in.
    Asks,
    /// Neither stored nor marked seen: its sender, or too many others, have asked often enough.
    AsksTooMuch,
}

/// A message as it comes out of the store.
#[derive(Debug)]
pub struct StoredMessage {
    /// Its place in the order of arrival, from 1.
    pub number: i64,
    /// Who sent it.
    pub from: UserId,
    /// Its name.
    pub id: MessageId,
    /// The sender's clock.
    pub ts: Timestamp,
    /// The plaintext JSON.
    pub body: Zeroizing<Vec<u8>>,
    /// Whether it was shown.
    pub shown: bool,
}

/// Which messages are read from the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Those that came then or later, by our clock.
    pub since: Option<Timestamp>,
    /// Those that were not shown yet.
    pub unshown: bool,
}

/// What is known about one id, looked up before opening. A snapshot: whether it still holds is decided again by the
/// transaction that stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenState {
    /// The id was received.
    pub contains: bool,
    /// Nothing of this sender older than this is opened.
    pub floor: Option<Timestamp>,
}

impl sealpost_core::Seen for SeenState {
    fn contains(&self, _: &UserId, _: &MessageId) -> bool {
        self.contains
    }

    fn floor(&self, _: &UserId) -> Option<Timestamp> {
        self.floor
    }
}

impl Store {
    /// Looks one id up.
    pub fn seen(&self, from: &UserId, id: &MessageId) -> Result<SeenState, StoreError> {
        let contains = self
            .db
            .prepare_cached(
                "SELECT 1 FROM seen WHERE sender = ?1 AND id = ?2
                 UNION ALL SELECT 1 FROM messages WHERE sender = ?1 AND id = ?2",
            )?
            .exists(params![from.as_str(), id.as_bytes()])?;
        let floor: Option<i64> = self
            .db
            .prepare_cached("SELECT floor FROM senders WHERE user = ?1")?
            .query_row([from.as_str()], |row| row.get(0))
            .optional()?
            .flatten();
        let floor = floor
            .map(from_sql)
            .transpose()?
            .map(|ms| timestamp_from(ms.min(Timestamp::MAX.millis())))
            .transpose()?;
        Ok(SeenState { contains, floor })
    }

    /// Stores a message and marks it seen, in one transaction. When it returns, both are on disk or neither.
    pub fn accept(
        &mut self,
        message: &Incoming<'_>,
        now: Timestamp,
    ) -> Result<Acceptance, StoreError> {
        self.accept_bounded(message, now, MAX_SEEN_PER_SENDER)
    }

    fn accept_bounded(
        &mut self,
        message: &Incoming<'_>,
        now: Timestamp,
        max_seen: u32,
    ) -> Result<Acceptance, StoreError> {
        self.group(|store| store.take(message, now, max_seen))
    }

    fn take(
        &mut self,
        message: &Incoming<'_>,
        now: Timestamp,
        max_seen: u32,
    ) -> Result<Acceptance, StoreError> {
        let Incoming { from, id, .. } = *message;
        let sender = from.as_str();
        if self.seen(from, id)?.contains {
            return Ok(Acceptance::Seen);
        }
        let Some(asks) = self.is_request(from)? else {
            return Ok(Acceptance::AsksTooMuch);
        };
        if !mark_seen_bounded(&self.db, from, id, message.ts, now, max_seen)? {
            return Ok(Acceptance::Seen);
        }
        let nature = Nature::of(message.body);
        let fate = self.fate(from, id, nature, message.signer)?;
        // A setting says itself how long messages stay, and stays.
        let lifetime = match nature {
            Nature::Expiry(expiry) => {
                self.take_expiry(from, expiry, now)?;
                None
            }
            _ => self.conversation(from)?.lifetime(),
        };
        let (target, change) = match fate {
            Fate::Edits(of) => (Some(of), Some(EDIT)),
            Fate::Deletes(of) => (Some(of), Some(DELETION)),
            Fate::Awaits(of) => (Some(of), Some(EARLY_DELETION)),
            Fate::Keep | Fate::Erased | Fate::Drop => (None, None),
        };
        let quiet = matches!(fate, Fate::Awaits(_) | Fate::Erased | Fate::Drop);
        if fate != Fate::Drop {
            let erased = erased();
            let body = match fate {
                Fate::Erased => erased.as_bytes(),
                _ => message.body,
            };
            let body = self.encrypt(&theirs(from, id), body)?;
            self.db
                .prepare_cached(
                    "INSERT INTO messages (sender, id, prev, ts, received_at, body, digest, signer, target, change, lifetime, shown)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
                )?
                .execute(params![
                    sender,
                    id.as_bytes(),
                    message.prev.map(MessageId::as_bytes),
                    to_sql(message.ts.millis()),
                    to_sql(now.millis()),
                    body,
                    message.digest,
                    message.signer.as_ref().map(IdentityKey::as_bytes),
                    target.as_ref().map(MessageId::as_bytes),
                    change,
                    lifetime.map(sealpost_core::Lifetime::seconds),
                    quiet,
                ])?;
        }
        self.db
            .prepare_cached(
                "INSERT OR IGNORE INTO receipts (sender, id, digest, read)
                 SELECT user, ?2, ?3, 0 FROM contacts WHERE user = ?1 AND accepted = 1
                 AND coalesce((SELECT receipts FROM conversations WHERE partner = ?1), 1) > 0",
            )?
            .execute(params![sender, id.as_bytes(), message.digest])?;
        Ok(match (quiet, asks) {
            (true, _) => Acceptance::Quiet,
            (false, true) => Acceptance::Asks,
            (false, false) => Acceptance::Stored,
        })
    }

    /// Notes that a copy of a received message came again; says whether it has come so often that it is worth a word,
    /// which is once.
    pub fn note_copy(&mut self, from: &UserId, id: &MessageId) -> Result<bool, StoreError> {
        let copies: Option<u32> = self
            .db
            .query_row(
                "UPDATE seen SET copies = copies + 1 WHERE sender = ?1 AND id = ?2 RETURNING copies",
                params![from.as_str(), id.as_bytes()],
                |row| row.get(0),
            )
            .optional()?;
        Ok(copies == Some(MAX_COPIES))
    }

    /// Messages that were stored but not shown yet, oldest first, behind the one numbered `after` (0: all), at most
    /// `limit`.
    pub fn unshown(&self, after: i64, limit: u32) -> Result<Vec<StoredMessage>, StoreError> {
        self.read(
            "SELECT sender, id, ts, body, number, shown FROM messages WHERE shown = 0 AND number > ?1
             AND sender NOT IN (SELECT partner FROM conversations WHERE request = 1)
             ORDER BY number LIMIT ?2",
            params![after, limit],
        )
    }

    /// Messages of either sort that is wanted, in the same way.
    pub fn received(
        &self,
        wanted: Wanted,
        after: i64,
        limit: u32,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        let Some(since) = wanted.since else {
            return match wanted.unshown {
                true => self.unshown(after, limit),
                false => Ok(Vec::new()),
            };
        };
        self.read(
            "SELECT sender, id, ts, body, number, shown FROM messages
             WHERE number > ?1 AND (received_at >= ?3 OR (shown = 0 AND ?4)) AND coalesce(change, 1) != 3
             AND sender NOT IN (SELECT partner FROM conversations WHERE request = 1)
             ORDER BY number LIMIT ?2",
            params![after, limit, to_sql(since.millis()), wanted.unshown],
        )
    }

    pub(super) fn read(
        &self,
        sql: &str,
        parameters: impl rusqlite::Params,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        let mut statement = self.db.prepare_cached(sql)?;
        let rows = statement.query_map(parameters, |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, Vec<u8>>(1)?,
                row.get::<_, i64>(2)?,
                row.get::<_, Vec<u8>>(3)?,
                row.get::<_, i64>(4)?,
                row.get::<_, bool>(5)?,
            ))
        })?;
        rows.map(|row| {
            let (from, id, ts, body, number, shown) = row?;
            let (from, id) = (user_from(&from)?, message_id(&id)?);
            let body = self.decrypt(&theirs(&from, &id), &body)?;
            Ok(StoredMessage {
                number,
                ts: timestamp_from(from_sql(ts)?)?,
                from,
                id,
                body,
                shown,
            })
        })
        .collect()
    }

    /// The message that the sender of `id` names as the one before it, when it was never received although others were
    /// before `id`, and none of those named it.
    pub fn gap_before(
        &self,
        from: &UserId,
        id: &MessageId,
    ) -> Result<Option<MessageId>, StoreError> {
        // `messages` forgets what has disappeared, and `seen` what is long ago. Where nothing is missing, two look-ups are all.
        let prev: Option<Vec<u8>> = self
            .db
            .prepare_cached(
                "SELECT prev FROM messages AS this
                 WHERE sender = ?1 AND id = ?2 AND prev IS NOT NULL
                 AND NOT EXISTS (SELECT 1 FROM messages WHERE sender = ?1 AND id = this.prev)
                 AND NOT EXISTS (SELECT 1 FROM seen WHERE sender = ?1 AND id = this.prev)
                 AND EXISTS (SELECT 1 FROM messages WHERE sender = ?1 AND number < this.number)
                 AND NOT EXISTS (SELECT 1 FROM messages WHERE number BETWEEN this.number - ?3 AND this.number - 1
                                 AND +sender = ?1 AND prev = this.prev)",
            )?
            .query_row(params![from.as_str(), id.as_bytes(), GAP_MEMORY], |row| row.get(0))
            .optional()?;
        prev.map(|prev| message_id(&prev)).transpose()
    }

    /// As [`Store::mark_shown`], but without waiting for the disk: it holds when this process is killed, and when the
    /// machine loses its power, the last messages may be printed again.
    pub fn mark_printed(
        &mut self,
        from: &UserId,
        id: &MessageId,
        receipt: bool,
    ) -> Result<(), StoreError> {
        self.db.pragma_update(None, "synchronous", "NORMAL")?;
        let marked = self.mark_shown(from, id, receipt);
        self.db.pragma_update(None, "synchronous", "FULL")?;
        marked
    }

    /// Remembers that a message was shown. `receipt`: and that its sender, if accepted, is to learn of it.
    pub fn mark_shown(
        &mut self,
        from: &UserId,
        id: &MessageId,
        receipt: bool,
    ) -> Result<(), StoreError> {
        let tx = self.immediate()?;
        // What disappears has its time from now on, whatever was known when it came.
        let now = to_sql(crate::clock::now().millis());
        tx.prepare_cached(
            "UPDATE messages SET shown = 1, expires = coalesce(expires, ?3 + lifetime * 1000) WHERE sender = ?1 AND id = ?2",
        )?
        .execute(params![from.as_str(), id.as_bytes(), now])?;
        tx.prepare_cached(
            "INSERT OR IGNORE INTO receipts (sender, id, digest, read)
             SELECT sender, id, messages.digest, 1 FROM messages JOIN contacts ON user = sender
             WHERE sender = ?1 AND id = ?2 AND messages.digest IS NOT NULL AND accepted = 1
             AND coalesce((SELECT receipts FROM conversations WHERE partner = ?1), iif(?3, 2, 1)) = 2",
        )?
        .execute(params![from.as_str(), id.as_bytes(), receipt])?;
        tx.commit()?;
        Ok(())
    }
}

/// Marks an id as seen; says whether it was new.
pub(super) fn mark_seen(
    tx: &Connection,
    from: &UserId,
    id: &MessageId,
    ts: Timestamp,
    now: Timestamp,
) -> Result<bool, StoreError> {
    mark_seen_bounded(tx, from, id, ts, now, MAX_SEEN_PER_SENDER)
}

fn mark_seen_bounded(
    tx: &Connection,
    from: &UserId,
    id: &MessageId,
    ts: Timestamp,
    now: Timestamp,
    max_seen: u32,
) -> Result<bool, StoreError> {
    // A floor above what honest clocks say would shut the sender out for ever. `messages` forgets no id anyway.
    let ts_for_floor = ts.min(now.saturating_add(MAX_AHEAD));
    let sender = from.as_str();
    let fresh = tx
        .prepare_cached("INSERT OR IGNORE INTO seen (sender, id, ts) VALUES (?1, ?2, ?3)")?
        .execute(params![
            sender,
            id.as_bytes(),
            to_sql(ts_for_floor.millis())
        ])?;
    if fresh == 0 {
        return Ok(false);
    }
    let count: u32 = tx
        .prepare_cached(
            "INSERT INTO senders (user, seen_count) VALUES (?1, 1)
             ON CONFLICT (user) DO UPDATE SET seen_count = seen_count + 1 RETURNING seen_count",
        )?
        .query_row([sender], |row| row.get(0))?;
    if count > max_seen {
        prune(tx, sender, max_seen / 10 + 1)?;
    }
    Ok(true)
}

/// Forgets the oldest ids of a sender and raises the floor over them, so that forgetting never lets a replay in.
fn prune(tx: &Connection, sender: &str, how_many: u32) -> Result<(), StoreError> {
    let newest: i64 = tx.query_row(
        "SELECT max(ts) FROM (SELECT ts FROM seen WHERE sender = ?1 ORDER BY ts LIMIT ?2)",
        params![sender, how_many],
        |row| row.get(0),
    )?;
    // Everything up to and including that time goes, and the floor lies just above.
    let gone = tx.execute(
        "DELETE FROM seen WHERE sender = ?1 AND ts <= ?2",
        params![sender, newest],
    )?;
    tx.execute(
        "UPDATE senders SET seen_count = seen_count - ?2, floor = max(coalesce(floor, 0), ?3) WHERE user = ?1",
        params![sender, to_sql(gone as u64), newest + 1],
    )?;
    Ok(())
}

/// Binds the text of a message of theirs to its place.
pub(super) fn theirs(from: &UserId, id: &MessageId) -> Vec<u8> {
    format!("sealpost/1 stored message\n{from}\n{id}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{at, key, store, user};
    use super::*;

    fn id(ms: u64) -> MessageId {
        MessageId::new(at(ms), &mut rand::rng())
    }

    fn incoming<'a>(from: &'a UserId, id: &'a MessageId, ts: u64, body: &'a [u8]) -> Incoming<'a> {
        Incoming {
            from,
            id,
            prev: None,
            ts: at(ts),
            body,
            digest: [7; 32],
            signer: None,
        }
    }

    #[test]
    fn what_came_since_a_moment_is_read_with_what_was_not_shown_or_without() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(&folder);
        let alice = user("alice");
        let ids = [1, 2, 3, 4].map(id);
        for (id, came) in ids.iter().zip([100, 200, 300, 400]) {
            // The sender's clock plays no part.
            store
                .accept(&incoming(&alice, id, 9_000, b"x"), at(came))
                .unwrap();
        }
        for shown in [1, 2] {
            store.mark_shown(&alice, &ids[shown], false).unwrap();
        }
        let read = |since: Option<u64>, unshown, after| {
            let wanted = Wanted {
                since: since.map(at),
                unshown,
            };
            let read = store.received(wanted, after, 10).unwrap();
            read.into_iter()
                .map(|message| (message.number, message.shown))
                .collect::<Vec<_>>()
        };
        assert_eq!(read(Some(300), false, 0), [(3, true), (4, false)]);
        assert_eq!(
            read(Some(300), true, 0),
            [(1, false), (3, true), (4, false)]
        );
        assert_eq!(read(Some(300), true, 3), [(4, false)]);
        assert_eq!(read(None, true, 0), [(1, false), (4, false)]);
        assert_eq!(read(None, false, 0), []);
    }

    #[test]
    fn a_message_is_stored_once_and_shown_until_marked() {
        let folder = tempfile::tempdir().unwrap();
        let alice = user("alice");
        let first = id(1);
        {
            let mut store = store(&folder);
            let message = incoming(
                &alice,
                &first,
                1_000,
                b"{\"kind\":\"text\",\"text\":\"hi\"}",
            );
            assert!(!store.seen(&alice, &first).unwrap().contains);
            assert_eq!(store.accept(&message, at(2)).unwrap(), Acceptance::Stored);
            assert_eq!(store.accept(&message, at(3)).unwrap(), Acceptance::Seen);
            assert!(store.seen(&alice, &first).unwrap().contains);
        }
        // As after a crash between storing and printing.
        let mut store = store(&folder);
        let unshown = store.unshown(0, 10).unwrap();
        assert_eq!(unshown.len(), 1);
        assert_eq!(&**unshown[0].body, b"{\"kind\":\"text\",\"text\":\"hi\"}");
        assert_eq!(unshown[0].ts, at(1_000));
        store.mark_shown(&alice, &first, false).unwrap();
        assert!(store.unshown(0, 10).unwrap().is_empty());
    }

    #[test]
    fn the_same_id_from_two_senders_is_two_messages() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(&folder);
        let same = id(1);
        for name in ["alice", "carol"] {
            let from = user(name);
            assert_eq!(
                store
                    .accept(&incoming(&from, &same, 1, b"x"), at(2))
                    .unwrap(),
                Acceptance::Stored
            );
        }
        assert_eq!(store.unshown(0, 10).unwrap().len(), 2);
    }

    #[test]
    fn a_gap_before_a_message_is_found_once_and_only_where_something_came_before() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(&folder);
        let (alice, carol) = (user("alice"), user("carol"));
        let ids: Vec<MessageId> = (0..6).map(|n| id(1_000 + n)).collect();
        let mut accept = |from: &UserId, n: usize, prev: Option<usize>| {
            let message = Incoming {
                prev: prev.map(|prev| &ids[prev]),
                ..incoming(from, &ids[n], 1_000, b"x")
            };
            store.accept(&message, at(2)).unwrap();
            store.gap_before(from, &ids[n]).unwrap()
        };
        // Who writes to us for the first time may have written to another home of ours before.
        assert_eq!(accept(&carol, 2, Some(1)), None);
        assert_eq!(accept(&alice, 1, Some(0)), None);
        assert_eq!(accept(&alice, 2, Some(1)), None);
        // What another sender's message is called does not matter.
        assert_eq!(accept(&carol, 4, Some(3)), Some(ids[3]));
        assert_eq!(accept(&alice, 4, Some(3)), Some(ids[3]));
        assert_eq!(accept(&alice, 5, Some(3)), None, "the same gap");
        // It came late, and whether something is missing before it is another question.
        assert_eq!(accept(&alice, 3, Some(2)), None);
        assert_eq!(store.gap_before(&alice, &ids[4]).unwrap(), None);
        assert_eq!(store.gap_before(&alice, &ids[0]).unwrap(), None);
    }

    #[test]
    fn texts_are_not_readable_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let alice = user("alice");
        {
            let mut store = store(&folder);
            store
                .accept(
                    &incoming(&alice, &id(1), 1, b"meet me at the lighthouse"),
                    at(2),
                )
                .unwrap();
        }
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            assert!(!bytes.windows(10).any(|w| w == b"lighthouse"));
        }
    }

    #[test]
    fn a_text_moved_to_another_row_or_read_with_another_key_does_not_open() {
        let folder = tempfile::tempdir().unwrap();
        let alice = user("alice");
        let mut open = store(&folder);
        open.accept(&incoming(&alice, &id(1), 1, b"x"), at(2))
            .unwrap();
        open.db
            .execute("UPDATE messages SET sender = 'mallory'", [])
            .unwrap();
        assert!(matches!(open.unshown(0, 1), Err(StoreError::WrongKey)));
        open.db
            .execute("UPDATE messages SET sender = 'alice'", [])
            .unwrap();
        open.unshown(0, 1).unwrap();
        let other_key = Zeroizing::new([8; 32]);
        assert_ne!(*other_key, *key());
        let other = Store::open(&folder.path().join("store.sqlite"), &other_key).unwrap();
        assert!(matches!(other.unshown(0, 1), Err(StoreError::WrongKey)));
    }

    #[test]
    fn forgetting_old_ids_raises_the_floor_over_them() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(&folder);
        let alice = user("alice");
        let ids: Vec<MessageId> = (0..11).map(|n| id(1_000 + n)).collect();
        for (n, id) in ids.iter().enumerate() {
            store
                .accept_bounded(&incoming(&alice, id, 1_000 + n as u64, b"x"), at(2), 10)
                .unwrap();
        }
        for (n, id) in ids.iter().enumerate() {
            let state = store.seen(&alice, id).unwrap();
            let floor = state.floor.unwrap();
            assert!(
                state.contains || at(1_000 + n as u64) < floor,
                "message {n} was forgotten above the floor"
            );
        }
        assert_eq!(store.seen(&alice, &ids[0]).unwrap().floor, Some(at(1_002)));
        assert_eq!(store.seen(&user("carol"), &ids[0]).unwrap().floor, None);
    }

    #[test]
    fn times_at_the_end_of_the_scale_shut_nobody_out_and_let_no_replay_in() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(&folder);
        let alice = user("alice");
        let ids: Vec<MessageId> = (0..11).map(|n| id(1_000 + n)).collect();
        for id in &ids {
            let message = incoming(&alice, id, Timestamp::MAX.millis(), b"x");
            store.accept_bounded(&message, at(2), 10).unwrap();
        }
        let floor = store.seen(&alice, &id(2)).unwrap().floor.unwrap();
        assert!(floor <= at(3).saturating_add(MAX_AHEAD));
        assert!(
            ids.iter()
                .all(|id| store.seen(&alice, id).unwrap().contains)
        );
        // As an earlier version left it.
        store
            .db
            .execute(
                "UPDATE senders SET floor = ?1",
                [to_sql(Timestamp::MAX.millis() + 1)],
            )
            .unwrap();
        store.seen(&alice, &id(2)).unwrap();
    }

    #[test]
    fn only_a_copy_that_keeps_coming_is_worth_a_word_and_only_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(&folder);
        let alice = user("alice");
        let id = id(1);
        assert!(!store.note_copy(&alice, &id).unwrap());
        store
            .accept(&incoming(&alice, &id, 1, b"x"), at(2))
            .unwrap();
        let told: Vec<u32> = (1..=MAX_COPIES * 3)
            .filter(|_| store.note_copy(&alice, &id).unwrap())
            .collect();
        assert_eq!(told, [MAX_COPIES]);
    }

    #[test]
    fn two_processes_cannot_both_accept_one_message() {
        let folder = tempfile::tempdir().unwrap();
        let (mut one, mut two) = (store(&folder), store(&folder));
        let alice = user("alice");
        let id = id(1);
        assert!(!two.seen(&alice, &id).unwrap().contains);
        let message = incoming(&alice, &id, 1, b"x");
        assert_eq!(one.accept(&message, at(2)).unwrap(), Acceptance::Stored);
        assert_eq!(two.accept(&message, at(2)).unwrap(), Acceptance::Seen);
        assert_eq!(two.unshown(0, 10).unwrap().len(), 1);
    }
}
