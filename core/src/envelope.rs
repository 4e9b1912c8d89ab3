//! Envelopes: sealed messages, as they travel on `inbox/<user>` and lie in the archive.

use alloc::vec::Vec;
use core::fmt;

use sha2::{Digest as _, Sha256};

use crate::encryption::{KeyId, MAX_RSA_BITS, MIN_RSA_BITS};
use crate::identity::{BadSignature, Identity, IdentityKey, Signature};
use crate::json::{self, EncodingError, Object, Writer};
use crate::message_id::MessageId;
use crate::name::{Realm, UserId};
use crate::padding::is_padded_length;
use crate::timestamp::Timestamp;
use crate::transcript::Transcript;

/// The longest envelope, in bytes: the largest plaintext in base64 and the rest have less than 90,000.
pub const MAX_ENVELOPE: usize = 98_304;

/// The one suite: how the AES key is wrapped, how the message is encrypted, how the envelope is signed.
pub const SUITE: &str = "RSA-OAEP-256/A256GCM/Ed25519";

/// The length of a nonce, in bytes: the one for which GCM is specified without a further hash (NIST SP 800-38D).
pub const NONCE_LEN: usize = 12;
/// The length of the authentication tag at the end of the ciphertext, in bytes.
pub const TAG_LEN: usize = 16;

/// The version of the format that this is.
const VERSION: u8 = 1;
/// The members of an envelope, in order.
const MEMBERS: [&str; 14] = [
    "v",
    "suite",
    "realm",
    "id",
    "prev",
    "ts",
    "from",
    "to",
    "key",
    "signer",
    "enc_key",
    "nonce",
    "ciphertext",
    "sig",
];

/// Why bytes are not an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// There are more than [`MAX_ENVELOPE`] bytes.
    #[error("an envelope has at most {MAX_ENVELOPE} bytes")]
    TooLarge,
    /// The bytes are not the one encoding.
    #[error("the envelope is malformed: {0}")]
    Encoding(#[source] EncodingError),
    /// It is of another version of the format.
    #[error("the envelope has an unknown version")]
    UnknownVersion,
    /// It uses a suite that this version does not know.
    #[error("the envelope uses an unknown suite")]
    UnknownSuite,
}

impl From<EncodingError> for EnvelopeError {
    fn from(error: EncodingError) -> Self {
        Self::Encoding(error)
    }
}

/// What is bound to the ciphertext, besides the ciphertext's own key and nonce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) realm: Realm,
    pub(crate) id: MessageId,
    pub(crate) prev: Option<MessageId>,
    pub(crate) ts: Timestamp,
    pub(crate) from: UserId,
    pub(crate) to: UserId,
    pub(crate) key: KeyId,
    pub(crate) signer: IdentityKey,
}

impl Header {
    /// HEADER = realm, v, suite, id, prev, ts, from, to, key, signer.
    fn fields(&self, transcript: Transcript) -> Transcript {
        transcript
            .bytes(self.realm.as_str().as_bytes())
            .version(VERSION)
            .bytes(SUITE.as_bytes())
            .bytes(self.id.as_bytes())
            .optional(self.prev.as_ref().map(|id| id.as_bytes().as_slice()))
            .integer(self.ts.millis())
            .bytes(self.from.as_str().as_bytes())
            .bytes(self.to.as_str().as_bytes())
            .bytes(self.key.as_bytes())
            .bytes(self.signer.as_bytes())
    }

    /// What GCM authenticates beside the ciphertext: T("sealpost/1 aad", HEADER).
    pub(crate) fn aad(&self) -> Vec<u8> {
        self.fields(Transcript::new("sealpost/1 aad")).finish()
    }
}

/// A sealed message.
///
/// A value of this type has the right shape and is in canonical form. Nothing else is known of it: its signature is
/// checked by [`verify_signature`](Self::verify_signature), and that the signer is who you think, by
/// [`open`](crate::open).
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope {
    header: Header,
    enc_key: Vec<u8>,
    nonce: [u8; NONCE_LEN],
    ciphertext: Vec<u8>,
    signature: Signature,
    bytes: Vec<u8>,
}

impl Envelope {
    /// Reads an envelope: size, encoding, every field's shape. No signature is checked and no secret is touched.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        Self::parse_knowing(bytes, |_| None)
    }

    /// As [`parse`](Self::parse), for whoever reads many envelopes: `known` may have the signer's key, by its 32 bytes, from
    /// before. It is then not checked anew that they are a good key, which takes a square root in the field: more time than all
    /// the rest of the reading of a short envelope.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse_knowing(
        bytes: &[u8],
        known: impl FnOnce(&[u8; 32]) -> Option<IdentityKey>,
    ) -> Result<Self, EnvelopeError> {
        if bytes.len() > MAX_ENVELOPE {
            return Err(EnvelopeError::TooLarge);
        }
        let text = core::str::from_utf8(bytes).map_err(|_| EncodingError::NotUtf8)?;
        let object = Object::parse(text)?;
        if json::version(&object)? != u64::from(VERSION) {
            return Err(EnvelopeError::UnknownVersion);
        }
        let fields = object.expect(&MEMBERS)?;
        if fields.text("suite")? != SUITE {
            return Err(EnvelopeError::UnknownSuite);
        }
        let mut envelope = Self {
            header: Header {
                realm: fields.realm("realm")?,
                id: fields.message_id("id")?,
                prev: fields.optional_message_id("prev")?,
                ts: fields.time("ts")?,
                from: fields.user("from")?,
                to: fields.user("to")?,
                key: KeyId::from_bytes(fields.array("key")?),
                signer: fields.identity_knowing("signer", known)?,
            },
            enc_key: fields.binary("enc_key")?,
            nonce: fields.array("nonce")?,
            ciphertext: fields.binary("ciphertext")?,
            signature: Signature::from_bytes(fields.array("sig")?),
            bytes: Vec::new(),
        };
        if !(MIN_RSA_BITS / 8..=MAX_RSA_BITS / 8).contains(&envelope.enc_key.len()) {
            return Err(EncodingError::WrongLength { member: "enc_key" }.into());
        }
        if !envelope
            .ciphertext
            .len()
            .checked_sub(TAG_LEN)
            .is_some_and(is_padded_length)
        {
            return Err(EncodingError::WrongLength {
                member: "ciphertext",
            }
            .into());
        }
        envelope.bytes = envelope.write();
        json::canonical(bytes, &envelope.bytes)?;
        Ok(envelope)
    }

    /// Signs what was encrypted and puts it together.
    pub(crate) fn sign(
        header: Header,
        enc_key: Vec<u8>,
        nonce: [u8; NONCE_LEN],
        ciphertext: Vec<u8>,
        identity: &Identity,
    ) -> Self {
        let signature = Signature::from_bytes([0; 64]);
        let mut envelope = Self {
            header,
            enc_key,
            nonce,
            ciphertext,
            signature,
            bytes: Vec::new(),
        };
        envelope.signature = identity.sign(&envelope.transcript());
        envelope.bytes = envelope.write();
        envelope
    }

    /// The envelope as it travels: the canonical bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The deployment it was sealed in.
    #[must_use]
    pub const fn realm(&self) -> &Realm {
        &self.header.realm
    }

    /// The message's name.
    #[must_use]
    pub const fn id(&self) -> &MessageId {
        &self.header.id
    }

    /// The sender's previous message to this recipient, so that a gap shows; none for the first.
    #[must_use]
    pub const fn prev(&self) -> Option<&MessageId> {
        self.header.prev.as_ref()
    }

    /// When the message was first sealed, by the sender's clock.
    #[must_use]
    pub const fn ts(&self) -> Timestamp {
        self.header.ts
    }

    /// Who says they sent it.
    #[must_use]
    pub const fn from(&self) -> &UserId {
        &self.header.from
    }

    /// Whom it is for.
    #[must_use]
    pub const fn to(&self) -> &UserId {
        &self.header.to
    }

    /// Which key of whom opens it.
    #[must_use]
    pub const fn key(&self) -> &KeyId {
        &self.header.key
    }

    /// The identity that says it signed.
    #[must_use]
    pub const fn signer(&self) -> &IdentityKey {
        &self.header.signer
    }

    /// The wrapped AES key.
    #[must_use]
    pub fn enc_key(&self) -> &[u8] {
        &self.enc_key
    }

    /// The nonce.
    #[must_use]
    pub const fn nonce(&self) -> &[u8; NONCE_LEN] {
        &self.nonce
    }

    /// The encrypted message with its tag.
    #[must_use]
    pub fn ciphertext(&self) -> &[u8] {
        &self.ciphertext
    }

    /// The signer's signature.
    #[must_use]
    pub const fn signature(&self) -> &Signature {
        &self.signature
    }

    pub(crate) const fn header(&self) -> &Header {
        &self.header
    }

    /// SHA-256 of the signed transcript: what a receipt names.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.transcript()).into()
    }

    /// Checks that [`signer`](Self::signer) signed all of it. Who that is, is another question.
    ///
    /// # Errors
    /// [`BadSignature`] when it did not.
    pub fn verify_signature(&self) -> Result<(), BadSignature> {
        self.header
            .signer
            .verify(&self.transcript(), &self.signature)
    }

    /// T("sealpost/1 envelope", HEADER, enc_key, nonce, ciphertext).
    fn transcript(&self) -> Vec<u8> {
        self.header
            .fields(Transcript::new("sealpost/1 envelope"))
            .bytes(&self.enc_key)
            .bytes(&self.nonce)
            .bytes(&self.ciphertext)
            .finish()
    }

    fn write(&self) -> Vec<u8> {
        let header = &self.header;
        // Base64 is a third longer than what it holds; names and the rest have less than 700 bytes.
        let mut writer =
            Writer::with_capacity((self.enc_key.len() + self.ciphertext.len()) * 4 / 3 + 768);
        writer.open();
        writer.bare("v", VERSION);
        writer.text("suite", SUITE);
        writer.text("realm", header.realm.as_str());
        writer.message_id("id", Some(&header.id));
        writer.message_id("prev", header.prev.as_ref());
        writer.bare("ts", header.ts);
        writer.text("from", header.from.as_str());
        writer.text("to", header.to.as_str());
        writer.binary("key", header.key.as_bytes());
        writer.binary("signer", header.signer.as_bytes());
        writer.binary("enc_key", &self.enc_key);
        writer.binary("nonce", &self.nonce);
        writer.binary("ciphertext", &self.ciphertext);
        writer.binary("sig", self.signature.as_bytes());
        writer.close();
        writer.finish()
    }
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope")
            .field("id", &self.header.id)
            .field("from", &self.header.from)
            .field("to", &self.header.to)
            .field("ts", &self.header.ts)
            .finish_non_exhaustive()
    }
}
