//! Envelopes that cannot be opened yet, bounded for each sender, and which refused ones were reported.

use rusqlite::{Connection, OptionalExtension, params};
use sealpost_core::{Timestamp, UserId};

use super::{Store, StoreError, to_sql, user_from};

/// How many envelopes of one sender wait. Enough for a first conversation; a flood ends here.
pub const MAX_HELD_PER_SENDER: u32 = 32;
/// How many senders can have envelopes waiting: strangers can register names at will.
pub const MAX_HELD_SENDERS: u32 = 256;
/// How long they wait, ms: as long as old RSA keys are kept (45 days), for nothing opens them after that.
const MAX_AGE: u64 = 45 * 24 * 60 * 60 * 1_000;
/// How many digests of refused envelopes are remembered, so that a broker that delivers one again is not reported
/// again.
const MAX_REFUSED: u32 = 10_000;

/// Why an envelope waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitingFor {
    /// Its sender's bundle is not there yet.
    Bundle,
    /// Its sender's identity changed and the person has not decided.
    Decision,
    /// Its sender is suspended after too many that did not decrypt.
    Suspension,
}

impl WaitingFor {
    fn as_str(self) -> &'static str {
        match self {
            WaitingFor::Bundle => "bundle",
            WaitingFor::Decision => "decision",
            WaitingFor::Suspension => "suspension",
        }
    }
}

/// What became of an envelope that was to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// It waits now.
    Held,
    /// It waited already.
    AlreadyHeld,
    /// Too many wait: it is not kept.
    Full,
}

impl Store {
    /// Lets an envelope wait. `digest` is the SHA-256 of its bytes.
    pub fn hold(
        &mut self,
        sender: &UserId,
        digest: &[u8; 32],
        envelope: &[u8],
        reason: WaitingFor,
        now: Timestamp,
    ) -> Result<Hold, StoreError> {
        // Not because a clock that was set says so: the broker has forgotten them.
        let long_ago = now.millis().saturating_sub(MAX_AGE);
        let time_went_by = self.watched_since(now)? < long_ago;
        let tx = self.immediate()?;
        if time_went_by {
            tx.execute("DELETE FROM waiting WHERE at < ?1", [to_sql(long_ago)])?;
        }
        let there: Option<u32> = tx
            .query_row("SELECT 1 FROM waiting WHERE digest = ?1", [digest], |row| {
                row.get(0)
            })
            .optional()?;
        if there.is_some() {
            return Ok(Hold::AlreadyHeld);
        }
        let of_sender: u32 = tx.query_row(
            "SELECT count(*) FROM waiting WHERE sender = ?1",
            [sender.as_str()],
            |row| row.get(0),
        )?;
        let senders: u32 =
            tx.query_row("SELECT count(DISTINCT sender) FROM waiting", [], |row| {
                row.get(0)
            })?;
        if of_sender >= MAX_HELD_PER_SENDER || (of_sender == 0 && senders >= MAX_HELD_SENDERS) {
            tx.commit()?;
            return Ok(Hold::Full);
        }
        tx.execute(
            "INSERT INTO waiting (digest, sender, reason, at, envelope) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                digest,
                sender.as_str(),
                reason.as_str(),
                to_sql(now.millis()),
                envelope
            ],
        )?;
        tx.commit()?;
        Ok(Hold::Held)
    }

    /// The envelopes of one sender that wait, in the order they came.
    pub fn held(&self, sender: &UserId) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut statement = self
            .db
            .prepare_cached("SELECT envelope FROM waiting WHERE sender = ?1 ORDER BY at, rowid")?;
        let rows = statement.query_map([sender.as_str()], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Whose envelopes wait.
    pub fn held_senders(&self) -> Result<Vec<UserId>, StoreError> {
        let mut statement = self
            .db
            .prepare_cached("SELECT DISTINCT sender FROM waiting ORDER BY sender")?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
        rows.map(|row| user_from(&row?)).collect()
    }

    /// An envelope need not wait any more.
    pub fn release(&mut self, digest: &[u8; 32]) -> Result<(), StoreError> {
        self.db
            .execute("DELETE FROM waiting WHERE digest = ?1", [digest])?;
        Ok(())
    }

    /// Whether these bytes were refused before.
    pub fn was_refused(&self, digest: &[u8; 32]) -> Result<bool, StoreError> {
        Ok(self
            .db
            .prepare_cached("SELECT 1 FROM refused WHERE digest = ?1")?
            .exists([digest])?)
    }

    /// Notes that an envelope was refused; says whether this is the first time.
    pub fn note_refused(&mut self, digest: &[u8; 32], now: Timestamp) -> Result<bool, StoreError> {
        let tx = self.immediate()?;
        let fresh = note_refused(&tx, digest, now)?;
        tx.commit()?;
        Ok(fresh)
    }
}

/// The same within a transaction.
pub(super) fn note_refused(
    tx: &Connection,
    digest: &[u8; 32],
    now: Timestamp,
) -> Result<bool, StoreError> {
    let fresh = tx.execute(
        "INSERT OR IGNORE INTO refused (digest, at) VALUES (?1, ?2)",
        params![digest, to_sql(now.millis())],
    )?;
    if fresh == 1 {
        tx.execute(
            "DELETE FROM refused WHERE digest IN
                 (SELECT digest FROM refused ORDER BY at DESC LIMIT -1 OFFSET ?1)",
            [MAX_REFUSED],
        )?;
    }
    Ok(fresh == 1)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{at, store, user};
    use super::*;

    const DAY: u64 = 24 * 60 * 60 * 1_000;

    fn digest(n: u32) -> [u8; 32] {
        let mut digest = [0; 32];
        digest[..4].copy_from_slice(&n.to_be_bytes());
        digest
    }

    #[test]
    fn envelopes_wait_in_order_and_are_released_one_by_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(&folder);
        let carol = user("carol");
        for n in [3, 1, 2] {
            let held = store
                .hold(&carol, &digest(n), &[n as u8], WaitingFor::Bundle, at(5))
                .unwrap();
            assert_eq!(held, Hold::Held);
        }
        assert_eq!(
            store
                .hold(&carol, &digest(1), &[1], WaitingFor::Bundle, at(6))
                .unwrap(),
            Hold::AlreadyHeld
        );
        assert_eq!(store.held(&carol).unwrap(), [[3], [1], [2]]);
        store.release(&digest(1)).unwrap();
        assert_eq!(store.held(&carol).unwrap(), [[3], [2]]);
        assert_eq!(store.held_senders().unwrap(), [carol]);
    }

    #[test]
    fn a_flood_of_one_sender_is_bounded_and_leaves_room_for_others() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(&folder);
        let mallory = user("mallory");
        for n in 0..MAX_HELD_PER_SENDER {
            store
                .hold(&mallory, &digest(n), b"x", WaitingFor::Bundle, at(5))
                .unwrap();
        }
        let more = digest(MAX_HELD_PER_SENDER);
        assert_eq!(
            store
                .hold(&mallory, &more, b"x", WaitingFor::Bundle, at(5))
                .unwrap(),
            Hold::Full
        );
        assert_eq!(
            store
                .hold(&user("carol"), &more, b"x", WaitingFor::Bundle, at(5))
                .unwrap(),
            Hold::Held
        );
    }

    #[test]
    fn what_waited_too_long_makes_room() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(&folder);
        let carol = user("carol");
        store
            .hold(&carol, &digest(1), b"old", WaitingFor::Decision, at(5))
            .unwrap();
        // Watched from day to day, as whoever receives does.
        for day in 0..=45 {
            store.give_up(at(5 + day * DAY)).unwrap();
        }
        store
            .hold(
                &carol,
                &digest(2),
                b"new",
                WaitingFor::Decision,
                at(6 + MAX_AGE),
            )
            .unwrap();
        assert_eq!(store.held(&carol).unwrap(), [b"new"]);
    }

    #[test]
    fn nothing_that_waits_is_forgotten_because_a_clock_was_set() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(&folder);
        let carol = user("carol");
        store
            .hold(&carol, &digest(1), b"old", WaitingFor::Decision, at(5))
            .unwrap();
        for (n, now) in [(2, 400 * DAY), (3, 5)] {
            store
                .hold(&carol, &digest(n), b"new", WaitingFor::Decision, at(now))
                .unwrap();
        }
        assert_eq!(store.held(&carol).unwrap().len(), 3);
    }

    #[test]
    fn a_refusal_is_reported_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(&folder);
        assert!(store.note_refused(&digest(1), at(5)).unwrap());
        assert!(!store.note_refused(&digest(1), at(6)).unwrap());
        assert!(store.note_refused(&digest(2), at(6)).unwrap());
    }
}
