//! Who is registered, with which identity, and their key bundles: one small file for each user.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use sealpost_core::{
    BundleError, BundleTimeError, IdentityKey, KeyBundle, Realm, Timestamp, UserId,
};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, OwnedMutexGuard};

/// The users. Everything it says it has taken is on disk.
#[derive(Debug)]
pub struct Registry {
    realm: Realm,
    dir: PathBuf,
    max_users: usize,
    users: RwLock<HashMap<UserId, Record>>,
    writing: Arc<Mutex<()>>,
    // Held for as long as the registry lives: one broker to a directory.
    _lock: File,
}

#[derive(Debug, Clone)]
struct Record {
    identity: IdentityKey,
    registered: Timestamp,
    bundle: Option<KeyBundle>,
    /// Of the newest bundle ever taken, also after it was withdrawn, so that no older one comes back.
    seq: u64,
}

/// A user's file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    version: u8,
    user: String,
    identity: String,
    registered: u64,
    seq: u64,
    bundle: Option<String>,
}

/// Why the registry could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory or a file in it cannot be read or written.
    #[error("{path:?}: {why}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        why: io::Error,
    },
    /// Another broker uses the directory.
    #[error("{0:?} is in use by another broker")]
    InUse(PathBuf),
    /// A user's file is not what was written. Nothing is guessed.
    #[error("{path:?} is damaged: {why}")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

/// Why a name was not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The name is kept for the system.
    #[error("the name is reserved")]
    Reserved,
    /// Another identity has it.
    #[error("the name belongs to another identity")]
    Taken,
    /// There are as many users as the broker takes.
    #[error("the broker has as many users as it takes")]
    Full,
    /// The disk did not take it.
    #[error("the broker cannot write to its disk")]
    Disk(#[source] io::Error),
}

/// Why a key bundle was not taken.
#[derive(Debug, thiserror::Error)]
pub enum BundleRefused {
    /// It does not parse, or its signatures do not hold.
    #[error("{0}")]
    Invalid(#[from] BundleError),
    /// It was made for another deployment.
    #[error("the bundle is for realm {0}")]
    WrongRealm(Realm),
    /// It is somebody else's.
    #[error("the bundle is {0}'s")]
    WrongUser(UserId),
    /// It has expired, or comes from the future.
    #[error("{0}")]
    Time(#[from] BundleTimeError),
    /// A newer one was taken before.
    #[error("a bundle with seq {seen} was published before")]
    RolledBack {
        /// The newest seq seen.
        seen: u64,
    },
    /// Another one with the same seq was taken before.
    #[error("another bundle with seq {0} was published before")]
    Forked(u64),
    /// Its identity is neither the registered one nor linked from it.
    #[error("the identity is neither the registered one nor linked from it")]
    UnlinkedIdentity,
    /// Nobody of that name is registered.
    #[error("the user is not registered")]
    Unregistered,
    /// The disk did not take it.
    #[error("the broker cannot write to its disk")]
    Disk(#[source] io::Error),
}

/// Keeps other bundles waiting until this one has its place in the one order, so that the last one written to disk is
/// also the last one retained.
#[derive(Debug)]
pub struct BundleTurn {
    /// Whether the name has another identity now: connections that the old one logged in are no longer the user's.
    pub identity_changed: bool,
    _turn: OwnedMutexGuard<()>,
}

impl Registry {
    /// Opens or creates the registry in `dir/users`.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(dir: &Path, realm: Realm, max_users: usize) -> Result<Registry, OpenError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |why| OpenError::Io { path, why }
        };
        let dir = dir.join("users");
        create_private_dir(&dir).map_err(at(&dir))?;
        let lock_path = dir.join(".lock");
        let lock = File::create(&lock_path).map_err(at(&lock_path))?;
        lock.try_lock().map_err(|_| OpenError::InUse(dir.clone()))?;

        let mut users = HashMap::new();
        for entry in fs::read_dir(&dir).map_err(at(&dir))? {
            let path = entry.map_err(at(&dir))?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("json") => {
                    let text = fs::read_to_string(&path).map_err(at(&path))?;
                    let (user, record) =
                        Record::parse(&text, &realm).map_err(|why| OpenError::Damaged {
                            path: path.clone(),
                            why,
                        })?;
                    if path.file_stem().and_then(|stem| stem.to_str()) != Some(user.as_str()) {
                        return Err(OpenError::Damaged {
                            path,
                            why: format!("it is {user}'s"),
                        });
                    }
                    users.insert(user, record);
                }
                // A write that a crash cut short; what it was to replace is whole.
                Some("new") => fs::remove_file(&path).map_err(at(&path))?,
                _ => {}
            }
        }
        Ok(Registry {
            realm,
            dir,
            max_users,
            users: RwLock::new(users),
            writing: Arc::default(),
            _lock: lock,
        })
    }

    /// The identity that a name is bound to.
    #[must_use]
    pub fn identity(&self, user: &UserId) -> Option<IdentityKey> {
        self.read(user, |record| record.identity)
    }

    /// Whether the name is registered.
    #[must_use]
    pub fn is_registered(&self, user: &UserId) -> bool {
        self.users
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains_key(user)
    }

    /// Every user who has published a bundle, and its bytes.
    #[must_use]
    pub fn bundles(&self) -> Vec<(UserId, Vec<u8>)> {
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
        let published = users
            .iter()
            .filter_map(|(user, record)| Some((user, record.bundle.as_ref()?)));
        published
            .map(|(user, bundle)| (user.clone(), bundle.as_bytes().to_vec()))
            .collect()
    }

    fn read<T>(&self, user: &UserId, get: impl FnOnce(&Record) -> T) -> Option<T> {
        self.users
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(user)
            .map(get)
    }

    /// Binds a free name to an identity. Binding it again to the same one changes nothing.
    ///
    /// # Errors
    /// See [`RegisterError`].
    pub async fn register(
        &self,
        user: &UserId,
        identity: &IdentityKey,
        now: Timestamp,
    ) -> Result<(), RegisterError> {
        if user.is_reserved() {
            return Err(RegisterError::Reserved);
        }
        let _turn = self.writing.lock().await;
        if let Some(bound) = self.identity(user) {
            return if bound == *identity {
                Ok(())
            } else {
                Err(RegisterError::Taken)
            };
        }
        if self
            .users
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
            >= self.max_users
        {
            return Err(RegisterError::Full);
        }
        let record = Record {
            identity: *identity,
            registered: now,
            bundle: None,
            seq: 0,
        };
        self.write(user, record).await.map_err(RegisterError::Disk)
    }

    /// Takes a bundle for `keys/<user>`. Once it returns, the bundle is on disk; keep the turn until it has its place in
    /// the one order.
    ///
    /// # Errors
    /// See [`BundleRefused`].
    pub async fn publish(
        &self,
        user: &UserId,
        bytes: &[u8],
        now: Timestamp,
    ) -> Result<BundleTurn, BundleRefused> {
        let bundle = KeyBundle::parse(bytes)?;
        if *bundle.realm() != self.realm {
            return Err(BundleRefused::WrongRealm(bundle.realm().clone()));
        }
        if bundle.user() != user {
            return Err(BundleRefused::WrongUser(bundle.user().clone()));
        }
        bundle.check_time(now)?;
        let mut turn = BundleTurn {
            identity_changed: false,
            _turn: Arc::clone(&self.writing).lock_owned().await,
        };
        let record = self
            .read(user, Record::clone)
            .ok_or(BundleRefused::Unregistered)?;
        let linked = bundle
            .links()
            .iter()
            .any(|link| *link.old() == record.identity);
        if *bundle.identity() != record.identity && !linked {
            return Err(BundleRefused::UnlinkedIdentity);
        }
        if record
            .bundle
            .as_ref()
            .is_some_and(|known| known.as_bytes() == bytes)
        {
            return Ok(turn);
        }
        // `seq` counts for one identity; a linked one begins anew.
        if *bundle.identity() == record.identity {
            match bundle.seq().cmp(&record.seq) {
                std::cmp::Ordering::Less => {
                    return Err(BundleRefused::RolledBack { seen: record.seq });
                }
                std::cmp::Ordering::Equal => return Err(BundleRefused::Forked(record.seq)),
                std::cmp::Ordering::Greater => {}
            }
        }
        turn.identity_changed = *bundle.identity() != record.identity;
        let record = Record {
            identity: *bundle.identity(),
            registered: record.registered,
            seq: bundle.seq(),
            bundle: Some(bundle),
        };
        self.write(user, record)
            .await
            .map_err(BundleRefused::Disk)?;
        Ok(turn)
    }

    /// Withdraws a user's bundle; the name stays bound, and no older bundle can come back.
    ///
    /// # Errors
    /// [`BundleRefused::Unregistered`] and [`BundleRefused::Disk`].
    pub async fn withdraw(&self, user: &UserId) -> Result<BundleTurn, BundleRefused> {
        let turn = BundleTurn {
            identity_changed: false,
            _turn: Arc::clone(&self.writing).lock_owned().await,
        };
        let record = self
            .read(user, Record::clone)
            .ok_or(BundleRefused::Unregistered)?;
        if record.bundle.is_some() {
            self.write(
                user,
                Record {
                    bundle: None,
                    ..record
                },
            )
            .await
            .map_err(BundleRefused::Disk)?;
        }
        Ok(turn)
    }

    /// Writes a user's file whole, then remembers it. The caller has the turn.
    async fn write(&self, user: &UserId, record: Record) -> io::Result<()> {
        let page = serde_json::to_vec(&record.page(user)).map_err(io::Error::other)?;
        let (dir, name) = (self.dir.clone(), format!("{user}.json"));
        let written = tokio::task::spawn_blocking(move || replace(&dir, &name, &page)).await;
        written.map_err(io::Error::other)??;
        self.users
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(user.clone(), record);
        Ok(())
    }
}

impl Record {
    fn page(&self, user: &UserId) -> Page {
        Page {
            version: 1,
            user: user.to_string(),
            identity: self.identity.to_base64(),
            registered: self.registered.millis(),
            seq: self.seq,
            // A bundle is ASCII.
            bundle: self
                .bundle
                .as_ref()
                .map(|bundle| String::from_utf8_lossy(bundle.as_bytes()).into_owned()),
        }
    }

    fn parse(text: &str, realm: &Realm) -> Result<(UserId, Record), String> {
        let page: Page = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if page.version != 1 {
            return Err(format!(
                "version {} is not known to this broker",
                page.version
            ));
        }
        let user = UserId::parse(&page.user).map_err(|error| error.to_string())?;
        let identity =
            IdentityKey::from_base64(&page.identity).map_err(|error| error.to_string())?;
        let registered =
            Timestamp::from_millis(page.registered).map_err(|error| error.to_string())?;
        let bundle = page
            .bundle
            .map(|bundle| KeyBundle::parse(bundle.as_bytes()))
            .transpose();
        let bundle = bundle.map_err(|error| error.to_string())?;
        if let Some(bundle) = &bundle
            && (bundle.user() != &user || bundle.realm() != realm || *bundle.identity() != identity)
        {
            return Err(format!("its bundle is not {user}'s in realm {realm}"));
        }
        Ok((
            user,
            Record {
                identity,
                registered,
                bundle,
                seq: page.seq,
            },
        ))
    }
}

fn create_private_dir(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// Old or new, whatever happens in between.
fn replace(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let new = dir.join(format!("{name}.new"));
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, dir.join(name))?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests;
