//! What `open` promises: what was sealed comes out, and the private key is out of reach for everybody but pinned
//! senders of new mail.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

use sealpost_core::{
    BurstCache, Content, DecryptionKey, EncryptionKey, Envelope, Identity, IdentityKey,
    MAX_BURST_MESSAGES, MAX_CACHED_KEYS, OpenError, Realm, Recipient, SealError, Sealer,
    UnwrapError,
};
use zeroize::Zeroizing;

use crate::people::{Memory, Person, at, id, rng, text, user};

/// A private key that counts how often it is used.
struct Counting<'a> {
    inner: &'a dyn DecryptionKey,
    used: AtomicUsize,
}

impl<'a> Counting<'a> {
    fn new(inner: &'a dyn DecryptionKey) -> Self {
        Self {
            inner,
            used: AtomicUsize::new(0),
        }
    }

    fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

impl DecryptionKey for Counting<'_> {
    fn encryption_key(&self) -> &EncryptionKey {
        self.inner.encryption_key()
    }

    fn unwrap_key(&self, wrapped: &[u8]) -> Result<Zeroizing<[u8; 32]>, UnwrapError> {
        self.used.fetch_add(1, Ordering::Relaxed);
        self.inner.unwrap_key(wrapped)
    }
}

fn alice() -> Person {
    Person::new("alice", 1)
}

fn bob() -> Person {
    Person::new("bob", 2)
}

fn sealed(from: &Person, to: &Person, seed: u64) -> Envelope {
    let mut sealer = Sealer::new(&from.identity, &from.user, &to.bundle(1)).unwrap();
    sealer
        .seal(&mut rng(seed), at(10), id(seed), None, &text("Hello Bob!"))
        .unwrap()
}

fn open(
    envelope: &Envelope,
    by: &Person,
    pinned: &IdentityKey,
    memory: &Memory,
) -> Result<Content, OpenError> {
    by.opens(&[by.rsa], |recipient| {
        sealpost_core::open(envelope, recipient, pinned, memory, &mut BurstCache::new())
    })
}

#[test]
fn what_alice_seals_bob_opens() {
    let (alice, bob) = (alice(), bob());
    let envelope = sealed(&alice, &bob, 1);
    let read = Envelope::parse(envelope.as_bytes()).unwrap();
    assert_eq!(read, envelope);
    assert_eq!(
        open(&read, &bob, &alice.identity.key(), &Memory::default()),
        Ok(text("Hello Bob!"))
    );
}

#[test]
fn the_private_key_is_out_of_reach_until_everything_else_held() {
    let (alice, bob, mallory) = (alice(), bob(), Person::new("mallory", 4));
    let counting = Counting::new(bob.rsa);
    let keys: [&dyn DecryptionKey; 1] = [&counting];
    let good = sealed(&alice, &bob, 1);
    let pinned = alice.identity.key();
    let elsewhere = Realm::parse("elsewhere").unwrap();
    let me = Recipient {
        realm: &bob.realm,
        user: &bob.user,
        identity: &bob.identity.key(),
        keys: &keys,
    };
    let attempt =
        |envelope: &Envelope, recipient: &Recipient<'_>, pinned: &IdentityKey, memory: &Memory| {
            sealpost_core::open(envelope, recipient, pinned, memory, &mut BurstCache::new())
                .unwrap_err()
        };
    let none = Memory::default();

    let carol = user("carol");
    assert_eq!(
        attempt(&good, &Recipient { user: &carol, ..me }, &pinned, &none),
        OpenError::NotForMe
    );
    assert_eq!(
        attempt(
            &good,
            &Recipient {
                realm: &elsewhere,
                ..me
            },
            &pinned,
            &none
        ),
        OpenError::WrongRealm
    );
    assert_eq!(
        attempt(&good, &me, &mallory.identity.key(), &none),
        OpenError::SignerIsNotPinned { signer: pinned }
    );

    let text = std::str::from_utf8(good.as_bytes()).unwrap();
    let tampered = text.replace(r#""ts":1700000010.000"#, r#""ts":1700000010.001"#);
    let tampered = Envelope::parse(tampered.as_bytes()).unwrap();
    assert_eq!(
        attempt(&tampered, &me, &pinned, &none),
        OpenError::BadSignature
    );

    let mut memory = Memory::default();
    memory.seen.insert((alice.user.clone(), *good.id()));
    assert_eq!(
        attempt(&good, &me, &pinned, &memory),
        OpenError::AlreadySeen
    );

    let mut memory = Memory::default();
    memory.floors.insert(alice.user.clone(), at(11));
    assert_eq!(attempt(&good, &me, &pinned, &memory), OpenError::BelowFloor);
    memory.floors.insert(alice.user.clone(), at(10));
    assert_eq!(counting.used(), 0);
    assert!(sealpost_core::open(&good, &me, &pinned, &memory, &mut BurstCache::new()).is_ok());
    assert_eq!(counting.used(), 1);
}

#[test]
fn mail_to_an_old_key_opens_while_the_key_is_kept() {
    let (alice, bob) = (alice(), bob());
    let envelope = sealed(&alice, &bob, 1);
    let new = alice.rsa; // any other key will do for the newest
    let both: [&dyn DecryptionKey; 2] = [new, bob.rsa];
    let opened = bob.opens(&both, |recipient| {
        sealpost_core::open(
            &envelope,
            recipient,
            &alice.identity.key(),
            &Memory::default(),
            &mut BurstCache::new(),
        )
    });
    assert!(opened.is_ok());
    let refused = bob.opens(&[new], |recipient| {
        sealpost_core::open(
            &envelope,
            recipient,
            &alice.identity.key(),
            &Memory::default(),
            &mut BurstCache::new(),
        )
    });
    assert_eq!(refused, Err(OpenError::UnknownKey));
}

#[test]
fn mail_to_somebody_else_with_the_same_rsa_key_does_not_open() {
    let (alice, bob) = (alice(), bob());
    let twin = Person {
        identity: Identity::from_seed(&[9; 32]),
        ..Person::new("bob", 2)
    };
    let envelope = sealed(&alice, &twin, 1);
    assert_eq!(
        open(&envelope, &bob, &alice.identity.key(), &Memory::default()),
        Err(OpenError::UnknownKey)
    );
}

#[test]
fn a_message_sealed_again_is_the_same_message() {
    let (alice, bob) = (alice(), bob());
    let before = sealed(&alice, &bob, 1);
    let rotated = Person {
        rsa: alice.rsa, // any other key will do for the new one
        ..Person::new("bob", 2)
    };
    let mut sealer = Sealer::new(&alice.identity, &alice.user, &rotated.bundle(2)).unwrap();
    let again = sealer
        .seal_again(&mut rng(2), at(5_000), &before, &text("Hello Bob!"))
        .unwrap();
    assert_eq!(again.key(), &rotated.key_id());
    assert_ne!(again.enc_key(), before.enc_key());
    assert_eq!(
        (again.id(), again.prev(), again.ts()),
        (before.id(), before.prev(), before.ts())
    );
    let pinned = alice.identity.key();
    assert_eq!(
        open(&again, &rotated, &pinned, &Memory::default()),
        Ok(text("Hello Bob!"))
    );

    // When the first copy was opened, and then forgotten, the floor lies above the second one too.
    let mut forgotten = Memory::default();
    forgotten.floors.insert(alice.user.clone(), at(11));
    assert_eq!(
        open(&again, &rotated, &pinned, &forgotten),
        Err(OpenError::BelowFloor)
    );
}

#[test]
fn a_message_is_sealed_again_in_its_own_conversation_only() {
    let (alice, bob, carol) = (alice(), bob(), Person::new("carol", 3));
    let abroad = Person {
        realm: Realm::parse("elsewhere").unwrap(),
        ..Person::new("carol", 3)
    };
    let before = sealed(&alice, &carol, 1);
    for (from, to) in [(&alice, &bob), (&carol, &carol), (&alice, &abroad)] {
        let mut sealer = Sealer::new(&from.identity, &from.user, &to.bundle(1)).unwrap();
        let again = sealer.seal_again(&mut rng(2), at(10), &before, &text("x"));
        assert_eq!(again.err(), Some(SealError::OtherConversation));
    }
}

#[test]
fn a_burst_costs_one_rsa_operation() {
    let (alice, bob) = (alice(), bob());
    let counting = Counting::new(bob.rsa);
    let keys: [&dyn DecryptionKey; 1] = [&counting];
    let mut sealer = Sealer::burst(&alice.identity, &alice.user, &bob.bundle(1)).unwrap();
    let mut cache = BurstCache::new();
    let mut chance = rng(1);
    let mut nonces = std::collections::HashSet::new();
    for number in 0..50 {
        let envelope = sealer
            .seal(
                &mut chance,
                at(10),
                id(number),
                None,
                &text("so much to say"),
            )
            .unwrap();
        assert!(nonces.insert(*envelope.nonce()));
        let opened = bob.opens(&keys, |recipient| {
            sealpost_core::open(
                &envelope,
                recipient,
                &alice.identity.key(),
                &Memory::default(),
                &mut cache,
            )
        });
        assert_eq!(opened, Ok(text("so much to say")));
    }
    assert_eq!((counting.used(), cache.len()), (1, 1));

    cache.wipe(&alice.key_id());
    assert_eq!(cache.len(), 1);
    cache.wipe(&bob.key_id());
    assert!(cache.is_empty());
}

#[test]
fn a_burst_ends_after_so_many_messages_or_a_minute() {
    let (alice, bob) = (alice(), bob());
    let mut sealer = Sealer::burst(&alice.identity, &alice.user, &bob.bundle(1)).unwrap();
    let mut chance = rng(1);
    let number = Cell::new(0);
    let mut wrapped_at = |seconds| {
        number.set(number.get() + 1);
        let envelope = sealer
            .seal(&mut chance, at(seconds), id(number.get()), None, &text("x"))
            .unwrap();
        envelope.enc_key().to_vec()
    };
    let first = wrapped_at(10);
    assert_eq!(wrapped_at(70), first, "within a minute");
    let second = wrapped_at(71);
    assert_ne!(second, first, "after a minute");
    let third = wrapped_at(70);
    assert_ne!(third, second, "when the clock goes back");
    for _ in 1..MAX_BURST_MESSAGES {
        assert_eq!(wrapped_at(70), third);
    }
    assert_ne!(
        wrapped_at(70),
        third,
        "after as many messages as are allowed"
    );
}

#[test]
fn without_bursts_every_message_has_its_own_key() {
    let (alice, bob) = (alice(), bob());
    let mut sealer = Sealer::new(&alice.identity, &alice.user, &bob.bundle(1)).unwrap();
    let mut chance = rng(1);
    let one = sealer
        .seal(&mut chance, at(10), id(1), None, &text("x"))
        .unwrap();
    let two = sealer
        .seal(&mut chance, at(10), id(2), Some(id(1)), &text("x"))
        .unwrap();
    assert_ne!(one.enc_key(), two.enc_key());
    assert_eq!(two.prev(), Some(&id(1)));
}

#[test]
fn the_cache_of_bursts_is_bounded() {
    let (alice, bob) = (alice(), bob());
    let mut cache = BurstCache::new();
    for number in 0..=MAX_CACHED_KEYS as u64 {
        let envelope = sealed(&alice, &bob, number);
        let opened = bob.opens(&[bob.rsa], |recipient| {
            sealpost_core::open(
                &envelope,
                recipient,
                &alice.identity.key(),
                &Memory::default(),
                &mut cache,
            )
        });
        assert!(opened.is_ok());
    }
    assert_eq!(cache.len(), MAX_CACHED_KEYS);
}

#[test]
fn nothing_is_sealed_to_keys_that_are_not_valid_now() {
    let (alice, bob) = (alice(), bob());
    let bundle = bob.bundle(1);
    let mut sealer = Sealer::new(&alice.identity, &alice.user, &bundle).unwrap();
    let mut seal = |now| {
        sealer
            .seal(&mut rng(1), now, id(1), None, &text("x"))
            .map(drop)
    };
    assert!(matches!(
        seal(bundle.expires()),
        Err(SealError::BundleNotValid(_))
    ));
    assert_eq!(seal(at(1)), Ok(()));

    let retired = sealpost_core::BundleFields {
        encryption: Vec::new(),
        ..bob.fields(2)
    };
    let retired = sealpost_core::KeyBundle::sign(retired, &bob.identity).unwrap();
    assert_eq!(
        Sealer::new(&alice.identity, &alice.user, &retired).err(),
        Some(SealError::NoEncryptionKey)
    );
}
