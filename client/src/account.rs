//! The account: one user's identity, RSA keys and published bundle, as they are in the keystore.

mod secrets;

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use rand::RngExt;
use sealpost_core::{
    BundleFields, DecryptionKey, Identity, IdentityKey, IdentityLink, Invitation, KeyBundle,
    MAX_LINKS, MAX_VALIDITY, Realm, Timestamp, UserId, next_seq,
};
use zeroize::Zeroizing;

use self::secrets::{OwnKey, Secrets};
use crate::home::Home;
use crate::keystore::{KeystoreError, KeystoreKey, Protection, Unlocked};
use crate::passphrase::{self, Passphrase, PassphraseError};

/// How long a published bundle is valid. Nobody seals to an expired one.
const BUNDLE_VALIDITY: Duration = Duration::from_secs(180 * 24 * 60 * 60);
/// A bundle that has less than this left is made anew.
const RENEW_BEFORE: Duration = Duration::from_secs(60 * 24 * 60 * 60);
/// How long a replaced RSA key still opens messages: longer than the 30 days that a mailbox keeps mail. Then it is
/// destroyed.
pub const GRACE: Duration = Duration::from_secs(45 * 24 * 60 * 60);
/// How many replaced keys are kept at most, so that the keystore stays small.
const MAX_OLD_KEYS: usize = 64;
/// How many of our own bundles we recognise when they come back from the broker.
const MAX_MADE: usize = 64;

/// One user's keys, unlocked.
pub struct Account {
    home: Home,
    user: UserId,
    realm: Realm,
    unlocked: Unlocked,
    secrets: Secrets,
    invitation: Option<Invitation>,
    /// How old the RSA key becomes before it is replaced.
    rotate_after: Option<Duration>,
    /// What prints the passphrase, if another one is needed.
    passphrase_command: Option<String>,
    broker_password_command: Option<String>,
    /// Which keystore file was read or written last.
    file: Option<(u64, u64)>,
}

/// What looking after the keys changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Upkeep {
    /// The bundle was made anew and is to be published.
    pub renewed: bool,
    /// The RSA key had come of age and was replaced.
    pub rotated: bool,
    /// So many keys were past their grace and are gone.
    pub destroyed: usize,
}

/// One of our RSA keys, for showing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyAge {
    /// When it was made.
    pub created: Timestamp,
    /// When it was replaced; the current one was not.
    pub replaced: Option<Timestamp>,
    /// When it will be destroyed.
    pub destroyed: Option<Timestamp>,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account")
            .field("user", &self.user)
            .field("realm", &self.realm)
            .finish_non_exhaustive()
    }
}

impl Account {
    /// Makes keys for a user who has none.
    pub fn create(
        home: &Home,
        user: &UserId,
        realm: &Realm,
        passphrase: Option<&Passphrase>,
        now: Timestamp,
    ) -> Result<Account, KeystoreError> {
        let _lock = home.lock_keystore()?;
        if home.keystore().exists() {
            return Err(KeystoreError::Exists(home.path().to_owned()));
        }
        let unlocked =
            Unlocked::create(&home.keystore(), user.as_str(), realm.as_str(), passphrase)?;
        let identity = Identity::generate(&mut rand::rng());
        let keys = vec![OwnKey::generate(identity.key(), now)?];
        let bundle = make_bundle(realm, user, &identity, &keys, Vec::new(), None, now)?;
        let mut store_key = Zeroizing::new([0; 32]);
        rand::rng().fill(&mut store_key[..]);
        let mut account = Account {
            file: None,
            home: home.clone(),
            user: user.clone(),
            realm: realm.clone(),
            unlocked,
            secrets: Secrets {
                identity,
                handing_over: None,
                store_key,
                keys,
                made: vec![bundle.digest()],
                bundle,
            },
            invitation: None,
            rotate_after: None,
            passphrase_command: None,
            broker_password_command: None,
        };
        account.save()?;
        Ok(account)
    }

    /// Unlocks a user's keys, destroys what is past its grace, and makes the bundle anew when it is due.
    pub fn open(
        home: &Home,
        user: &UserId,
        realm: &Realm,
        passphrase: impl FnOnce() -> Result<Passphrase, PassphraseError>,
        now: Timestamp,
    ) -> Result<Account, KeystoreError> {
        let opened = Unlocked::open(&home.keystore(), user.as_str(), realm.as_str(), passphrase)?;
        Account::opened(home, user, realm, opened, now)
    }

    /// The same with the key that an agent held.
    pub fn open_with_key(
        home: &Home,
        user: &UserId,
        realm: &Realm,
        key: KeystoreKey,
        now: Timestamp,
    ) -> Result<Account, KeystoreError> {
        let (path, user_name, realm_name) = (home.keystore(), user.as_str(), realm.as_str());
        let opened = Unlocked::open_with_key(&path, user_name, realm_name, key)?;
        Account::opened(home, user, realm, opened, now)
    }

    /// Unlocks a user's keys to look at them, as they are.
    pub fn look(
        home: &Home,
        user: &UserId,
        realm: &Realm,
        passphrase: impl FnOnce() -> Result<Passphrase, PassphraseError>,
    ) -> Result<Account, KeystoreError> {
        let opened = Unlocked::open(&home.keystore(), user.as_str(), realm.as_str(), passphrase)?;
        Account::as_it_is(home, user, realm, opened)
    }

    /// The same with the key that an agent held.
    pub fn look_with_key(
        home: &Home,
        user: &UserId,
        realm: &Realm,
        key: KeystoreKey,
    ) -> Result<Account, KeystoreError> {
        let (path, user_name, realm_name) = (home.keystore(), user.as_str(), realm.as_str());
        let opened = Unlocked::open_with_key(&path, user_name, realm_name, key)?;
        Account::as_it_is(home, user, realm, opened)
    }

    fn opened(
        home: &Home,
        user: &UserId,
        realm: &Realm,
        opened: (Unlocked, Zeroizing<Vec<u8>>),
        now: Timestamp,
    ) -> Result<Account, KeystoreError> {
        let mut account = Account::as_it_is(home, user, realm, opened)?;
        account.upkeep(now)?;
        Ok(account)
    }

    fn as_it_is(
        home: &Home,
        user: &UserId,
        realm: &Realm,
        (unlocked, secrets): (Unlocked, Zeroizing<Vec<u8>>),
    ) -> Result<Account, KeystoreError> {
        let secrets = Secrets::parse(&secrets, home, user, realm)?;
        Ok(Account {
            file: file_of(home),
            home: home.clone(),
            user: user.clone(),
            realm: realm.clone(),
            unlocked,
            secrets,
            invitation: None,
            rotate_after: None,
            passphrase_command: None,
            broker_password_command: None,
        })
    }

    /// The keystore as it is now on disk, but without a passphrase: for a backup, which has one of its own.
    pub(crate) fn keystore_for_backup(&self) -> Result<Zeroizing<Vec<u8>>, KeystoreError> {
        self.unlocked.unprotected(&self.unlocked.reload()?)
    }

    /// The account of a backup, for a home that has no keys yet. Nothing is written until [`Account::settle`].
    pub(crate) fn from_backup(
        home: &Home,
        user: &UserId,
        realm: &Realm,
        keystore: &[u8],
    ) -> Result<Account, KeystoreError> {
        let path = home.keystore();
        let (unlocked, secrets) =
            Unlocked::take_over(&path, user.as_str(), realm.as_str(), keystore)?;
        let secrets = Secrets::parse(&secrets, home, user, realm)?;
        Ok(Account {
            file: None,
            home: home.clone(),
            user: user.clone(),
            realm: realm.clone(),
            unlocked,
            secrets,
            invitation: None,
            rotate_after: None,
            passphrase_command: None,
            broker_password_command: None,
        })
    }

    /// Writes the keys of a backup into their new home, under a passphrase or none. The bundle is made anew: its number is
    /// then above those that were made after the backup, and another home that lives on with the same keys sees that it is
    /// not alone.
    pub(crate) fn settle(
        mut self,
        passphrase: Option<&Passphrase>,
        now: Timestamp,
    ) -> Result<(), KeystoreError> {
        self.unlocked.protect(passphrase)?;
        self.secrets.keys.retain(|key| !key.is_over(now));
        if !self.is_retired() {
            self.renew_bundle(now)?;
        }
        self.save()
    }

    /// With what lets us claim our name at the first login.
    #[must_use]
    pub fn with_invitation(self, invitation: Option<Invitation>) -> Account {
        Account { invitation, ..self }
    }

    /// From now on, [`Account::upkeep`] replaces an RSA key of this age.
    #[must_use]
    pub fn with_rotation(self, rotate_after: Option<Duration>) -> Account {
        Account {
            rotate_after,
            ..self
        }
    }

    /// With the command that prints the passphrase, in case another one is needed than at first.
    #[must_use]
    pub fn with_passphrase_command(self, passphrase_command: Option<String>) -> Account {
        Account {
            passphrase_command,
            ..self
        }
    }

    /// With the command that prints our password at the broker, instead of a login by identity key.
    #[must_use]
    pub fn with_broker_password_command(self, broker_password_command: Option<String>) -> Account {
        Account {
            broker_password_command,
            ..self
        }
    }

    /// The command that prints our password at the broker.
    #[must_use]
    pub fn broker_password_command(&self) -> Option<&str> {
        self.broker_password_command.as_deref()
    }

    /// What lets us claim our name.
    #[must_use]
    pub fn invitation(&self) -> Option<&Invitation> {
        self.invitation.as_ref()
    }

    /// Reads the keystore again: another process may have rotated the key. Where it has changed the passphrase too, whoever
    /// knows the new one is asked, but no person.
    pub fn reload(&mut self) -> Result<(), KeystoreError> {
        let file = file_of(&self.home);
        let bytes = match self.unlocked.reload() {
            Err(KeystoreError::WrongPassphrase(path)) => {
                let unlocked = self.unlock_again();
                let (unlocked, bytes) = unlocked.ok_or(KeystoreError::WrongPassphrase(path))?;
                self.unlocked = unlocked;
                bytes
            }
            read => read?,
        };
        self.file = file;
        self.secrets = Secrets::parse(&bytes, &self.home, &self.user, &self.realm)?;
        Ok(())
    }

    /// Without a passphrase, with the key that an agent holds, or with the passphrase of the command.
    fn unlock_again(&self) -> Option<(Unlocked, Zeroizing<Vec<u8>>)> {
        let path = self.home.keystore();
        let (user, realm) = (self.user.as_str(), self.realm.as_str());
        let nobody = || Err(PassphraseError::NoTerminal);
        if let Ok(opened) = Unlocked::open(&path, user, realm, nobody) {
            return Some(opened);
        }
        if let Some(key) = crate::agent::key(self.home.path())
            && let Ok(opened) = Unlocked::open_with_key(&path, user, realm, key)
        {
            return Some(opened);
        }
        let command = self.passphrase_command.as_deref()?;
        let ask = || passphrase::existing(Some(command), user);
        Unlocked::open(&path, user, realm, ask).ok()
    }

    /// Takes no notice of what another process has done until it does more.
    pub fn overlook_change(&mut self) {
        self.file = file_of(&self.home);
    }

    /// Whether another process has replaced the keystore since we read it.
    #[must_use]
    pub fn changed_on_disk(&self) -> bool {
        file_of(&self.home) != self.file
    }

    /// Destroys keys past their grace and makes the bundle anew when it is due.
    pub fn upkeep(&mut self, now: Timestamp) -> Result<Upkeep, KeystoreError> {
        let over = self.secrets.keys.iter().any(|key| key.is_over(now));
        if !self.is_due(now) && !self.is_of_age(now) && !over {
            return Ok(Upkeep::default());
        }
        let home = self.home.clone();
        let _lock = home.lock_keystore()?;
        self.reload()?;
        let before = self.secrets.keys.len();
        self.secrets.keys.retain(|key| !key.is_over(now));
        let destroyed = before - self.secrets.keys.len();
        let rotated = self.is_of_age(now);
        if rotated {
            self.replace_key(now)?;
        }
        let renewed = rotated || self.is_due(now);
        if renewed {
            self.renew_bundle(now)?;
        }
        self.save()?;
        Ok(Upkeep {
            renewed,
            rotated,
            destroyed,
        })
    }

    /// Replaces the RSA key and makes the bundle that announces the new one.
    pub fn rotate(&mut self, now: Timestamp) -> Result<(), KeystoreError> {
        let home = self.home.clone();
        let _lock = home.lock_keystore()?;
        self.reload()?;
        self.check_rotatable(now)?;
        self.replace_key(now)?;
        self.renew_bundle(now)?;
        self.save()
    }

    /// Replaces the identity, and the RSA key with it, and makes the bundle that links the old one to the new one. The old
    /// secret is kept until [`Account::handed_over`].
    pub fn rotate_identity(&mut self, now: Timestamp) -> Result<(), KeystoreError> {
        let home = self.home.clone();
        let _lock = home.lock_keystore()?;
        self.reload()?;
        self.check_rotatable(now)?;
        if self.secrets.handing_over.is_some() {
            return Err(KeystoreError::HandingOver);
        }
        let new = Identity::generate(&mut rand::rng());
        let old = std::mem::replace(&mut self.secrets.identity, new);
        let link = IdentityLink::sign(
            &self.realm,
            &self.user,
            &old,
            &self.secrets.identity.key(),
            now,
        );
        self.secrets.handing_over = Some(old);
        self.replace_key(now)?;
        self.renew_linked(Some(link), now)?;
        self.save()
    }

    /// The identity before this one, while the broker may not have the bundle that links the two.
    #[must_use]
    pub fn handing_over(&self) -> Option<&Identity> {
        self.secrets.handing_over.as_ref()
    }

    /// The broker has the linked bundle: the secret of the old identity is of no more use, and destroyed.
    pub fn handed_over(&mut self) -> Result<(), KeystoreError> {
        let home = self.home.clone();
        let _lock = home.lock_keystore()?;
        self.reload()?;
        self.secrets.handing_over = None;
        self.save()
    }

    /// Retires the identity for good: makes a bundle to which nobody can seal. What is under way still opens for the grace
    /// period.
    pub fn revoke(&mut self, now: Timestamp) -> Result<(), KeystoreError> {
        let home = self.home.clone();
        let _lock = home.lock_keystore()?;
        self.reload()?;
        if self.is_retired() {
            return Ok(());
        }
        if let Some(current) = self.secrets.keys.first_mut() {
            current.replaced = Some(now);
        }
        self.renew_bundle(now)?;
        self.save()
    }

    /// Protects the keys on disk by another passphrase, or by none. Processes that have them open must be started again.
    pub fn protect(&mut self, passphrase: Option<&Passphrase>) -> Result<(), KeystoreError> {
        let home = self.home.clone();
        let _lock = home.lock_keystore()?;
        self.reload()?;
        self.unlocked.protect(passphrase)?;
        self.save()
    }

    /// What an agent needs to open the keys, if they are protected.
    #[must_use]
    pub fn keystore_key(&self) -> Option<KeystoreKey> {
        self.unlocked.key()
    }

    /// Whether the identity was revoked.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.secrets.bundle.is_retired()
    }

    /// Who.
    #[must_use]
    pub fn user(&self) -> &UserId {
        &self.user
    }

    /// Where.
    #[must_use]
    pub fn realm(&self) -> &Realm {
        &self.realm
    }

    /// The folder.
    #[must_use]
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// The secret identity, to sign with.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.secrets.identity
    }

    /// The public identity.
    #[must_use]
    pub fn identity_key(&self) -> IdentityKey {
        self.secrets.identity.key()
    }

    /// The key that encrypts stored messages.
    #[must_use]
    pub fn store_key(&self) -> &Zeroizing<[u8; 32]> {
        &self.secrets.store_key
    }

    /// The bundle to publish.
    #[must_use]
    pub fn bundle(&self) -> &KeyBundle {
        &self.secrets.bundle
    }

    /// Whether we made the bundle with this digest.
    #[must_use]
    pub fn made(&self, digest: &[u8; 32]) -> bool {
        self.secrets.made.contains(digest)
    }

    /// Every key that still opens messages, the current one first.
    #[must_use]
    pub fn decryption_keys(&self) -> Vec<&dyn DecryptionKey> {
        self.secrets
            .keys
            .iter()
            .map(|key| &key.key as &dyn DecryptionKey)
            .collect()
    }

    /// The identities under which keys that still open messages were announced, the current one first, with those keys.
    #[must_use]
    pub fn addressees(&self) -> Vec<(IdentityKey, Vec<&dyn DecryptionKey>)> {
        let mut addressees: Vec<(IdentityKey, Vec<&dyn DecryptionKey>)> =
            vec![(self.identity_key(), Vec::new())];
        for own in &self.secrets.keys {
            let key: &dyn DecryptionKey = &own.key;
            match addressees.iter_mut().find(|(of, _)| *of == own.identity) {
                Some((_, keys)) => keys.push(key),
                None => addressees.push((own.identity, vec![key])),
            }
        }
        addressees
    }

    /// How old the keys are.
    #[must_use]
    pub fn key_ages(&self) -> Vec<KeyAge> {
        let age = |key: &OwnKey| KeyAge {
            created: key.created,
            replaced: key.replaced,
            destroyed: key.replaced.map(|at| at.saturating_add(GRACE)),
        };
        self.secrets.keys.iter().map(age).collect()
    }

    /// How they lie on disk.
    #[must_use]
    pub fn protection(&self) -> Protection {
        self.unlocked.protection()
    }

    fn is_due(&self, now: Timestamp) -> bool {
        !self.is_retired() && now.saturating_add(RENEW_BEFORE) >= self.secrets.bundle.expires()
    }

    /// Whether the RSA key is to be replaced. While too many old ones are in their grace, it waits.
    fn is_of_age(&self, now: Timestamp) -> bool {
        let (Some(after), Some(current)) = (self.rotate_after, self.secrets.keys.first()) else {
            return false;
        };
        let of_age = now >= current.created.saturating_add(after);
        of_age && !self.is_retired() && self.secrets.keys.len() <= MAX_OLD_KEYS
    }

    fn check_rotatable(&mut self, now: Timestamp) -> Result<(), KeystoreError> {
        if self.is_retired() {
            return Err(KeystoreError::Retired);
        }
        self.secrets.keys.retain(|key| !key.is_over(now));
        if self.secrets.keys.len() > MAX_OLD_KEYS {
            return Err(KeystoreError::TooManyKeys(MAX_OLD_KEYS));
        }
        Ok(())
    }

    /// Puts a new RSA key of the current identity in front.
    fn replace_key(&mut self, now: Timestamp) -> Result<(), KeystoreError> {
        let fresh = OwnKey::generate(self.secrets.identity.key(), now)?;
        if let Some(current) = self.secrets.keys.first_mut() {
            current.replaced = Some(now);
        }
        self.secrets.keys.insert(0, fresh);
        Ok(())
    }

    fn renew_bundle(&mut self, now: Timestamp) -> Result<(), KeystoreError> {
        self.renew_linked(None, now)
    }

    fn renew_linked(
        &mut self,
        link: Option<IdentityLink>,
        now: Timestamp,
    ) -> Result<(), KeystoreError> {
        let last = &self.secrets.bundle;
        let mut links = last.links().to_vec();
        links.extend(link);
        // Whoever knew only an identity that fell out must compare again.
        links.drain(..links.len().saturating_sub(MAX_LINKS));
        let bundle = make_bundle(
            &self.realm,
            &self.user,
            &self.secrets.identity,
            &self.secrets.keys,
            links,
            Some(last.seq()),
            now,
        )?;
        self.secrets.made.push(bundle.digest());
        let surplus = self.secrets.made.len().saturating_sub(MAX_MADE);
        self.secrets.made.drain(..surplus);
        self.secrets.bundle = bundle;
        Ok(())
    }

    fn save(&mut self) -> Result<(), KeystoreError> {
        self.unlocked.save(&self.secrets.write()?)?;
        self.file = file_of(&self.home);
        Ok(())
    }
}

/// Inode and time of change: every save makes a new file.
fn file_of(home: &Home) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(home.keystore()).ok()?;
    Some((metadata.ino(), metadata.ctime_nsec().unsigned_abs()))
}

fn make_bundle(
    realm: &Realm,
    user: &UserId,
    identity: &Identity,
    keys: &[OwnKey],
    links: Vec<IdentityLink>,
    last_seq: Option<u64>,
    now: Timestamp,
) -> Result<KeyBundle, KeystoreError> {
    let current = keys.first().filter(|key| key.replaced.is_none());
    // That an identity is retired holds as long as a bundle can say it.
    let validity = current.map_or(MAX_VALIDITY, |_| BUNDLE_VALIDITY);
    let fields = BundleFields {
        realm: realm.clone(),
        user: user.clone(),
        seq: next_seq(last_seq, now),
        created: now,
        expires: now.saturating_add(validity),
        encryption: current
            .into_iter()
            .map(|key| key.key.encryption_key().clone())
            .collect(),
        links,
    };
    KeyBundle::sign(fields, identity)
        .map_err(|_| KeystoreError::Internal("the key bundle cannot be made: is the clock right?"))
}

#[cfg(test)]
pub(crate) mod tests;
