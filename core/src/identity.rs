//! Who somebody is: an Ed25519 key pair, RFC 8032.
//!
//! Signatures are checked strictly: a key or a commitment of small order is refused, and so is a key that is not
//! written in the one canonical way, so for a given key and message nobody but the signer can make a second signature
//! that verifies, and a key has one name.

use alloc::string::String;
use core::borrow::Borrow;
use core::fmt;
use core::str::FromStr;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use rand_core::CryptoRng;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// Why bytes are not an identity key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityKeyError {
    /// There are not 32 bytes.
    #[error("an identity key has 32 bytes")]
    WrongLength,
    /// The text is not standard base64 with padding.
    #[error("an identity key is written in standard base64")]
    BadBase64,
    /// The bytes are no point of the curve, or not the canonical way to write it.
    #[error("the identity key is not a point of the curve in its canonical form")]
    NotAPoint,
    /// The point has small order: anybody could sign for it.
    #[error("the identity key has small order")]
    SmallOrder,
}

/// A signature does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not hold")]
pub struct BadSignature;

/// An Ed25519 signature: 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; 64]);

impl Signature {
    /// From its bytes. Any bytes will do; whether they sign anything is for [`IdentityKey::verify`] to say.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({})", BASE64_STANDARD.encode(self.0))
    }
}

/// The public half: who signed.
///
/// A key is not a digest, though both are 32 bytes:
///
/// ```compile_fail
/// use sealpost_core::{IdentityKey, KeyId};
/// fn pin(key: &IdentityKey) {}
/// pin(&KeyId::from_bytes([0; 32]));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdentityKey([u8; 32]);

impl IdentityKey {
    /// Reads the 32 bytes of RFC 8032 section 5.1.2.
    ///
    /// # Errors
    /// When they are not a point of the curve in canonical form, or one of small order.
    pub fn parse(bytes: &[u8]) -> Result<Self, IdentityKeyError> {
        let bytes: [u8; 32] = bytes
            .try_into()
            .map_err(|_| IdentityKeyError::WrongLength)?;
        if !is_canonical(&bytes) {
            return Err(IdentityKeyError::NotAPoint);
        }
        let point = VerifyingKey::from_bytes(&bytes).map_err(|_| IdentityKeyError::NotAPoint)?;
        if point.is_weak() {
            return Err(IdentityKeyError::SmallOrder);
        }
        Ok(Self(bytes))
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Standard base64 with padding, as the formats write it.
    #[must_use]
    pub fn to_base64(&self) -> String {
        BASE64_STANDARD.encode(self.0)
    }

    /// Reads what [`to_base64`](Self::to_base64) writes.
    ///
    /// # Errors
    /// When it is not that base64, or not a key.
    pub fn from_base64(text: &str) -> Result<Self, IdentityKeyError> {
        let bytes = BASE64_STANDARD
            .decode(text)
            .map_err(|_| IdentityKeyError::BadBase64)?;
        Self::parse(&bytes)
    }

    /// What people compare at a glance, written as ssh writes its own: `SHA256:` and unpadded base64.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut text = String::from("SHA256:");
        BASE64_STANDARD_NO_PAD.encode_string(Sha256::digest(self.0), &mut text);
        text
    }

    /// Checks a signature over `message`, strictly.
    ///
    /// # Errors
    /// [`BadSignature`] when it does not hold.
    pub fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), BadSignature> {
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        VerifyingKey::from_bytes(&self.0)
            .and_then(|key| key.verify_strict(message, &signature))
            .map_err(|_| BadSignature)
    }
}

/// By its bytes, a set of keys can be asked for one.
impl Borrow<[u8; 32]> for IdentityKey {
    fn borrow(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Whether the y coordinate, little-endian in the low 255 bits, is below 2^255 - 19. (The sign of x can be wrong only
/// for x = 0, and both points with x = 0 have small order.)
fn is_canonical(bytes: &[u8; 32]) -> bool {
    let [low, middle @ .., high] = bytes;
    high & 0x7f != 0x7f || middle.iter().any(|byte| *byte != 0xff) || *low < 0xed
}

impl fmt::Display for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.to_base64())
    }
}

impl fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdentityKey({self})")
    }
}

impl FromStr for IdentityKey {
    type Err = IdentityKeyError;

    fn from_str(text: &str) -> Result<Self, IdentityKeyError> {
        Self::from_base64(text)
    }
}

/// The secret half: who one is. Erased when dropped; `Debug` shows the public half only.
#[derive(Clone)]
pub struct Identity(SigningKey);

impl Identity {
    /// A new identity.
    pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        let mut seed = Zeroizing::new([0_u8; 32]);
        rng.fill_bytes(seed.as_mut());
        Self::from_seed(&seed)
    }

    /// From the 32-byte seed, which RFC 8032 calls the private key.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The seed, to be stored encrypted and nowhere else.
    #[must_use]
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public half.
    #[must_use]
    pub fn key(&self) -> IdentityKey {
        IdentityKey(self.0.verifying_key().to_bytes())
    }

    /// Signs `message`. Deterministic, as RFC 8032 has it: no randomness, so none that could be bad.
    ///
    /// Bundles, links, envelopes and logins sign themselves, each under a label of its own. An identity signs nothing
    /// else (SPEC section 4.3): a signature over bytes that somebody else chose could be any of these.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).to_bytes())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity(secret of {})", self.key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::rng;
    use alloc::format;
    use alloc::string::ToString;

    /// RFC 8032 section 7.1, test 2.
    const SEED: [u8; 32] = [
        0x4c, 0xcd, 0x08, 0x9b, 0x28, 0xff, 0x96, 0xda, 0x9d, 0xb6, 0xc3, 0x46, 0xec, 0x11, 0x4e,
        0x0f, 0x5b, 0x8a, 0x31, 0x9f, 0x35, 0xab, 0xa6, 0x24, 0xda, 0x8c, 0xf6, 0xed, 0x4f, 0xb8,
        0xa6, 0xfb,
    ];

    #[test]
    fn the_signature_is_that_of_rfc_8032() {
        let identity = Identity::from_seed(&SEED);
        assert_eq!(
            identity.key().to_string(),
            "PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw="
        );
        let signature = identity.sign(&[0x72]);
        assert_eq!(&signature.as_bytes()[..4], [0x92, 0xa0, 0x09, 0xa9]);
        assert_eq!(identity.key().verify(&[0x72], &signature), Ok(()));
        assert_eq!(
            identity.key().verify(&[0x73], &signature),
            Err(BadSignature)
        );
        assert_eq!(*identity.seed(), SEED);
    }

    #[test]
    fn a_tampered_signature_is_refused() {
        let identity = Identity::generate(&mut rng(1));
        let signature = identity.sign(b"message");
        for index in 0..64 {
            let mut bytes = *signature.as_bytes();
            bytes[index] ^= 1;
            assert_eq!(
                identity
                    .key()
                    .verify(b"message", &Signature::from_bytes(bytes)),
                Err(BadSignature)
            );
        }
        let other = Identity::generate(&mut rng(2));
        assert_eq!(
            other.key().verify(b"message", &signature),
            Err(BadSignature)
        );
    }

    #[test]
    fn keys_of_small_order_are_refused() {
        // The canonical encodings of the eight points of the torsion subgroup.
        let mut one = [0_u8; 32];
        one[0] = 1;
        let mut minus_one = [0xff_u8; 32];
        minus_one[0] = 0xec;
        minus_one[31] = 0x7f;
        let eight = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05";
        let mut of_order_eight = [0_u8; 32];
        for (byte, pair) in of_order_eight.iter_mut().zip(eight.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap();
        }
        for bytes in [[0; 32], one, minus_one, of_order_eight] {
            assert_eq!(
                IdentityKey::parse(&bytes),
                Err(IdentityKeyError::SmallOrder)
            );
        }
    }

    #[test]
    fn keys_are_points_in_canonical_form() {
        assert_eq!(
            IdentityKey::parse(&[0; 31]),
            Err(IdentityKeyError::WrongLength)
        );
        assert_eq!(
            IdentityKey::parse(&[0; 33]),
            Err(IdentityKeyError::WrongLength)
        );
        let mut two = [0_u8; 32];
        two[0] = 2; // y = 2 is on no point of the curve
        assert_eq!(IdentityKey::parse(&two), Err(IdentityKeyError::NotAPoint));
        // y = p + 3 stands for y = 3, which is on a point of large order: only the form is wrong.
        let mut three = [0_u8; 32];
        three[0] = 3;
        assert!(IdentityKey::parse(&three).is_ok());
        let mut above = [0xff_u8; 32];
        above[0] = 0xf0;
        above[31] = 0x7f;
        assert_eq!(IdentityKey::parse(&above), Err(IdentityKeyError::NotAPoint));
    }

    #[test]
    fn keys_are_written_in_padded_standard_base64() {
        let key = Identity::generate(&mut rng(1)).key();
        assert_eq!(IdentityKey::from_base64(&key.to_base64()), Ok(key));
        assert_eq!(
            IdentityKey::from_base64(key.to_base64().trim_end_matches('=')),
            Err(IdentityKeyError::BadBase64)
        );
        assert!(key.fingerprint().starts_with("SHA256:"));
        assert_eq!(key.fingerprint().len(), 7 + 43);
    }

    #[test]
    fn debug_shows_no_secret() {
        let identity = Identity::from_seed(&SEED);
        assert_eq!(
            format!("{identity:?}"),
            "Identity(secret of PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=)"
        );
    }
}
