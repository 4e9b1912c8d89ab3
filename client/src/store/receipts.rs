//! Receipts that are to be sent, and who gets any: those we accepted, by writing to them, verifying them, or by hand.

use rusqlite::{Connection, OptionalExtension, params};
use sealpost_core::{MessageId, ReceiptState, Receipted, UserId};

use super::contacts::message_id;
use super::{Store, StoreError, user_from};

/// Somebody who is accepted late gets receipts for so many of their last messages.
const MAX_LATE: u32 = 1_000;

impl Store {
    /// Accepts somebody by hand: receipts go there from now on, and for what came before. Says whether they are a
    /// contact.
    pub fn accept_contact(&mut self, user: &UserId) -> Result<bool, StoreError> {
        let tx = self.immediate()?;
        let known = accept(&tx, user)?;
        tx.commit()?;
        Ok(known)
    }

    /// Whether receipts go there.
    pub fn is_accepted(&self, user: &UserId) -> Result<bool, StoreError> {
        Ok(self
            .db
            .prepare_cached("SELECT accepted FROM contacts WHERE user = ?1")?
            .query_row([user.as_str()], |row| row.get(0))
            .optional()?
            .unwrap_or(false))
    }

    /// A copy of a message came again: its sender has perhaps not got our receipt.
    pub fn receipt_again(&mut self, from: &UserId, id: &MessageId) -> Result<(), StoreError> {
        self.db
            .prepare_cached(
                "INSERT OR IGNORE INTO receipts (sender, id, digest, read)
                 SELECT sender, id, messages.digest, 0 FROM messages JOIN contacts ON user = sender
                 WHERE sender = ?1 AND id = ?2 AND messages.digest IS NOT NULL AND accepted = 1
                 AND coalesce((SELECT receipts FROM conversations WHERE partner = ?1), 1) > 0",
            )?
            .execute(params![from.as_str(), id.as_bytes()])?;
        Ok(())
    }

    /// To whom receipts are to be sent.
    pub fn receipts_due(&self) -> Result<Vec<UserId>, StoreError> {
        let mut statement = self
            .db
            .prepare_cached("SELECT DISTINCT sender FROM receipts")?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
        rows.map(|row| user_from(&row?)).collect()
    }

    /// What is to be receipted to one sender, at most `limit` of one state.
    pub fn receipts_for(
        &self,
        sender: &UserId,
        limit: usize,
    ) -> Result<Option<(ReceiptState, Vec<Receipted>)>, StoreError> {
        let mut statement = self.db.prepare_cached(
            "SELECT id, digest, read FROM receipts
             WHERE sender = ?1 AND read = (SELECT min(read) FROM receipts WHERE sender = ?1) LIMIT ?2",
        )?;
        let rows = statement.query_map(
            params![sender.as_str(), super::to_sql(limit as u64)],
            |row| {
                Ok((
                    row.get::<_, Vec<u8>>(0)?,
                    row.get::<_, [u8; 32]>(1)?,
                    row.get::<_, bool>(2)?,
                ))
            },
        )?;
        let (mut state, mut messages) = (ReceiptState::Delivered, Vec::new());
        for row in rows {
            let (id, digest, read) = row?;
            if read {
                state = ReceiptState::Read;
            }
            messages.push(Receipted {
                id: message_id(&id)?,
                digest,
            });
        }
        Ok((!messages.is_empty()).then_some((state, messages)))
    }

    /// The broker has a receipt for these.
    pub fn receipts_sent(
        &mut self,
        sender: &UserId,
        state: ReceiptState,
        messages: &[Receipted],
    ) -> Result<(), StoreError> {
        let tx = self.immediate()?;
        for message in messages {
            tx.prepare_cached("DELETE FROM receipts WHERE sender = ?1 AND id = ?2 AND read = ?3")?
                .execute(params![
                    sender.as_str(),
                    message.id.as_bytes(),
                    state == ReceiptState::Read
                ])?;
        }
        tx.commit()?;
        Ok(())
    }
}

/// Says whether there is such a contact; somebody who becomes one later is accepted for what is in the outbox.
pub(super) fn accept(tx: &Connection, user: &UserId) -> Result<bool, StoreError> {
    let fresh = tx
        .prepare_cached("UPDATE contacts SET accepted = 1 WHERE user = ?1 AND accepted = 0")?
        .execute([user.as_str()])?;
    if fresh == 1 {
        tx.execute(
            "INSERT OR IGNORE INTO receipts (sender, id, digest, read)
             SELECT sender, id, digest, 0 FROM messages WHERE sender = ?1 AND digest IS NOT NULL
             AND coalesce((SELECT receipts FROM conversations WHERE partner = ?1), 1) > 0
             ORDER BY number DESC LIMIT ?2",
            params![user.as_str(), MAX_LATE],
        )?;
    }
    tx.prepare_cached("UPDATE conversations SET request = 0 WHERE partner = ?1 AND request = 1")?
        .execute([user.as_str()])?;
    Ok(tx
        .prepare_cached("SELECT 1 FROM contacts WHERE user = ?1")?
        .exists([user.as_str()])?)
}
