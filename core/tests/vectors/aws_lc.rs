//! A second implementation of the private-key seam, as the programs have it.

use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use sealpost_core::{DecryptionKey, EncryptionKey, UnwrapError};
use zeroize::Zeroizing;

/// An RSA key of aws-lc-rs.
pub(crate) struct AwsLcKey {
    key: OaepPrivateDecryptingKey,
    public: EncryptionKey,
}

impl AwsLcKey {
    pub(crate) fn new(pkcs8: &[u8], public: EncryptionKey) -> Self {
        let key = PrivateDecryptingKey::from_pkcs8(pkcs8).unwrap();
        Self {
            key: OaepPrivateDecryptingKey::new(key).unwrap(),
            public,
        }
    }
}

impl DecryptionKey for AwsLcKey {
    fn encryption_key(&self) -> &EncryptionKey {
        &self.public
    }

    fn unwrap_key(&self, wrapped: &[u8]) -> Result<Zeroizing<[u8; 32]>, UnwrapError> {
        let mut buffer = Zeroizing::new(vec![0; self.key.min_output_size()]);
        let key = self
            .key
            .decrypt(&OAEP_SHA256_MGF1SHA256, wrapped, &mut buffer, None)
            .map_err(|_| UnwrapError)?;
        let mut unwrapped = Zeroizing::new([0; 32]);
        if key.len() != unwrapped.len() {
            return Err(UnwrapError);
        }
        unwrapped.copy_from_slice(key);
        Ok(unwrapped)
    }
}
