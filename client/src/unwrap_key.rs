//! The RSA private-key operation, by aws-lc-rs: constant-time, and five times as fast as portable Rust.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey,
};
use sealpost_core::{DecryptionKey, EncryptionKey, UnwrapError};
use zeroize::Zeroizing;

/// An RSA private key that unwraps message keys (RSAES-OAEP with SHA-256, RFC 8017).
pub struct UnwrapKey {
    public: EncryptionKey,
    private: OaepPrivateDecryptingKey,
    pkcs8: Zeroizing<Vec<u8>>,
}

/// Why there is no such key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnwrapKeyError(&'static str);

impl UnwrapKey {
    /// A new RSA-3072 key.
    pub fn generate() -> Result<UnwrapKey, UnwrapKeyError> {
        let private = PrivateDecryptingKey::generate(KeySize::Rsa3072)
            .map_err(|_| UnwrapKeyError("RSA key generation failed"))?;
        UnwrapKey::new(private)
    }

    /// A key from PKCS#8 (RFC 5208), of 2048 to 4096 bits.
    pub fn from_pkcs8(der: &[u8]) -> Result<UnwrapKey, UnwrapKeyError> {
        let private = PrivateDecryptingKey::from_pkcs8(der)
            .map_err(|_| UnwrapKeyError("this is not an RSA private key in PKCS#8"))?;
        UnwrapKey::new(private)
    }

    fn new(private: PrivateDecryptingKey) -> Result<UnwrapKey, UnwrapKeyError> {
        const UNEXPECTED: UnwrapKeyError = UnwrapKeyError("the RSA library refused its own key");
        let public: PublicKeyX509Der<'_> = private.public_key().as_der().map_err(|_| UNEXPECTED)?;
        let public = EncryptionKey::parse(public.as_ref())
            .map_err(|_| UnwrapKeyError("the RSA key's size or exponent is not accepted"))?;
        let pkcs8: Pkcs8V1Der<'_> = private.as_der().map_err(|_| UNEXPECTED)?;
        let pkcs8 = Zeroizing::new(pkcs8.as_ref().to_vec());
        let private = OaepPrivateDecryptingKey::new(private).map_err(|_| UNEXPECTED)?;
        Ok(UnwrapKey {
            public,
            private,
            pkcs8,
        })
    }

    /// For the keystore.
    pub(crate) fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }
}

impl DecryptionKey for UnwrapKey {
    fn encryption_key(&self) -> &EncryptionKey {
        &self.public
    }

    fn unwrap_key(&self, wrapped: &[u8]) -> Result<Zeroizing<[u8; 32]>, UnwrapError> {
        if wrapped.len() != self.public.modulus_len() {
            return Err(UnwrapError);
        }
        let mut buffer = Zeroizing::new(vec![0; self.private.min_output_size()]);
        let key = self
            .private
            .decrypt(&OAEP_SHA256_MGF1SHA256, wrapped, &mut buffer, None)
            .map_err(|_| UnwrapError)?;
        let key: &[u8] = key;
        key.try_into().map(Zeroizing::new).map_err(|_| UnwrapError)
    }
}

impl std::fmt::Debug for UnwrapKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UnwrapKey")
            .field("bits", &self.public.bits())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sealpost_core::RsaDecryptionKey;

    #[test]
    fn what_the_portable_code_wraps_is_unwrapped_and_both_agree_on_the_public_key() {
        let key = UnwrapKey::generate().unwrap();
        let wrapped = key
            .encryption_key()
            .wrap(&mut rand::rng(), &[42; 32])
            .unwrap();
        assert_eq!(*key.unwrap_key(&wrapped).unwrap(), [42; 32]);
        assert_eq!(key.encryption_key().bits(), 3_072);

        let portable = RsaDecryptionKey::from_pkcs8_der(key.pkcs8()).unwrap();
        assert_eq!(portable.encryption_key(), key.encryption_key());
        assert_eq!(*portable.unwrap_key(&wrapped).unwrap(), [42; 32]);

        let again = UnwrapKey::from_pkcs8(key.pkcs8()).unwrap();
        assert_eq!(again.encryption_key(), key.encryption_key());
        let portable = portable.to_pkcs8_der().unwrap();
        let again = UnwrapKey::from_pkcs8(&portable).unwrap();
        assert_eq!(again.encryption_key(), key.encryption_key());
    }

    #[test]
    fn every_way_to_fail_is_the_same_error() {
        let key = UnwrapKey::generate().unwrap();
        let good = key
            .encryption_key()
            .wrap(&mut rand::rng(), &[42; 32])
            .unwrap();
        let mut flipped = good.clone();
        flipped[100] ^= 1;
        let other = UnwrapKey::generate().unwrap();
        let for_other = other
            .encryption_key()
            .wrap(&mut rand::rng(), &[42; 32])
            .unwrap();
        let above_the_modulus = vec![0xff; good.len()];
        for bad in [
            &flipped,
            &for_other,
            &above_the_modulus,
            &good[1..].to_vec(),
            &vec![],
        ] {
            assert_eq!(key.unwrap_key(bad).err(), Some(UnwrapError));
        }
    }

    #[test]
    fn what_is_not_a_key_is_refused_and_debug_shows_nothing_secret() {
        UnwrapKey::from_pkcs8(b"not a key").unwrap_err();
        let key = UnwrapKey::generate().unwrap();
        assert_eq!(format!("{key:?}"), "UnwrapKey { bits: 3072, .. }");
    }
}
