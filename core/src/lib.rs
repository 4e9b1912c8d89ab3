//! The heart of Sealpost: names, keys, key bundles, envelopes, sealing, opening and trust.
//!
//! No sockets, no files, no clock, no randomness of its own: time and chance are passed in, bytes come out. It needs
//! an allocator and nothing else, so a device links the same code as the command line: `core/no-std/` is a program without std
//! that seals readings in some 320 KiB of code and 10 KiB of memory (x86-64, RSA-2048). The formats are
//! specified, byte for byte, in `core/SPEC.md`; `tests/vectors/` has them as JSON with the outcome that every implementation must come to.
//!
//! # From keys to an opened message
//!
//! ```
//! use sealpost_core::{
//!     Assessment, BundleFields, BurstCache, Content, DecryptionKey, Envelope, Identity, KeyBundle, MAX_VALIDITY,
//!     MessageId, Realm, Recipient, RsaDecryptionKey, Sealer, Seen, Timestamp, UserId, assess, next_seq, open,
//! };
//! # use rand_chacha::rand_core::SeedableRng;
//! # fn main() -> Result<(), Box<dyn core::error::Error>> {
//! # let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
//! // `rng` is any `CryptoRng`: `rand::rng()` on a computer, the hardware's generator on a device.
//! let realm = Realm::parse("chat.example.org")?;
//! let (alice, bob) = (UserId::parse("alice")?, UserId::parse("bob")?);
//! let now = Timestamp::parse("1700000000.000")?;
//!
//! // Each has an identity, which signs, and Bob an RSA key, which others encrypt to.
//! let alices_identity = Identity::generate(&mut rng);
//! let bobs_identity = Identity::generate(&mut rng);
//! let bobs_rsa = RsaDecryptionKey::generate(&mut rng, 2_048)?;
//!
//! // Bob publishes his bundle, retained, on `keys/bob`.
//! let fields = BundleFields {
//!     realm: realm.clone(),
//!     user: bob.clone(),
//!     seq: next_seq(None, now),
//!     created: now,
//!     expires: now.saturating_add(MAX_VALIDITY),
//!     encryption: vec![bobs_rsa.encryption_key().clone()],
//!     links: vec![],
//! };
//! let published = KeyBundle::sign(fields, &bobs_identity)?.as_bytes().to_vec();
//!
//! // Alice reads it, decides whether to believe it, remembers the pin, and seals.
//! let bundle = KeyBundle::parse(&published)?;
//! let assessment = assess(None, &bundle, &realm, &bob, now)?;
//! assert!(matches!(assessment, Assessment::FirstContact { .. }));
//! let hello = Content::Text { text: "Hello Bob!".into() };
//! let id = MessageId::new(now, &mut rng);
//! let envelope = Sealer::new(&alices_identity, &alice, &bundle)?.seal(&mut rng, now, id, None, &hello)?;
//! let sent = envelope.as_bytes().to_vec();
//!
//! // Bob, who pinned Alice's identity from her bundle, opens it.
//! struct NothingSeen;
//! impl Seen for NothingSeen {
//!     fn contains(&self, _from: &UserId, _id: &MessageId) -> bool { false }
//!     fn floor(&self, _from: &UserId) -> Option<Timestamp> { None }
//! }
//! let me = Recipient { realm: &realm, user: &bob, identity: &bobs_identity.key(), keys: &[&bobs_rsa] };
//! let received = Envelope::parse(&sent)?;
//! let opened = open(&received, &me, &alices_identity.key(), &NothingSeen, &mut BurstCache::new())?;
//! assert_eq!(opened, hello);
//! # Ok(())
//! # }
//! ```
//!
//! # What the types say
//!
//! Whoever holds one of these knows this, and no more:
//!
//! | type | holds |
//! |---|---|
//! | [`UserId`], [`Realm`], [`Topic`], [`Timestamp`], [`MessageId`] | well-formed |
//! | [`IdentityKey`] | a point of the curve in canonical form, not of small order |
//! | [`EncryptionKey`] | RSA, 2,048 to 4,096 bits, exponent 65537, canonical DER |
//! | [`KeyBundle`] | canonical, within bounds, links are one signed chain, signed by its own identity; **not** that it is in time or that identity the right one: [`assess`] |
//! | [`Envelope`] | canonical, right shape; **not** that its signature holds or its signer is the right one: [`open`] |
//! | [`Content`], from [`open`] | was sealed by the pinned sender, to us, and had not been opened before |
//!
//! # Secrets
//!
//! [`Identity`], [`Invitation`], [`RsaDecryptionKey`], [`Sealer`] and [`BurstCache`] hold secrets: they erase them when dropped and
//! show none in `Debug`. Nothing here writes to a log. What the suite does not give is forward secrecy within the life
//! of an RSA key, and it does not hide who writes to whom and when.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod aead;
mod bundle;
mod contact_link;
mod content;
mod conversation;
mod encryption;
mod envelope;
mod file;
mod identity;
mod invitation;
mod json;
mod link;
mod login;
mod message_id;
mod name;
mod open;
mod padding;
mod reading;
mod receipt;
mod safety_number;
mod seal;
#[cfg(test)]
mod testing;
mod timestamp;
mod topic;
mod transcript;
mod trust;
mod uri;
mod verification;

pub use bundle::{
    BundleError, BundleFields, BundleTimeError, KeyBundle, MAX_BUNDLE, MAX_CLOCK_SKEW,
    MAX_ENCRYPTION_KEYS, MAX_LINKS, MAX_SEQ, MAX_VALIDITY, next_seq,
};
pub use contact_link::ContactLink;
pub use content::{Content, ContentError};
pub use conversation::{Deletion, Edit, Expiry, Lifetime, MAX_EDITS, MessageRef, Reply};
pub use encryption::{
    DEFAULT_RSA_BITS, DecryptionKey, DecryptionKeyError, EncryptionKey, EncryptionKeyError, KeyId,
    MAX_RSA_BITS, MIN_RSA_BITS, RSA_OAEP_256, RsaDecryptionKey, UnwrapError, WrapError,
};
pub use envelope::{Envelope, EnvelopeError, MAX_ENVELOPE, NONCE_LEN, SUITE, TAG_LEN};
pub use file::{
    ChunkRefused, Chunking, FileChunk, FileEnd, FileKey, FileOffer, FileOutcome, FileRequest,
    MAX_CHUNK, MAX_FILE, MAX_FILE_NAME, MAX_REQUESTED, MAX_SAVED_NAME, MIN_CHUNK, saved_name,
};
pub use identity::{BadSignature, Identity, IdentityKey, IdentityKeyError, Signature};
pub use invitation::{Acceptance, Invitation, LoginPassword, NotAnInvitation};
pub use json::EncodingError;
pub use link::IdentityLink;
pub use login::{LOGIN_WINDOW, LoginError, LoginToken};
pub use message_id::{MessageId, MessageIdError};
pub use name::{MAX_NAME, NameError, Realm, UserId};
pub use open::{BurstCache, MAX_CACHED_KEYS, OpenError, Recipient, Seen, open};
pub use padding::{MAX_PLAINTEXT, MIN_PLAINTEXT, padded_length};
pub use rand_core;
pub use reading::{MAX_READING_NUMBER, Reading, ReadingGap};
pub use receipt::{MAX_RECEIPTED, Receipt, ReceiptError, ReceiptState, Receipted};
pub use safety_number::{SafetyNumber, SafetyNumberError};
pub use seal::{MAX_BURST_DURATION, MAX_BURST_MESSAGES, SealError, Sealer};
pub use timestamp::{Timestamp, TimestampError};
pub use topic::{Topic, TopicError, TopicFilter};
pub use trust::{Assessment, BundleRefused, Pin, assess};
pub use uri::{MAX_URI, UriError};
pub use verification::Verification;
