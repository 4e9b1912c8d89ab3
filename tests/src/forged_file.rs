//! A file of one who means harm: an offer that says what it likes, and its chunk.

use sealpost_core::{Chunking, FileChunk, FileKey, FileOffer};

use crate::Forgery;

/// A file of one chunk.
#[derive(Debug, Clone)]
pub struct ForgedFile {
    key: FileKey,
    chunking: Chunking,
    /// The message that offers it.
    pub offer: Forgery,
}

impl ForgedFile {
    /// With this name, and with what its digest says.
    #[must_use]
    pub fn new(name: &str, content: &[u8], sha256: [u8; 32]) -> ForgedFile {
        let key = FileKey::from_bytes([7; 32]);
        let chunking = Chunking::new(content.len() as u64, 48_000).unwrap();
        let offer = FileOffer::new(name, chunking, sha256, key.clone()).unwrap();
        let json = offer.to_content().unwrap().to_json().unwrap();
        ForgedFile {
            key,
            chunking,
            offer: Forgery::of(json),
        }
    }

    /// The same offer, whose chunk is so many bytes long.
    #[must_use]
    pub fn cut_to(&self, size: u64) -> ForgedFile {
        ForgedFile {
            chunking: Chunking::new(size, 48_000).unwrap(),
            ..self.clone()
        }
    }

    /// Its chunk, with this content.
    #[must_use]
    pub fn chunk(&self, content: &[u8]) -> Forgery {
        let data = self.key.encrypt(self.chunking, 0, content).unwrap();
        let chunk = FileChunk::new(self.offer.id, 0, data).unwrap();
        Forgery::of(chunk.to_content().unwrap().to_json().unwrap())
    }
}
