//! Sending: from content to the envelope that goes to the broker. No sockets here.

use std::collections::HashMap;
use std::fmt;

use sealpost_core::{
    Content, ContentError, Envelope, KeyBundle, KeyId, MAX_PLAINTEXT, MessageId, SealError, Sealer,
    Timestamp, UserId,
};
use zeroize::Zeroizing;

use crate::account::Account;
use crate::keystore::KeystoreError;
use crate::store::{Once, Store, StoreError};
use crate::trust_policy::{NotPermitted, TrustPolicy};

/// How many recipients' sealers are kept: each holds an AES key for a minute at most.
const MAX_SEALERS: usize = 64;

/// Why nothing may be sent to somebody, whatever their keys are.
#[derive(Debug, thiserror::Error)]
pub enum PermitError {
    /// Our own keys are withdrawn.
    #[error(transparent)]
    Retired(KeystoreError),
    /// They are blocked.
    #[error("you have blocked {0}")]
    Blocked(UserId),
    /// The policy wants them known, or verified.
    #[error(transparent)]
    Policy(#[from] NotPermitted),
    /// What is known of them could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether somebody may be sent to. Ask before a message is kept, and before their keys are asked for, which may pin them.
/// `retired`: our own keys are withdrawn.
pub fn permit(
    store: &Store,
    policy: TrustPolicy,
    retired: bool,
    to: &UserId,
) -> Result<(), PermitError> {
    if retired {
        return Err(PermitError::Retired(KeystoreError::Retired));
    }
    if store.is_blocked(to)? {
        return Err(PermitError::Blocked(to.clone()));
    }
    Ok(policy.permit(to, store.contact(to)?.as_ref())?)
}

/// Why a message was not taken into the outbox.
#[derive(Debug, thiserror::Error)]
pub enum EnqueueError {
    /// It can never be sealed.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// It could not be written down.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its key is that of a message to somebody else, or with another content.
    #[error("another message was sent with this key")]
    KeyOfAnother,
}

/// Takes a message into the outbox. When it returns, the message is on disk and has its name.
pub fn enqueue(
    store: &mut Store,
    to: &UserId,
    content: &Content,
    now: Timestamp,
) -> Result<MessageId, EnqueueError> {
    let ids = enqueue_all(store, to, std::slice::from_ref(content), now)?;
    ids.first()
        .copied()
        .ok_or_else(|| StoreError::Damaged("a message vanished").into())
}

/// Takes several, all or none, in one write to the disk.
pub fn enqueue_all(
    store: &mut Store,
    to: &UserId,
    contents: &[Content],
    now: Timestamp,
) -> Result<Vec<MessageId>, EnqueueError> {
    let messages = contents
        .iter()
        .map(|content| named(content, now))
        .collect::<Result<Vec<_>, ContentError>>()?;
    store.enqueue(to, &messages, now)?;
    Ok(messages.into_iter().map(|(id, _)| id).collect())
}

/// Takes a message into the outbox, unless one with the same key was before: then that one's name is the answer.
pub fn enqueue_once(
    store: &mut Store,
    key: &str,
    to: &UserId,
    content: &Content,
    now: Timestamp,
) -> Result<MessageId, EnqueueError> {
    name_of(store.enqueue_once(key, to, named(content, now)?, now)?)
}

/// The message that was taken with this key before, if there is one.
pub fn enqueued_before(
    store: &Store,
    key: &str,
    to: &UserId,
    content: &Content,
) -> Result<Option<MessageId>, EnqueueError> {
    let body = Zeroizing::new(content.to_json()?);
    let before = store.taken_before(key, to, &body)?;
    before.map(name_of).transpose()
}

fn name_of(once: Once) -> Result<MessageId, EnqueueError> {
    match once {
        Once::Taken(id) => Ok(id),
        Once::KeyOfAnother => Err(EnqueueError::KeyOfAnother),
    }
}

/// A content as JSON, if it can be sealed, and a name for it.
fn named(
    content: &Content,
    now: Timestamp,
) -> Result<(MessageId, Zeroizing<String>), ContentError> {
    let json = Zeroizing::new(content.to_json()?);
    let length = json.len();
    if length > MAX_PLAINTEXT {
        return Err(ContentError::TooLong { length });
    }
    Ok((MessageId::new(now, &mut rand::rng()), json))
}

/// Seals, in bursts: what goes to one recipient within a minute needs one RSA operation on either side.
#[derive(Default)]
pub struct Sealers(HashMap<UserId, Sealer>);

impl fmt::Debug for Sealers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealers({})", self.0.len())
    }
}

impl Sealers {
    /// Seals a new message. `to` is a bundle that is believed.
    pub fn seal(
        &mut self,
        account: &Account,
        to: &KeyBundle,
        id: MessageId,
        prev: Option<MessageId>,
        content: &Content,
        now: Timestamp,
    ) -> Result<Envelope, SealError> {
        self.of(account, to)?
            .seal(&mut rand::rng(), now, id, prev, content)
    }

    /// The envelope that carries a message now, given the one that it was sealed as before: the same, unless the
    /// recipient's or our keys have changed since.
    pub fn seal_again(
        &mut self,
        account: &Account,
        to: &KeyBundle,
        before: Envelope,
        content: &Content,
        now: Timestamp,
    ) -> Result<Envelope, SealError> {
        let best = to.encryption().first().ok_or(SealError::NoEncryptionKey)?;
        let key = KeyId::of(to.realm(), to.identity(), best);
        if *before.key() == key && *before.signer() == account.identity_key() {
            return Ok(before);
        }
        self.of(account, to)?
            .seal_again(&mut rand::rng(), now, &before, content)
    }

    /// Forgets all sealing keys.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    fn of(&mut self, account: &Account, to: &KeyBundle) -> Result<&mut Sealer, SealError> {
        let current = self
            .0
            .get(to.user())
            .is_some_and(|sealer| sealer.recipient() == to);
        if !current {
            if self.0.len() >= MAX_SEALERS {
                self.0.clear();
            }
            let sealer = Sealer::burst(account.identity(), account.user(), to)?;
            self.0.insert(to.user().clone(), sealer);
        }
        // It is there: put in above.
        self.0.get_mut(to.user()).ok_or(SealError::Failed)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::account::tests::{account, start};
    use std::time::Duration;

    /// A new message.
    pub(crate) fn seal(
        from: &Account,
        to: &KeyBundle,
        prev: Option<MessageId>,
        content: &Content,
        now: Timestamp,
    ) -> Result<Envelope, SealError> {
        let id = MessageId::new(now, &mut rand::rng());
        Sealers::default().seal(from, to, id, prev, content, now)
    }

    fn text(text: &str) -> Content {
        Content::Text { text: text.into() }
    }

    #[test]
    fn what_is_sent_again_is_the_same_bytes_until_keys_change() {
        let folder = tempfile::tempdir().unwrap();
        let (alice, mut bob) = (account(&folder, "alice"), account(&folder, "bob"));
        let mut sealers = Sealers::default();
        let content = text("hi");
        let first = seal(&alice, bob.bundle(), None, &content, start()).unwrap();
        let later = start().saturating_add(Duration::from_secs(60));
        let again = sealers
            .seal_again(&alice, bob.bundle(), first.clone(), &content, later)
            .unwrap();
        assert_eq!(again, first);
        bob.rotate(later).unwrap();
        let again = sealers
            .seal_again(&alice, bob.bundle(), first.clone(), &content, later)
            .unwrap();
        assert_ne!(again.key(), first.key());
        assert_eq!(
            (again.id(), again.prev(), again.ts()),
            (first.id(), first.prev(), first.ts())
        );
    }

    #[test]
    fn messages_to_one_recipient_share_one_wrapped_key() {
        let folder = tempfile::tempdir().unwrap();
        let (alice, bob) = (account(&folder, "alice"), account(&folder, "bob"));
        let mut sealers = Sealers::default();
        let mut next = || {
            let id = MessageId::new(start(), &mut rand::rng());
            sealers
                .seal(&alice, bob.bundle(), id, None, &text("hi"), start())
                .unwrap()
        };
        let (one, two) = (next(), next());
        assert_eq!(one.enc_key(), two.enc_key());
        assert_ne!(one.nonce(), two.nonce());
    }

    #[test]
    fn what_can_never_be_sealed_is_refused_at_once_and_nothing_of_it_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let bob = UserId::parse("bob").unwrap();
        let mut store = crate::store::tests::store(&folder);
        let contents = [text("fits"), text(&"x".repeat(MAX_PLAINTEXT))];
        assert!(matches!(
            enqueue_all(&mut store, &bob, &contents, start()),
            Err(EnqueueError::Content(ContentError::TooLong { .. }))
        ));
        assert_eq!(store.queued().unwrap(), 0);
    }
}
