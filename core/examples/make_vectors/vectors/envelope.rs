//! Envelopes as drafts: everything in them can be spoiled before they are signed, and after.

use aes_gcm::{AeadInOut as _, Aes256Gcm, KeyInit as _};
use rand_chacha::rand_core::Rng as _;
use rsa::Oaep;
use sha2::Sha256;

use super::content::plaintext;
use super::keys::key_id;
use super::people::{NOW, Person, REALM, base64, chance, time};
use super::wire::{Members, Transcript, quoted};

pub(crate) const SUITE: &str = "RSA-OAEP-256/A256GCM/Ed25519";
pub(crate) const HELLO: &str = r#"{"kind":"text","text":"Hello Bob!"}"#;

/// What is to be sealed, and how.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) from: Person,
    pub(crate) to: Person,
    pub(crate) realm: String,
    pub(crate) prev: Option<[u8; 16]>,
    pub(crate) ts: u64,
    pub(crate) plaintext: Vec<u8>,
    /// Makes the id, the AES key, the padding of OAEP and the nonce.
    pub(crate) seed: u64,
    /// Makes the AES key and the padding of OAEP instead, for bursts.
    pub(crate) burst: Option<u64>,
    /// What is wrapped, when it is not the AES key.
    pub(crate) wrapped: Option<Vec<u8>>,
    /// What the content is encrypted under, when it is not the AES key.
    pub(crate) under: Option<[u8; 32]>,
    /// The label of OAEP.
    pub(crate) label: &'static [u8],
    /// Another hash for MGF1: SHA-512.
    pub(crate) other_mgf: bool,
}

impl Plan {
    pub(crate) fn new(from: &Person, to: &Person) -> Self {
        Self {
            from: from.clone(),
            to: to.clone(),
            realm: REALM.to_owned(),
            prev: None,
            ts: NOW,
            plaintext: plaintext(HELLO),
            seed: 1,
            burst: None,
            wrapped: None,
            under: None,
            label: b"",
            other_mgf: false,
        }
    }

    pub(crate) fn says(self, json: &str) -> Self {
        Self {
            plaintext: plaintext(json),
            ..self
        }
    }

    pub(crate) fn seal(&self) -> Sealed {
        let mut rng = chance(self.seed);
        let mut id = [0; 16];
        rng.fill_bytes(&mut id);
        id[..6].copy_from_slice(&self.ts.to_be_bytes()[2..]);
        id[6] = id[6] & 0x0f | 0x70;
        id[8] = id[8] & 0x3f | 0x80;
        let mut nonce = vec![0; 12];
        rng.fill_bytes(&mut nonce);
        let mut rng = self.burst.map_or(rng, chance);
        let mut key = [0; 32];
        rng.fill_bytes(&mut key);
        let wrapped = self.wrapped.clone().unwrap_or(key.to_vec());
        let rsa = self.to.rsa.as_ref().unwrap().0.to_public_key();
        let enc_key = match (self.label, self.other_mgf) {
            (b"", false) => rsa.encrypt(&mut rng, Oaep::<Sha256>::new(), &wrapped),
            (b"", true) => rsa.encrypt(
                &mut rng,
                Oaep::<Sha256, sha2::Sha512>::new_with_mgf_hash(),
                &wrapped,
            ),
            (label, _) => rsa.encrypt(&mut rng, Oaep::<Sha256>::new_with_label(label), &wrapped),
        };
        let mut sealed = Sealed {
            realm: self.realm.clone(),
            id,
            prev: self.prev,
            ts: self.ts,
            from: self.from.user.to_owned(),
            to: self.to.user.to_owned(),
            key: key_id(&self.realm, self.to.identity(), &self.to.spki()),
            signer: self.from.identity(),
            enc_key: enc_key.unwrap(),
            nonce,
            ciphertext: self.plaintext.clone(),
            sig: [0; 64],
        };
        let aad = sealed.header("sealpost/1 aad").bytes();
        let nonce: [u8; 12] = sealed.nonce.clone().try_into().unwrap();
        Aes256Gcm::new(&self.under.unwrap_or(key).into())
            .encrypt_in_place(&nonce.into(), &aad, &mut sealed.ciphertext)
            .unwrap();
        sealed.signed_by(&self.from)
    }
}

/// An envelope's fields.
#[derive(Clone)]
pub(crate) struct Sealed {
    pub(crate) realm: String,
    pub(crate) id: [u8; 16],
    pub(crate) prev: Option<[u8; 16]>,
    pub(crate) ts: u64,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) key: [u8; 32],
    pub(crate) signer: [u8; 32],
    pub(crate) enc_key: Vec<u8>,
    pub(crate) nonce: Vec<u8>,
    pub(crate) ciphertext: Vec<u8>,
    pub(crate) sig: [u8; 64],
}

impl Sealed {
    pub(crate) fn header(&self, label: &'static str) -> Transcript {
        Transcript::new(label)
            .field("realm", &self.realm)
            .field("v", [1])
            .field("suite", SUITE)
            .field("id", self.id)
            .field("prev", self.prev.as_ref().map_or(&[][..], |id| id))
            .field("ts", self.ts.to_be_bytes())
            .field("from", &self.from)
            .field("to", &self.to)
            .field("key", self.key)
            .field("signer", self.signer)
    }

    pub(crate) fn transcript(&self) -> Transcript {
        self.header("sealpost/1 envelope")
            .field("enc_key", &self.enc_key)
            .field("nonce", &self.nonce)
            .field("ciphertext", &self.ciphertext)
    }

    pub(crate) fn signed_by(mut self, person: &Person) -> Self {
        self.sig = person.sign(&self.transcript().bytes());
        self
    }

    pub(crate) fn members(&self) -> Members {
        let member = |name: &str, raw: String| (name.to_owned(), raw);
        Members(vec![
            member("v", "1".to_owned()),
            member("suite", quoted(SUITE)),
            member("realm", quoted(&self.realm)),
            member("id", quoted(uuid(&self.id))),
            member(
                "prev",
                self.prev
                    .as_ref()
                    .map_or("null".to_owned(), |id| quoted(uuid(id))),
            ),
            member("ts", time(self.ts)),
            member("from", quoted(&self.from)),
            member("to", quoted(&self.to)),
            member("key", quoted(base64(self.key))),
            member("signer", quoted(base64(self.signer))),
            member("enc_key", quoted(base64(&self.enc_key))),
            member("nonce", quoted(base64(&self.nonce))),
            member("ciphertext", quoted(base64(&self.ciphertext))),
            member("sig", quoted(base64(self.sig))),
        ])
    }

    pub(crate) fn text(&self) -> String {
        self.members().text()
    }
}

/// Hyphenated lower-case hexadecimal.
pub(crate) fn uuid(bytes: &[u8; 16]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}
