//! Alice and Bob, in memory but for their files.

use super::*;
use crate::account::tests::{account, start};
use crate::contact::{self, consider};
use crate::outgoing::tests::seal;
use crate::outgoing::{Sealers, enqueue};
use crate::store::{Attempt, Sealed, SendState};
use sealpost_core::{KeyBundle, Receipt, ReceiptState, Receipted};
use std::time::Duration;

struct Person {
    account: Account,
    store: Store,
    cache: BurstCache,
}

impl Person {
    fn new(folder: &tempfile::TempDir, name: &str) -> Person {
        let account = account(folder, name);
        let store = Store::open(&account.home().store(), account.store_key()).unwrap();
        Person {
            account,
            store,
            cache: BurstCache::new(),
        }
    }

    fn meets(&mut self, other: &KeyBundle) {
        let realm = self.account.realm().clone();
        consider(
            &mut self.store,
            &realm,
            other.user(),
            other.as_bytes(),
            start(),
        )
        .unwrap()
        .unwrap();
    }

    fn seals(&self, to: &KeyBundle, text: &str) -> Vec<u8> {
        let content = Content::Text { text: text.into() };
        seal(&self.account, to, None, &content, start())
            .unwrap()
            .as_bytes()
            .to_vec()
    }

    fn receives(&mut self, bytes: &[u8]) -> Received {
        self.receives_again(bytes, false)
    }

    fn receives_again(&mut self, bytes: &[u8], duplicate: bool) -> Received {
        receive(
            &mut self.store,
            &mut self.account,
            &mut self.cache,
            bytes,
            duplicate,
            start(),
        )
        .unwrap()
    }

    fn retries(&mut self, from: &Person) -> Vec<Received> {
        retry(
            &mut self.store,
            &mut self.account,
            &mut self.cache,
            from.account.user(),
            start(),
        )
        .unwrap()
    }
}

fn two(folder: &tempfile::TempDir) -> (Person, Person) {
    (Person::new(folder, "alice"), Person::new(folder, "bob"))
}

fn text(received: &Received) -> &str {
    match received {
        Received::Message(Message {
            content: Content::Text { text },
            ..
        }) => text,
        other => panic!("{other:?}"),
    }
}

fn cause(received: Received) -> Cause {
    match received {
        Received::Refused(refused) => {
            // Every refusal explains itself.
            match refused_event(&refused) {
                Event::Refused { message, .. } => assert!(!message.is_empty()),
                other => panic!("{other:?}"),
            }
            refused.cause
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_message_of_a_contact_is_opened_and_stored_before_anything_else() {
    let folder = tempfile::tempdir().unwrap();
    let (alice, mut bob) = two(&folder);
    bob.meets(alice.account.bundle());
    let envelope = alice.seals(bob.account.bundle(), "Hello Bob!");
    assert_eq!(text(&bob.receives(&envelope)), "Hello Bob!");
    let stored = unshown(&bob.store, 10).unwrap();
    assert_eq!(stored.len(), 1);
    assert_eq!(
        stored[0].content,
        Content::Text {
            text: "Hello Bob!".into()
        }
    );
}

#[test]
fn copies_are_dropped_silently_and_receipted_again() {
    let folder = tempfile::tempdir().unwrap();
    let (alice, mut bob) = two(&folder);
    bob.meets(alice.account.bundle());
    let envelope = alice.seals(bob.account.bundle(), "once");
    bob.receives(&envelope);
    assert!(matches!(
        bob.receives_again(&envelope, true),
        Received::Nothing
    ));
    assert!(matches!(bob.receives(&envelope), Received::Nothing));
    assert_eq!(unshown(&bob.store, 10).unwrap().len(), 1);
    // To a stranger nothing is said.
    assert!(bob.store.receipts_due().unwrap().is_empty());
    bob.store.accept_contact(alice.account.user()).unwrap();
    let due = |bob: &Person| {
        bob.store
            .receipts_for(alice.account.user(), 10)
            .unwrap()
            .map(|(_, messages)| messages)
    };
    let late = due(&bob).unwrap();
    bob.store
        .receipts_sent(alice.account.user(), ReceiptState::Delivered, &late)
        .unwrap();
    assert_eq!(due(&bob), None);
    bob.receives(&envelope);
    assert_eq!(due(&bob), Some(late));
}

#[test]
fn a_receipt_counts_for_what_was_sealed_to_its_sender_and_is_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let (mut alice, mut bob) = two(&folder);
    let carol = Person::new(&folder, "carol");
    alice.meets(bob.account.bundle());
    alice.meets(carol.account.bundle());
    bob.meets(alice.account.bundle());
    let content = Content::Text { text: "hi".into() };
    let to = bob.account.user().clone();
    let id = enqueue(&mut alice.store, &to, &content, start()).unwrap();
    let due = alice.store.due(start(), 10).unwrap();
    let envelope = Sealers::default()
        .seal(
            &alice.account,
            bob.account.bundle(),
            id,
            None,
            &content,
            start(),
        )
        .unwrap();
    let number = due[0].number;
    let sealed = Sealed {
        number,
        envelope: &envelope,
    };
    alice.store.write_sealed(&[sealed]).unwrap();
    alice
        .store
        .attempted(&[(number, Attempt::Taken)], start())
        .unwrap();

    let right = envelope.digest();
    let receipt = |from: &Person, digest| {
        let messages = vec![Receipted { id, digest }];
        let receipt = Receipt::new(ReceiptState::Delivered, messages).unwrap();
        let content = Content::Receipt(receipt);
        seal(
            &from.account,
            alice.account.bundle(),
            None,
            &content,
            start(),
        )
        .unwrap()
        .as_bytes()
        .to_vec()
    };
    let (forged, blind, good) = (
        receipt(&carol, right),
        receipt(&bob, [9; 32]),
        receipt(&bob, right),
    );
    let further = |alice: &mut Person, bytes: &[u8]| match alice.receives(bytes) {
        Received::Receipted(further) => further.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!(further(&mut alice, &forged), 0);
    assert_eq!(further(&mut alice, &blind), 0);
    let state = |alice: &Person| alice.store.outbox_entry(&id).unwrap().unwrap().state;
    assert_eq!(state(&alice), SendState::Sent);
    assert_eq!(further(&mut alice, &good), 1);
    assert_eq!(state(&alice), SendState::Delivered);
    assert!(matches!(alice.receives(&good), Received::Nothing));
    assert!(unshown(&alice.store, 10).unwrap().is_empty());
}

#[test]
fn a_strangers_message_waits_for_their_bundle_and_is_then_opened() {
    let folder = tempfile::tempdir().unwrap();
    let (alice, mut bob) = two(&folder);
    let envelope = alice.seals(bob.account.bundle(), "hello, stranger");
    for fresh_now in [true, false] {
        match bob.receives(&envelope) {
            Received::Waiting {
                reason: WaitingFor::Bundle,
                fresh,
                ..
            } => assert_eq!(fresh, fresh_now),
            other => panic!("{other:?}"),
        }
    }
    assert!(bob.retries(&alice).is_empty());
    bob.meets(alice.account.bundle());
    let opened = bob.retries(&alice);
    assert_eq!(opened.len(), 1);
    assert_eq!(text(&opened[0]), "hello, stranger");
    assert!(bob.store.held_senders().unwrap().is_empty());
}

#[test]
fn an_envelope_alone_never_pins_its_signer() {
    let folder = tempfile::tempdir().unwrap();
    let (_, mut bob) = two(&folder);
    let other_folder = tempfile::tempdir().unwrap();
    let mallory_as_alice = Person::new(&other_folder, "alice");
    let forged = mallory_as_alice.seals(bob.account.bundle(), "I am alice");
    assert!(matches!(bob.receives(&forged), Received::Waiting { .. }));
    assert!(
        bob.store
            .contact(mallory_as_alice.account.user())
            .unwrap()
            .is_none()
    );
}

#[test]
fn mail_of_a_changed_identity_waits_for_the_decision_and_the_old_one_still_opens() {
    let folder = tempfile::tempdir().unwrap();
    let (alice, mut bob) = two(&folder);
    bob.meets(alice.account.bundle());
    let other_folder = tempfile::tempdir().unwrap();
    let new_alice = Person::new(&other_folder, "alice");
    let from_new = new_alice.seals(bob.account.bundle(), "new machine");
    assert!(matches!(
        bob.receives(&from_new),
        Received::Waiting {
            reason: WaitingFor::Decision,
            ..
        }
    ));
    let from_old = alice.seals(bob.account.bundle(), "still me");
    assert_eq!(text(&bob.receives(&from_old)), "still me");

    let realm = bob.account.realm().clone();
    let bundle = new_alice.account.bundle();
    consider(
        &mut bob.store,
        &realm,
        bundle.user(),
        bundle.as_bytes(),
        start(),
    )
    .unwrap()
    .unwrap_err();
    assert!(bob.retries(&alice).is_empty());
    contact::trust(
        &mut bob.store,
        bundle.user(),
        Some(bundle.identity()),
        start(),
    )
    .unwrap();
    assert_eq!(text(&bob.retries(&alice)[0]), "new machine");
}

#[test]
fn mail_under_way_at_a_rotation_still_opens_even_when_another_process_rotated() {
    let folder = tempfile::tempdir().unwrap();
    let (alice, mut bob) = two(&folder);
    bob.meets(alice.account.bundle());
    let before = alice.seals(bob.account.bundle(), "to the old key");
    let mut other_process = Account::open(
        bob.account.home(),
        bob.account.user(),
        bob.account.realm(),
        || panic!("asked"),
        start(),
    )
    .unwrap();
    other_process.rotate(start()).unwrap();
    let after = alice.seals(other_process.bundle(), "to the new key");
    assert_eq!(text(&bob.receives(&before)), "to the old key");
    assert_eq!(text(&bob.receives(&after)), "to the new key");
}

#[test]
fn what_is_not_an_envelope_or_not_for_us_is_refused_once() {
    let folder = tempfile::tempdir().unwrap();
    let (alice, mut bob) = two(&folder);
    bob.meets(alice.account.bundle());
    assert!(matches!(cause(bob.receives(b"junk")), Cause::Malformed(_)));
    assert!(matches!(bob.receives(b"junk"), Received::Nothing));

    let for_alice = bob.seals(alice.account.bundle(), "not yours");
    assert_eq!(
        cause(bob.receives(&for_alice)),
        Cause::Unopenable(OpenError::NotForMe)
    );

    let mut tampered = alice.seals(bob.account.bundle(), "hi");
    let at = tampered
        .windows(14)
        .position(|w| w == b"\"ciphertext\":\"")
        .unwrap()
        + 14;
    tampered[at] = if tampered[at] == b'A' { b'B' } else { b'A' };
    assert_eq!(
        cause(bob.receives(&tampered)),
        Cause::Unopenable(OpenError::BadSignature)
    );
    assert!(matches!(bob.receives(&tampered), Received::Nothing));
}

#[test]
fn a_message_to_a_destroyed_key_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (alice, mut bob) = two(&folder);
    bob.meets(alice.account.bundle());
    let old_bundle = bob.account.bundle().clone();
    bob.account.rotate(start()).unwrap();
    bob.account
        .upkeep(start().saturating_add(crate::account::GRACE + Duration::from_secs(1)))
        .unwrap();
    let late = alice.seals(&old_bundle, "late");
    assert_eq!(
        cause(bob.receives(&late)),
        Cause::Unopenable(OpenError::UnknownKey)
    );
}

#[test]
fn the_third_undecryptable_message_suspends_its_sender() {
    let folder = tempfile::tempdir().unwrap();
    let (alice, mut bob) = two(&folder);
    bob.meets(alice.account.bundle());
    // Sealed to a key that announces itself as Bob's but is not: the signature holds and decryption fails. Alice makes
    // such envelopes from a bundle of Bob's whose private key was swapped under the same public name.
    let broken = |n: u32| broken_envelope(&alice, &bob, n);
    let (one, two, three, four) = (broken(1), broken(2), broken(3), broken(4));
    for envelope in [&one, &two] {
        assert_eq!(
            cause(bob.receives(envelope)),
            Cause::Unopenable(OpenError::CannotDecrypt)
        );
        // The same bytes again are neither reported nor counted again.
        assert!(matches!(bob.receives(envelope), Received::Nothing));
    }
    assert_eq!(cause(bob.receives(&three)), Cause::Suspended);
    assert!(matches!(
        bob.receives(&four),
        Received::Waiting {
            reason: WaitingFor::Suspension,
            ..
        }
    ));
    let good = alice.seals(bob.account.bundle(), "sorry");
    assert!(matches!(bob.receives(&good), Received::Waiting { .. }));
    contact::trust(&mut bob.store, alice.account.user(), None, start()).unwrap();
    let opened = bob.retries(&alice);
    assert!(
        opened
            .iter()
            .any(|received| matches!(received, Received::Message(_)))
    );
}

#[test]
fn failures_of_many_senders_add_up_to_an_alarm() {
    let folder = tempfile::tempdir().unwrap();
    let bob = Person::new(&folder, "bob");
    let at = |of_all| {
        let refused = Refused {
            from: None,
            id: None,
            cause: Cause::Unopenable(OpenError::CannotDecrypt),
            failures: Some(crate::store::Failures {
                of_sender: 1,
                of_all,
            }),
        };
        many_failures_event(&bob.account, &refused).is_some()
    };
    assert_eq!(
        [0, 1, 9, 10, 11, 20].map(at),
        [false, false, false, true, false, true]
    );
}

/// A well-formed envelope, signed by Alice, whose `enc_key` wraps another key than the one that encrypted the text.
fn broken_envelope(alice: &Person, bob: &Person, n: u32) -> Vec<u8> {
    crate::incoming::tests::forge::with_wrong_key(
        &alice.account,
        bob.account.bundle(),
        &format!("broken {n}"),
    )
}

/// A sender who builds envelopes by hand, from the bytes that the specification gives.
mod forge {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD as BASE64;

    pub(super) fn with_wrong_key(from: &Account, to: &KeyBundle, text: &str) -> Vec<u8> {
        let content = Content::Text { text: text.into() };
        let good = seal(from, to, None, &content, start()).unwrap();
        let other_key = to.encryption()[0].wrap(&mut rand::rng(), &[9; 32]).unwrap();
        let mut header = Vec::new();
        lp(&mut header, b"sealpost/1 envelope");
        lp(&mut header, good.realm().as_str().as_bytes());
        lp(&mut header, &[1]);
        lp(&mut header, sealpost_core::SUITE.as_bytes());
        lp(&mut header, good.id().as_bytes());
        lp(&mut header, &[]);
        lp(&mut header, &good.ts().millis().to_be_bytes());
        lp(&mut header, good.from().as_str().as_bytes());
        lp(&mut header, good.to().as_str().as_bytes());
        lp(&mut header, good.key().as_bytes());
        lp(&mut header, good.signer().as_bytes());
        lp(&mut header, &other_key);
        lp(&mut header, good.nonce());
        lp(&mut header, good.ciphertext());
        let signature = from.identity().sign(&header);
        let bytes = String::from_utf8(good.as_bytes().to_vec()).unwrap();
        let bytes = bytes
            .replace(&BASE64.encode(good.enc_key()), &BASE64.encode(&other_key))
            .replace(
                &BASE64.encode(good.signature().as_bytes()),
                &BASE64.encode(signature.as_bytes()),
            );
        Envelope::parse(bytes.as_bytes())
            .unwrap()
            .verify_signature()
            .expect("the forgery is signed as specified");
        bytes.into_bytes()
    }

    fn lp(out: &mut Vec<u8>, field: &[u8]) {
        out.extend_from_slice(&u32::try_from(field.len()).unwrap().to_be_bytes());
        out.extend_from_slice(field);
    }
}

#[test]
fn bytes_that_found_no_room_are_taken_when_they_are_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let (alice, mut bob) = two(&folder);
    for n in 0..crate::store::MAX_HELD_PER_SENDER {
        let envelope = alice.seals(bob.account.bundle(), &format!("{n}"));
        assert!(matches!(bob.receives(&envelope), Received::Waiting { .. }));
    }
    let one_too_many = alice.seals(bob.account.bundle(), "important");
    assert_eq!(cause(bob.receives(&one_too_many)), Cause::TooManyWaiting);
    bob.meets(alice.account.bundle());
    assert_eq!(bob.retries(&alice).len(), 32);
    // SPEC 7.3: what must be sent again is sent as the same bytes.
    assert_eq!(text(&bob.receives(&one_too_many)), "important");
}
