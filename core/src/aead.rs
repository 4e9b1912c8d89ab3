//! AES-256-GCM, NIST SP 800-38D: 12-byte nonce, 16-byte tag at the end.

use alloc::vec::Vec;

use aes_gcm::{AeadInOut as _, Aes256Gcm, KeyInit as _};

use crate::envelope::NONCE_LEN;

/// Encrypting or decrypting failed: for decrypting, key, nonce, associated data and ciphertext do not belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AeadError;

/// Encrypts `buffer` in place and appends the tag.
pub(crate) fn encrypt(
    key: &[u8; 32],
    nonce: &[u8; NONCE_LEN],
    aad: &[u8],
    buffer: &mut Vec<u8>,
) -> Result<(), AeadError> {
    Aes256Gcm::new(key.into())
        .encrypt_in_place(nonce.into(), aad, buffer)
        .map_err(|_| AeadError)
}

/// Checks and cuts off the tag and decrypts `buffer` in place. After a failure it holds nothing of the plaintext.
pub(crate) fn decrypt(
    key: &[u8; 32],
    nonce: &[u8; NONCE_LEN],
    aad: &[u8],
    buffer: &mut Vec<u8>,
) -> Result<(), AeadError> {
    Aes256Gcm::new(key.into())
        .decrypt_in_place(nonce.into(), aad, buffer)
        .map_err(|_| AeadError)
}
