//! What messages are encrypted to: RSA keys, used to wrap one AES key at a time (RSAES-OAEP with SHA-256, RFC 8017).
//!
//! The private-key operation is a seam, [`DecryptionKey`]: the portable [`RsaDecryptionKey`] is here, and programs
//! that link a faster or a hardware-backed implementation put their own behind the same trait.

use alloc::borrow::ToOwned;
use alloc::vec::Vec;
use core::fmt;
use core::hash::{Hash, Hasher};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rand_core::{CryptoRng, TryCryptoRng, TryRng};
use rsa::pkcs1::RsaPublicKey as Pkcs1PublicKey;
use rsa::pkcs8::der::{Decode as _, asn1::UintRef};
use rsa::pkcs8::{
    DecodePrivateKey as _, EncodePrivateKey as _, EncodePublicKey as _, SubjectPublicKeyInfoRef,
};
use rsa::{Oaep, RsaPrivateKey, RsaPublicKey};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::identity::IdentityKey;
use crate::name::Realm;
use crate::transcript::Transcript;

/// The name of RSAES-OAEP with SHA-256 as hash and in MGF1, as RFC 7518 section 4.3 has it.
pub const RSA_OAEP_256: &str = "RSA-OAEP-256";

/// The smallest modulus that is accepted, in bits: what NIST SP 800-131A still allows.
pub const MIN_RSA_BITS: usize = 2_048;
/// The modulus of new keys, in bits: 128 bits of security by NIST SP 800-57.
pub const DEFAULT_RSA_BITS: usize = 3_072;
/// The largest modulus that is accepted, in bits. A bigger one would buy little and let a stranger's bundle cost much.
pub const MAX_RSA_BITS: usize = 4_096;

/// 65537, big-endian: the one public exponent that is accepted.
const PUBLIC_EXPONENT: [u8; 3] = [1, 0, 1];

/// Why bytes are not an encryption key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncryptionKeyError {
    /// The bytes are not a subject public key info (RFC 5280) around an RSA key (RFC 8017), in DER.
    #[error("not an RSA public key in DER")]
    BadDer,
    /// The modulus is smaller than [`MIN_RSA_BITS`].
    #[error("the RSA modulus has less than {MIN_RSA_BITS} bits")]
    TooSmall,
    /// The modulus is larger than [`MAX_RSA_BITS`].
    #[error("the RSA modulus has more than {MAX_RSA_BITS} bits")]
    TooLarge,
    /// The modulus is even, so it is no product of two odd primes.
    #[error("the RSA modulus is even")]
    BadModulus,
    /// The public exponent is not 65537.
    #[error("the RSA exponent is not 65537")]
    BadExponent,
    /// The same key is written differently in DER.
    #[error("the RSA public key is not in canonical DER")]
    NotCanonical,
}

/// Wrapping a key failed. It never does for a key that was parsed; there is just no way to tell the compiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key could not be wrapped")]
pub struct WrapError;

/// Unwrapping a key failed, and nobody learns why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key could not be unwrapped")]
pub struct UnwrapError;

/// An RSA public key that messages are encrypted to.
#[derive(Clone)]
pub struct EncryptionKey {
    spki: Vec<u8>,
    modulus: Vec<u8>,
    rsa: RsaPublicKey,
}

impl EncryptionKey {
    /// Reads a subject public key info in DER: RSA, 2,048 to 4,096 bits, exponent 65537.
    ///
    /// # Errors
    /// When it is none, when its numbers are out of bounds, or when the bytes are not the canonical DER of it: the
    /// key's id is a hash over these bytes, so there must be one way to write them.
    pub fn parse(spki_der: &[u8]) -> Result<Self, EncryptionKeyError> {
        let spki =
            SubjectPublicKeyInfoRef::from_der(spki_der).map_err(|_| EncryptionKeyError::BadDer)?;
        if spki.algorithm.oid != rsa::pkcs1::ALGORITHM_OID {
            return Err(EncryptionKeyError::BadDer);
        }
        let key = spki
            .subject_public_key
            .as_bytes()
            .ok_or(EncryptionKeyError::BadDer)?;
        let key: Pkcs1PublicKey<UintRef<'_>> =
            Pkcs1PublicKey::from_der(key).map_err(|_| EncryptionKeyError::BadDer)?;
        let modulus = key.modulus.as_bytes();
        let bits = bits(modulus);
        if bits < MIN_RSA_BITS {
            return Err(EncryptionKeyError::TooSmall);
        }
        if bits > MAX_RSA_BITS {
            return Err(EncryptionKeyError::TooLarge);
        }
        if modulus.last().is_some_and(|low| low % 2 == 0) {
            return Err(EncryptionKeyError::BadModulus);
        }
        if key.public_exponent.as_bytes() != PUBLIC_EXPONENT {
            return Err(EncryptionKeyError::BadExponent);
        }
        let rsa = RsaPublicKey::try_from(spki).map_err(|_| EncryptionKeyError::BadDer)?;
        let written = rsa
            .to_public_key_der()
            .map_err(|_| EncryptionKeyError::BadDer)?;
        if written.as_bytes() != spki_der {
            return Err(EncryptionKeyError::NotCanonical);
        }
        Ok(Self {
            spki: spki_der.to_owned(),
            modulus: modulus.to_owned(),
            rsa,
        })
    }

    /// The subject public key info, in canonical DER.
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// The length of the modulus, and so of a wrapped key, in bytes.
    #[must_use]
    pub fn modulus_len(&self) -> usize {
        self.modulus.len()
    }

    /// The size of the modulus in bits.
    #[must_use]
    pub fn bits(&self) -> usize {
        bits(&self.modulus)
    }

    /// Encrypts an AES key to the owner: RSAES-OAEP, SHA-256 for hash and MGF1, empty label.
    ///
    /// # Errors
    /// Never for a key that was parsed, see [`WrapError`].
    pub fn wrap(
        &self,
        rng: &mut (impl CryptoRng + ?Sized),
        key: &[u8; 32],
    ) -> Result<Vec<u8>, WrapError> {
        self.rsa
            .encrypt(rng, Oaep::<Sha256>::new(), key)
            .map_err(|_| WrapError)
    }

    /// Whether `wrapped` could be a wrapped key at all: as long as the modulus and, as a number, below it (RFC 8017,
    /// section 7.1.2 step 1 and section 5.1.2 step 1).
    pub(crate) fn could_have_made(&self, wrapped: &[u8]) -> bool {
        // Both are big-endian and of one length, so the order of bytes is the order of numbers. Both are public.
        wrapped.len() == self.modulus.len() && wrapped < self.modulus.as_slice()
    }
}

/// The number of bits of a big-endian number without leading zero bytes.
fn bits(number: &[u8]) -> usize {
    let leading = number
        .first()
        .map_or(0, |first| first.leading_zeros() as usize);
    number.len() * 8 - leading
}

impl PartialEq for EncryptionKey {
    fn eq(&self, other: &Self) -> bool {
        self.spki == other.spki
    }
}

impl Eq for EncryptionKey {}

impl Hash for EncryptionKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.spki.hash(state);
    }
}

impl fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "EncryptionKey(RSA, {} bits, {})",
            self.bits(),
            BASE64_STANDARD.encode(Sha256::digest(&self.spki))
        )
    }
}

/// Which key of whom opens an envelope: SHA-256 of T("sealpost/1 key", realm, the owner's identity key, SPKI).
///
/// It names the owner's identity too, so that an envelope cannot be passed off as one for somebody else who publishes
/// the same RSA key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; 32]);

impl KeyId {
    /// The id of `key`, owned by `identity` in `realm`.
    #[must_use]
    pub fn of(realm: &Realm, identity: &IdentityKey, key: &EncryptionKey) -> Self {
        let transcript = Transcript::new("sealpost/1 key")
            .bytes(realm.as_str().as_bytes())
            .bytes(identity.as_bytes())
            .bytes(key.spki_der())
            .finish();
        Self(Sha256::digest(transcript).into())
    }

    /// From its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&BASE64_STANDARD.encode(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// The secret half of an [`EncryptionKey`], wherever it lives: in this process, in a faster library, in a device.
///
/// Implementations take the same time for every wrapped key of the right length, or as near as they can, and never
/// say why they refuse one. [`open`](crate::open) calls them only after the pinned sender's signature held and
/// `wrapped` was found to be as long as the modulus and below it.
pub trait DecryptionKey: Send + Sync {
    /// The public half.
    fn encryption_key(&self) -> &EncryptionKey;

    /// Decrypts an AES key: RSAES-OAEP, SHA-256 for hash and MGF1, empty label.
    ///
    /// # Errors
    /// [`UnwrapError`], whatever the cause: padding, or length of the result. It is held against the sender, and the
    /// message is gone: a device that is away for a moment is to be waited for, not reported here.
    fn unwrap_key(&self, wrapped: &[u8]) -> Result<Zeroizing<[u8; 32]>, UnwrapError>;
}

/// Why there is no decryption key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecryptionKeyError {
    /// The bytes are not a valid RSA private key with two primes in PKCS #8 DER.
    #[error("not an RSA private key in PKCS #8")]
    BadKey,
    /// The public half is not one that this protocol uses.
    #[error(transparent)]
    BadPublicKey(#[from] EncryptionKeyError),
    /// The key could not be generated or written; the random generator is the likely culprit.
    #[error("the RSA library failed")]
    Failed,
}

/// An RSA private key in portable Rust: runs wherever this crate does. Erased when dropped.
///
/// The arithmetic is constant-time as far as its library promises it; every operation is blinded besides, with a
/// factor that nobody can predict without the key. See SECURITY.md for why it is this library and what follows from
/// that; programs on ordinary computers use a faster one through [`DecryptionKey`].
pub struct RsaDecryptionKey {
    rsa: RsaPrivateKey,
    public: EncryptionKey,
    /// What blinding factors are derived from: a hash over the private key, so as secret as it is.
    blinding: Zeroizing<[u8; 32]>,
}

impl RsaDecryptionKey {
    /// A new key of `bits` bits, [`DEFAULT_RSA_BITS`] unless there is a reason. Takes seconds on a small machine.
    ///
    /// # Errors
    /// When `bits` is out of bounds.
    pub fn generate(
        rng: &mut (impl CryptoRng + ?Sized),
        bits: usize,
    ) -> Result<Self, DecryptionKeyError> {
        if bits < MIN_RSA_BITS {
            return Err(EncryptionKeyError::TooSmall.into());
        }
        if bits > MAX_RSA_BITS {
            return Err(EncryptionKeyError::TooLarge.into());
        }
        Self::new(RsaPrivateKey::new(rng, bits).map_err(|_| DecryptionKeyError::Failed)?)
    }

    /// Reads PKCS #8 DER, unencrypted (RFC 5958).
    ///
    /// # Errors
    /// When it is no valid RSA private key, or its public half is out of bounds.
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, DecryptionKeyError> {
        Self::new(RsaPrivateKey::from_pkcs8_der(der).map_err(|_| DecryptionKeyError::BadKey)?)
    }

    /// Writes PKCS #8 DER, unencrypted: to be encrypted at once and stored nowhere else.
    ///
    /// # Errors
    /// Never for a key that was generated or read here.
    pub fn to_pkcs8_der(&self) -> Result<Zeroizing<Vec<u8>>, DecryptionKeyError> {
        let der = self
            .rsa
            .to_pkcs8_der()
            .map_err(|_| DecryptionKeyError::Failed)?;
        Ok(Zeroizing::new(der.as_bytes().to_owned()))
    }

    fn new(rsa: RsaPrivateKey) -> Result<Self, DecryptionKeyError> {
        let spki = rsa
            .to_public_key()
            .to_public_key_der()
            .map_err(|_| DecryptionKeyError::Failed)?;
        let public = EncryptionKey::parse(spki.as_bytes())?;
        let der = rsa.to_pkcs8_der().map_err(|_| DecryptionKeyError::Failed)?;
        let hash = Sha256::new_with_prefix(b"sealpost/1 blinding")
            .chain_update(der.as_bytes())
            .finalize();
        Ok(Self {
            rsa,
            public,
            blinding: Zeroizing::new(hash.into()),
        })
    }
}

impl DecryptionKey for RsaDecryptionKey {
    fn encryption_key(&self) -> &EncryptionKey {
        &self.public
    }

    fn unwrap_key(&self, wrapped: &[u8]) -> Result<Zeroizing<[u8; 32]>, UnwrapError> {
        if !self.public.could_have_made(wrapped) {
            return Err(UnwrapError);
        }
        let mut rng = Blinding::new(&self.blinding, wrapped);
        let key = self
            .rsa
            .decrypt_blinded(&mut rng, Oaep::<Sha256>::new(), wrapped)
            .map_err(|_| UnwrapError)?;
        let key = Zeroizing::new(key);
        let mut unwrapped = Zeroizing::new([0_u8; 32]);
        if key.len() != unwrapped.len() {
            return Err(UnwrapError);
        }
        unwrapped.copy_from_slice(&key);
        Ok(unwrapped)
    }
}

impl fmt::Debug for RsaDecryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RsaDecryptionKey(secret of {:?})", self.public)
    }
}

/// Blinding factors, derived from the private key and the input as RFC 6979 derives nonces: SHA-256 in counter mode
/// over a secret. A device may have no generator at hand when it opens mail, and needs none.
struct Blinding {
    seed: Zeroizing<[u8; 32]>,
    counter: u64,
}

impl Blinding {
    fn new(secret: &[u8; 32], input: &[u8]) -> Self {
        let seed = Sha256::new_with_prefix(secret)
            .chain_update(input)
            .finalize();
        Self {
            seed: Zeroizing::new(seed.into()),
            counter: 0,
        }
    }
}

impl TryRng for Blinding {
    type Error = core::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, target: &mut [u8]) -> Result<(), Self::Error> {
        for chunk in target.chunks_mut(32) {
            let block = Sha256::new_with_prefix(self.seed.as_ref())
                .chain_update(self.counter.to_be_bytes())
                .finalize();
            self.counter += 1;
            for (byte, value) in chunk.iter_mut().zip(block) {
                *byte = value;
            }
        }
        Ok(())
    }
}

impl TryCryptoRng for Blinding {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blinding_differs_by_key_by_input_and_from_block_to_block() {
        let stream = |secret: u8, input: &[u8]| {
            let mut bytes = [0; 64];
            let Ok(()) = Blinding::new(&[secret; 32], input).try_fill_bytes(&mut bytes);
            bytes
        };
        let one = stream(1, b"a");
        assert_eq!(stream(1, b"a"), one);
        assert_ne!(one[..32], one[32..]);
        assert_ne!(stream(2, b"a")[..32], one[..32]);
        assert_ne!(stream(1, b"b")[..32], one[..32]);
        let mut parts = Blinding::new(&[1; 32], b"a");
        let (first, second) = (parts.try_next_u64(), parts.try_next_u64());
        assert_ne!(first, second);
    }
}
