//! The keystore file: private keys at rest.
//!
//! One JSON object, `{"header":{…},"body":"…"}`. The header says whose keys these are and how they are protected; the
//! body is the secrets, encrypted with AES-256-GCM (NIST SP 800-38D) under a key that Argon2id (RFC 9106) derives from
//! the passphrase, with the header's bytes as additional data, so that nothing in the file can be changed unnoticed.
//! With protection `none`, chosen explicitly for machines where nobody can type, the body is the bare secrets and the
//! header holds their SHA-256, which finds damage and keeps nobody out.

use std::path::{Path, PathBuf};

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::home::{HomeError, read_private, write_private};
use crate::passphrase::{Passphrase, PassphraseError};

/// The version of the file that is written.
const VERSION: u32 = 1;
/// A keystore larger than this (bytes) is not one: an identity and a few dozen RSA keys fit many times.
const MAX_FILE: u64 = 1 << 20;
/// Argon2id with 64 MiB, 3 passes, 4 lanes: the second recommended option of RFC 9106, section 4.
const KDF: Kdf = Kdf {
    memory_kib: 65_536,
    passes: 3,
    lanes: 4,
};
/// What a file may ask for at most: a planted one must not exhaust this machine's memory or time.
const KDF_MAX: Kdf = Kdf {
    memory_kib: 1 << 20,
    passes: 16,
    lanes: 16,
};
/// RFC 9106 recommends 128 bits.
const SALT_LEN: usize = 16;
/// 96 bits, the length for which GCM was made.
const NONCE_LEN: usize = 12;

/// How the keys lie on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// Encrypted with a passphrase.
    Passphrase,
    /// In the clear, by explicit choice.
    None,
}

/// Why a keystore cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeystoreError {
    /// There is none.
    #[error("there are no keys in {0}")]
    Missing(PathBuf),
    /// There is one already.
    #[error("there are keys in {0} already")]
    Exists(PathBuf),
    /// It cannot be read or written, or others can get at it.
    #[error(transparent)]
    File(#[from] HomeError),
    /// It is not a keystore, or it was damaged.
    #[error("the keystore {path} is damaged: {problem}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Written by a later program.
    #[error("the keystore {path} has version {version}, which this program does not know")]
    Version {
        /// The file.
        path: PathBuf,
        /// What it says.
        version: u32,
    },
    /// It belongs to somebody else.
    #[error("the keystore {path} belongs to {owner}")]
    Owner {
        /// The file.
        path: PathBuf,
        /// `user` in realm `realm`.
        owner: String,
    },
    /// The passphrase does not fit, or the file was changed: the two cannot be told apart.
    #[error("wrong passphrase for {0}, or the file was changed")]
    WrongPassphrase(PathBuf),
    /// Rotated too often within the grace period.
    #[error("{0} replaced keys are still within their grace period")]
    TooManyKeys(usize),
    /// The identity was changed a moment ago, and the broker does not know yet.
    #[error("the change of identity before this one has not reached the broker")]
    HandingOver,
    /// The identity was revoked.
    #[error("these keys are revoked")]
    Retired,
    /// No passphrase to be had.
    #[error(transparent)]
    Passphrase(#[from] PassphraseError),
    /// A key operation failed inside.
    #[error("{0}")]
    Internal(&'static str),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeystoreFile {
    header: Header,
    body: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    sealpost_keystore: u32,
    user: String,
    realm: String,
    protection: HeaderProtection,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
enum HeaderProtection {
    Argon2id {
        #[serde(flatten)]
        kdf: Kdf,
        salt: String,
        nonce: String,
    },
    None {
        sha256: String,
    },
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
struct Kdf {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

/// The key that a passphrase became, and for which file: what an agent holds.
#[derive(Clone)]
pub struct KeystoreKey {
    salt: [u8; SALT_LEN],
    key: Zeroizing<[u8; 32]>,
}

impl KeystoreKey {
    /// From its parts.
    #[must_use]
    pub fn new(salt: [u8; SALT_LEN], key: Zeroizing<[u8; 32]>) -> KeystoreKey {
        KeystoreKey { salt, key }
    }

    /// The salt, which names the passphrase's turn: another one has another.
    #[must_use]
    pub fn salt(&self) -> &[u8; SALT_LEN] {
        &self.salt
    }

    /// The key itself.
    #[must_use]
    pub fn key(&self) -> &Zeroizing<[u8; 32]> {
        &self.key
    }
}

impl std::fmt::Debug for KeystoreKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeystoreKey(..)")
    }
}

/// What it takes to write the file again without asking for the passphrase again.
#[derive(Clone)]
pub struct Unlocked {
    path: PathBuf,
    user: String,
    realm: String,
    lock: Lock,
}

#[derive(Clone)]
enum Lock {
    None,
    Key {
        kdf: Kdf,
        salt: [u8; SALT_LEN],
        key: Zeroizing<[u8; 32]>,
    },
}

impl Lock {
    /// For a new passphrase, or none.
    fn fresh(passphrase: Option<&Passphrase>) -> Result<Lock, KeystoreError> {
        let Some(passphrase) = passphrase else {
            return Ok(Lock::None);
        };
        let salt: [u8; SALT_LEN] = rand::rng().random();
        let key = derive(passphrase, &salt, KDF)?;
        Ok(Lock::Key {
            kdf: KDF,
            salt,
            key,
        })
    }
}

impl std::fmt::Debug for Unlocked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unlocked")
            .field("path", &self.path)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl Unlocked {
    /// Prepares a keystore that does not exist yet; nothing is written until [`Unlocked::save`]. `passphrase` of `None`
    /// leaves the keys in the clear.
    pub fn create(
        path: &Path,
        user: &str,
        realm: &str,
        passphrase: Option<&Passphrase>,
    ) -> Result<Unlocked, KeystoreError> {
        Ok(Unlocked {
            path: path.to_owned(),
            user: user.to_owned(),
            realm: realm.to_owned(),
            lock: Lock::fresh(passphrase)?,
        })
    }

    /// From the next [`Unlocked::save`] on, the file is protected by another passphrase, or by none.
    pub fn protect(&mut self, passphrase: Option<&Passphrase>) -> Result<(), KeystoreError> {
        self.lock = Lock::fresh(passphrase)?;
        Ok(())
    }

    /// Opens the file with the key that an agent held. A key of another passphrase is [`KeystoreError::WrongPassphrase`].
    pub fn open_with_key(
        path: &Path,
        user: &str,
        realm: &str,
        key: KeystoreKey,
    ) -> Result<(Unlocked, Zeroizing<Vec<u8>>), KeystoreError> {
        let file = read(path, user, realm)?;
        let HeaderProtection::Argon2id { kdf, .. } = &file.header.protection else {
            return Err(KeystoreError::WrongPassphrase(path.to_owned()));
        };
        check_kdf(path, *kdf)?;
        let unlocked = Unlocked {
            path: path.to_owned(),
            user: user.to_owned(),
            realm: realm.to_owned(),
            lock: Lock::Key {
                kdf: *kdf,
                salt: key.salt,
                key: key.key,
            },
        };
        let secrets = unlocked.decrypt(&file)?;
        Ok((unlocked, secrets))
    }

    /// The key that opens the file, if it takes one.
    #[must_use]
    pub fn key(&self) -> Option<KeystoreKey> {
        match &self.lock {
            Lock::None => None,
            Lock::Key { salt, key, .. } => Some(KeystoreKey::new(*salt, key.clone())),
        }
    }

    /// Opens the file and returns its secrets. `passphrase` is asked only when the file needs one.
    pub fn open(
        path: &Path,
        user: &str,
        realm: &str,
        passphrase: impl FnOnce() -> Result<Passphrase, PassphraseError>,
    ) -> Result<(Unlocked, Zeroizing<Vec<u8>>), KeystoreError> {
        let file = read(path, user, realm)?;
        let lock = match &file.header.protection {
            HeaderProtection::None { .. } => Lock::None,
            HeaderProtection::Argon2id { kdf, salt, .. } => {
                let salt: [u8; SALT_LEN] = decode(path, salt)?;
                check_kdf(path, *kdf)?;
                let key = derive(&passphrase()?, &salt, *kdf)?;
                Lock::Key {
                    kdf: *kdf,
                    salt,
                    key,
                }
            }
        };
        let unlocked = Unlocked {
            path: path.to_owned(),
            user: user.to_owned(),
            realm: realm.to_owned(),
            lock,
        };
        let secrets = unlocked.decrypt(&file)?;
        Ok((unlocked, secrets))
    }

    /// Reads the file again, after another process may have changed it.
    pub fn reload(&self) -> Result<Zeroizing<Vec<u8>>, KeystoreError> {
        self.decrypt(&read(&self.path, &self.user, &self.realm)?)
    }

    /// Writes the secrets, under a fresh nonce, atomically.
    pub fn save(&self, secrets: &[u8]) -> Result<(), KeystoreError> {
        Ok(write_private(&self.path, &self.render(secrets)?)?)
    }

    /// The same file without a passphrase, for a backup that has one of its own.
    pub fn unprotected(&self, secrets: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeystoreError> {
        let clear = Unlocked {
            lock: Lock::None,
            ..self.clone()
        };
        clear.render(secrets)
    }

    /// Reads what [`Unlocked::unprotected`] wrote, for a keystore at `path` that does not exist yet.
    pub fn take_over(
        path: &Path,
        user: &str,
        realm: &str,
        bytes: &[u8],
    ) -> Result<(Unlocked, Zeroizing<Vec<u8>>), KeystoreError> {
        let unlocked = Unlocked::create(path, user, realm, None)?;
        let secrets = unlocked.decrypt(&parse(path, user, realm, bytes)?)?;
        Ok((unlocked, secrets))
    }

    fn render(&self, secrets: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeystoreError> {
        let header = |protection| Header {
            sealpost_keystore: VERSION,
            user: self.user.clone(),
            realm: self.realm.clone(),
            protection,
        };
        let file = match &self.lock {
            Lock::None => KeystoreFile {
                header: header(HeaderProtection::None {
                    sha256: BASE64.encode(Sha256::digest(secrets)),
                }),
                body: BASE64.encode(secrets),
            },
            Lock::Key { kdf, salt, key } => {
                let nonce: [u8; NONCE_LEN] = rand::rng().random();
                let header = header(HeaderProtection::Argon2id {
                    kdf: *kdf,
                    salt: BASE64.encode(salt),
                    nonce: BASE64.encode(nonce),
                });
                let payload = Payload {
                    msg: secrets,
                    aad: &additional_data(&header)?,
                };
                let body = cipher(key)
                    .encrypt(&Nonce::from(nonce), payload)
                    .map_err(|_| {
                        KeystoreError::Internal("AES-GCM refused to encrypt the keystore")
                    })?;
                KeystoreFile {
                    header,
                    body: BASE64.encode(body),
                }
            }
        };
        let mut bytes = Zeroizing::new(
            serde_json::to_vec_pretty(&file)
                .map_err(|_| KeystoreError::Internal("the keystore cannot be written as JSON"))?,
        );
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// How the file is protected.
    #[must_use]
    pub fn protection(&self) -> Protection {
        match self.lock {
            Lock::None => Protection::None,
            Lock::Key { .. } => Protection::Passphrase,
        }
    }

    fn decrypt(&self, file: &KeystoreFile) -> Result<Zeroizing<Vec<u8>>, KeystoreError> {
        let damaged = |problem| KeystoreError::Damaged {
            path: self.path.clone(),
            problem,
        };
        let body = Zeroizing::new(
            BASE64
                .decode(&file.body)
                .map_err(|_| damaged("its body is not base64"))?,
        );
        match (&file.header.protection, &self.lock) {
            (HeaderProtection::None { sha256 }, Lock::None) => {
                let expected: [u8; 32] = decode(&self.path, sha256)?;
                if Sha256::digest(&*body).as_slice() != expected {
                    return Err(damaged("its checksum does not fit"));
                }
                Ok(body)
            }
            (
                HeaderProtection::Argon2id { nonce, salt, .. },
                Lock::Key {
                    key, salt: known, ..
                },
            ) => {
                let salt: [u8; SALT_LEN] = decode(&self.path, salt)?;
                let nonce: [u8; NONCE_LEN] = decode(&self.path, nonce)?;
                let payload = Payload {
                    msg: &body,
                    aad: &additional_data(&file.header)?,
                };
                if salt != *known {
                    return Err(KeystoreError::WrongPassphrase(self.path.clone()));
                }
                cipher(key)
                    .decrypt(&Nonce::from(nonce), payload)
                    .map(Zeroizing::new)
                    .map_err(|_| KeystoreError::WrongPassphrase(self.path.clone()))
            }
            _ => Err(KeystoreError::WrongPassphrase(self.path.clone())),
        }
    }
}

fn read(path: &Path, user: &str, realm: &str) -> Result<KeystoreFile, KeystoreError> {
    let bytes =
        read_private(path, MAX_FILE)?.ok_or_else(|| KeystoreError::Missing(path.to_owned()))?;
    let bytes = Zeroizing::new(bytes);
    parse(path, user, realm, &bytes)
}

fn parse(
    path: &Path,
    user: &str,
    realm: &str,
    bytes: &[u8],
) -> Result<KeystoreFile, KeystoreError> {
    /// The version alone, so that a later format is told apart from damage.
    #[derive(Deserialize)]
    struct Versioned {
        header: VersionedHeader,
    }
    #[derive(Deserialize)]
    struct VersionedHeader {
        sealpost_keystore: u32,
    }
    let damaged = |problem| KeystoreError::Damaged {
        path: path.to_owned(),
        problem,
    };
    let versioned: Versioned =
        serde_json::from_slice(bytes).map_err(|_| damaged("it is not a keystore, or cut short"))?;
    if versioned.header.sealpost_keystore != VERSION {
        return Err(KeystoreError::Version {
            path: path.to_owned(),
            version: versioned.header.sealpost_keystore,
        });
    }
    let file: KeystoreFile = serde_json::from_slice(bytes)
        .map_err(|_| damaged("a field is missing, unknown or malformed"))?;
    if file.header.user != user || file.header.realm != realm {
        return Err(KeystoreError::Owner {
            path: path.to_owned(),
            owner: crate::terminal::clean_line(&format!(
                "user {:?} of realm {:?}",
                file.header.user, file.header.realm
            )),
        });
    }
    Ok(file)
}

fn check_kdf(path: &Path, kdf: Kdf) -> Result<(), KeystoreError> {
    let at_least = kdf.memory_kib >= KDF.memory_kib && kdf.passes >= KDF.passes && kdf.lanes >= 1;
    let at_most = kdf.memory_kib <= KDF_MAX.memory_kib
        && kdf.passes <= KDF_MAX.passes
        && kdf.lanes <= KDF_MAX.lanes;
    if at_least && at_most {
        return Ok(());
    }
    Err(KeystoreError::Damaged {
        path: path.to_owned(),
        problem: "its Argon2id parameters are out of bounds",
    })
}

fn derive(
    passphrase: &Passphrase,
    salt: &[u8; SALT_LEN],
    kdf: Kdf,
) -> Result<Zeroizing<[u8; 32]>, KeystoreError> {
    let params = Params::new(kdf.memory_kib, kdf.passes, kdf.lanes, Some(32))
        .map_err(|_| KeystoreError::Internal("Argon2id refused its parameters"))?;
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), salt, &mut *key)
        .map_err(|_| {
            KeystoreError::Internal("Argon2id failed: is there enough memory (64 MiB)?")
        })?;
    Ok(key)
}

fn cipher(key: &Zeroizing<[u8; 32]>) -> Aes256Gcm {
    Aes256Gcm::new((&**key).into())
}

fn additional_data(header: &Header) -> Result<Vec<u8>, KeystoreError> {
    serde_json::to_vec(header)
        .map_err(|_| KeystoreError::Internal("the keystore's header cannot be written as JSON"))
}

fn decode<const N: usize>(path: &Path, text: &str) -> Result<[u8; N], KeystoreError> {
    BASE64
        .decode(text)
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| KeystoreError::Damaged {
            path: path.to_owned(),
            problem: "a field is not base64 of the right length",
        })
}

#[cfg(test)]
mod tests;
