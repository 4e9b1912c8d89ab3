//! A node of the tree: a leaf, a subtree, or the root.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

/// A hash of the tree (SHA-256, RFC 6962 section 2.1). Written as base64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; Hash::LEN]);

/// A text that is not the base64 of 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a hash is 32 bytes as base64")]
pub struct NotAHash;

impl Hash {
    /// How long it is, in bytes.
    pub const LEN: usize = 32;

    /// The leaf of a line, given without its newline: SHA-256(0x00 ‖ line).
    #[must_use]
    pub fn of_leaf(line: &[u8]) -> Hash {
        Hash(
            Sha256::new()
                .chain_update([0])
                .chain_update(line)
                .finalize()
                .into(),
        )
    }

    /// The node above two others: SHA-256(0x01 ‖ left ‖ right).
    #[must_use]
    pub fn of_node(left: Hash, right: Hash) -> Hash {
        Hash(
            Sha256::new()
                .chain_update([1])
                .chain_update(left.0)
                .chain_update(right.0)
                .finalize()
                .into(),
        )
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

impl FromStr for Hash {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Hash, NotAHash> {
        let mut bytes = [0; Hash::LEN];
        match STANDARD.decode_slice(text, &mut bytes) {
            Ok(Hash::LEN) => Ok(Hash(bytes)),
            _ => Err(NotAHash),
        }
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Hash, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}
