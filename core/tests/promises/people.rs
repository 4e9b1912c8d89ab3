//! Alice, Bob and what they remember, for all tests of sealing, opening and trust.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::LazyLock;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use sealpost_core::{
    BundleFields, Content, DecryptionKey, Identity, IdentityLink, KeyBundle, KeyId, MessageId,
    Realm, Recipient, RsaDecryptionKey, Seen, Timestamp, UserId,
};

/// Chance that repeats itself.
pub(crate) fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

/// Seconds after a fixed moment.
pub(crate) fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + seconds * 1_000).unwrap()
}

pub(crate) fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

pub(crate) fn text(text: &str) -> Content {
    Content::Text {
        text: text.to_owned(),
    }
}

/// The third argument of a new message.
pub(crate) fn id(seed: u64) -> MessageId {
    MessageId::new(at(0), &mut rng(seed))
}

/// RSA keys of the smallest size, made once: the tests need many openings and few keys.
static RSA_KEYS: LazyLock<Vec<RsaDecryptionKey>> = LazyLock::new(|| {
    (0..2)
        .map(|seed| RsaDecryptionKey::generate(&mut rng(100 + seed), 2_048).unwrap())
        .collect()
});

/// Somebody with an identity and an RSA key.
pub(crate) struct Person {
    pub(crate) realm: Realm,
    pub(crate) user: UserId,
    pub(crate) identity: Identity,
    pub(crate) rsa: &'static RsaDecryptionKey,
}

impl Person {
    pub(crate) fn new(name: &str, seed: u8) -> Self {
        Self {
            realm: Realm::default(),
            user: user(name),
            identity: Identity::from_seed(&[seed; 32]),
            rsa: &RSA_KEYS[usize::from(seed) % 2],
        }
    }

    pub(crate) fn fields(&self, seq: u64) -> BundleFields {
        BundleFields {
            realm: self.realm.clone(),
            user: self.user.clone(),
            seq,
            created: at(seq),
            expires: at(seq + 365 * 86_400),
            encryption: vec![self.rsa.encryption_key().clone()],
            links: Vec::new(),
        }
    }

    pub(crate) fn bundle(&self, seq: u64) -> KeyBundle {
        KeyBundle::sign(self.fields(seq), &self.identity).unwrap()
    }

    pub(crate) fn bundle_with_links(&self, seq: u64, links: Vec<IdentityLink>) -> KeyBundle {
        KeyBundle::sign(
            BundleFields {
                links,
                ..self.fields(seq)
            },
            &self.identity,
        )
        .unwrap()
    }

    pub(crate) fn key_id(&self) -> KeyId {
        KeyId::of(&self.realm, &self.identity.key(), self.rsa.encryption_key())
    }

    /// Opens with `keys`, as this person.
    pub(crate) fn opens<T>(
        &self,
        keys: &[&dyn DecryptionKey],
        then: impl FnOnce(&Recipient<'_>) -> T,
    ) -> T {
        then(&Recipient {
            realm: &self.realm,
            user: &self.user,
            identity: &self.identity.key(),
            keys,
        })
    }
}

/// What a recipient remembers of messages opened before.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) seen: HashSet<(UserId, MessageId)>,
    pub(crate) floors: HashMap<UserId, Timestamp>,
}

impl Seen for Memory {
    fn contains(&self, from: &UserId, id: &MessageId) -> bool {
        self.seen.contains(&(from.clone(), *id))
    }

    fn floor(&self, from: &UserId) -> Option<Timestamp> {
        self.floors.get(from).copied()
    }
}
