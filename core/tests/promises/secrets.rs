//! What types that hold secrets promise: `Debug` shows none of them, they can cross threads, and RSA keys are what
//! they say.

use sealpost_core::{
    BurstCache, DecryptionKey, DecryptionKeyError, EncryptionKeyError, RsaDecryptionKey, Sealer,
    UnwrapError,
};

use crate::people::{Person, rng};

#[test]
fn debug_shows_no_secret() {
    let (alice, bob) = (Person::new("alice", 1), Person::new("bob", 2));
    let sealer = Sealer::burst(&alice.identity, &alice.user, &bob.bundle(1)).unwrap();
    assert_eq!(format!("{sealer:?}"), "Sealer(alice to bob)");
    assert_eq!(
        format!("{:?}", BurstCache::new()),
        "BurstCache(0 keys, redacted)"
    );
    let shown = format!("{:?}", bob.rsa);
    assert!(
        shown.starts_with("RsaDecryptionKey(secret of EncryptionKey(RSA, 2048 bits, "),
        "{shown}"
    );
    let shown = bob.opens(&[bob.rsa], |recipient| format!("{recipient:?}"));
    assert_eq!(shown, "Recipient(bob in local, 1 keys)");
}

#[test]
fn an_rsa_key_survives_being_stored() {
    let key = Person::new("alice", 1).rsa;
    let stored = key.to_pkcs8_der().unwrap();
    let read = RsaDecryptionKey::from_pkcs8_der(&stored).unwrap();
    assert_eq!(read.encryption_key(), key.encryption_key());
    let wrapped = key.encryption_key().wrap(&mut rng(1), &[7; 32]).unwrap();
    assert_eq!(wrapped.len(), key.encryption_key().modulus_len());
    assert_eq!(*read.unwrap_key(&wrapped).unwrap(), [7; 32]);
    assert_eq!(
        RsaDecryptionKey::from_pkcs8_der(&stored[1..]).err(),
        Some(DecryptionKeyError::BadKey)
    );
}

#[test]
fn an_rsa_key_of_an_odd_size_is_as_good() {
    let key = RsaDecryptionKey::generate(&mut rng(1), 2_049).unwrap();
    assert_eq!(key.encryption_key().bits(), 2_049);
    let wrapped = key.encryption_key().wrap(&mut rng(1), &[7; 32]).unwrap();
    assert_eq!(wrapped.len(), 257);
    let read = RsaDecryptionKey::from_pkcs8_der(&key.to_pkcs8_der().unwrap()).unwrap();
    assert_eq!(*read.unwrap_key(&wrapped).unwrap(), [7; 32]);
}

#[test]
fn a_wrapped_key_that_was_touched_does_not_unwrap() {
    let key = Person::new("alice", 1).rsa;
    let wrapped = key.encryption_key().wrap(&mut rng(1), &[7; 32]).unwrap();
    for index in [0, 1, 100, 255] {
        let mut wrapped = wrapped.clone();
        wrapped[index] ^= 1;
        assert_eq!(key.unwrap_key(&wrapped), Err(UnwrapError));
    }
    for wrong in [&wrapped[1..], &[0; 256], &[0xff; 256], &[], &[0; 257]] {
        assert_eq!(key.unwrap_key(wrong), Err(UnwrapError));
    }
}

#[test]
fn rsa_keys_are_not_generated_out_of_bounds() {
    for (bits, error) in [
        (1_024, EncryptionKeyError::TooSmall),
        (2_047, EncryptionKeyError::TooSmall),
        (4_097, EncryptionKeyError::TooLarge),
    ] {
        let refused = RsaDecryptionKey::generate(&mut rng(1), bits).err();
        assert_eq!(refused, Some(DecryptionKeyError::BadPublicKey(error)));
    }
}

#[test]
fn what_a_program_keeps_can_cross_threads() {
    fn crosses<T: Send + Sync>() {}
    crosses::<sealpost_core::Identity>();
    crosses::<RsaDecryptionKey>();
    crosses::<Box<dyn DecryptionKey>>();
    crosses::<Sealer>();
    crosses::<BurstCache>();
    crosses::<sealpost_core::Envelope>();
    crosses::<sealpost_core::KeyBundle>();
}
