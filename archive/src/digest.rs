//! What tells a message from every other (section 3 of the format): never its id, which is the sender's to choose. Somebody could
//! hide mail behind junk sent earlier under the same id.

use std::fmt;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::hash::Hash;

/// SHA-256 over the topic's length (32-bit big-endian), the topic and the payload. Written as base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(transparent)]
pub struct Digest(Hash);

impl Digest {
    /// The digest of a message.
    #[must_use]
    pub fn of(topic: &[u8], payload: &[u8]) -> Digest {
        // The length keeps ("inbox/b", "ob…") and ("inbox/bo", "b…") apart. An MQTT topic is at
        // most 65,535 bytes.
        let length = u32::try_from(topic.len()).unwrap_or(u32::MAX);
        let hash = Sha256::new()
            .chain_update(length.to_be_bytes())
            .chain_update(topic)
            .chain_update(payload)
            .finalize();
        Digest(Hash(hash.into()))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_and_payload_cannot_trade_bytes() {
        assert_ne!(Digest::of(b"inbox/b", b"ob"), Digest::of(b"inbox/bo", b"b"));
        assert_eq!(Digest::of(b"inbox/b", b"ob"), Digest::of(b"inbox/b", b"ob"));
    }
}
