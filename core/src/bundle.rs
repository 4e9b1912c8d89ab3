//! Key bundles: what a user publishes, retained, on `keys/<user>`.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::encryption::{EncryptionKey, EncryptionKeyError, RSA_OAEP_256};
use crate::identity::{Identity, IdentityKey, Signature};
use crate::json::{self, EncodingError, Object, Writer};
use crate::link::IdentityLink;
use crate::name::{Realm, UserId};
use crate::timestamp::Timestamp;
use crate::transcript::Transcript;

/// The longest bundle, in bytes: four RSA-4096 keys and eight links take a third of it.
pub const MAX_BUNDLE: usize = 16_384;
/// The most encryption keys in a bundle: the current one, and room to announce later suites beside it.
pub const MAX_ENCRYPTION_KEYS: usize = 4;
/// The most links in a bundle. Whoever changes identity more often drops the oldest.
pub const MAX_LINKS: usize = 8;
/// The highest sequence number, 2^53 - 1: beyond it, readers that hold numbers as floating point would round.
pub const MAX_SEQ: u64 = (1 << 53) - 1;
/// How long a bundle may be valid: after a lost device, mail to its keys stops within this time.
pub const MAX_VALIDITY: Duration = Duration::from_secs(400 * 24 * 60 * 60);
/// How far a bundle's `created` may be ahead of the reader's clock: time zones set wrongly, nothing more.
pub const MAX_CLOCK_SKEW: Duration = Duration::from_secs(24 * 60 * 60);

/// The version of the format that this is.
const VERSION: u8 = 1;
/// The members of a bundle, in order.
const MEMBERS: [&str; 10] = [
    "v",
    "realm",
    "user",
    "seq",
    "created",
    "expires",
    "identity",
    "encryption",
    "links",
    "sig",
];
/// The members of an entry of `encryption`, in order.
const KEY_MEMBERS: [&str; 2] = ["alg", "key"];
/// The longest name of an algorithm, in bytes.
const MAX_ALGORITHM: usize = 64;

/// Why bytes are not a valid key bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// There are more than [`MAX_BUNDLE`] bytes.
    #[error("a key bundle has at most {MAX_BUNDLE} bytes")]
    TooLarge,
    /// The bytes are not the one encoding.
    #[error("the key bundle is malformed: {0}")]
    Encoding(#[source] EncodingError),
    /// It is of another version of the format.
    #[error("the key bundle has an unknown version")]
    UnknownVersion,
    /// `seq` is zero.
    #[error("the key bundle's sequence number is zero")]
    BadSeq,
    /// It expires before it was created, or more than [`MAX_VALIDITY`] later.
    #[error("the key bundle's validity is out of bounds")]
    BadValidity,
    /// An entry of `encryption` is malformed.
    #[error("encryption key {position} of the bundle is malformed: {reason}")]
    KeyEncoding {
        /// Which, counted from one.
        position: usize,
        /// In what way.
        reason: EncodingError,
    },
    /// An RSA key of `encryption` cannot be used.
    #[error("encryption key {position} of the bundle cannot be used: {reason}")]
    BadKey {
        /// Which, counted from one.
        position: usize,
        /// Why.
        reason: EncryptionKeyError,
    },
    /// An entry of `links` is malformed.
    #[error("link {position} of the bundle is malformed: {reason}")]
    LinkEncoding {
        /// Which, counted from one.
        position: usize,
        /// In what way.
        reason: EncodingError,
    },
    /// A link is not signed by its `old`, for this realm and user.
    #[error("link {position} of the bundle: its signature does not hold")]
    BadLinkSignature {
        /// Which, counted from one.
        position: usize,
    },
    /// Two links start from one identity: somebody else has its secret.
    #[error("link {position} of the bundle starts where another did")]
    ForkedLinks {
        /// The second of the two, counted from one.
        position: usize,
    },
    /// A link does not start where the one before it ended.
    #[error("link {position} of the bundle does not start where the one before it ended")]
    BrokenChain {
        /// Which, counted from one.
        position: usize,
    },
    /// A link leads to an identity that was retired before, or to itself.
    #[error("link {position} of the bundle leads back to a retired identity")]
    RetiredIdentityReturns {
        /// Which, counted from one.
        position: usize,
    },
    /// The last link does not lead to the bundle's identity.
    #[error("the bundle's links do not lead to its identity")]
    LinksLeadElsewhere,
    /// The bundle is not signed by its identity.
    #[error("the key bundle's signature does not hold")]
    BadSignature,
}

impl From<EncodingError> for BundleError {
    fn from(error: EncodingError) -> Self {
        Self::Encoding(error)
    }
}

/// Why a bundle cannot be used now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleTimeError {
    /// It was created more than [`MAX_CLOCK_SKEW`] ahead of our clock.
    #[error("the key bundle is from the future ({created}); one of the two clocks is wrong")]
    FromTheFuture {
        /// When it says it was created.
        created: Timestamp,
    },
    /// It has expired; its owner must publish a new one.
    #[error("the key bundle expired at {expires}")]
    Expired {
        /// Until when it was valid.
        expires: Timestamp,
    },
}

/// One entry of `encryption`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    /// `RSA-OAEP-256`: a key that this version uses.
    Rsa(EncryptionKey),
    /// An algorithm of a later version, signed like everything else but not understood.
    Unknown { algorithm: String, key: Vec<u8> },
}

impl Entry {
    fn read(position: usize, text: &str) -> Result<Self, BundleError> {
        let malformed = |reason| BundleError::KeyEncoding { position, reason };
        let object = Object::parse(text).map_err(malformed)?;
        let fields = object.expect(&KEY_MEMBERS).map_err(malformed)?;
        let algorithm = fields.text("alg").map_err(malformed)?;
        let key = fields.binary("key").map_err(malformed)?;
        if algorithm == RSA_OAEP_256 {
            return match EncryptionKey::parse(&key) {
                Ok(key) => Ok(Self::Rsa(key)),
                Err(reason) => Err(BundleError::BadKey { position, reason }),
            };
        }
        let allowed = |byte: u8| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'+' | b'/')
        };
        if algorithm.is_empty()
            || algorithm.len() > MAX_ALGORITHM
            || !algorithm.bytes().all(allowed)
        {
            return Err(malformed(EncodingError::BadName { member: "alg" }));
        }
        if key.is_empty() {
            return Err(malformed(EncodingError::WrongLength { member: "key" }));
        }
        Ok(Self::Unknown {
            algorithm: algorithm.to_owned(),
            key,
        })
    }

    fn algorithm(&self) -> &str {
        match self {
            Self::Rsa(_) => RSA_OAEP_256,
            Self::Unknown { algorithm, .. } => algorithm,
        }
    }

    fn key(&self) -> &[u8] {
        match self {
            Self::Rsa(key) => key.spki_der(),
            Self::Unknown { key, .. } => key,
        }
    }
}

/// What a bundle says, for [`KeyBundle::sign`].
#[derive(Clone, Debug)]
pub struct BundleFields {
    /// The deployment.
    pub realm: Realm,
    /// The owner.
    pub user: UserId,
    /// 1 to [`MAX_SEQ`], see [`next_seq`].
    pub seq: u64,
    /// Now.
    pub created: Timestamp,
    /// At most [`MAX_VALIDITY`] after `created`.
    pub expires: Timestamp,
    /// Best first, at most [`MAX_ENCRYPTION_KEYS`]; none to retire.
    pub encryption: Vec<EncryptionKey>,
    /// Oldest first, at most [`MAX_LINKS`].
    pub links: Vec<IdentityLink>,
}

/// The sequence number of the next bundle: the greater of the last one plus one and `created` in seconds, so that a
/// reinstallation that remembers nothing still moves on.
#[must_use]
pub fn next_seq(last: Option<u64>, created: Timestamp) -> u64 {
    last.unwrap_or(0)
        .saturating_add(1)
        .max(created.seconds())
        .min(MAX_SEQ)
}

/// A user's signed keys.
///
/// A value of this type is well-formed, in canonical form, within bounds, and signed by its own identity, links
/// included. Whether it is *in time* is [`check_time`](Self::check_time)'s to say; whether that identity is the one
/// you know, [`assess`](crate::assess)'s.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyBundle {
    realm: Realm,
    user: UserId,
    seq: u64,
    created: Timestamp,
    expires: Timestamp,
    identity: IdentityKey,
    entries: Vec<Entry>,
    /// The entries of `entries` that this version can use, in the same order.
    usable: Vec<EncryptionKey>,
    links: Vec<IdentityLink>,
    signature: Signature,
    bytes: Vec<u8>,
}

impl KeyBundle {
    /// Reads and checks a bundle: size, encoding, every field, the links, the signature. Not time, not trust.
    ///
    /// # Errors
    /// The first thing that is wrong, in that order.
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        if bytes.len() > MAX_BUNDLE {
            return Err(BundleError::TooLarge);
        }
        let text = core::str::from_utf8(bytes).map_err(|_| EncodingError::NotUtf8)?;
        let object = Object::parse(text)?;
        if json::version(&object)? != u64::from(VERSION) {
            return Err(BundleError::UnknownVersion);
        }
        let fields = object.expect(&MEMBERS)?;
        let mut bundle = Self {
            realm: fields.realm("realm")?,
            user: fields.user("user")?,
            seq: fields.number("seq", MAX_SEQ)?,
            created: fields.time("created")?,
            expires: fields.time("expires")?,
            identity: fields.identity("identity")?,
            entries: Vec::new(),
            usable: Vec::new(),
            links: Vec::new(),
            signature: Signature::from_bytes(fields.array("sig")?),
            bytes: Vec::new(),
        };
        let keys = fields.elements("encryption", MAX_ENCRYPTION_KEYS)?;
        for (index, text) in keys.into_iter().enumerate() {
            bundle.entries.push(Entry::read(index + 1, text)?);
        }
        let links = fields.elements("links", MAX_LINKS)?;
        for (index, text) in links.into_iter().enumerate() {
            let position = index + 1;
            let link = IdentityLink::read(text)
                .map_err(|reason| BundleError::LinkEncoding { position, reason })?;
            bundle.links.push(link);
        }
        bundle.bytes = bundle.write();
        json::canonical(bytes, &bundle.bytes)?;
        bundle.collect_usable();
        bundle.check_fields()?;
        bundle.check_links()?;
        bundle
            .identity
            .verify(&bundle.transcript(), &bundle.signature)
            .map_err(|_| BundleError::BadSignature)?;
        Ok(bundle)
    }

    /// Makes and signs a bundle.
    ///
    /// # Errors
    /// When the fields are out of bounds, or the links do not lead to `identity`.
    pub fn sign(fields: BundleFields, identity: &Identity) -> Result<Self, BundleError> {
        if fields.encryption.len() > MAX_ENCRYPTION_KEYS {
            return Err(EncodingError::TooMany {
                member: "encryption",
            }
            .into());
        }
        if fields.links.len() > MAX_LINKS {
            return Err(EncodingError::TooMany { member: "links" }.into());
        }
        if fields.seq > MAX_SEQ {
            return Err(EncodingError::BadNumber { member: "seq" }.into());
        }
        let mut bundle = Self {
            realm: fields.realm,
            user: fields.user,
            seq: fields.seq,
            created: fields.created,
            expires: fields.expires,
            identity: identity.key(),
            entries: fields.encryption.into_iter().map(Entry::Rsa).collect(),
            usable: Vec::new(),
            links: fields.links,
            signature: Signature::from_bytes([0; 64]),
            bytes: Vec::new(),
        };
        bundle.collect_usable();
        bundle.check_fields()?;
        bundle.check_links()?;
        bundle.signature = identity.sign(&bundle.transcript());
        bundle.bytes = bundle.write();
        Ok(bundle)
    }

    /// The bundle as it is published: the canonical bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The deployment it is for.
    #[must_use]
    pub const fn realm(&self) -> &Realm {
        &self.realm
    }

    /// Whose it is.
    #[must_use]
    pub const fn user(&self) -> &UserId {
        &self.user
    }

    /// Its number: a later bundle of the same identity has a higher one.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        self.seq
    }

    /// When it was made, by the owner's clock.
    #[must_use]
    pub const fn created(&self) -> Timestamp {
        self.created
    }

    /// Until when it may be used.
    #[must_use]
    pub const fn expires(&self) -> Timestamp {
        self.expires
    }

    /// The owner's identity key.
    #[must_use]
    pub const fn identity(&self) -> &IdentityKey {
        &self.identity
    }

    /// Whether the owner has retired this identity: there is no key of any algorithm.
    #[must_use]
    pub const fn is_retired(&self) -> bool {
        self.entries.is_empty()
    }

    /// The keys to encrypt to, best first. Empty when the owner has retired, or announces only algorithms that this
    /// version does not know.
    #[must_use]
    pub fn encryption(&self) -> &[EncryptionKey] {
        &self.usable
    }

    /// The identity changes, oldest first.
    #[must_use]
    pub fn links(&self) -> &[IdentityLink] {
        &self.links
    }

    /// SHA-256 of the canonical bytes: two bundles of one number must have the same.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.bytes).into()
    }

    /// Checks that the bundle can be used at `now`.
    ///
    /// # Errors
    /// When it was created more than [`MAX_CLOCK_SKEW`] later, or `now` is at or past its expiry.
    pub fn check_time(&self, now: Timestamp) -> Result<(), BundleTimeError> {
        if self.created.saturating_since(now) > MAX_CLOCK_SKEW {
            return Err(BundleTimeError::FromTheFuture {
                created: self.created,
            });
        }
        if now >= self.expires {
            return Err(BundleTimeError::Expired {
                expires: self.expires,
            });
        }
        Ok(())
    }

    fn collect_usable(&mut self) {
        let rsa = |entry: &Entry| match entry {
            Entry::Rsa(key) => Some(key.clone()),
            Entry::Unknown { .. } => None,
        };
        self.usable = self.entries.iter().filter_map(rsa).collect();
    }

    fn check_fields(&self) -> Result<(), BundleError> {
        if self.seq == 0 {
            return Err(BundleError::BadSeq);
        }
        if self.expires <= self.created
            || self.expires.saturating_since(self.created) > MAX_VALIDITY
        {
            return Err(BundleError::BadValidity);
        }
        Ok(())
    }

    /// The links are one chain of different identities that ends in `identity`, each signed by the one before.
    fn check_links(&self) -> Result<(), BundleError> {
        for (index, link) in self.links.iter().enumerate() {
            let position = index + 1;
            let before = self.links.get(..index).unwrap_or_default();
            if before.iter().any(|earlier| earlier.old() == link.old()) {
                return Err(BundleError::ForkedLinks { position });
            }
            if before
                .last()
                .is_some_and(|last| last.new_identity() != link.old())
            {
                return Err(BundleError::BrokenChain { position });
            }
            let returns = |earlier: &IdentityLink| earlier.old() == link.new_identity();
            if returns(link) || before.iter().any(returns) {
                return Err(BundleError::RetiredIdentityReturns { position });
            }
            link.verify(&self.realm, &self.user)
                .map_err(|_| BundleError::BadLinkSignature { position })?;
        }
        match self.links.last() {
            Some(last) if *last.new_identity() != self.identity => {
                Err(BundleError::LinksLeadElsewhere)
            }
            _ => Ok(()),
        }
    }

    /// T("sealpost/1 bundle", v, realm, user, seq, created, expires, identity, encryption, links), where each array is
    /// its count and then, for each element, its members as fields in order: `alg`, `key`; `old`, `new`, `at`, `sig`.
    fn transcript(&self) -> Vec<u8> {
        let mut transcript = Transcript::new("sealpost/1 bundle")
            .version(VERSION)
            .bytes(self.realm.as_str().as_bytes())
            .bytes(self.user.as_str().as_bytes())
            .integer(self.seq)
            .integer(self.created.millis())
            .integer(self.expires.millis())
            .bytes(self.identity.as_bytes())
            .count(self.entries.len());
        for entry in &self.entries {
            transcript = transcript
                .bytes(entry.algorithm().as_bytes())
                .bytes(entry.key());
        }
        transcript = transcript.count(self.links.len());
        for link in &self.links {
            transcript = link.fields(transcript);
        }
        transcript.finish()
    }

    fn write(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(2_048);
        writer.open();
        writer.bare("v", VERSION);
        writer.text("realm", self.realm.as_str());
        writer.text("user", self.user.as_str());
        writer.bare("seq", self.seq);
        writer.bare("created", self.created);
        writer.bare("expires", self.expires);
        writer.binary("identity", self.identity.as_bytes());
        writer.objects("encryption", &self.entries, |writer, entry| {
            writer.text("alg", entry.algorithm());
            writer.binary("key", entry.key());
        });
        writer.objects("links", &self.links, |writer, link| link.write(writer));
        writer.binary("sig", self.signature.as_bytes());
        writer.close();
        writer.finish()
    }
}

impl fmt::Debug for KeyBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyBundle")
            .field("realm", &self.realm)
            .field("user", &self.user)
            .field("seq", &self.seq)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}
