//! The account: one user's identity, RSA keys and published bundle, as they are in the keystore.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rand::RngExt;
use sealpost_core::{
    BundleFields, DecryptionKey, Identity, IdentityKey, Invitation, KeyBundle, Realm, Timestamp,
    UserId, next_seq,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::home::Home;
use crate::keystore::{KeystoreError, Protection, Unlocked};
use crate::passphrase::{Passphrase, PassphraseError};
use crate::unwrap_key::UnwrapKey;

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
}

struct Secrets {
    identity: Identity,
    store_key: Zeroizing<[u8; 32]>,
    /// The current key first, then the replaced ones, youngest first.
    keys: Vec<OwnKey>,
    bundle: KeyBundle,
    /// Digests of bundles we made, oldest first, the current one last.
    made: Vec<[u8; 32]>,
}

struct OwnKey {
    key: UnwrapKey,
    created: Timestamp,
    replaced: Option<Timestamp>,
}

/// The secrets in the keystore's body. Borrowed, so that parsing copies no secret.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretsJson<'a> {
    identity: &'a str,
    store_key: &'a str,
    #[serde(borrow)]
    keys: Vec<OwnKeyJson<'a>>,
    bundle: &'a str,
    made: Vec<&'a str>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnKeyJson<'a> {
    pkcs8: &'a str,
    created: u64,
    replaced: Option<u64>,
}

/// What looking after the keys changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Upkeep {
    /// The bundle was made anew and is to be published.
    pub renewed: bool,
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
        let keys = vec![OwnKey::generate(now)?];
        let bundle = make_bundle(realm, user, &identity, &keys, None, now)?;
        let mut store_key = Zeroizing::new([0; 32]);
        rand::rng().fill(&mut store_key[..]);
        let account = Account {
            home: home.clone(),
            user: user.clone(),
            realm: realm.clone(),
            unlocked,
            secrets: Secrets {
                identity,
                store_key,
                keys,
                made: vec![bundle.digest()],
                bundle,
            },
            invitation: None,
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
        let (unlocked, secrets) =
            Unlocked::open(&home.keystore(), user.as_str(), realm.as_str(), passphrase)?;
        let secrets = Secrets::parse(&secrets, home, user, realm)?;
        let mut account = Account {
            home: home.clone(),
            user: user.clone(),
            realm: realm.clone(),
            unlocked,
            secrets,
            invitation: None,
        };
        account.upkeep(now)?;
        Ok(account)
    }

    /// With what lets us claim our name at the first login.
    #[must_use]
    pub fn with_invitation(self, invitation: Option<Invitation>) -> Account {
        Account { invitation, ..self }
    }

    /// What lets us claim our name.
    #[must_use]
    pub fn invitation(&self) -> Option<&Invitation> {
        self.invitation.as_ref()
    }

    /// Reads the keystore again: another process may have rotated the key.
    pub fn reload(&mut self) -> Result<(), KeystoreError> {
        let bytes = self.unlocked.reload()?;
        self.secrets = Secrets::parse(&bytes, &self.home, &self.user, &self.realm)?;
        Ok(())
    }

    /// Destroys keys past their grace and makes the bundle anew when it is due.
    pub fn upkeep(&mut self, now: Timestamp) -> Result<Upkeep, KeystoreError> {
        if !self.is_due(now) && !self.secrets.keys.iter().any(|key| key.is_over(now)) {
            return Ok(Upkeep::default());
        }
        let home = self.home.clone();
        let _lock = home.lock_keystore()?;
        self.reload()?;
        let before = self.secrets.keys.len();
        self.secrets.keys.retain(|key| !key.is_over(now));
        let destroyed = before - self.secrets.keys.len();
        let renewed = self.is_due(now);
        if renewed {
            self.renew_bundle(now)?;
        }
        self.save()?;
        Ok(Upkeep { renewed, destroyed })
    }

    /// Replaces the RSA key and makes the bundle that announces the new one.
    pub fn rotate(&mut self, now: Timestamp) -> Result<(), KeystoreError> {
        let home = self.home.clone();
        let _lock = home.lock_keystore()?;
        self.reload()?;
        self.secrets.keys.retain(|key| !key.is_over(now));
        if self.secrets.keys.len() > MAX_OLD_KEYS {
            return Err(KeystoreError::TooManyKeys(MAX_OLD_KEYS));
        }
        let fresh = OwnKey::generate(now)?;
        if let Some(current) = self.secrets.keys.first_mut() {
            current.replaced = Some(now);
        }
        self.secrets.keys.insert(0, fresh);
        self.renew_bundle(now)?;
        self.save()
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
        now.saturating_add(RENEW_BEFORE) >= self.secrets.bundle.expires()
    }

    fn renew_bundle(&mut self, now: Timestamp) -> Result<(), KeystoreError> {
        let last = Some(&self.secrets.bundle);
        let bundle = make_bundle(
            &self.realm,
            &self.user,
            &self.secrets.identity,
            &self.secrets.keys,
            last,
            now,
        )?;
        self.secrets.made.push(bundle.digest());
        let surplus = self.secrets.made.len().saturating_sub(MAX_MADE);
        self.secrets.made.drain(..surplus);
        self.secrets.bundle = bundle;
        Ok(())
    }

    fn save(&self) -> Result<(), KeystoreError> {
        self.unlocked.save(&self.secrets.write()?)
    }
}

fn make_bundle(
    realm: &Realm,
    user: &UserId,
    identity: &Identity,
    keys: &[OwnKey],
    last: Option<&KeyBundle>,
    now: Timestamp,
) -> Result<KeyBundle, KeystoreError> {
    let fields = BundleFields {
        realm: realm.clone(),
        user: user.clone(),
        seq: next_seq(last.map(KeyBundle::seq), now),
        created: now,
        expires: now.saturating_add(BUNDLE_VALIDITY),
        encryption: keys
            .iter()
            .take(1)
            .map(|key| key.key.encryption_key().clone())
            .collect(),
        links: last.map(|last| last.links().to_vec()).unwrap_or_default(),
    };
    KeyBundle::sign(fields, identity)
        .map_err(|_| KeystoreError::Internal("the key bundle cannot be made: is the clock right?"))
}

impl OwnKey {
    fn generate(now: Timestamp) -> Result<OwnKey, KeystoreError> {
        Ok(OwnKey {
            key: UnwrapKey::generate()
                .map_err(|_| KeystoreError::Internal("RSA key generation failed"))?,
            created: now,
            replaced: None,
        })
    }

    fn is_over(&self, now: Timestamp) -> bool {
        self.replaced
            .is_some_and(|at| now >= at.saturating_add(GRACE))
    }
}

impl Secrets {
    fn parse(
        bytes: &[u8],
        home: &Home,
        user: &UserId,
        realm: &Realm,
    ) -> Result<Secrets, KeystoreError> {
        let damaged = |problem| KeystoreError::Damaged {
            path: home.keystore(),
            problem,
        };
        let secret = |text: &str| {
            let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
            BASE64
                .decode_vec(text, &mut bytes)
                .map(|()| bytes)
                .map_err(|_| damaged("a secret is not base64"))
        };
        let key_32 = |text: &str| -> Result<Zeroizing<[u8; 32]>, KeystoreError> {
            let bytes = secret(text)?;
            let array = <&[u8; 32]>::try_from(bytes.as_slice())
                .map_err(|_| damaged("a secret has the wrong length"))?;
            Ok(Zeroizing::new(*array))
        };
        let time = |ms| Timestamp::from_millis(ms).map_err(|_| damaged("a time is out of range"));
        let json: SecretsJson<'_> =
            serde_json::from_slice(bytes).map_err(|_| damaged("its content is malformed"))?;
        let keys: Vec<OwnKey> = json
            .keys
            .iter()
            .map(|key| {
                Ok(OwnKey {
                    key: UnwrapKey::from_pkcs8(&secret(key.pkcs8)?)
                        .map_err(|_| damaged("an RSA key is malformed"))?,
                    created: time(key.created)?,
                    replaced: key.replaced.map(time).transpose()?,
                })
            })
            .collect::<Result<_, KeystoreError>>()?;
        if keys.first().is_none_or(|key| key.replaced.is_some()) {
            return Err(damaged("the current RSA key is missing"));
        }
        let identity = Identity::from_seed(&*key_32(json.identity)?);
        let bundle = KeyBundle::parse(&secret(json.bundle)?)
            .map_err(|_| damaged("the key bundle is malformed"))?;
        if bundle.identity() != &identity.key() || bundle.user() != user || bundle.realm() != realm
        {
            return Err(damaged("the key bundle is somebody else's"));
        }
        let made = json
            .made
            .iter()
            .map(|digest| key_32(digest).map(|digest| *digest))
            .collect::<Result<_, _>>()?;
        Ok(Secrets {
            identity,
            store_key: key_32(json.store_key)?,
            keys,
            bundle,
            made,
        })
    }

    fn write(&self) -> Result<Zeroizing<Vec<u8>>, KeystoreError> {
        let base64 = |bytes: &[u8]| Zeroizing::new(BASE64.encode(bytes));
        let identity = base64(&*self.identity.seed());
        let store_key = base64(&*self.store_key);
        let pkcs8: Vec<_> = self
            .keys
            .iter()
            .map(|key| base64(key.key.pkcs8()))
            .collect();
        let bundle = base64(self.bundle.as_bytes());
        let made: Vec<_> = self.made.iter().map(|digest| base64(digest)).collect();
        let json = SecretsJson {
            identity: &identity,
            store_key: &store_key,
            keys: self
                .keys
                .iter()
                .zip(&pkcs8)
                .map(|(key, pkcs8)| OwnKeyJson {
                    pkcs8,
                    created: key.created.millis(),
                    replaced: key.replaced.map(Timestamp::millis),
                })
                .collect(),
            bundle: &bundle,
            made: made.iter().map(|digest| digest.as_str()).collect(),
        };
        // Room for all at once: a buffer that grows leaves copies of secrets behind.
        let room = bundle.len()
            + pkcs8.iter().map(|key| key.len() + 128).sum::<usize>()
            + made.len() * 64
            + 1_024;
        let mut bytes = Zeroizing::new(Vec::with_capacity(room));
        serde_json::to_writer(&mut *bytes, &json)
            .map_err(|_| KeystoreError::Internal("the keys cannot be written as JSON"))?;
        Ok(bytes)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    pub(crate) fn start() -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000).unwrap()
    }

    pub(crate) fn account(folder: &tempfile::TempDir, name: &str) -> Account {
        let home = Home::open(&folder.path().join(name)).unwrap();
        let user = UserId::parse(name).unwrap();
        Account::create(&home, &user, &Realm::default(), None, start()).unwrap()
    }

    fn reopen(account: &Account, now: Timestamp) -> Account {
        Account::open(
            account.home(),
            account.user(),
            account.realm(),
            || panic!("asked"),
            now,
        )
        .unwrap()
    }

    #[test]
    fn keys_survive_closing_and_opening() {
        let folder = tempfile::tempdir().unwrap();
        let made = account(&folder, "alice");
        let opened = reopen(&made, start());
        assert_eq!(opened.identity_key(), made.identity_key());
        assert_eq!(opened.bundle().as_bytes(), made.bundle().as_bytes());
        assert_eq!(**opened.store_key(), **made.store_key());
        assert_eq!(
            opened.decryption_keys()[0].encryption_key(),
            &made.bundle().encryption()[0]
        );
        assert!(opened.made(&made.bundle().digest()));
    }

    #[test]
    fn keys_are_never_made_over_existing_ones() {
        let folder = tempfile::tempdir().unwrap();
        let made = account(&folder, "alice");
        let again = Account::create(made.home(), made.user(), made.realm(), None, start());
        assert!(matches!(again, Err(KeystoreError::Exists(_))));
    }

    #[test]
    fn a_replaced_key_opens_for_45_days_and_is_then_destroyed() {
        let folder = tempfile::tempdir().unwrap();
        let mut account = account(&folder, "alice");
        let old = account.bundle().clone();
        account.rotate(start().saturating_add(DAY)).unwrap();
        assert_eq!(account.decryption_keys().len(), 2);
        assert!(account.bundle().seq() > old.seq());
        assert_ne!(account.bundle().encryption(), old.encryption());
        assert_eq!(account.bundle().encryption().len(), 1);
        assert_eq!(account.bundle().identity(), old.identity());
        assert!(account.made(&old.digest()));

        let within = reopen(&account, start().saturating_add(DAY * 45));
        assert_eq!(within.decryption_keys().len(), 2);
        let over = reopen(&account, start().saturating_add(DAY * 46));
        assert_eq!(over.decryption_keys().len(), 1);
        // Destroyed on disk as well, whatever the clock says later.
        assert_eq!(reopen(&account, start()).decryption_keys().len(), 1);
    }

    #[test]
    fn the_bundle_is_made_anew_well_before_it_expires() {
        let folder = tempfile::tempdir().unwrap();
        let account = account(&folder, "alice");
        let first = account.bundle().clone();
        let early = reopen(&account, start().saturating_add(DAY * 119));
        assert_eq!(early.bundle(), &first);
        let due = reopen(&account, start().saturating_add(DAY * 121));
        assert!(due.bundle().seq() > first.seq());
        assert!(due.bundle().expires() > first.expires());
        assert_eq!(due.bundle().encryption(), first.encryption());
    }

    #[test]
    fn another_process_sees_a_rotation_after_reloading() {
        let folder = tempfile::tempdir().unwrap();
        let mut chat = account(&folder, "alice");
        let mut rotate = reopen(&chat, start());
        rotate.rotate(start()).unwrap();
        assert!(!chat.made(&rotate.bundle().digest()));
        chat.reload().unwrap();
        assert!(chat.made(&rotate.bundle().digest()));
        assert_eq!(chat.decryption_keys().len(), 2);
    }

    #[test]
    fn debug_shows_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(
            format!("{:?}", account(&folder, "alice")),
            "Account { user: UserId(alice), realm: Realm(local), .. }"
        );
    }
}
