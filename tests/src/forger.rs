//! Somebody who has an account and no scruples: seals whatever bytes he likes, under the formats of `core/SPEC.md` written once more,
//! because the core would refuse to.

use std::net::SocketAddr;

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rumqttc::v5::mqttbytes::v5::{PubAckReason, SubscribeReasonCode};
use sealpost_core::{Envelope, KeyBundle, KeyId, MessageId, SUITE, Timestamp, padded_length};

use crate::{Device, Flood, Link, now};

/// The forger, connected, with the keys of his victim.
pub struct Forger {
    /// Who he is.
    pub device: Device,
    broker: SocketAddr,
    link: Link,
    to: KeyBundle,
    /// One wrapped AES key for all he writes.
    aes: [u8; 32],
    wrapped: Vec<u8>,
}

/// What he writes.
#[derive(Debug, Clone)]
pub struct Forgery {
    /// Its name.
    pub id: MessageId,
    /// The name of the one before.
    pub prev: Option<MessageId>,
    /// His clock.
    pub ts: Timestamp,
    /// What is encrypted, before padding.
    pub plaintext: Vec<u8>,
    /// Whether its ciphertext is spoiled before it is signed.
    pub spoiled: bool,
}

impl Forgery {
    /// Honest but for its content.
    #[must_use]
    pub fn of(plaintext: impl Into<Vec<u8>>) -> Forgery {
        let now = now();
        Forgery {
            id: MessageId::new(now, &mut rand::rng()),
            prev: None,
            ts: now,
            plaintext: plaintext.into(),
            spoiled: false,
        }
    }

    /// A text.
    #[must_use]
    pub fn text(text: &str) -> Forgery {
        let json = serde_json::json!({ "kind": "text", "text": text });
        Forgery::of(json.to_string())
    }
}

/// T(label, f…).
fn transcript(label: &str, fields: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for field in [label.as_bytes()].iter().chain(fields) {
        out.extend_from_slice(&u32::try_from(field.len()).unwrap().to_be_bytes());
        out.extend_from_slice(field);
    }
    out
}

impl Forger {
    /// Registers with keys, and looks up those of the victim.
    pub async fn register(broker: SocketAddr, name: &str, victim: &str) -> Forger {
        let device = Device::new(name);
        device.register(broker).await;
        Forger::connect(broker, device, victim).await
    }

    /// Looks up the victim's keys, and keeps a mailbox.
    pub async fn connect(broker: SocketAddr, device: Device, victim: &str) -> Forger {
        let mut link = device.connect_kept(broker, "forger").await;
        for filter in [format!("inbox/{}", device.user), format!("keys/{victim}")] {
            let granted = link.subscribe(&filter).await;
            assert!(matches!(granted, SubscribeReasonCode::Success(_)));
        }
        let published = link.receive().await;
        let to = KeyBundle::parse(&published.payload).unwrap();
        let aes: [u8; 32] = rand::random();
        let wrapped = to.encryption()[0].wrap(&mut rand::rng(), &aes).unwrap();
        Forger {
            device,
            broker,
            link,
            to,
            aes,
            wrapped,
        }
    }

    /// Encrypts and signs it: an envelope whose shape nobody can find fault with.
    #[must_use]
    pub fn seal(&self, forgery: &Forgery) -> Vec<u8> {
        let Device { user, identity, .. } = &self.device;
        let realm = self.to.realm();
        let key = KeyId::of(realm, self.to.identity(), &self.to.encryption()[0]);
        let prev = forgery.prev.as_ref().map(MessageId::as_bytes);
        let ts = forgery.ts.millis().to_be_bytes();
        let signer = identity.key();
        let header: [&[u8]; 10] = [
            realm.as_str().as_bytes(),
            &[1],
            SUITE.as_bytes(),
            forgery.id.as_bytes(),
            prev.map_or(&[], |id| id.as_slice()),
            &ts,
            user.as_str().as_bytes(),
            self.to.user().as_str().as_bytes(),
            key.as_bytes(),
            signer.as_bytes(),
        ];
        let mut plaintext = forgery.plaintext.clone();
        plaintext.resize(padded_length(plaintext.len()), b' ');
        let nonce: [u8; 12] = rand::random();
        let payload = Payload {
            msg: &plaintext,
            aad: &transcript("sealpost/1 aad", &header),
        };
        let mut ciphertext = Aes256Gcm::new(&self.aes.into())
            .encrypt(&Nonce::from(nonce), payload)
            .unwrap();
        if forgery.spoiled {
            ciphertext[0] ^= 1;
        }
        let covered = [&header[..], &[&self.wrapped, &nonce, &ciphertext]].concat();
        let signature = identity.sign(&transcript("sealpost/1 envelope", &covered));
        let base64 = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
        let prev = forgery
            .prev
            .map_or("null".to_owned(), |prev| format!("\"{prev}\""));
        let envelope = format!(
            r#"{{"v":1,"suite":"{SUITE}","realm":"{realm}","id":"{}","prev":{prev},"ts":{},"from":"{user}","to":"{}","key":"{}","signer":"{}","enc_key":"{}","nonce":"{}","ciphertext":"{}","sig":"{}"}}"#,
            forgery.id,
            forgery.ts,
            self.to.user(),
            base64(key.as_bytes()),
            base64(identity.key().as_bytes()),
            base64(&self.wrapped),
            base64(&nonce),
            base64(&ciphertext),
            base64(signature.as_bytes()),
        );
        Envelope::parse(envelope.as_bytes()).expect("a forgery of the right shape");
        envelope.into_bytes()
    }

    /// Sends it; the broker takes it.
    pub async fn send(&mut self, forgery: &Forgery) {
        let envelope = self.seal(forgery);
        let reason = self.publish(&envelope).await;
        assert_eq!(reason, PubAckReason::Success);
    }

    /// Publishes any bytes to the victim; what the broker says.
    pub async fn publish(&mut self, bytes: &[u8]) -> PubAckReason {
        let topic = format!("inbox/{}", self.to.user());
        self.link.publish(&topic, false, bytes).await
    }

    /// Sends many, as fast as the broker takes them.
    pub fn flood(&self, forgeries: &[Forgery]) {
        let token = self.device.token("flood");
        let user = self.device.user.as_str();
        let mut flood = Flood::connect(self.broker, user, &token, "flood");
        let topic = format!("inbox/{}", self.to.user());
        for forgery in forgeries {
            flood.publish(&topic, &self.seal(forgery));
        }
        flood.finish();
    }

    /// The next envelope to him.
    pub async fn receive(&mut self) -> Envelope {
        loop {
            let publish = self.link.receive().await;
            if publish.topic.starts_with(b"inbox/") {
                return Envelope::parse(&publish.payload).unwrap();
            }
        }
    }
}
