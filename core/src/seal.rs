//! Sealing: from content to an envelope that only the recipient can open and everybody can attribute.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::mem;
use core::time::Duration;

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::aead;
use crate::bundle::{BundleTimeError, KeyBundle};
use crate::content::{Content, ContentError};
use crate::encryption::{EncryptionKey, KeyId};
use crate::envelope::{Envelope, Header, NONCE_LEN};
use crate::identity::Identity;
use crate::message_id::MessageId;
use crate::name::UserId;
use crate::timestamp::Timestamp;

/// The most messages under one AES key: far below the 2^32 at which random nonces of 12 bytes stop being safe
/// (NIST SP 800-38D section 8.3), and what one leaked key can open.
pub const MAX_BURST_MESSAGES: u32 = 1_024;
/// The longest an AES key is used.
pub const MAX_BURST_DURATION: Duration = Duration::from_secs(60);

/// Why a message was not sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The recipient's bundle has no key that we can encrypt to: they retired, or moved to a later version.
    #[error("the recipient publishes no key to encrypt to")]
    NoEncryptionKey,
    /// The recipient's bundle is not valid now.
    #[error("the recipient's keys cannot be used: {0}")]
    BundleNotValid(#[source] BundleTimeError),
    /// The message to be sealed again is from or to somebody else, or of another realm.
    #[error("the message belongs to another conversation")]
    OtherConversation,
    /// The content cannot be sent.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The cryptographic library failed. It does not for keys that were parsed.
    #[error("encryption failed")]
    Failed,
}

/// Seals messages from one sender to one recipient's key.
///
/// Make a new one when the recipient publishes new keys.
pub struct Sealer {
    identity: Identity,
    from: UserId,
    to: KeyBundle,
    key: EncryptionKey,
    key_id: KeyId,
    bursts: bool,
    current: Option<MessageKey>,
}

/// An AES key and what it looks like to the recipient.
struct MessageKey {
    /// Boxed, so that moving it leaves no copy behind.
    key: Box<Zeroizing<[u8; 32]>>,
    wrapped: Vec<u8>,
    since: Timestamp,
    messages: u32,
}

impl Sealer {
    /// Seals from `from`, whose secret is `identity`, to the owner of `to`, each message under an AES key of its own.
    ///
    /// `to` is the recipient's bundle **after** [`assess`](crate::assess) accepted it; realm, recipient and best key
    /// are taken from it. The secret is cloned and erased with the sealer.
    ///
    /// # Errors
    /// [`SealError::NoEncryptionKey`].
    pub fn new(identity: &Identity, from: &UserId, to: &KeyBundle) -> Result<Self, SealError> {
        Self::with(identity, from, to, false)
    }

    /// The same for a sender with much to say: one AES key for up to [`MAX_BURST_MESSAGES`] messages and
    /// [`MAX_BURST_DURATION`], each under a fresh random nonce, and then another. The recipient's RSA operation is
    /// saved for all but the first.
    ///
    /// # Errors
    /// [`SealError::NoEncryptionKey`].
    pub fn burst(identity: &Identity, from: &UserId, to: &KeyBundle) -> Result<Self, SealError> {
        Self::with(identity, from, to, true)
    }

    fn with(
        identity: &Identity,
        from: &UserId,
        to: &KeyBundle,
        bursts: bool,
    ) -> Result<Self, SealError> {
        let key = to
            .encryption()
            .first()
            .ok_or(SealError::NoEncryptionKey)?
            .clone();
        Ok(Self {
            identity: identity.clone(),
            from: from.clone(),
            to: to.clone(),
            key_id: KeyId::of(to.realm(), to.identity(), &key),
            key,
            bursts,
            current: None,
        })
    }

    /// The bundle that messages are sealed to.
    #[must_use]
    pub const fn recipient(&self) -> &KeyBundle {
        &self.to
    }

    /// Seals a new message.
    ///
    /// `id` is new too; `prev` is the message before it to the same recipient.
    ///
    /// # Errors
    /// When the recipient's bundle is not valid at `now`, or the content cannot be sent.
    pub fn seal(
        &mut self,
        rng: &mut (impl CryptoRng + ?Sized),
        now: Timestamp,
        id: MessageId,
        prev: Option<MessageId>,
        content: &Content,
    ) -> Result<Envelope, SealError> {
        let header = self.header(id, prev, now);
        self.seal_under(rng, now, header, content)
    }

    /// Seals a message again that was sealed as `before`, because its recipient or its sender has new keys since.
    ///
    /// It keeps its `id`, `prev` and `ts`: however the two copies arrive, the recipient shows one. (Sending the same
    /// bytes again needs no sealing.)
    ///
    /// # Errors
    /// [`SealError::OtherConversation`] when `before` is not from this sender to this recipient, and as
    /// [`seal`](Self::seal).
    pub fn seal_again(
        &mut self,
        rng: &mut (impl CryptoRng + ?Sized),
        now: Timestamp,
        before: &Envelope,
        content: &Content,
    ) -> Result<Envelope, SealError> {
        let header = self.header(*before.id(), before.prev().copied(), before.ts());
        if (&header.realm, &header.from, &header.to) != (before.realm(), before.from(), before.to())
        {
            return Err(SealError::OtherConversation);
        }
        self.seal_under(rng, now, header, content)
    }

    fn header(&self, id: MessageId, prev: Option<MessageId>, ts: Timestamp) -> Header {
        Header {
            realm: self.to.realm().clone(),
            id,
            prev,
            ts,
            from: self.from.clone(),
            to: self.to.user().clone(),
            key: self.key_id,
            signer: self.identity.key(),
        }
    }

    fn seal_under(
        &mut self,
        rng: &mut (impl CryptoRng + ?Sized),
        now: Timestamp,
        header: Header,
        content: &Content,
    ) -> Result<Envelope, SealError> {
        self.to.check_time(now).map_err(SealError::BundleNotValid)?;
        let mut buffer = content.to_plaintext()?;
        let message_key = match self
            .current
            .take()
            .filter(|current| self.bursts && current.lasts(now))
        {
            Some(current) => current,
            None => MessageKey::new(&self.key, rng, now)?,
        };
        let mut nonce = [0_u8; NONCE_LEN];
        rng.fill_bytes(&mut nonce);
        aead::encrypt(&message_key.key, &nonce, &header.aad(), &mut buffer)
            .map_err(|_| SealError::Failed)?;
        let ciphertext = mem::take(&mut *buffer);
        let envelope = Envelope::sign(
            header,
            message_key.wrapped.clone(),
            nonce,
            ciphertext,
            &self.identity,
        );
        if self.bursts {
            self.current = Some(MessageKey {
                messages: message_key.messages + 1,
                ..message_key
            });
        }
        Ok(envelope)
    }
}

impl MessageKey {
    fn new(
        to: &EncryptionKey,
        rng: &mut (impl CryptoRng + ?Sized),
        now: Timestamp,
    ) -> Result<Self, SealError> {
        let mut key = Box::new(Zeroizing::new([0_u8; 32]));
        rng.fill_bytes(key.as_mut_slice());
        let wrapped = to.wrap(rng, &key).map_err(|_| SealError::Failed)?;
        Ok(Self {
            key,
            wrapped,
            since: now,
            messages: 0,
        })
    }

    /// Whether one more message may go under this key. Not when the clock went back: how old the key is, is unknown.
    fn lasts(&self, now: Timestamp) -> bool {
        self.messages < MAX_BURST_MESSAGES
            && now >= self.since
            && now.saturating_since(self.since) <= MAX_BURST_DURATION
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer({} to {})", self.from, self.to.user())
    }
}
