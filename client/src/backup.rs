//! Backups: a whole account in one file, protected by a passphrase of its own.
//!
//! The file is an age file (age-encryption.org/v1) with one scrypt recipient, so `age --decrypt` opens it too. Inside is a tar
//! archive with, in this order, `backup.json` (what this is), `keystore.json` (the keys, without another passphrase: the
//! one that a person types every day, or has in their machine's keyring, may be gone with the machine), perhaps
//! `client.toml` (the settings), and `store.sqlite` (everything else, its texts encrypted).
//!
//! Both ways are streams: memory does not grow with the history. age authenticates each 64 KiB before it lets them out,
//! and the end, so that what is cut or changed is noticed before anything appears under its name.

mod read;
mod staging;
mod write;

use std::path::PathBuf;

use sealpost_core::{Realm, Timestamp, UserId};
use serde::{Deserialize, Serialize};

pub use read::{Destination, RestoreError, Restored, restore};
pub use write::{BackupError, write};

/// The version of the archive that is written.
const VERSION: u32 = 1;
/// scrypt with N = 2^18, r = 8, p = 1, what age's own programs use: 256 MiB and about a second. Our unit tests do it often.
const WORK_FACTOR: u8 = if cfg!(test) { 2 } else { 18 };
/// What a file may ask for at most: 1 GiB. A planted one must not exhaust this machine's memory or time.
const MAX_WORK_FACTOR: u8 = 20;
/// What is in the archive.
const MANIFEST: &str = "backup.json";
const KEYSTORE: &str = "keystore.json";
const SETTINGS: &str = "client.toml";
const STORE: &str = "store.sqlite";
/// Bytes that the manifest may have: names and numbers.
const MAX_MANIFEST: u64 = 4_096;
/// Bytes that a keystore may have, as on disk.
const MAX_KEYSTORE: u64 = 1 << 20;
/// Bytes that a settings file may have, as on disk.
pub const MAX_SETTINGS: u64 = 65_536;
/// Bytes that a store may have: a hundred million messages. It is written where there is room or not at all.
const MAX_STORE: u64 = 1 << 37;

/// Whose backup it is, and of when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Who.
    pub user: UserId,
    /// Where.
    pub realm: Realm,
    /// When it was made.
    pub created: Timestamp,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ManifestJson<'a> {
    sealpost_backup: u32,
    user: &'a str,
    realm: &'a str,
    /// Milliseconds since the epoch.
    created: u64,
}

/// The version alone, so that a later form is told apart from damage.
#[derive(Deserialize)]
struct Versioned {
    sealpost_backup: u32,
}

/// A settings file that goes along.
#[derive(Debug)]
pub struct SettingsFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it says.
    pub text: Vec<u8>,
}

#[cfg(test)]
mod tests;
