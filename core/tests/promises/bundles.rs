//! What a key bundle promises: it is whole, within bounds, and its links are one chain.

use sealpost_core::{
    BundleError, BundleFields, BundleTimeError, EncodingError, EncryptionKeyError, Identity,
    IdentityLink, KeyBundle, MAX_BUNDLE, MAX_SEQ, Realm, next_seq,
};

use crate::people::{Person, at, user};

/// The identity with that seed.
fn identity(seed: u8) -> Identity {
    Identity::from_seed(&[seed; 32])
}

/// Bob, after any number of changes.
fn bob(seed: u8) -> Person {
    Person::new("bob", seed)
}

/// A link between the identities with these seeds.
fn link(old: u8, new: u8) -> IdentityLink {
    IdentityLink::sign(
        &Realm::default(),
        &user("bob"),
        &identity(old),
        &identity(new).key(),
        at(0),
    )
}

fn with_links(seed: u8, links: Vec<IdentityLink>) -> Result<KeyBundle, BundleError> {
    KeyBundle::sign(
        BundleFields {
            links,
            ..bob(seed).fields(1)
        },
        &identity(seed),
    )
}

#[test]
fn a_bundle_reads_as_it_was_signed() {
    let bundle = with_links(3, vec![link(1, 2), link(2, 3)]).unwrap();
    let read = KeyBundle::parse(bundle.as_bytes()).unwrap();
    assert_eq!(read, bundle);
    assert_eq!(read.digest(), bundle.digest());
    assert_eq!(read.links().len(), 2);
    assert_eq!(read.encryption(), [bob(3).fields(1).encryption.remove(0)]);
}

#[test]
fn any_changed_byte_is_refused() {
    let bundle = with_links(2, vec![link(1, 2)]).unwrap();
    for index in 0..bundle.as_bytes().len() {
        let mut bytes = bundle.as_bytes().to_vec();
        bytes[index] ^= 1;
        assert!(KeyBundle::parse(&bytes).is_err(), "byte {index}");
    }
}

#[test]
fn any_shortened_bundle_is_refused() {
    let bundle = bob(1).bundle(1);
    for length in 0..bundle.as_bytes().len() {
        // A text that ends in the middle of a number is not even JSON.
        let cut = KeyBundle::parse(&bundle.as_bytes()[..length]);
        let expected =
            [EncodingError::Truncated, EncodingError::NotJson].map(BundleError::Encoding);
        assert!(
            expected.contains(cut.as_ref().unwrap_err()),
            "{length}: {cut:?}"
        );
    }
}

#[test]
fn the_largest_bundle_has_the_largest_size() {
    let bundle = bob(1).bundle(1);
    let mut bytes = bundle.as_bytes().to_vec();
    bytes.resize(MAX_BUNDLE, b' ');
    assert_eq!(
        KeyBundle::parse(&bytes),
        Err(BundleError::Encoding(EncodingError::NotCanonical))
    );
    bytes.push(b' ');
    assert_eq!(KeyBundle::parse(&bytes), Err(BundleError::TooLarge));
}

#[test]
fn links_are_one_chain_that_ends_in_the_identity() {
    assert!(with_links(4, vec![link(1, 2), link(2, 3), link(3, 4)]).is_ok());
    for (seed, links, error) in [
        (3, vec![link(1, 2)], BundleError::LinksLeadElsewhere),
        (
            3,
            vec![link(1, 2), link(1, 3)],
            BundleError::ForkedLinks { position: 2 },
        ),
        (
            4,
            vec![link(1, 2), link(3, 4)],
            BundleError::BrokenChain { position: 2 },
        ),
        (
            1,
            vec![link(1, 2), link(2, 1)],
            BundleError::RetiredIdentityReturns { position: 2 },
        ),
        (
            1,
            vec![link(1, 1)],
            BundleError::RetiredIdentityReturns { position: 1 },
        ),
        (
            9,
            (0..9).map(|seed| link(seed, seed + 1)).collect(),
            BundleError::Encoding(EncodingError::TooMany { member: "links" }),
        ),
    ] {
        assert_eq!(with_links(seed, links).unwrap_err(), error);
    }
}

#[test]
fn a_link_for_another_realm_or_user_is_refused() {
    let elsewhere = Realm::parse("elsewhere").unwrap();
    let (old, new) = (identity(1), identity(2).key());
    for link in [
        IdentityLink::sign(&elsewhere, &user("bob"), &old, &new, at(0)),
        IdentityLink::sign(&Realm::default(), &user("alice"), &old, &new, at(0)),
    ] {
        assert_eq!(
            with_links(2, vec![link]).unwrap_err(),
            BundleError::BadLinkSignature { position: 1 }
        );
    }
}

#[test]
fn numbers_and_times_are_within_bounds() {
    let sign = |change: fn(&mut BundleFields)| {
        let mut fields = bob(1).fields(1);
        change(&mut fields);
        KeyBundle::sign(fields, &identity(1)).map(drop)
    };
    assert_eq!(sign(|fields| fields.seq = MAX_SEQ), Ok(()));
    assert_eq!(sign(|fields| fields.seq = 0), Err(BundleError::BadSeq));
    let beyond = sign(|fields| fields.seq = MAX_SEQ + 1);
    assert_eq!(
        beyond,
        Err(BundleError::Encoding(EncodingError::BadNumber {
            member: "seq"
        }))
    );
    assert_eq!(
        sign(|fields| fields.expires = fields.created),
        Err(BundleError::BadValidity)
    );
    assert_eq!(sign(|fields| fields.expires = at(1 + 400 * 86_400)), Ok(()));
    assert_eq!(
        sign(|fields| fields.expires = at(2 + 400 * 86_400)),
        Err(BundleError::BadValidity)
    );
    let keys = sign(|fields| fields.encryption = vec![fields.encryption[0].clone(); 5]);
    assert_eq!(
        keys,
        Err(BundleError::Encoding(EncodingError::TooMany {
            member: "encryption"
        }))
    );
}

#[test]
fn a_bundle_is_used_from_a_day_before_its_making_until_it_expires() {
    let mut fields = bob(1).fields(1);
    fields.created = at(86_400);
    fields.expires = at(86_400 * 2);
    let bundle = KeyBundle::sign(fields, &identity(1)).unwrap();
    assert_eq!(bundle.check_time(at(0)), Ok(()));
    assert_eq!(bundle.check_time(at(86_400 * 2 - 1)), Ok(()));
    assert_eq!(
        bundle.check_time(at(86_400 * 2)),
        Err(BundleTimeError::Expired {
            expires: bundle.expires()
        })
    );
    let later = BundleFields {
        created: at(86_401),
        expires: at(86_402),
        ..bob(1).fields(1)
    };
    let later = KeyBundle::sign(later, &identity(1)).unwrap();
    assert_eq!(
        later.check_time(at(0)),
        Err(BundleTimeError::FromTheFuture {
            created: at(86_401)
        })
    );
}

#[test]
fn a_key_that_is_announced_must_be_one() {
    let bundle = bob(1).bundle(1);
    let text = std::str::from_utf8(bundle.as_bytes()).unwrap();
    let start = text.find(r#""key":""#).unwrap() + 7;
    let end = start + text[start..].find('"').unwrap();
    let broken = format!("{}AAAA{}", &text[..start], &text[end..]);
    assert_eq!(
        KeyBundle::parse(broken.as_bytes()),
        Err(BundleError::BadKey {
            position: 1,
            reason: EncryptionKeyError::BadDer
        })
    );
}

#[test]
fn numbers_move_on_even_when_the_last_one_is_forgotten() {
    assert_eq!(next_seq(None, at(0)), 1_700_000_000);
    assert_eq!(next_seq(Some(5), at(0)), 1_700_000_000);
    assert_eq!(next_seq(Some(1_700_000_000), at(0)), 1_700_000_001);
    assert_eq!(next_seq(Some(MAX_SEQ), at(0)), MAX_SEQ);
}
