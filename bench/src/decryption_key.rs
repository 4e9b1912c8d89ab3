//! The recipient's private key: RSAES-OAEP in constant time by aws-lc-rs, behind the seam of `sealpost-core`.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey,
};
use sealpost_core::{DecryptionKey, EncryptionKey, UnwrapError};
use thiserror::Error;
use zeroize::Zeroizing;

/// Bytes of the largest modulus that `sealpost-core` accepts.
const MAX_MODULUS: usize = sealpost_core::MAX_RSA_BITS / 8;

/// The size of an RSA key, as measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RsaBits {
    /// 2,048.
    Rsa2048,
    /// 3,072, the default of Sealpost.
    Rsa3072,
    /// 4,096.
    Rsa4096,
}

impl RsaBits {
    /// The number.
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Rsa2048 => 2048,
            Self::Rsa3072 => 3072,
            Self::Rsa4096 => 4096,
        }
    }
}

impl std::str::FromStr for RsaBits {
    type Err = String;

    fn from_str(given: &str) -> Result<Self, String> {
        [Self::Rsa2048, Self::Rsa3072, Self::Rsa4096]
            .into_iter()
            .find(|bits| bits.number().to_string() == given)
            .ok_or_else(|| format!("{given:?} is none of 2048, 3072 and 4096"))
    }
}

/// The key could not be made.
#[derive(Clone, Copy, Debug, Error)]
#[error("aws-lc-rs made no RSA key")]
pub(crate) struct NoKey;

/// A private key in memory, for as long as a run lasts.
pub(crate) struct AwsDecryptionKey {
    secret: OaepPrivateDecryptingKey,
    public: EncryptionKey,
}

impl AwsDecryptionKey {
    /// A new key.
    pub(crate) fn generate(bits: RsaBits) -> Result<Self, NoKey> {
        let size = match bits {
            RsaBits::Rsa2048 => KeySize::Rsa2048,
            RsaBits::Rsa3072 => KeySize::Rsa3072,
            RsaBits::Rsa4096 => KeySize::Rsa4096,
        };
        let secret = PrivateDecryptingKey::generate(size).map_err(|_| NoKey)?;
        let spki: PublicKeyX509Der<'_> = secret.public_key().as_der().map_err(|_| NoKey)?;
        let public = EncryptionKey::parse(spki.as_ref()).map_err(|_| NoKey)?;
        let secret = OaepPrivateDecryptingKey::new(secret).map_err(|_| NoKey)?;
        Ok(Self { secret, public })
    }
}

impl DecryptionKey for AwsDecryptionKey {
    fn encryption_key(&self) -> &EncryptionKey {
        &self.public
    }

    fn unwrap_key(&self, wrapped: &[u8]) -> Result<Zeroizing<[u8; 32]>, UnwrapError> {
        let mut buffer = Zeroizing::new([0; MAX_MODULUS]);
        let output = buffer
            .get_mut(..self.secret.min_output_size())
            .ok_or(UnwrapError)?;
        let key = self
            .secret
            .decrypt(&OAEP_SHA256_MGF1SHA256, wrapped, output, None)
            .map_err(|_| UnwrapError)?;
        <[u8; 32]>::try_from(&*key)
            .map(Zeroizing::new)
            .map_err(|_| UnwrapError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_core_wraps_is_unwrapped_and_nothing_else() {
        let key = AwsDecryptionKey::generate(RsaBits::Rsa2048).unwrap();
        let mut wrapped = key
            .encryption_key()
            .wrap(&mut rand::rng(), &[7; 32])
            .unwrap();
        assert_eq!(*key.unwrap_key(&wrapped).unwrap(), [7; 32]);
        wrapped[100] ^= 1;
        assert!(key.unwrap_key(&wrapped).is_err());
        assert!(key.unwrap_key(&[]).is_err());
    }
}
