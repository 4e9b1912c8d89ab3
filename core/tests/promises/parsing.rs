//! What everything that parses promises: it never panics, and what it accepts is written back as the same bytes.

use std::sync::LazyLock;

use proptest::prelude::*;
use sealpost_core::{
    Content, EncryptionKey, Envelope, Identity, IdentityKey, KeyBundle, LoginToken, MAX_PLAINTEXT,
    MessageId, OpenError, Realm, SafetyNumber, Sealer, Timestamp, Topic, TopicFilter, UserId,
    padded_length,
};

use crate::people::{Memory, Person, at, id, rng, text};

static BUNDLE: LazyLock<KeyBundle> = LazyLock::new(|| Person::new("bob", 2).bundle(1));
static ENVELOPE: LazyLock<Envelope> = LazyLock::new(|| {
    let alice = Person::new("alice", 1);
    let mut sealer = Sealer::new(&alice.identity, &alice.user, &BUNDLE).unwrap();
    sealer
        .seal(&mut rng(1), at(10), id(1), None, &text("Hello Bob!"))
        .unwrap()
});

/// Text that is nearly right more often than chance would have it: pieces of the real one, cut and put together.
fn mutated(original: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    let length = original.len();
    let edit = (
        0..length,
        0..length,
        prop::collection::vec(any::<u8>(), 0..4),
        any::<bool>(),
    );
    prop::collection::vec(edit, 1..4).prop_map(move |edits| {
        let mut bytes = original.to_vec();
        for (from, to, insert, copy) in edits {
            let (from, to) = (from.min(to).min(bytes.len()), from.max(to).min(bytes.len()));
            if copy {
                let piece = bytes[from..to].to_vec();
                bytes.splice(to..to, piece);
            } else {
                bytes.splice(from..to.min(from + 8), insert);
            }
        }
        bytes
    })
}

proptest! {
    #[test]
    fn user_names_are_exactly_those_of_the_pattern(text in "\\PC{0,70}|[a-z0-9_-]{0,70}|[a-z0-9_.A-Z/-]{0,10}") {
        let bytes = text.as_bytes();
        let small = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let expected = (1..=64).contains(&bytes.len())
            && small(&bytes[0])
            && bytes.iter().all(|byte| small(byte) || matches!(byte, b'_' | b'-'));
        prop_assert_eq!(UserId::parse(&text).is_ok(), expected);
    }

    #[test]
    fn realms_are_exactly_those_of_the_pattern(text in "\\PC{0,70}|[a-z0-9.-]{0,70}|[a-z0-9_.A-Z/-]{0,10}") {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
        let expected = (1..=64).contains(&text.len()) && text.bytes().all(allowed);
        prop_assert_eq!(Realm::parse(&text).is_ok(), expected);
    }

    #[test]
    fn topics_and_filters_are_written_as_they_were_read(text in "\\PC{0,20}|(keys|inbox|in)/[a-z+#/_]{0,5}") {
        if let Ok(topic) = Topic::parse(&text) {
            prop_assert_eq!(topic.to_string(), text.clone());
            let filter = TopicFilter::parse(&text).unwrap();
            prop_assert!(filter.matches(&topic));
            prop_assert_eq!(filter, TopicFilter::from(topic));
        }
        if let Ok(filter) = TopicFilter::parse(&text) {
            prop_assert_eq!(filter.to_string(), text);
        }
    }

    #[test]
    fn times_are_written_as_they_were_read(text in "\\PC{0,16}|[0-9]{0,11}\\.[0-9]{2,4}") {
        if let Ok(time) = Timestamp::parse(&text) {
            prop_assert_eq!(time.to_string(), text);
        }
    }

    #[test]
    fn every_time_in_range_is_read_as_it_was_written(millis in 0..=Timestamp::MAX.millis()) {
        let time = Timestamp::from_millis(millis).unwrap();
        prop_assert_eq!(Timestamp::parse(&time.to_string()), Ok(time));
    }

    #[test]
    fn message_ids_are_written_as_they_were_read(text in "\\PC{0,40}|[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89abc][0-9a-f]{3}-[0-9a-fA]{12}") {
        if let Ok(id) = MessageId::parse(&text) {
            prop_assert_eq!(id.to_string(), text);
        }
    }

    #[test]
    fn every_new_message_id_is_one(millis in 0..=Timestamp::MAX.millis(), seed: u64) {
        let id = MessageId::new(Timestamp::from_millis(millis).unwrap(), &mut rng(seed));
        prop_assert_eq!(MessageId::parse(&id.to_string()), Ok(id));
        prop_assert_eq!(MessageId::from_bytes(*id.as_bytes()), Ok(id));
    }

    #[test]
    fn identity_keys_are_written_as_they_were_read(bytes: [u8; 32], text in "[A-Za-z0-9+/]{42}[A-Za-z0-9+/=]{0,3}") {
        if let Ok(key) = IdentityKey::parse(&bytes) {
            prop_assert_eq!(key.as_bytes(), &bytes);
            prop_assert_eq!(IdentityKey::from_base64(&key.to_base64()), Ok(key));
        }
        if let Ok(key) = IdentityKey::from_base64(&text) {
            prop_assert_eq!(key.to_base64(), text);
        }
    }

    #[test]
    fn every_identity_has_a_key_that_is_accepted(seed: [u8; 32], message: Vec<u8>) {
        let identity = Identity::from_seed(&seed);
        prop_assert_eq!(IdentityKey::parse(identity.key().as_bytes()), Ok(identity.key()));
        prop_assert!(identity.key().verify(&message, &identity.sign(&message)).is_ok());
    }

    #[test]
    fn encryption_keys_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = EncryptionKey::parse(&bytes);
    }

    #[test]
    fn a_changed_encryption_key_is_refused_or_read_as_changed(index in 0_usize..294, flip in 1_u8..) {
        let mut der = BUNDLE.encryption()[0].spki_der().to_vec();
        der[index] ^= flip;
        if let Ok(key) = EncryptionKey::parse(&der) {
            prop_assert_eq!(key.spki_der(), &der[..]);
            prop_assert_ne!(&key, &BUNDLE.encryption()[0]);
        }
    }

    #[test]
    fn bundles_of_chance_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(KeyBundle::parse(&bytes).is_err());
    }

    #[test]
    fn a_bundle_with_any_change_is_refused(bytes in mutated(BUNDLE.as_bytes())) {
        prop_assert_eq!(KeyBundle::parse(&bytes).is_ok(), bytes == BUNDLE.as_bytes());
    }

    #[test]
    fn envelopes_of_chance_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Envelope::parse(&bytes).is_err());
    }

    #[test]
    fn an_envelope_with_any_change_is_refused_or_its_signature_is(bytes in mutated(ENVELOPE.as_bytes())) {
        if let Ok(read) = Envelope::parse(&bytes) {
            prop_assert_eq!(read.as_bytes(), &bytes[..]);
            prop_assert_eq!(read.verify_signature().is_ok(), bytes == ENVELOPE.as_bytes());
        }
    }

    #[test]
    fn whom_a_reader_knows_changes_nothing_of_what_it_accepts(bytes in mutated(ENVELOPE.as_bytes())) {
        let plain = Envelope::parse(&bytes);
        let (signer, another) = (*ENVELOPE.signer(), *BUNDLE.identity());
        for known in [signer, another] {
            prop_assert_eq!(&Envelope::parse_knowing(&bytes, |_| Some(known)), &plain);
        }
    }

    #[test]
    fn login_tokens_of_chance_never_panic(text in "\\PC{0,20}|[A-Za-z0-9_-]{160}") {
        if let Ok(token) = LoginToken::parse(&text) {
            let now = token.issued();
            prop_assert!(token.verify(&Realm::default(), &UserId::parse("alice").unwrap(), "", now, b"").is_err());
        }
    }

    #[test]
    fn every_login_token_signs_in(millis in 0..=Timestamp::MAX.millis(), nonce: [u8; 16], client_id in "\\PC{0,30}", binding: Vec<u8>) {
        let (alice, issued) = (Person::new("alice", 1), Timestamp::from_millis(millis).unwrap());
        let text = LoginToken::mint(&alice.identity, &alice.realm, &alice.user, &client_id, issued, nonce, &binding);
        let token = LoginToken::parse(&text).unwrap();
        prop_assert_eq!((token.key(), token.issued(), token.nonce()), (&alice.identity.key(), issued, &nonce));
        prop_assert_eq!(token.verify(&alice.realm, &alice.user, &client_id, issued, &binding), Ok(()));
    }

    #[test]
    fn safety_numbers_are_read_from_any_grouping(digits in "[0-9]{60}", group in 1_usize..60) {
        let shown: Vec<_> = digits.as_bytes().chunks(group).map(|group| std::str::from_utf8(group).unwrap()).collect();
        let number = SafetyNumber::parse(&shown.join(" ")).unwrap();
        prop_assert_eq!(number.digits(), &digits);
    }

    #[test]
    fn safety_numbers_never_panic(text in "\\PC{0,80}|[0-9 ]{55,75}") {
        if let Ok(number) = SafetyNumber::parse(&text) {
            prop_assert_eq!(SafetyNumber::parse(&number.to_string()), Ok(number));
        }
    }

    #[test]
    fn content_is_written_as_it_was_read(text in "\\PC{0,40}", json in "\\{\"kind\":\"[a-z]{1,5}\",\"text\":[0-9\"]{1,4}\\}|[{}\\[\\]\":,a-z0-9]{0,20}") {
        let content = Content::Text { text: text.clone() };
        prop_assert_eq!(Content::parse(&content.to_json().unwrap()), Ok(content));
        if let Ok(content) = Content::parse(&json) {
            prop_assert_eq!(Content::parse(&content.to_json().unwrap()), Ok(content));
        }
    }

    #[test]
    fn padding_hides_lengths_and_never_shrinks(length in 0..=MAX_PLAINTEXT) {
        let padded = padded_length(length);
        prop_assert!(padded >= length.max(256) && padded <= MAX_PLAINTEXT);
        prop_assert_eq!(padded_length(padded), padded);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_text_arrives_as_it_was_sent(message in "(?s).{0,400}", millis in 0..86_400_000_u64, seed: u64, linked: bool) {
        let (alice, bob) = (Person::new("alice", 1), Person::new("bob", 2));
        let now = Timestamp::from_millis(at(10).millis() + millis).unwrap();
        let prev = linked.then(|| id(seed ^ 1));
        let mut sealer = Sealer::new(&alice.identity, &alice.user, &BUNDLE).unwrap();
        let envelope = sealer.seal(&mut rng(seed), now, id(seed), prev, &text(&message)).unwrap();
        let read = Envelope::parse(envelope.as_bytes()).unwrap();
        let opened: Result<_, OpenError> = bob.opens(&[bob.rsa], |me| {
            let pinned = alice.identity.key();
            sealpost_core::open(&read, me, &pinned, &Memory::default(), &mut sealpost_core::BurstCache::new())
        });
        prop_assert_eq!(opened, Ok(text(&message)));
        prop_assert_eq!((read.ts(), read.prev().copied(), read.digest()), (now, prev, envelope.digest()));
    }
}
