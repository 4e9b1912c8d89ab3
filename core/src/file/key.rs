//! The key of one file: AES-256-GCM by STREAM, which binds each chunk to its place and the last one to the end.
//!
//! STREAM is that of Hoang, Reyhanitabar, Rogaway and Vizár (2015), as age has it too: the nonce is 7 bytes, a counter of 32 bits and
//! a byte that is 1 for the last chunk. The 7 bytes are zero, for a key is used for one file alone.

use alloc::vec::Vec;
use core::fmt;

use aead_stream::{NewStream as _, StreamBE32, StreamPrimitive as _};
use aes_gcm::Aes256Gcm;
use rand_core::CryptoRng;
use zeroize::{Zeroize as _, ZeroizeOnDrop};

use super::Chunking;
use crate::envelope::TAG_LEN;

/// The part of the nonce that is the same for all chunks.
const NONCE_PREFIX: [u8; 7] = [0; 7];

/// A chunk is not the one of this file at this place: changed, moved, cut, or of another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("that is no chunk of this file at this place")]
pub struct ChunkRefused;

/// The AES-256 key of one file. Made for it, and never used for another content: two files, or two contents of one, under one key
/// would give both away.
#[derive(Clone, PartialEq, Eq)]
pub struct FileKey([u8; 32]);

impl FileKey {
    /// A new one.
    pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        let mut key = [0; 32];
        rng.fill_bytes(&mut key);
        Self(key)
    }

    /// From its 32 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Encrypts a chunk, the tag at its end. The same bytes at the same place always become the same.
    ///
    /// # Errors
    /// When the file has no such chunk, or one of another length.
    pub fn encrypt(
        &self,
        chunking: Chunking,
        index: u32,
        chunk: &[u8],
    ) -> Result<Vec<u8>, ChunkRefused> {
        if chunking.length(index) != Some(chunk.len()) {
            return Err(ChunkRefused);
        }
        let mut buffer = Vec::with_capacity(chunk.len() + TAG_LEN);
        buffer.extend_from_slice(chunk);
        self.stream()
            .encrypt_in_place(index, chunking.is_last(index), &[], &mut buffer)
            .map_err(|_| ChunkRefused)?;
        Ok(buffer)
    }

    /// Decrypts one.
    ///
    /// # Errors
    /// When it is not the chunk of this file at this place.
    pub fn decrypt(
        &self,
        chunking: Chunking,
        index: u32,
        data: &[u8],
    ) -> Result<Vec<u8>, ChunkRefused> {
        let length = data.len().checked_sub(TAG_LEN).ok_or(ChunkRefused)?;
        if chunking.length(index) != Some(length) {
            return Err(ChunkRefused);
        }
        let mut buffer = data.to_vec();
        match self
            .stream()
            .decrypt_in_place(index, chunking.is_last(index), &[], &mut buffer)
        {
            Ok(()) => Ok(buffer),
            Err(_) => {
                buffer.zeroize();
                Err(ChunkRefused)
            }
        }
    }

    fn stream(&self) -> StreamBE32<Aes256Gcm> {
        StreamBE32::new(&self.0.into(), &NONCE_PREFIX.into())
    }
}

impl Drop for FileKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl ZeroizeOnDrop for FileKey {}

impl fmt::Debug for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileKey(redacted)")
    }
}
