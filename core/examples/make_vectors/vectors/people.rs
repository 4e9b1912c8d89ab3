//! Who is in the vectors. Their secrets are in `people.json`, so they are nobody's.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use ed25519_dalek::{Signer as _, SigningKey};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;
use rsa::RsaPrivateKey;
use rsa::pkcs8::{DecodePrivateKey as _, EncodePublicKey as _};
use sha2::{Digest as _, Sha256};

use super::cases::{PersonCase, Wire};

pub(crate) const REALM: &str = "local";
/// The moment at which most things happen: 1700000000.000.
pub(crate) const NOW: u64 = 1_700_000_000_000;
pub(crate) const DAY: u64 = 86_400_000;

/// Somebody.
#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) name: &'static str,
    pub(crate) user: &'static str,
    pub(crate) secret: SigningKey,
    pub(crate) rsa: Option<(RsaPrivateKey, Vec<u8>)>,
}

impl Person {
    fn new(name: &'static str, user: &'static str, seed: u8, rsa: Option<&str>) -> Self {
        let rsa = rsa.map(|text| {
            let text: String = text.split_whitespace().collect();
            let der = BASE64_STANDARD.decode(text).unwrap();
            (RsaPrivateKey::from_pkcs8_der(&der).unwrap(), der)
        });
        Self {
            name,
            user,
            secret: SigningKey::from_bytes(&[seed; 32]),
            rsa,
        }
    }

    pub(crate) fn identity(&self) -> [u8; 32] {
        self.secret.verifying_key().to_bytes()
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.secret.sign(message).to_bytes()
    }

    pub(crate) fn spki(&self) -> Vec<u8> {
        let (rsa, _) = self.rsa.as_ref().unwrap();
        rsa.to_public_key().to_public_key_der().unwrap().into_vec()
    }
}

pub(crate) fn alice() -> Person {
    Person::new("alice", "alice", 1, None)
}

/// Bob, whose RSA key has the default size.
pub(crate) fn bob() -> Person {
    Person::new("bob", "bob", 2, Some(include_str!("rsa/bob.pkcs8.base64")))
}

/// Bob before he changed his identity and his RSA key, which has the smallest size.
pub(crate) fn bob_before() -> Person {
    Person::new(
        "bob-before",
        "bob",
        3,
        Some(include_str!("rsa/bob-before.pkcs8.base64")),
    )
}

/// Bob long before.
pub(crate) fn bob_long_before() -> Person {
    Person::new("bob-long-before", "bob", 4, None)
}

/// Carol, whose RSA key has the largest size.
pub(crate) fn carol() -> Person {
    Person::new(
        "carol",
        "carol",
        5,
        Some(include_str!("rsa/carol.pkcs8.base64")),
    )
}

pub(crate) fn mallory() -> Person {
    Person::new("mallory", "mallory", 6, None)
}

pub(crate) fn all() -> Vec<PersonCase> {
    [
        alice(),
        bob(),
        bob_before(),
        bob_long_before(),
        carol(),
        mallory(),
    ]
    .into_iter()
    .map(|person| PersonCase {
        name: person.name.to_owned(),
        user: person.user.to_owned(),
        seed: base64(person.secret.to_bytes()),
        identity: base64(person.identity()),
        fingerprint: format!(
            "SHA256:{}",
            BASE64_STANDARD_NO_PAD.encode(Sha256::digest(person.identity()))
        ),
        rsa: person.rsa.as_ref().map(|(_, der)| base64(der)),
        encryption: person.rsa.is_some().then(|| base64(person.spki())),
    })
    .collect()
}

pub(crate) fn chance(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

pub(crate) fn base64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_STANDARD.encode(bytes)
}

pub(crate) fn sha256(bytes: impl AsRef<[u8]>) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// A time as it is written.
pub(crate) fn time(millis: u64) -> String {
    format!("{}.{:03}", millis / 1_000, millis % 1_000)
}

pub(crate) fn wire(bytes: impl Into<Vec<u8>>) -> Wire {
    match String::from_utf8(bytes.into()) {
        Ok(text) => Wire {
            text: Some(text),
            base64: None,
            spaces: None,
        },
        Err(error) => Wire {
            text: None,
            base64: Some(base64(error.as_bytes())),
            spaces: None,
        },
    }
}
