//! Opening: from an envelope to its content, in an order that keeps strangers away from the private key.
//!
//! [`open`] is the only way in, and its steps are fixed: the envelope is for me, of my realm, from the identity that I
//! pinned for its sender, signed by it, and new. Only then is there a `Vetted` envelope, and only that can be
//! decrypted. So whoever wants to probe the RSA operation must first be somebody whose key you pinned, and each
//! attempt is signed by them.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::aead;
use crate::content::{Content, ContentError};
use crate::encryption::{DecryptionKey, KeyId};
use crate::envelope::Envelope;
use crate::identity::IdentityKey;
use crate::message_id::MessageId;
use crate::name::{Realm, UserId};
use crate::timestamp::Timestamp;

/// The most AES keys that a [`BurstCache`] holds: one for each of as many busy senders.
pub const MAX_CACHED_KEYS: usize = 64;

/// Why an envelope was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// `to` is somebody else.
    #[error("the envelope is for somebody else")]
    NotForMe,
    /// It was sealed in another realm.
    #[error("the envelope is from another realm")]
    WrongRealm,
    /// It is signed by another identity than the one pinned for its sender.
    #[error("the envelope is signed by {signer}, which is not the identity known for its sender")]
    SignerIsNotPinned {
        /// Who says they signed it.
        signer: IdentityKey,
    },
    /// The signature does not hold.
    #[error("the envelope's signature does not hold")]
    BadSignature,
    /// A message of this name from this sender was opened before.
    #[error("the message was opened before")]
    AlreadySeen,
    /// The message is so old that whether it was opened before is no longer known.
    #[error("the message is older than what is remembered of its sender")]
    BelowFloor,
    /// It is encrypted to a key that is not ours, or no longer.
    #[error("the envelope is encrypted to a key that is not at hand")]
    UnknownKey,
    /// It cannot be decrypted. Why is told to nobody.
    ///
    /// The pinned sender signed it, so count it against that identity, durably; after the third, open nothing more of
    /// theirs until a person lifts that (SPEC section 7.7).
    #[error("the envelope cannot be decrypted")]
    CannotDecrypt,
    /// It was decrypted, but its content makes no sense.
    #[error("the message was decrypted, but is malformed: {reason}")]
    BadContent {
        /// In what way.
        reason: ContentError,
    },
}

/// Who opens: me, and my private keys.
#[derive(Clone, Copy)]
pub struct Recipient<'a> {
    /// The deployment I am in.
    pub realm: &'a Realm,
    /// My name.
    pub user: &'a UserId,
    /// My identity, which is part of what the key's id is made of. After a change of identity, mail sealed to the one
    /// before is [`OpenError::UnknownKey`]; it opens with that identity here, and its keys.
    pub identity: &'a IdentityKey,
    /// My private keys, newest first, with the old ones that are still in their grace period.
    pub keys: &'a [&'a dyn DecryptionKey],
}

impl fmt::Debug for Recipient<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Recipient({} in {}, {} keys)",
            self.user,
            self.realm,
            self.keys.len()
        )
    }
}

/// What is remembered of messages that were opened before.
///
/// There is no error here, on purpose: whoever cannot read the memory must not open. So read what is remembered of
/// (`from`, `id`) first, and lend [`open`] the answer.
pub trait Seen {
    /// Whether this message of this sender was opened and stored.
    fn contains(&self, from: &UserId, id: &MessageId) -> bool;

    /// Below which `ts` this sender's mail is refused, because what was seen then has been forgotten.
    fn floor(&self, from: &UserId) -> Option<Timestamp>;
}

/// AES keys of senders' bursts, so that one RSA operation serves all messages of a burst.
///
/// Holds a key only after a message under it was authenticated, at most [`MAX_CACHED_KEYS`] of them, and erases what
/// it drops.
#[derive(Default)]
pub struct BurstCache {
    /// Least recently used first. Boxed, so that moving an entry leaves no copy of a key behind.
    entries: Vec<(BurstName, Box<Zeroizing<[u8; 32]>>)>,
}

/// What identifies a burst's key.
#[derive(Clone, PartialEq, Eq)]
struct BurstName {
    key: KeyId,
    signer: IdentityKey,
    wrapped: [u8; 32],
}

impl BurstName {
    fn of(envelope: &Envelope) -> Self {
        Self {
            key: *envelope.key(),
            signer: *envelope.signer(),
            wrapped: Sha256::digest(envelope.enc_key()).into(),
        }
    }
}

impl BurstCache {
    /// An empty cache.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            entries: Vec::new(),
        }
    }

    /// How many keys it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Erases what was unwrapped with one private key. Call it when that key is destroyed.
    pub fn wipe(&mut self, key: &KeyId) {
        self.entries.retain(|(name, _)| name.key != *key);
    }

    /// Erases everything.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// The key of a burst, which becomes the most recently used.
    fn get(&mut self, name: &BurstName) -> Option<&[u8; 32]> {
        let index = self.entries.iter().position(|(entry, _)| entry == name)?;
        let entry = self.entries.remove(index);
        self.entries.push(entry);
        self.entries.last().map(|(_, key)| &***key)
    }

    fn put(&mut self, name: BurstName, key: &[u8; 32]) {
        if self.entries.len() >= MAX_CACHED_KEYS {
            self.entries.remove(0);
        }
        let mut entry = Box::new(Zeroizing::new([0; 32]));
        entry.copy_from_slice(key);
        self.entries.push((name, entry));
    }
}

impl fmt::Debug for BurstCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BurstCache({} keys, redacted)", self.entries.len())
    }
}

/// Opens an envelope.
///
/// `pinned` is the identity that is pinned for `envelope.from()`, see [`assess`](crate::assess): looked up by that
/// name, never by the envelope's signer. The caller stores the content and marks (from, id) seen in one transaction;
/// after an error it marks nothing.
///
/// # Errors
/// The first step that failed, see [`OpenError`].
pub fn open(
    envelope: &Envelope,
    recipient: &Recipient<'_>,
    pinned: &IdentityKey,
    seen: &(impl Seen + ?Sized),
    cache: &mut BurstCache,
) -> Result<Content, OpenError> {
    let plaintext =
        vetted::Vetted::vet(envelope, recipient, pinned, seen)?.decrypt(recipient, cache)?;
    Content::from_plaintext(&plaintext).map_err(|reason| OpenError::BadContent { reason })
}

/// A module of its own, so that nothing outside can make a [`Vetted`](vetted::Vetted) but by vetting.
mod vetted {
    use super::{
        BurstCache, BurstName, DecryptionKey, Envelope, IdentityKey, KeyId, OpenError, Recipient,
        Seen, Vec, Zeroizing, aead,
    };

    /// An envelope for which everything held that can be checked without a secret.
    pub(super) struct Vetted<'a>(&'a Envelope);

    impl<'a> Vetted<'a> {
        /// Everything but the secret's part, in order.
        pub(super) fn vet(
            envelope: &'a Envelope,
            recipient: &Recipient<'_>,
            pinned: &IdentityKey,
            seen: &(impl Seen + ?Sized),
        ) -> Result<Self, OpenError> {
            if envelope.to() != recipient.user {
                return Err(OpenError::NotForMe);
            }
            if envelope.realm() != recipient.realm {
                return Err(OpenError::WrongRealm);
            }
            if envelope.signer() != pinned {
                return Err(OpenError::SignerIsNotPinned {
                    signer: *envelope.signer(),
                });
            }
            envelope
                .verify_signature()
                .map_err(|_| OpenError::BadSignature)?;
            if seen.contains(envelope.from(), envelope.id()) {
                return Err(OpenError::AlreadySeen);
            }
            if seen
                .floor(envelope.from())
                .is_some_and(|floor| envelope.ts() < floor)
            {
                return Err(OpenError::BelowFloor);
            }
            Ok(Self(envelope))
        }

        /// The plaintext, padding and all.
        pub(super) fn decrypt(
            self,
            recipient: &Recipient<'_>,
            cache: &mut BurstCache,
        ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
            let id_of = |key: &dyn DecryptionKey| {
                KeyId::of(recipient.realm, recipient.identity, key.encryption_key())
            };
            let key = recipient
                .keys
                .iter()
                .find(|key| id_of(**key) == *self.0.key());
            let key = *key.ok_or(OpenError::UnknownKey)?;

            let name = BurstName::of(self.0);
            if let Some(message_key) = cache.get(&name) {
                return self.decrypt_with(message_key);
            }
            if !key.encryption_key().could_have_made(self.0.enc_key()) {
                return Err(OpenError::CannotDecrypt);
            }
            // A failed unwrap goes on with a key that nobody's message counts under, so that the two failures take
            // the same way.
            let (message_key, unwrapped) = match key.unwrap_key(self.0.enc_key()) {
                Ok(message_key) => (message_key, true),
                Err(_) => (Zeroizing::new([0; 32]), false),
            };
            let plaintext = self.decrypt_with(&message_key);
            if !unwrapped {
                return Err(OpenError::CannotDecrypt);
            }
            if plaintext.is_ok() {
                cache.put(name, &message_key);
            }
            plaintext
        }

        fn decrypt_with(&self, message_key: &[u8; 32]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
            let mut buffer = Zeroizing::new(self.0.ciphertext().to_vec());
            aead::decrypt(
                message_key,
                self.0.nonce(),
                &self.0.header().aad(),
                &mut buffer,
            )
            .map_err(|_| OpenError::CannotDecrypt)?;
            Ok(buffer)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Content;
    use crate::encryption::{EncryptionKey, RsaDecryptionKey, UnwrapError};
    use crate::envelope::Header;
    use crate::identity::Identity;
    use crate::testing::rng;
    use core::sync::atomic::{AtomicUsize, Ordering};

    /// The key of every message here.
    const KEY: [u8; 32] = [7; 32];

    /// A private key that counts how often it is used.
    struct Counting {
        rsa: RsaDecryptionKey,
        used: AtomicUsize,
    }

    impl DecryptionKey for Counting {
        fn encryption_key(&self) -> &EncryptionKey {
            self.rsa.encryption_key()
        }

        fn unwrap_key(&self, wrapped: &[u8]) -> Result<Zeroizing<[u8; 32]>, UnwrapError> {
            self.used.fetch_add(1, Ordering::Relaxed);
            self.rsa.unwrap_key(wrapped)
        }
    }

    struct NothingSeen;

    impl Seen for NothingSeen {
        fn contains(&self, _: &UserId, _: &MessageId) -> bool {
            false
        }

        fn floor(&self, _: &UserId) -> Option<Timestamp> {
            None
        }
    }

    /// Bob, with the one cache in which everything here happens.
    struct Bob {
        identity: Identity,
        key: Counting,
        cache: BurstCache,
    }

    impl Bob {
        fn new() -> Self {
            let rsa = RsaDecryptionKey::generate(&mut rng(1), 2_048).unwrap();
            Self {
                identity: Identity::from_seed(&[2; 32]),
                key: Counting {
                    rsa,
                    used: AtomicUsize::new(0),
                },
                cache: BurstCache::new(),
            }
        }

        /// A wrapped key, another one for each seed.
        fn wrapped(&self, seed: u64) -> Vec<u8> {
            let key = self.key.encryption_key();
            key.wrap(&mut rng(seed), &KEY).unwrap()
        }

        /// Opens what `signer` makes of `enc_key` and a message under `message_key`. Counts the RSA operations too.
        fn opens(
            &mut self,
            signer: &Identity,
            enc_key: &[u8],
            message_key: &[u8; 32],
        ) -> (Result<(), OpenError>, usize) {
            let (realm, bob) = (Realm::default(), UserId::parse("bob").unwrap());
            let identity = self.identity.key();
            let ts = Timestamp::from_millis(1_700_000_000_000).unwrap();
            let header = Header {
                realm: realm.clone(),
                id: MessageId::new(ts, &mut rng(1)),
                prev: None,
                ts,
                from: UserId::parse("alice").unwrap(),
                to: bob.clone(),
                key: KeyId::of(&realm, &identity, self.key.encryption_key()),
                signer: signer.key(),
            };
            let text = Content::Text { text: "x".into() };
            let mut buffer = text.to_plaintext().unwrap();
            let nonce = [0; 12];
            aead::encrypt(message_key, &nonce, &header.aad(), &mut buffer).unwrap();
            let envelope = Envelope::sign(header, enc_key.to_vec(), nonce, buffer.to_vec(), signer);
            let recipient = Recipient {
                realm: &realm,
                user: &bob,
                identity: &identity,
                keys: &[&self.key],
            };
            let before = self.key.used.load(Ordering::Relaxed);
            let opened = open(
                &envelope,
                &recipient,
                &signer.key(),
                &NothingSeen,
                &mut self.cache,
            );
            let used = self.key.used.load(Ordering::Relaxed) - before;
            (opened.map(drop), used)
        }
    }

    #[test]
    fn a_message_that_does_not_decrypt_leaves_no_key_in_the_cache() {
        let (alice, mut bob) = (Identity::from_seed(&[1; 32]), Bob::new());
        let wrapped = bob.wrapped(1);
        let opened = bob.opens(&alice, &wrapped, &[8; 32]);
        assert_eq!(opened, (Err(OpenError::CannotDecrypt), 1));
        assert!(bob.cache.is_empty());
    }

    #[test]
    fn one_signers_burst_is_not_anothers() {
        let (alice, mallory) = (Identity::from_seed(&[1; 32]), Identity::from_seed(&[3; 32]));
        let mut bob = Bob::new();
        let wrapped = bob.wrapped(1);
        assert_eq!(bob.opens(&alice, &wrapped, &KEY), (Ok(()), 1));
        assert_eq!(bob.opens(&alice, &wrapped, &KEY), (Ok(()), 0));
        assert_eq!(bob.opens(&mallory, &wrapped, &KEY), (Ok(()), 1));
        assert_eq!(bob.cache.len(), 2);
    }

    #[test]
    fn the_key_that_was_not_used_for_longest_makes_room() {
        let (alice, mut bob) = (Identity::from_seed(&[1; 32]), Bob::new());
        let wrapped: Vec<_> = (0..=MAX_CACHED_KEYS as u64)
            .map(|seed| bob.wrapped(seed))
            .collect();
        let (last, full) = wrapped.split_last().unwrap();
        for wrapped in full {
            assert_eq!(bob.opens(&alice, wrapped, &KEY), (Ok(()), 1));
        }
        assert_eq!(bob.opens(&alice, &full[0], &KEY), (Ok(()), 0));
        assert_eq!(bob.opens(&alice, last, &KEY), (Ok(()), 1));
        for (wrapped, operations) in [(last, 0), (&full[0], 0), (&full[2], 0), (&full[1], 1)] {
            assert_eq!(bob.opens(&alice, wrapped, &KEY), (Ok(()), operations));
        }
    }

    #[test]
    fn what_cannot_be_a_wrapped_key_does_not_reach_the_private_key() {
        let (alice, mut bob) = (Identity::from_seed(&[1; 32]), Bob::new());
        for enc_key in [[0xff; 256].as_slice(), &[0; 257], &[1; 384]] {
            let opened = bob.opens(&alice, enc_key, &KEY);
            assert_eq!(opened, (Err(OpenError::CannotDecrypt), 0));
        }
    }

    #[test]
    fn a_key_that_does_not_unwrap_opens_nothing_under_any_stand_in_for_it() {
        let (alice, mut bob) = (Identity::from_seed(&[1; 32]), Bob::new());
        let opened = bob.opens(&alice, &[1; 256], &[0; 32]);
        assert_eq!(opened, (Err(OpenError::CannotDecrypt), 1));
        assert!(bob.cache.is_empty());
    }
}
