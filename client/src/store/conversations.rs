//! How we deal with somebody: how long messages stay, whether they are let in, and what we are told of them.

use rusqlite::{OptionalExtension, Row, params};
use sealpost_core::{Expiry, Lifetime, Timestamp, UserId};

use super::{Store, StoreError, from_sql, timestamp_from, to_sql, user_from};
use crate::settings::Receipts;

/// How many messages of somebody who asks to be let in are kept, and of how many of those: as of those whose keys are not there.
pub const MAX_REQUESTED: u32 = super::MAX_HELD_PER_SENDER;
/// How many strangers can ask at once.
pub const MAX_REQUESTS: u32 = super::MAX_HELD_SENDERS;

/// What is said of messages that arrive, where somebody is to be alerted.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
    clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Notify {
    /// Who wrote, and what.
    Full,
    /// Who wrote.
    Name,
    /// Nothing.
    None,
}

/// How we deal with somebody, whether or not they are a contact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// With whom.
    pub partner: UserId,
    /// The setting of how long messages stay that counts, if there ever was one.
    pub expiry: Option<Expiry>,
    /// They have written and wait to be let in.
    pub request: bool,
    /// Nothing of theirs is let in.
    pub blocked: bool,
    /// How many of their messages were dropped for that.
    pub dropped: u64,
    /// Until when nobody is alerted of their messages.
    pub muted_until: Option<Timestamp>,
    /// What they are told of their messages, where that is not as for everybody.
    pub receipts: Option<Receipts>,
    /// What is said of their messages, where that is not as for everybody.
    pub notify: Option<Notify>,
}

impl Conversation {
    fn of(partner: UserId) -> Conversation {
        Conversation {
            partner,
            expiry: None,
            request: false,
            blocked: false,
            dropped: 0,
            muted_until: None,
            receipts: None,
            notify: None,
        }
    }

    /// Whether nobody is alerted of their messages now.
    #[must_use]
    pub fn is_muted(&self, now: Timestamp) -> bool {
        self.muted_until.is_some_and(|until| now < until)
    }

    /// Whether we deal with them as with everybody.
    #[must_use]
    pub fn is_ordinary(&self, now: Timestamp) -> bool {
        !self.request
            && !self.blocked
            && !self.is_muted(now)
            && self.lifetime().is_none()
            && self.receipts.is_none()
            && self.notify.is_none()
    }

    /// After how long new messages disappear.
    #[must_use]
    pub fn lifetime(&self) -> Option<Lifetime> {
        self.expiry.and_then(|expiry| expiry.lifetime())
    }
}

const COLUMNS: &str =
    "partner, seconds, expiry_seq, request, blocked, dropped, muted_until, receipts, notify";

type Raw = (
    String,
    i64,
    i64,
    bool,
    bool,
    i64,
    Option<i64>,
    Option<u8>,
    Option<u8>,
);

fn raw(row: &Row<'_>) -> rusqlite::Result<Raw> {
    row.try_into()
}

fn conversation(raw: Raw) -> Result<Conversation, StoreError> {
    let (partner, seconds, seq, request, blocked, dropped, muted, receipts, notify) = raw;
    Ok(Conversation {
        partner: user_from(&partner)?,
        expiry: Expiry::with_seq(Lifetime::from_seconds(from_sql(seconds)?), from_sql(seq)?),
        request,
        blocked,
        dropped: from_sql(dropped)?,
        muted_until: muted
            .map(|until| timestamp_from(from_sql(until)?))
            .transpose()?,
        receipts: match receipts {
            None => None,
            Some(0) => Some(Receipts::None),
            Some(1) => Some(Receipts::Delivered),
            Some(_) => Some(Receipts::Read),
        },
        notify: match notify {
            None => None,
            Some(0) => Some(Notify::None),
            Some(1) => Some(Notify::Name),
            Some(_) => Some(Notify::Full),
        },
    })
}

impl Store {
    /// How we deal with somebody; as with everybody when nothing else was said.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn conversation(&self, partner: &UserId) -> Result<Conversation, StoreError> {
        let found = self
            .db
            .prepare_cached(&format!(
                "SELECT {COLUMNS} FROM conversations WHERE partner = ?1"
            ))?
            .query_row([partner.as_str()], raw)
            .optional()?;
        found.map_or_else(|| Ok(Conversation::of(partner.clone())), conversation)
    }

    /// Everybody with whom we deal in some way of their own, by name.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn conversations(&self) -> Result<Vec<Conversation>, StoreError> {
        let mut statement = self.db.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM conversations ORDER BY partner"
        ))?;
        let rows = statement.query_map([], raw)?;
        rows.map(|row| conversation(row?)).collect()
    }

    fn set(
        &self,
        partner: &UserId,
        column: &'static str,
        value: impl rusqlite::ToSql,
    ) -> Result<(), StoreError> {
        self.db
            .prepare_cached(&format!(
                "INSERT INTO conversations (partner, {column}) VALUES (?1, ?2)
                 ON CONFLICT (partner) DO UPDATE SET {column} = excluded.{column}"
            ))?
            .execute(params![partner.as_str(), value])?;
        Ok(())
    }

    /// Takes a setting of how long messages stay, when it counts; says whether it does.
    pub(super) fn take_expiry(
        &self,
        partner: &UserId,
        expiry: Expiry,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let known = self.conversation(partner)?.expiry;
        let counts = expiry.counts_after(known.as_ref(), now);
        if counts {
            let seconds = expiry.lifetime().map_or(0, Lifetime::seconds);
            self.set(partner, "seconds", seconds)?;
            self.set(partner, "expiry_seq", to_sql(expiry.seq()))?;
        }
        Ok(counts)
    }

    /// Lets nothing of somebody in any more. What of theirs was not shown yet goes, and they get no receipts.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn block(&mut self, partner: &UserId) -> Result<(), StoreError> {
        self.group(|store| {
            store.set(partner, "blocked", true)?;
            store.set(partner, "request", false)?;
            for sql in [
                "DELETE FROM messages WHERE sender = ?1 AND shown = 0",
                "DELETE FROM waiting WHERE sender = ?1",
                "DELETE FROM receipts WHERE sender = ?1",
                "UPDATE contacts SET accepted = 0 WHERE user = ?1",
            ] {
                store.db.execute(sql, [partner.as_str()])?;
            }
            Ok(())
        })
    }

    /// Lets somebody in again; says whether they were blocked. What was dropped meanwhile is gone.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn unblock(&mut self, partner: &UserId) -> Result<bool, StoreError> {
        let changed = self.db.execute(
            "UPDATE conversations SET blocked = 0, dropped = 0 WHERE partner = ?1 AND blocked = 1",
            [partner.as_str()],
        )?;
        Ok(changed == 1)
    }

    /// Whether nothing of somebody is let in.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn is_blocked(&self, partner: &UserId) -> Result<bool, StoreError> {
        Ok(self
            .db
            .prepare_cached("SELECT 1 FROM conversations WHERE partner = ?1 AND blocked = 1")?
            .exists([partner.as_str()])?)
    }

    /// Counts a message of somebody who is blocked, which was dropped.
    pub(crate) fn note_dropped(&mut self, partner: &UserId) -> Result<(), StoreError> {
        self.db
            .prepare_cached("UPDATE conversations SET dropped = dropped + 1 WHERE partner = ?1")?
            .execute([partner.as_str()])?;
        Ok(())
    }

    /// Counts a message of a stranger, which was dropped.
    pub(crate) fn note_stranger_dropped(&mut self) -> Result<(), StoreError> {
        self.db
            .prepare_cached(
                "INSERT INTO meta (key, value) VALUES ('strangers dropped', '1')
                 ON CONFLICT (key) DO UPDATE SET value = CAST(value AS INTEGER) + 1",
            )?
            .execute([])?;
        Ok(())
    }

    /// How many messages of strangers were dropped, ever.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn strangers_dropped(&self) -> Result<u64, StoreError> {
        let count: Option<String> = self
            .db
            .query_row(
                "SELECT value FROM meta WHERE key = 'strangers dropped'",
                [],
                |row| row.get(0),
            )
            .optional()?;
        Ok(count.and_then(|count| count.parse().ok()).unwrap_or(0))
    }

    /// Alerts nobody of somebody's messages until then; `None`: alerts again.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn mute(&mut self, partner: &UserId, until: Option<Timestamp>) -> Result<(), StoreError> {
        self.set(partner, "muted_until", until.map(|at| to_sql(at.millis())))
    }

    /// What somebody is told of their messages; `None`: as everybody.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn set_receipts(
        &mut self,
        partner: &UserId,
        receipts: Option<Receipts>,
    ) -> Result<(), StoreError> {
        let number = receipts.map(|receipts| match receipts {
            Receipts::None => 0_u8,
            Receipts::Delivered => 1,
            Receipts::Read => 2,
        });
        self.set(partner, "receipts", number)
    }

    /// What is said of somebody's messages; `None`: as of everybody's.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn set_notify(
        &mut self,
        partner: &UserId,
        notify: Option<Notify>,
    ) -> Result<(), StoreError> {
        let number = notify.map(|notify| match notify {
            Notify::None => 0_u8,
            Notify::Name => 1,
            Notify::Full => 2,
        });
        self.set(partner, "notify", number)
    }

    /// From now on who is new asks first (`true`), or is let in as they come.
    pub fn let_strangers_ask(&mut self, ask: bool) {
        self.strangers_ask = ask;
    }

    /// Whether a message is a stranger's who is to ask first: known to nobody here until now. `None`: it has no room.
    pub(super) fn is_request(&self, from: &UserId) -> Result<Option<bool>, StoreError> {
        let asks: Option<bool> = self
            .db
            .prepare_cached("SELECT request FROM conversations WHERE partner = ?1")?
            .query_row([from.as_str()], |row| row.get(0))
            .optional()?;
        let (asks, new) = match asks {
            Some(true) => (true, false),
            _ if !self.strangers_ask => (false, false),
            _ => {
                let new = !self.is_accepted(from)?
                    && !self
                        .db
                        .prepare_cached("SELECT 1 FROM messages WHERE sender = ?1 LIMIT 1")?
                        .exists([from.as_str()])?;
                (new, new)
            }
        };
        if !asks {
            return Ok(Some(false));
        }
        let room = match new {
            true => self.count_requests()? < u64::from(MAX_REQUESTS),
            false => {
                let count: u32 = self.db.query_row(
                    "SELECT count(*) FROM messages WHERE sender = ?1",
                    [from.as_str()],
                    |row| row.get(0),
                )?;
                count < MAX_REQUESTED
            }
        };
        if !room {
            return Ok(None);
        }
        if new {
            self.set(from, "request", true)?;
        }
        Ok(Some(true))
    }

    /// How many strangers wait to be let in.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn count_requests(&self) -> Result<u64, StoreError> {
        let count: i64 = self.db.query_row(
            "SELECT count(*) FROM conversations WHERE request = 1",
            [],
            |row| row.get(0),
        )?;
        from_sql(count)
    }

    /// The strangers who wait to be let in, by name, each with how many messages they have written.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn requests(&self) -> Result<Vec<(UserId, u64)>, StoreError> {
        let mut statement = self.db.prepare_cached(
            "SELECT partner, (SELECT count(*) FROM messages WHERE sender = partner) FROM conversations
             WHERE request = 1 ORDER BY partner",
        )?;
        let rows = statement.query_map([], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
        })?;
        rows.map(|row| {
            let (partner, count) = row?;
            Ok((user_from(&partner)?, from_sql(count)?))
        })
        .collect()
    }

    /// The beginning of the first message of somebody who waits to be let in, cleaned, on one line.
    pub(crate) fn requested_beginning(&self, from: &UserId) -> Result<Option<String>, StoreError> {
        let first = self.requested(from, 1)?;
        Ok(first
            .first()
            .and_then(|first| super::stored_content(&first.body))
            .map(|content| super::snippet(&crate::event::readable(&content))))
    }

    /// What somebody wrote who waits to be let in, oldest first, at most `limit`: for who decides about them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn requested(
        &self,
        from: &UserId,
        limit: u32,
    ) -> Result<Vec<super::StoredMessage>, StoreError> {
        self.read(
            "SELECT sender, id, ts, body, number, shown FROM messages
             WHERE sender = ?1 AND shown = 0 ORDER BY number LIMIT ?2",
            params![from.as_str(), limit],
        )
    }
}

#[cfg(test)]
mod tests;
