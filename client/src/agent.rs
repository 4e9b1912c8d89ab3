//! The agent: a process that holds the key of an unlocked keystore for a bounded time, so that commands do not ask for the
//! passphrase.
//!
//! It listens on a Unix socket (mode 0600) in a folder of the home (mode 0700), asks the system who connects, and answers
//! its own user alone. A request is a line of JSON, and so is the answer. What it hands out is the key of the file, not the
//! passphrase: with another passphrase, or when the time is over, it is worth nothing.

mod caller;
mod holder;

use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use sealpost_core::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::keystore::KeystoreKey;

pub use caller::{key, lock, status};
pub use holder::{Holder, HolderError};

/// How long a key is held when nobody says.
pub const DEFAULT_TIME: Duration = Duration::from_secs(60 * 60);
/// The socket's name in its folder.
const NAME: &str = "agent.sock";
/// The longest line of either side, in bytes: a key, a salt and a time fit many times.
const MAX_LINE: u64 = 1_024;
/// How long either side waits for the other. Both are on this machine.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Request {
    /// The key.
    Key,
    /// Until when it is held.
    Status,
    /// Forget it, and go.
    Lock,
}

/// What is answered, and what a new agent is given on its standard input.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// Until when, in milliseconds since the epoch.
    until: u64,
    /// The key, when it was asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    key: Option<HeldKey>,
}

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
struct HeldKey {
    salt: String,
    key: String,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held")
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}

impl Held {
    /// A key, until then.
    #[must_use]
    pub fn new(key: &KeystoreKey, until: Timestamp) -> Held {
        Held {
            until: until.millis(),
            key: Some(HeldKey {
                salt: BASE64.encode(key.salt()),
                key: BASE64.encode(key.key().as_slice()),
            }),
        }
    }

    fn without_key(until: Timestamp) -> Held {
        Held {
            until: until.millis(),
            key: None,
        }
    }

    /// Reads one.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Held> {
        serde_json::from_slice(line).ok()
    }

    /// A line of it, erased when dropped.
    #[must_use]
    pub fn line(&self) -> Zeroizing<Vec<u8>> {
        // Room for all at once: a buffer that grows leaves copies behind.
        let mut line = Zeroizing::new(Vec::with_capacity(512));
        if serde_json::to_writer(&mut *line, self).is_ok() {
            line.push(b'\n');
        }
        line
    }

    /// Until when.
    #[must_use]
    pub fn until(&self) -> Option<Timestamp> {
        Timestamp::from_millis(self.until).ok()
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> Option<KeystoreKey> {
        let held = self.key.as_ref()?;
        let decode = |text: &str| BASE64.decode(text).map(Zeroizing::new).ok();
        let salt = decode(&held.salt)?.as_slice().try_into().ok()?;
        let bytes = decode(&held.key)?;
        let key: &[u8; 32] = bytes.as_slice().try_into().ok()?;
        Some(KeystoreKey::new(salt, Zeroizing::new(*key)))
    }
}

/// The folder of the socket in a home.
fn folder(home: &Path) -> std::path::PathBuf {
    home.join("agent")
}
