//! Who is registered, with which identity, and their key bundles: one small file for each user.

mod administering;
mod logins;
mod record;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use sealpost_core::{
    BundleError, BundleTimeError, IdentityKey, KeyBundle, Realm, Timestamp, UserId,
};
use tokio::sync::{Mutex, OwnedMutexGuard, Semaphore};

use crate::files::{create_private_dir, replace, sync_dir};

pub use administering::AdministerError;
pub use record::{Invited, Record, Standing};

/// The users. Everything it says it has taken is on disk.
#[derive(Debug)]
pub struct Registry {
    realm: Realm,
    dir: PathBuf,
    max_users: usize,
    users: RwLock<HashMap<UserId, Record>>,
    passwords: AtomicUsize,
    writing: Arc<Mutex<()>>,
    /// Who notes a login on disk: one at a time, so that a crowd that signs in keeps nobody else waiting.
    noting: Arc<Semaphore>,
    // Held for as long as the registry lives: one broker to a directory.
    _lock: File,
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

/// By what right somebody claims a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Whoever comes first has it.
    First,
    /// They accepted the invitation with this public key.
    Invited(IdentityKey),
    /// The operator says so.
    Operator,
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
    /// The name is kept for somebody who has an invitation, or for nobody yet.
    #[error("the name is held for somebody else")]
    Held,
    /// The invitation is not one to this name, was used, or has expired.
    #[error("the invitation is not to this name, was used before, or has expired")]
    NotInvited,
    /// The name was removed.
    #[error("the name was removed and stays reserved")]
    Removed,
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
    /// The user is disabled or was removed.
    #[error("the user may not act")]
    NotActive,
    /// The name is not bound to an identity.
    #[error("the user has no identity here: sign in once with an identity key and an invitation")]
    NoIdentity,
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
        let passwords = users
            .values()
            .filter(|record: &&Record| record.password.is_some())
            .count();
        Ok(Registry {
            realm,
            dir,
            max_users,
            passwords: AtomicUsize::new(passwords),
            users: RwLock::new(users),
            writing: Arc::default(),
            noting: Arc::new(Semaphore::new(1)),
            _lock: lock,
        })
    }

    /// The directory of users' files.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The deployment.
    #[must_use]
    pub fn realm(&self) -> &Realm {
        &self.realm
    }

    /// What is known of a name.
    #[must_use]
    pub fn record(&self, user: &UserId) -> Option<Record> {
        self.read(user, Record::clone)
    }

    /// The identity that a name is bound to, whether or not its owner may act.
    #[must_use]
    pub fn identity(&self, user: &UserId) -> Option<IdentityKey> {
        self.read(user, |record| record.identity).flatten()
    }

    /// Whether the owner of a name may act, and the identity that it is bound to.
    #[must_use]
    pub fn active(&self, user: &UserId) -> Option<Option<IdentityKey>> {
        self.read(user, |record| {
            (record.standing == Standing::Active).then_some(record.identity)
        })
        .flatten()
    }

    /// Whether mail can be for this name: it is bound to an identity.
    #[must_use]
    pub fn is_registered(&self, user: &UserId) -> bool {
        self.identity(user).is_some()
    }

    /// Whether anybody signs in with a password here.
    #[must_use]
    pub fn has_passwords(&self) -> bool {
        self.passwords.load(Ordering::Relaxed) > 0
    }

    /// Names that are taken, offered or were removed.
    #[must_use]
    pub fn len(&self) -> usize {
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
        users.len()
    }

    /// Whether nobody ever registered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Names that are taken, offered or were removed, in order: at most so many, from the one after the given one on.
    #[must_use]
    pub fn page(&self, after: Option<&UserId>, limit: usize) -> Vec<(UserId, Record)> {
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
        let mut page = users
            .iter()
            .filter(|(user, _)| after.is_none_or(|after| *user > after))
            .collect::<Vec<_>>();
        page.sort_unstable_by_key(|(user, _)| *user);
        page.into_iter()
            .take(limit)
            .map(|(user, record)| (user.clone(), record.clone()))
            .collect()
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

    /// Binds a name to an identity. Binding it again to the same one changes nothing. An invitation is used up in the same
    /// write that binds the name.
    ///
    /// # Errors
    /// See [`RegisterError`].
    pub async fn register(
        &self,
        user: &UserId,
        identity: &IdentityKey,
        claim: Claim,
        now: Timestamp,
    ) -> Result<(), RegisterError> {
        if user.is_reserved() {
            return Err(RegisterError::Reserved);
        }
        let _turn = self.writing.lock().await;
        let known = self.record(user);
        match (&known, claim) {
            (Some(record), _) if record.standing == Standing::Removed => {
                return Err(RegisterError::Removed);
            }
            (Some(record), _) if record.identity.is_some() => {
                return if record.identity == Some(*identity) {
                    Ok(())
                } else {
                    Err(RegisterError::Taken)
                };
            }
            (_, Claim::Operator) => {}
            (Some(record), Claim::Invited(key)) => {
                let invited = record.invitation;
                if invited.is_none_or(|invited| invited.key != key || invited.expires < now) {
                    return Err(RegisterError::NotInvited);
                }
            }
            (None, Claim::Invited(_)) => return Err(RegisterError::NotInvited),
            (Some(record), Claim::First) if !record.is_free(now) => {
                return Err(RegisterError::Held);
            }
            (_, Claim::First) => {}
        }
        if known.is_none() && self.is_full() {
            return Err(RegisterError::Full);
        }
        let known = known.unwrap_or_else(|| Record::new(now));
        let record = Record {
            identity: Some(*identity),
            registered: if known.used { known.registered } else { now },
            used: true,
            invitation: None,
            last_login: match claim {
                Claim::Operator => known.last_login,
                Claim::First | Claim::Invited(_) => Some(now),
            },
            // Bundles of an identity that the name was bound to before are another's.
            bundle: None,
            seq: 0,
            ..known
        };
        self.write(user, record).await.map_err(RegisterError::Disk)
    }

    fn is_full(&self) -> bool {
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
        let living = users
            .values()
            .filter(|record| record.standing != Standing::Removed);
        users.len() >= self.max_users && living.count() >= self.max_users
    }

    async fn turn(&self) -> BundleTurn {
        BundleTurn {
            identity_changed: false,
            _turn: Arc::clone(&self.writing).lock_owned().await,
        }
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
        let mut turn = self.turn().await;
        let record = self.record(user).ok_or(BundleRefused::Unregistered)?;
        if record.standing != Standing::Active {
            return Err(BundleRefused::NotActive);
        }
        let Some(identity) = record.identity else {
            return Err(BundleRefused::NoIdentity);
        };
        let linked = bundle.links().iter().any(|link| *link.old() == identity);
        if *bundle.identity() != identity && !linked {
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
        if *bundle.identity() == identity {
            match bundle.seq().cmp(&record.seq) {
                std::cmp::Ordering::Less => {
                    return Err(BundleRefused::RolledBack { seen: record.seq });
                }
                std::cmp::Ordering::Equal => return Err(BundleRefused::Forked(record.seq)),
                std::cmp::Ordering::Greater => {}
            }
        }
        turn.identity_changed = *bundle.identity() != identity;
        let record = Record {
            identity: Some(*bundle.identity()),
            seq: bundle.seq(),
            bundle: Some(bundle),
            ..record
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
        let turn = self.turn().await;
        let record = self.record(user).ok_or(BundleRefused::Unregistered)?;
        if record.standing != Standing::Active {
            return Err(BundleRefused::NotActive);
        }
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
    async fn write(&self, user: &UserId, mut record: Record) -> io::Result<()> {
        let page = record.write(user).map_err(io::Error::other)?;
        let (dir, name) = (self.dir.clone(), format!("{user}.json"));
        let written = tokio::task::spawn_blocking(move || replace(&dir, &name, &page)).await;
        written.map_err(io::Error::other)??;
        let has_password = record.password.is_some();
        record.noted_login = record.last_login;
        let mut users = self.users.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = users
            .get(user)
            .filter(|_| record.standing != Standing::Removed)
        {
            // Somebody may have signed in meanwhile.
            record.last_login = record.last_login.max(known.last_login);
        }
        let old = users.insert(user.clone(), record);
        drop(users);
        match (
            old.is_some_and(|record| record.password.is_some()),
            has_password,
        ) {
            (false, true) => drop(self.passwords.fetch_add(1, Ordering::Relaxed)),
            (true, false) => drop(self.passwords.fetch_sub(1, Ordering::Relaxed)),
            _ => {}
        }
        Ok(())
    }

    /// Forgets a name altogether. The caller has the turn.
    async fn erase(&self, user: &UserId) -> io::Result<()> {
        let (dir, name) = (self.dir.clone(), format!("{user}.json"));
        let erased = tokio::task::spawn_blocking(move || {
            fs::remove_file(dir.join(name))?;
            sync_dir(&dir)
        });
        erased.await.map_err(io::Error::other)??;
        self.users
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(user);
        Ok(())
    }
}

/// Reads every user's file in a directory; says how many there are, and which of them are not what was written. Whoever calls it
/// sees to it that no broker uses the directory.
///
/// # Errors
/// When the directory cannot be read.
pub fn inspect(dir: &Path, realm: &Realm) -> io::Result<(u64, Vec<OpenError>)> {
    let (mut count, mut damaged) = (0, Vec::new());
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        count += 1;
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(why) => {
                damaged.push(OpenError::Io { path, why });
                continue;
            }
        };
        let why = match Record::parse(&text, realm) {
            Ok((user, _)) if path.file_stem().is_some_and(|stem| stem == user.as_str()) => continue,
            Ok((user, _)) => format!("it is {user}'s"),
            Err(why) => why,
        };
        damaged.push(OpenError::Damaged { path, why });
    }
    Ok((count, damaged))
}

#[cfg(test)]
mod tests;
