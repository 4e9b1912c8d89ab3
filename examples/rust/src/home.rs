//! What a device keeps in its folder: keys, contacts' bundles, mail on its way, and what it received.

use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sealpost_core::{
    Assessment, BundleFields, BurstCache, DEFAULT_RSA_BITS, DecryptionKey, Envelope, Identity,
    KeyBundle, LoginToken, OpenError, Pin, Realm, Recipient, RsaDecryptionKey, Timestamp, UserId,
    assess, next_seq, open,
};
use serde_json::Value;

use crate::received::Received;

const DAY: Duration = Duration::from_secs(86_400);
/// For how long mail of an identity that was replaced is opened (7.5).
const GRACE: Duration = Duration::from_secs(45 * 86_400);

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

pub(crate) fn now() -> Timestamp {
    let millis = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis();
    Timestamp::from_millis(u64::try_from(millis).unwrap_or(0)).unwrap_or(Timestamp::MAX)
}

pub(crate) fn say(what: impl AsRef<str>) {
    let _ = writeln!(io::stderr(), "{}", what.as_ref());
}

/// The file has the old bytes or the new, whenever the power goes. Nobody else reads it.
pub(crate) fn write(path: &Path, data: &[u8]) -> Result<()> {
    // `send` and `listen` may write the same file.
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(data)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => Ok(Some(read?)),
    }
}

fn kept(path: &Path, make: impl FnOnce() -> Result<Vec<u8>>) -> Result<Vec<u8>> {
    if !path.exists() {
        write(path, &make()?)?;
    }
    Ok(fs::read(path)?)
}

pub(crate) struct Home {
    folder: PathBuf,
    pub(crate) realm: Realm,
    pub(crate) user: UserId,
    pub(crate) identity: Identity,
    key: RsaDecryptionKey,
    /// Our bundle, to be published.
    pub(crate) bundle: Vec<u8>,
    received: Received,
    opened: BurstCache,
}

impl Home {
    pub(crate) fn open(folder: PathBuf, realm: Realm, user: UserId) -> Result<Home> {
        for name in [
            "contacts", "outbox", "sent", "refused", "waiting", "failures",
        ] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder.join(name))?;
        }
        // The keys lie here in the clear, as nobody is there to type a passphrase (5.5).
        let seed = kept(&folder.join("identity"), || {
            Ok(rand::random::<[u8; 32]>().to_vec())
        })?;
        let identity = Identity::from_seed(seed.as_slice().try_into()?);
        let generate = || RsaDecryptionKey::generate(&mut rand::rng(), DEFAULT_RSA_BITS);
        let der = kept(&folder.join("decryption_key"), || {
            Ok(generate()?.to_pkcs8_der()?.to_vec())
        })?;
        let key = RsaDecryptionKey::from_pkcs8_der(&der)?;
        let sign = |last| -> Result<Vec<u8>> {
            let created = now();
            let fields = BundleFields {
                realm: realm.clone(),
                user: user.clone(),
                seq: next_seq(last, created),
                created,
                expires: created.saturating_add(365 * DAY),
                encryption: vec![key.encryption_key().clone()],
                links: Vec::new(),
            };
            Ok(KeyBundle::sign(fields, &identity)?.as_bytes().to_vec())
        };
        // 6.4: the bundle is made again half a year before it expires.
        let mut bundle = kept(&folder.join("bundle"), || sign(None))?;
        let last = KeyBundle::parse(&bundle)?;
        if now().saturating_add(180 * DAY) >= last.expires() {
            bundle = sign(Some(last.seq()))?;
            write(&folder.join("bundle"), &bundle)?;
        }
        let received = Received::load(&folder.join("received.jsonl"))?;
        Ok(Home {
            folder,
            realm,
            user,
            identity,
            key,
            bundle,
            received,
            opened: BurstCache::new(),
        })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The files of a folder, in order.
    pub(crate) fn list(&self, folder: &str) -> Result<Vec<String>> {
        let names = fs::read_dir(self.path(folder))?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let mut names: Vec<String> = names.collect::<Result<_>>()?;
        names.retain(|name| !name.starts_with('.'));
        names.sort();
        Ok(names)
    }

    pub(crate) fn token(&self, client_id: &str) -> String {
        LoginToken::mint(
            &self.identity,
            &self.realm,
            &self.user,
            client_id,
            now(),
            rand::random(),
            &[],
        )
    }

    pub(crate) fn believed(&self, user: &UserId) -> Result<Option<KeyBundle>> {
        let bundle = read(&self.path("contacts").join(user.as_str()))?;
        Ok(bundle.map(|bytes| KeyBundle::parse(&bytes)).transpose()?)
    }

    /// 6.6: believes a bundle and stores it, or refuses it. What is believed is the pin.
    pub(crate) fn believe(&self, user: &UserId, bundle: &KeyBundle) -> Result<()> {
        let known = self.believed(user)?;
        let assessment = assess(
            known.as_ref().map(Pin::new).as_ref(),
            bundle,
            &self.realm,
            user,
            now(),
        )?;
        // Whoever retired an identity has no way back (6.4).
        if known.is_some_and(|known| {
            known.is_retired() && (!bundle.is_retired() || known.identity() != bundle.identity())
        }) {
            return Err("their identity was retired".into());
        }
        if let Assessment::FirstContact { pin } | Assessment::LinkedChange { pin, .. } = assessment
        {
            say(format!("{user} is {}", pin.identity.fingerprint()));
        }
        if matches!(assessment, Assessment::Unchanged { .. }) {
            return Ok(());
        }
        write(
            &self.path("contacts").join(user.as_str()),
            bundle.as_bytes(),
        )
    }

    /// 7.5 and 7.6. Nothing, when the sender's bundle is needed first (7.8).
    pub(crate) fn receive(&mut self, envelope: &Envelope) -> Result<Option<Value>> {
        let Some(bundle) = self.believed(envelope.from())? else {
            return Ok(None);
        };
        let signer = envelope.signer();
        // Mail is under way when its sender changes identity.
        let replaced = bundle
            .links()
            .iter()
            .any(|link| link.old() == signer && now().saturating_since(link.at()) < GRACE);
        let pinned = if replaced { signer } else { bundle.identity() };
        let name: String = signer
            .as_bytes()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let failures = self.path("failures").join(name); // a byte for each (7.7)
        let failed = read(&failures)?.unwrap_or_default();
        if failed.len() >= 3 {
            return Err("suspended".into());
        }
        let me = Recipient {
            realm: &self.realm,
            user: &self.user,
            identity: &self.identity.key(),
            keys: &[&self.key],
        };
        let content = match open(envelope, &me, pinned, &self.received, &mut self.opened) {
            Err(error @ OpenError::CannotDecrypt) => {
                write(&failures, &[failed.as_slice(), b"."].concat())?;
                return Err(error.into());
            }
            opened => opened?,
        };
        self.received
            .store(&self.folder.join("received.jsonl"), envelope, &content)
            .map(Some)
    }
}
