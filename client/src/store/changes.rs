//! Messages that are about others: edits and deletions. And the end of messages that disappear.
//!
//! An edit or a deletion is a row like any message, so that it is seen once, receipted, shown and carried like one. `target` is the
//! message that it names, `change` what it does to that. The history leaves out what was done to a message that is there.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};
use sealpost_core::{
    Content, Deletion, Edit, Expiry, IdentityKey, MAX_EDITS, MessageId, Timestamp, UserId,
};
use zeroize::Zeroizing;

use super::contacts::message_id;
use super::{Store, StoreError, inbox, outbox, stored_content, to_sql, user_from};
use crate::conversation::ERASED;

/// `change` of an edit.
pub(super) const EDIT: u8 = 1;
/// `change` of a deletion whose message was there.
pub(super) const DELETION: u8 = 2;
/// `change` of one whose message has not come.
pub(super) const EARLY_DELETION: u8 = 3;
/// How many deletions of one sender wait for their messages, the last ones (SPEC 8.5): they show nothing and would fill the store unseen.
const MAX_EARLY: i64 = 256;

/// What a content is to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nature {
    /// Something to read that cannot be edited.
    Plain,
    /// A text.
    Text,
    /// A text in place of another.
    Edit(MessageId),
    /// Takes a message back.
    Deletion(MessageId),
    /// How long messages stay.
    Expiry(Expiry),
}

impl Nature {
    pub(super) fn of(body: &[u8]) -> Nature {
        match stored_content(body) {
            Some(Content::Text { .. } | Content::Reply(_)) => Nature::Text,
            Some(Content::Edit(Edit { of, .. })) => Nature::Edit(of),
            Some(other) => match (Deletion::read(&other), Expiry::read(&other)) {
                (Some(deletion), _) => Nature::Deletion(deletion.message),
                (_, Some(expiry)) => Nature::Expiry(expiry),
                (None, None) => Nature::Plain,
            },
            None => Nature::Plain,
        }
    }

    /// What it names and does, as a row has it.
    pub(super) fn change(&self) -> (Option<[u8; 16]>, Option<u8>) {
        match self {
            Nature::Edit(of) => (Some(*of.as_bytes()), Some(EDIT)),
            Nature::Deletion(of) => (Some(*of.as_bytes()), Some(DELETION)),
            _ => (None, None),
        }
    }
}

/// How a message of theirs is to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// As a message; it may be named by what came before it.
    Keep,
    /// As one that edits this.
    Edits(MessageId),
    /// As one that has deleted this.
    Deletes(MessageId),
    /// Out of sight, until this comes.
    Awaits(MessageId),
    /// It was deleted before it came: only its place is kept.
    Erased,
    /// Not at all.
    Drop,
}

struct Target {
    signer: Option<Vec<u8>>,
    body: Vec<u8>,
    change: Option<u8>,
}

impl Store {
    /// What becomes of a message of theirs, and of those that it names or is named by.
    pub(super) fn fate(
        &self,
        from: &UserId,
        id: &MessageId,
        nature: Nature,
        signer: Option<IdentityKey>,
    ) -> Result<Fate, StoreError> {
        match nature {
            Nature::Plain | Nature::Text | Nature::Expiry(_) => {
                self.meet_changes(from, id, nature == Nature::Text, signer)
            }
            Nature::Edit(of) => {
                let edits: u32 = self
                    .db
                    .prepare_cached(
                        "SELECT count(*) FROM messages WHERE sender = ?1 AND target = ?2 AND change = ?3",
                    )?
                    .query_row(params![from.as_str(), of.as_bytes(), EDIT], |row| {
                        row.get(0)
                    })?;
                if edits >= MAX_EDITS {
                    return Ok(Fate::Drop);
                }
                let Some(target) = self.target(from, &of)? else {
                    return Ok(Fate::Edits(of));
                };
                if !is_signers(&target, signer) || target.change.is_some() {
                    return Ok(Fate::Keep);
                }
                let body = self.decrypt(&inbox::theirs(from, &of), &target.body)?;
                Ok(match Nature::of(&body) {
                    Nature::Text => Fate::Edits(of),
                    _ if is_erased(&body) => Fate::Drop,
                    _ => Fate::Keep,
                })
            }
            Nature::Deletion(of) => {
                let before = self
                    .db
                    .prepare_cached(
                        "SELECT 1 FROM messages WHERE sender = ?1 AND target = ?2 AND change > ?3",
                    )?
                    .exists(params![from.as_str(), of.as_bytes(), EDIT])?;
                if before {
                    return Ok(Fate::Drop);
                }
                match self.target(from, &of)? {
                    None => {
                        self.make_room_for_early(from)?;
                        Ok(Fate::Awaits(of))
                    }
                    Some(target) if !is_signers(&target, signer) || target.change.is_some() => {
                        Ok(Fate::Drop)
                    }
                    Some(_) => {
                        self.erase_theirs(from, &of)?;
                        Ok(Fate::Deletes(of))
                    }
                }
            }
        }
    }

    /// What came before a message and names it takes effect, where it is of the same signer.
    fn meet_changes(
        &self,
        from: &UserId,
        id: &MessageId,
        is_text: bool,
        signer: Option<IdentityKey>,
    ) -> Result<Fate, StoreError> {
        let name = params![
            from.as_str(),
            id.as_bytes(),
            signer.as_ref().map(IdentityKey::as_bytes)
        ];
        let deleted = self
            .db
            .prepare_cached(
                "UPDATE messages SET change = 2 WHERE sender = ?1 AND target = ?2 AND signer = ?3 AND change = 3",
            )?
            .execute(name)?;
        if deleted > 0 {
            self.db
                .prepare_cached(
                    "DELETE FROM messages WHERE sender = ?1 AND target = ?2 AND change = 1",
                )?
                .execute(params![from.as_str(), id.as_bytes()])?;
            return Ok(Fate::Erased);
        }
        // Edits that are none stay texts of their own.
        self.db
            .prepare_cached(
                "UPDATE messages SET change = NULL, target = NULL
                 WHERE sender = ?1 AND target = ?2 AND change = 1 AND (signer IS NOT ?3 OR NOT ?4)",
            )?
            .execute(params![
                from.as_str(),
                id.as_bytes(),
                signer.as_ref().map(IdentityKey::as_bytes),
                is_text
            ])?;
        Ok(Fate::Keep)
    }

    fn target(&self, from: &UserId, id: &MessageId) -> Result<Option<Target>, StoreError> {
        Ok(self
            .db
            .prepare_cached(
                "SELECT signer, body, change FROM messages WHERE sender = ?1 AND id = ?2",
            )?
            .query_row(params![from.as_str(), id.as_bytes()], |row| {
                Ok(Target {
                    signer: row.get(0)?,
                    body: row.get(1)?,
                    change: row.get(2)?,
                })
            })
            .optional()?)
    }

    /// Forgets the oldest of the deletions that wait for their messages.
    fn make_room_for_early(&self, from: &UserId) -> Result<(), StoreError> {
        self.db
            .prepare_cached(
                "DELETE FROM messages WHERE number IN (SELECT number FROM messages
                     WHERE sender = ?1 AND change = 3 ORDER BY number DESC LIMIT -1 OFFSET ?2)",
            )?
            .execute(params![from.as_str(), MAX_EARLY - 1])?;
        Ok(())
    }

    /// Leaves nothing of a message of theirs but its place, and nothing of its edits.
    pub(super) fn erase_theirs(&self, from: &UserId, id: &MessageId) -> Result<bool, StoreError> {
        let body = self.encrypt(&inbox::theirs(from, id), erased().as_bytes())?;
        let name = params![from.as_str(), id.as_bytes()];
        let here = self
            .db
            .prepare_cached(
                "UPDATE messages SET body = ?3, shown = 1 WHERE sender = ?1 AND id = ?2",
            )?
            .execute(params![from.as_str(), id.as_bytes(), body])?;
        self.db
            .prepare_cached(
                "DELETE FROM messages WHERE sender = ?1 AND target = ?2 AND change = 1",
            )?
            .execute(name)?;
        let imported = self
            .db
            .prepare_cached(
                "DELETE FROM imported WHERE state IS NULL AND partner = ?1 AND (id = ?2 OR target = ?2)",
            )?
            .execute(name)?;
        Ok(here + imported > 0)
    }

    /// The same of one of ours. It is not sent again; where the broker does not have it for certain, not even its place is left.
    pub(super) fn erase_ours(&self, to: &UserId, id: &MessageId) -> Result<bool, StoreError> {
        let body = self.encrypt(&outbox::ours(to, id), erased().as_bytes())?;
        let name = params![to.as_str(), id.as_bytes()];
        let unsent = self
            .db
            .prepare_cached(
                "DELETE FROM outbox WHERE recipient = ?1 AND id = ?2 AND state IN (0, 4)",
            )?
            .execute(name)?;
        let here = self
            .db
            .prepare_cached(
                "UPDATE outbox SET body = ?3, envelope = NULL, due = ?4 WHERE recipient = ?1 AND id = ?2",
            )?
            .execute(params![to.as_str(), id.as_bytes(), body, outbox::NEVER])?;
        // An edit that is not sent yet has nothing to say any more.
        self.db
            .prepare_cached(
                "DELETE FROM outbox WHERE recipient = ?1 AND target = ?2 AND change = 1",
            )?
            .execute(name)?;
        let imported = self
            .db
            .prepare_cached(
                "DELETE FROM imported WHERE state IS NOT NULL AND partner = ?1 AND (id = ?2 OR target = ?2)",
            )?
            .execute(name)?;
        Ok(unsent + here + imported > 0)
    }

    /// Removes a message from this history alone: nobody is told. Says whether it was there.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn erase_here(
        &mut self,
        partner: &UserId,
        ours: bool,
        id: &MessageId,
    ) -> Result<bool, StoreError> {
        self.group(|store| match ours {
            true => store.erase_ours(partner, id),
            false => store.erase_theirs(partner, id),
        })
    }

    /// How many edits of a message of ours were written.
    pub(crate) fn own_edits(&self, to: &UserId, of: &MessageId) -> Result<u32, StoreError> {
        Ok(self
            .db
            .prepare_cached(
                "SELECT count(*) FROM outbox WHERE recipient = ?1 AND target = ?2 AND change = 1",
            )?
            .query_row(params![to.as_str(), of.as_bytes()], |row| row.get(0))?)
    }

    /// Forgets a message of ours that was never sealed, so that nobody else can have it. Says whether there was one.
    pub(crate) fn drop_unsealed(&mut self, id: &MessageId) -> Result<bool, StoreError> {
        self.group(|store| {
            let gone = store.db.execute(
                "DELETE FROM outbox WHERE id = ?1 AND state IN (0, 4) AND digests = x''",
                [id.as_bytes()],
            )?;
            if gone == 1 {
                store
                    .db
                    .execute("DELETE FROM outbox WHERE target = ?1", [id.as_bytes()])?;
            }
            Ok(gone == 1)
        })
    }

    /// Erases what has outlived its time, by our clock; says how many messages there were. What was deleted is overwritten on disk,
    /// and the journal emptied.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn expire(&mut self, now: Timestamp) -> Result<usize, StoreError> {
        if self.next_expiry()?.is_none_or(|next| next > now) {
            return Ok(0);
        }
        let gone = self.group(|store| {
            let theirs = expired(
                &store.db,
                "DELETE FROM messages AS this WHERE expires <= ?1 AND NOT EXISTS (
                     SELECT 1 FROM messages AS original WHERE this.change IS NOT NULL
                     AND original.sender = this.sender AND original.id = this.target)
                 RETURNING sender, id",
                now,
            )?;
            for (from, id) in &theirs {
                store
                    .db
                    .prepare_cached("DELETE FROM messages WHERE sender = ?1 AND target = ?2")?
                    .execute(params![from.as_str(), id.as_bytes()])?;
            }
            let ours = expired(
                &store.db,
                "DELETE FROM outbox AS this WHERE expires <= ?1 AND NOT EXISTS (
                     SELECT 1 FROM outbox AS original WHERE this.change IS NOT NULL
                     AND original.recipient = this.recipient AND original.id = this.target)
                 RETURNING recipient, id",
                now,
            )?;
            for (to, id) in &ours {
                store
                    .db
                    .prepare_cached(
                        "DELETE FROM outbox WHERE recipient = ?1 AND target = ?2 AND state != 0",
                    )?
                    .execute(params![to.as_str(), id.as_bytes()])?;
            }
            // Those that go with their message are not looked at again.
            for table in ["messages", "outbox"] {
                store.db.execute(
                    &format!("UPDATE {table} SET expires = NULL WHERE expires <= ?1"),
                    [to_sql(now.millis())],
                )?;
            }
            Ok::<_, StoreError>(theirs.len() + ours.len())
        })?;
        if self.db.is_autocommit() {
            self.empty_journal()?;
        }
        Ok(gone)
    }

    /// Leaves nothing in the journal of what was overwritten. Who reads at this moment, as a backup does, is not waited for: then it is done
    /// the next time, or when the last process closes the store.
    fn empty_journal(&self) -> Result<(), StoreError> {
        self.db.busy_timeout(Duration::ZERO)?;
        let emptied = self
            .db
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        self.db.busy_timeout(super::BUSY_TIME)?;
        match emptied.map_err(StoreError::from) {
            Ok(()) | Err(StoreError::Busy) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// When something disappears next.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn next_expiry(&self) -> Result<Option<Timestamp>, StoreError> {
        let next: Option<i64> = self
            .db
            .prepare_cached(
                "SELECT min(at) FROM (SELECT min(expires) AS at FROM messages WHERE expires IS NOT NULL
                 UNION ALL SELECT min(expires) FROM outbox WHERE expires IS NOT NULL)",
            )?
            .query_row([], |row| row.get(0))?;
        next.map(|next| super::timestamp_from(super::from_sql(next)?))
            .transpose()
    }
}

fn expired(
    db: &Connection,
    sql: &str,
    now: Timestamp,
) -> Result<Vec<(UserId, MessageId)>, StoreError> {
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map([to_sql(now.millis())], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?))
    })?;
    rows.map(|row| {
        let (user, id) = row?;
        Ok((user_from(&user)?, message_id(&id)?))
    })
    .collect()
}

/// An identity that is not known, as for messages of earlier versions of the store, is nobody's.
fn is_signers(target: &Target, signer: Option<IdentityKey>) -> bool {
    match (&target.signer, signer) {
        (Some(one), Some(other)) => one.as_slice() == other.as_bytes().as_slice(),
        _ => false,
    }
}

/// What is left of a message.
pub(super) fn erased() -> Zeroizing<String> {
    Zeroizing::new(format!(r#"{{"kind":"{ERASED}"}}"#))
}

pub(super) fn is_erased(body: &[u8]) -> bool {
    matches!(stored_content(body), Some(Content::Other { kind, .. }) if kind == ERASED)
}

#[cfg(test)]
mod tests;
