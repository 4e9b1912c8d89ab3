//! What the keystore guards, and how it is written in it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use sealpost_core::{Identity, IdentityKey, KeyBundle, Realm, Timestamp, UserId};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::GRACE;
use crate::home::Home;
use crate::keystore::KeystoreError;
use crate::unwrap_key::UnwrapKey;

/// What the keystore guards.
pub(super) struct Secrets {
    pub(super) identity: Identity,
    /// The identity before it, until the broker is known to have the bundle that links the two: only it can log in to
    /// publish that.
    pub(super) handing_over: Option<Identity>,
    pub(super) store_key: Zeroizing<[u8; 32]>,
    /// The current key first, then the replaced ones, youngest first.
    pub(super) keys: Vec<OwnKey>,
    pub(super) bundle: KeyBundle,
    /// Digests of bundles we made, oldest first, the current one last.
    pub(super) made: Vec<[u8; 32]>,
}

/// One of our RSA keys.
pub(super) struct OwnKey {
    pub(super) key: UnwrapKey,
    /// The identity under which it was announced, which the ids that envelopes name it by depend on.
    pub(super) identity: IdentityKey,
    pub(super) created: Timestamp,
    pub(super) replaced: Option<Timestamp>,
}

/// The secrets in the keystore's body. Borrowed, so that parsing copies no secret.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretsJson<'a> {
    identity: &'a str,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    handing_over: Option<&'a str>,
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
    /// Public; absent for the current identity.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    identity: Option<&'a str>,
    created: u64,
    replaced: Option<u64>,
}

impl OwnKey {
    pub(super) fn generate(identity: IdentityKey, now: Timestamp) -> Result<OwnKey, KeystoreError> {
        Ok(OwnKey {
            key: UnwrapKey::generate()
                .map_err(|_| KeystoreError::Internal("RSA key generation failed"))?,
            identity,
            created: now,
            replaced: None,
        })
    }

    /// Whether it is past its grace.
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        self.replaced
            .is_some_and(|at| now >= at.saturating_add(GRACE))
    }
}

impl Secrets {
    /// Reads the keystore's body.
    pub(super) fn parse(
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
        let identity = Identity::from_seed(&*key_32(json.identity)?);
        let handing_over = json
            .handing_over
            .map(|seed| key_32(seed).map(|seed| Identity::from_seed(&seed)))
            .transpose()?;
        let public = |text: Option<&str>| match text {
            None => Ok(identity.key()),
            Some(text) => IdentityKey::from_base64(text)
                .map_err(|_| damaged("the identity of an RSA key is malformed")),
        };
        let keys: Vec<OwnKey> = json
            .keys
            .iter()
            .map(|key| {
                Ok(OwnKey {
                    key: UnwrapKey::from_pkcs8(&secret(key.pkcs8)?)
                        .map_err(|_| damaged("an RSA key is malformed"))?,
                    identity: public(key.identity)?,
                    created: time(key.created)?,
                    replaced: key.replaced.map(time).transpose()?,
                })
            })
            .collect::<Result<_, KeystoreError>>()?;
        let bundle = KeyBundle::parse(&secret(json.bundle)?)
            .map_err(|_| damaged("the key bundle is malformed"))?;
        if bundle.identity() != &identity.key() || bundle.user() != user || bundle.realm() != realm
        {
            return Err(damaged("the key bundle is somebody else's"));
        }
        let current = keys.first().filter(|key| key.replaced.is_none());
        if current.is_none() && !bundle.is_retired() {
            return Err(damaged("the current RSA key is missing"));
        }
        let made = json
            .made
            .iter()
            .map(|digest| key_32(digest).map(|digest| *digest))
            .collect::<Result<_, _>>()?;
        Ok(Secrets {
            identity,
            handing_over,
            store_key: key_32(json.store_key)?,
            keys,
            bundle,
            made,
        })
    }

    /// Writes it.
    pub(super) fn write(&self) -> Result<Zeroizing<Vec<u8>>, KeystoreError> {
        let base64 = |bytes: &[u8]| Zeroizing::new(BASE64.encode(bytes));
        let identity = base64(&*self.identity.seed());
        let handing_over = self.handing_over.as_ref().map(|old| base64(&*old.seed()));
        let current = self.identity.key();
        let of: Vec<Option<String>> = self
            .keys
            .iter()
            .map(|key| (key.identity != current).then(|| key.identity.to_base64()))
            .collect();
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
            handing_over: handing_over.as_ref().map(|seed| seed.as_str()),
            store_key: &store_key,
            keys: self
                .keys
                .iter()
                .zip(&pkcs8)
                .zip(&of)
                .map(|((key, pkcs8), of)| OwnKeyJson {
                    pkcs8,
                    identity: of.as_deref(),
                    created: key.created.millis(),
                    replaced: key.replaced.map(Timestamp::millis),
                })
                .collect(),
            bundle: &bundle,
            made: made.iter().map(|digest| digest.as_str()).collect(),
        };
        // Room for all at once: a buffer that grows leaves copies of secrets behind.
        let room = bundle.len()
            + pkcs8.iter().map(|key| key.len() + 192).sum::<usize>()
            + made.len() * 64
            + 1_024;
        let mut bytes = Zeroizing::new(Vec::with_capacity(room));
        serde_json::to_writer(&mut *bytes, &json)
            .map_err(|_| KeystoreError::Internal("the keys cannot be written as JSON"))?;
        Ok(bytes)
    }
}
