//! Contacts: the pin, the last bundle, a changed identity that waits for a decision, failures, the last id sent.

use rusqlite::{OptionalExtension, Row, params};
use sealpost_core::{IdentityKey, MessageId, Pin, Timestamp, UserId};

use super::{Store, StoreError, from_sql, timestamp_from, to_sql, user_from};

/// After so many envelopes with a good signature that RSA or GCM refuses, nothing more of that sender is opened:
/// whoever sends those is probing the private key.
pub const SUSPENDED_AFTER: u32 = 3;

/// One contact.
#[derive(Debug, Clone)]
pub struct Contact {
    /// Who.
    pub user: UserId,
    /// The identity we believe in.
    pub pin: Pin,
    /// Since when.
    pub pinned_at: Timestamp,
    /// The last bundle that fitted the pin. Empty for somebody who was added by a link and has not published yet.
    pub bundle: Vec<u8>,
    /// The bundle of a changed identity, waiting for a decision.
    pub offered: Option<Vec<u8>>,
    /// Envelopes with a good signature that did not decrypt, since the last decision.
    pub failures: u32,
}

impl Contact {
    /// Whether a bundle of theirs was ever seen.
    #[must_use]
    pub fn has_published(&self) -> bool {
        !self.bundle.is_empty()
    }

    /// Whether opening is suspended.
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        self.failures >= SUSPENDED_AFTER
    }
}

/// How many envelopes did not decrypt, since the last decision about each sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failures {
    /// Of this sender.
    pub of_sender: u32,
    /// Of everybody.
    pub of_all: u32,
}

const COLUMNS: &str = "user, identity, seq, digest, verified, pinned_at, bundle, offered, failures";

struct RawContact {
    user: String,
    identity: Vec<u8>,
    seq: i64,
    digest: Vec<u8>,
    verified: bool,
    pinned_at: i64,
    bundle: Vec<u8>,
    offered: Option<Vec<u8>>,
    failures: u32,
}

impl RawContact {
    fn read(row: &Row<'_>) -> rusqlite::Result<RawContact> {
        Ok(RawContact {
            user: row.get(0)?,
            identity: row.get(1)?,
            seq: row.get(2)?,
            digest: row.get(3)?,
            verified: row.get(4)?,
            pinned_at: row.get(5)?,
            bundle: row.get(6)?,
            offered: row.get(7)?,
            failures: row.get(8)?,
        })
    }

    fn check(self) -> Result<Contact, StoreError> {
        Ok(Contact {
            user: user_from(&self.user)?,
            pin: Pin {
                identity: IdentityKey::parse(&self.identity)
                    .map_err(|_| StoreError::Damaged("a pinned identity is malformed"))?,
                seq: from_sql(self.seq)?,
                digest: self
                    .digest
                    .try_into()
                    .map_err(|_| StoreError::Damaged("a pinned digest is malformed"))?,
                verified: self.verified,
            },
            pinned_at: timestamp_from(from_sql(self.pinned_at)?)?,
            bundle: self.bundle,
            offered: self.offered,
            failures: self.failures,
        })
    }
}

/// What a look at a bundle changes about a contact.
#[derive(Debug, Clone)]
pub(crate) enum ContactChange {
    /// Nothing.
    Keep,
    /// This pin, with its bundle; an offer that waited is settled.
    Pin(Pin, Vec<u8>),
    /// A changed identity waits for a decision.
    Offer(Vec<u8>),
}

impl Store {
    /// One contact.
    pub fn contact(&self, user: &UserId) -> Result<Option<Contact>, StoreError> {
        self.db
            .prepare_cached(&format!("SELECT {COLUMNS} FROM contacts WHERE user = ?1"))?
            .query_row([user.as_str()], RawContact::read)
            .optional()?
            .map(RawContact::check)
            .transpose()
    }

    /// All contacts, by name.
    pub fn contacts(&self) -> Result<Vec<Contact>, StoreError> {
        let mut statement = self
            .db
            .prepare_cached(&format!("SELECT {COLUMNS} FROM contacts ORDER BY user"))?;
        let rows = statement.query_map([], RawContact::read)?;
        rows.map(|row| row?.check()).collect()
    }

    /// Shows `decide` the contact as it is and applies its answer, in one transaction: two processes that look at two
    /// bundles at once cannot both pin.
    pub(crate) fn change_contact<T>(
        &mut self,
        user: &UserId,
        now: Timestamp,
        decide: impl FnOnce(Option<&Contact>) -> (ContactChange, T),
    ) -> Result<T, StoreError> {
        let tx = self.immediate()?;
        let contact = tx
            .prepare_cached(&format!("SELECT {COLUMNS} FROM contacts WHERE user = ?1"))?
            .query_row([user.as_str()], RawContact::read)
            .optional()?
            .map(RawContact::check)
            .transpose()?;
        let (change, answer) = decide(contact.as_ref());
        match change {
            ContactChange::Keep => {}
            ContactChange::Pin(pin, bundle) => {
                let same = contact.is_some_and(|c| c.pin.identity == pin.identity);
                tx.execute(
                    "INSERT INTO contacts (user, identity, seq, digest, verified, pinned_at, bundle, accepted)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?5 OR EXISTS (SELECT 1 FROM outbox WHERE recipient = ?1))
                     ON CONFLICT (user) DO UPDATE SET
                         identity = excluded.identity, seq = excluded.seq, digest = excluded.digest,
                         verified = excluded.verified, bundle = excluded.bundle, offered = NULL,
                         accepted = max(accepted, excluded.accepted),
                         pinned_at = iif(?8, pinned_at, excluded.pinned_at),
                         failures = iif(?8, failures, 0)",
                    params![
                        user.as_str(),
                        pin.identity.as_bytes(),
                        to_sql(pin.seq),
                        pin.digest,
                        pin.verified,
                        to_sql(now.millis()),
                        bundle,
                        same,
                    ],
                )?;
            }
            ContactChange::Offer(bundle) => {
                tx.execute(
                    "UPDATE contacts SET offered = ?2 WHERE user = ?1",
                    params![user.as_str(), bundle],
                )?;
            }
        }
        tx.commit()?;
        Ok(answer)
    }

    /// Marks a contact verified, if its identity still is the one that was compared. Says whether it was.
    pub fn mark_verified(
        &mut self,
        user: &UserId,
        compared: &IdentityKey,
    ) -> Result<bool, StoreError> {
        let tx = self.immediate()?;
        let changed = tx.execute(
            "UPDATE contacts SET verified = 1 WHERE user = ?1 AND identity = ?2",
            params![user.as_str(), compared.as_bytes()],
        )?;
        if changed == 1 {
            super::receipts::accept(&tx, user)?;
        }
        tx.commit()?;
        Ok(changed == 1)
    }

    /// Takes the mark from a contact with whom a comparison went wrong.
    pub fn unmark_verified(&mut self, user: &UserId) -> Result<(), StoreError> {
        self.db.execute(
            "UPDATE contacts SET verified = 0 WHERE user = ?1",
            params![user.as_str()],
        )?;
        Ok(())
    }

    /// Counts an envelope that did not decrypt and notes it as refused, in one transaction. `None` when these bytes
    /// were counted before.
    pub fn note_failure(
        &mut self,
        user: &UserId,
        digest: &[u8; 32],
        now: Timestamp,
    ) -> Result<Option<Failures>, StoreError> {
        let tx = self.immediate()?;
        if !super::waiting::note_refused(&tx, digest, now)? {
            return Ok(None);
        }
        let of_sender: Option<u32> = tx
            .query_row(
                "UPDATE contacts SET failures = failures + 1 WHERE user = ?1 RETURNING failures",
                [user.as_str()],
                |row| row.get(0),
            )
            .optional()?;
        let of_all: u32 =
            tx.query_row("SELECT sum(failures) FROM contacts", [], |row| row.get(0))?;
        tx.commit()?;
        Ok(Some(Failures {
            of_sender: of_sender.unwrap_or_default(),
            of_all,
        }))
    }

    /// Lets a suspended contact speak again.
    pub fn clear_failures(&mut self, user: &UserId) -> Result<(), StoreError> {
        self.db.execute(
            "UPDATE contacts SET failures = 0 WHERE user = ?1",
            [user.as_str()],
        )?;
        Ok(())
    }
}

pub(super) fn message_id(bytes: &[u8]) -> Result<MessageId, StoreError> {
    let bytes: [u8; 16] = bytes
        .try_into()
        .map_err(|_| StoreError::Damaged("a message id is malformed"))?;
    MessageId::from_bytes(bytes).map_err(|_| StoreError::Damaged("a message id is malformed"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{at, store, user};
    use super::*;
    use sealpost_core::Identity;

    fn pin(seed: u8, seq: u64) -> Pin {
        Pin {
            identity: Identity::from_seed(&[seed; 32]).key(),
            seq,
            digest: [seed; 32],
            verified: false,
        }
    }

    fn put(store: &mut Store, name: &str, pin: Pin) {
        store
            .change_contact(&user(name), at(5), |_| {
                (ContactChange::Pin(pin, b"bundle".to_vec()), ())
            })
            .unwrap();
    }

    #[test]
    fn a_pin_is_kept_across_openings() {
        let folder = tempfile::tempdir().unwrap();
        put(&mut store(&folder), "bob", pin(1, 7));
        let contact = store(&folder).contact(&user("bob")).unwrap().unwrap();
        assert_eq!(contact.pin, pin(1, 7));
        assert_eq!(contact.bundle, b"bundle");
        assert_eq!(contact.pinned_at, at(5));
        assert!(store(&folder).contact(&user("carol")).unwrap().is_none());
    }

    #[test]
    fn verifying_names_the_identity_that_was_compared() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(&folder);
        put(&mut store, "bob", pin(1, 7));
        assert!(
            !store
                .mark_verified(&user("bob"), &pin(2, 7).identity)
                .unwrap()
        );
        assert!(!store.contact(&user("bob")).unwrap().unwrap().pin.verified);
        assert!(
            store
                .mark_verified(&user("bob"), &pin(1, 7).identity)
                .unwrap()
        );
        assert!(store.contact(&user("bob")).unwrap().unwrap().pin.verified);
    }

    #[test]
    fn a_comparison_that_went_wrong_takes_the_mark() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(&folder);
        put(&mut store, "bob", pin(1, 7));
        let bob = user("bob");
        assert!(store.mark_verified(&bob, &pin(1, 7).identity).unwrap());
        store.unmark_verified(&bob).unwrap();
        assert!(!store.contact(&bob).unwrap().unwrap().pin.verified);
    }

    #[test]
    fn the_third_failure_suspends_and_only_a_new_identity_or_a_decision_clears_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(&folder);
        let bob = user("bob");
        put(&mut store, "bob", pin(1, 7));
        put(&mut store, "carol", pin(3, 7));
        store.note_failure(&user("carol"), &[9; 32], at(5)).unwrap();
        for n in 1..=3 {
            assert!(!store.contact(&bob).unwrap().unwrap().is_suspended());
            let counted = store.note_failure(&bob, &[n; 32], at(5)).unwrap();
            let (of_sender, of_all) = (u32::from(n), u32::from(n) + 1);
            assert_eq!(counted, Some(Failures { of_sender, of_all }));
            assert!(store.was_refused(&[n; 32]).unwrap());
            assert_eq!(store.note_failure(&bob, &[n; 32], at(6)).unwrap(), None);
        }
        assert!(store.contact(&bob).unwrap().unwrap().is_suspended());
        put(&mut store, "bob", pin(1, 8));
        assert!(store.contact(&bob).unwrap().unwrap().is_suspended());
        put(&mut store, "bob", pin(2, 9));
        assert!(!store.contact(&bob).unwrap().unwrap().is_suspended());
        store.note_failure(&bob, &[4; 32], at(5)).unwrap();
        store.clear_failures(&bob).unwrap();
        assert_eq!(store.contact(&bob).unwrap().unwrap().failures, 0);
    }

    #[test]
    fn an_offer_waits_until_a_pin_settles_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(&folder);
        let bob = user("bob");
        put(&mut store, "bob", pin(1, 7));
        store
            .change_contact(&bob, at(6), |_| {
                (ContactChange::Offer(b"offer".to_vec()), ())
            })
            .unwrap();
        let contact = store.contact(&bob).unwrap().unwrap();
        assert_eq!(contact.offered.as_deref(), Some(&b"offer"[..]));
        assert_eq!(contact.pin, pin(1, 7));
        put(&mut store, "bob", pin(2, 8));
        assert_eq!(store.contact(&bob).unwrap().unwrap().offered, None);
    }
}
