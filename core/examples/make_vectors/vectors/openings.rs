//! Opening well-formed envelopes: the good ones, and each way not to.

use rsa::traits::PublicKeyParts as _;

use super::cases::{ContentSays, OpeningCase};
use super::content::{plaintext, text};
use super::envelope::{Plan, Sealed, uuid};
use super::people::{
    NOW, Person, REALM, alice, base64, bob, bob_before, carol, mallory, time, wire,
};

fn case(name: &str, by: &Person, sealed: &Sealed, expect: &str) -> OpeningCase {
    OpeningCase {
        name: name.to_owned(),
        realm: REALM.to_owned(),
        user: by.user.to_owned(),
        identity: base64(by.identity()),
        keys: vec![by.name.to_owned()],
        pinned: base64(alice().identity()),
        seen: vec![],
        floor: None,
        envelope: wire(sealed.text()),
        expect: expect.to_owned(),
        content: None,
    }
}

fn opens(name: &str, by: &Person, sealed: &Sealed, content: ContentSays) -> OpeningCase {
    OpeningCase {
        content: Some(content),
        ..case(name, by, sealed, "ok")
    }
}

pub(crate) fn all() -> Vec<OpeningCase> {
    let mut cases = good();
    cases.extend(refused_without_the_private_key());
    cases.extend(resigned());
    cases.extend(wrapped_otherwise());
    cases.extend(malformed_content());
    cases
}

fn good() -> Vec<OpeningCase> {
    let (alice, bob, before, carol) = (alice(), bob(), bob_before(), carol());
    let plan = Plan::new(&alice, &bob);
    let first = plan.seal();
    let hello = || text("Hello Bob!");
    let reading = r#"{"kind":"reading","celsius":21.5}"#;
    let long = "x".repeat(1_000);
    let both = vec!["bob".to_owned(), "bob-before".to_owned()];
    let sealed_before = Plan {
        to: Person {
            rsa: before.rsa.clone(),
            ..bob.clone()
        },
        ..plan.clone()
    }
    .seal();
    let mut cases = vec![
        opens("alice's first to bob", &bob, &first, hello()),
        opens(
            "a second one",
            &bob,
            &Plan {
                prev: Some(first.id),
                seed: 2,
                ..plan.clone()
            }
            .seal(),
            hello(),
        ),
        opens(
            "to a key of 4096 bits",
            &carol,
            &Plan::new(&alice, &carol).seal(),
            hello(),
        ),
        opens(
            "to a key of 2048 bits",
            &before,
            &Plan::new(&alice, &before).seal(),
            hello(),
        ),
        OpeningCase {
            keys: both,
            ..opens(
                "to an old key that is still kept",
                &bob,
                &sealed_before,
                hello(),
            )
        },
        opens(
            "a long one",
            &bob,
            &plan
                .clone()
                .says(&format!(r#"{{"kind":"text","text":"{long}"}}"#))
                .seal(),
            text(&long),
        ),
        opens(
            "of another kind",
            &bob,
            &plan.clone().says(reading).seal(),
            ContentSays {
                kind: "reading".to_owned(),
                text: None,
                json: Some(reading.to_owned()),
                receipt: None,
            },
        ),
        OpeningCase {
            seen: vec![uuid(b"wwwwwwww\xb7wwwwwww")],
            ..opens("another was seen", &bob, &first, hello())
        },
        OpeningCase {
            floor: Some(time(NOW)),
            ..opens("just at the floor", &bob, &first, hello())
        },
    ];
    for number in 0..3 {
        let one = Plan {
            burst: Some(50),
            seed: 60 + number,
            ..plan.clone()
        }
        .seal();
        cases.push(opens(
            &format!("message {} of a burst", number + 1),
            &bob,
            &one,
            hello(),
        ));
    }
    cases
}

fn refused_without_the_private_key() -> Vec<OpeningCase> {
    let (alice, bob, mallory) = (alice(), bob(), mallory());
    let plan = Plan::new(&alice, &bob);
    let sealed = plan.seal();
    let refused = |name: &str, sealed: &Sealed, expect: &str| case(name, &bob, sealed, expect);
    let mut sig = sealed.sig;
    sig[40] ^= 1;
    let elsewhere = Plan {
        realm: "elsewhere".to_owned(),
        ..plan.clone()
    }
    .seal();
    let as_mallory = Person {
        user: "alice",
        ..mallory.clone()
    };
    let from_mallory = Plan {
        from: as_mallory,
        ..plan.clone()
    }
    .seal();
    let twin = Person {
        secret: mallory.secret.clone(),
        ..bob.clone()
    };
    vec![
        case("for somebody else", &carol(), &sealed, "not-for-me"),
        refused("from another realm", &elsewhere, "wrong-realm"),
        OpeningCase {
            realm: "elsewhere".to_owned(),
            ..refused("to another realm", &sealed, "wrong-realm")
        },
        refused(
            "by mallory in alice's name",
            &from_mallory,
            "signer-is-not-pinned",
        ),
        OpeningCase {
            pinned: base64(mallory.identity()),
            ..refused(
                "after alice's identity changed",
                &sealed,
                "signer-is-not-pinned",
            )
        },
        refused(
            "signed by mallory, with alice as signer",
            &sealed.clone().signed_by(&mallory),
            "bad-signature",
        ),
        refused(
            "a tampered signature",
            &Sealed {
                sig,
                ..sealed.clone()
            },
            "bad-signature",
        ),
        refused(
            "a tampered time",
            &Sealed {
                ts: NOW + 1,
                ..sealed.clone()
            },
            "bad-signature",
        ),
        refused(
            "a tampered ciphertext",
            &flipped(&sealed, |sealed| &mut sealed.ciphertext, 0),
            "bad-signature",
        ),
        refused(
            "a tampered wrapped key",
            &flipped(&sealed, |sealed| &mut sealed.enc_key, 200),
            "bad-signature",
        ),
        OpeningCase {
            seen: vec![uuid(&sealed.id)],
            ..refused("replayed", &sealed, "already-seen")
        },
        OpeningCase {
            floor: Some(time(NOW + 1)),
            ..refused("replayed after it was forgotten", &sealed, "below-floor")
        },
        OpeningCase {
            seen: vec![uuid(&sealed.id)],
            ..refused(
                "replayed, with a tampered signature",
                &Sealed {
                    sig,
                    ..sealed.clone()
                },
                "bad-signature",
            )
        },
        OpeningCase {
            keys: vec!["bob-before".to_owned()],
            ..refused("to a key that is gone", &sealed, "unknown-key")
        },
        OpeningCase {
            keys: vec![],
            ..refused("without any key", &sealed, "unknown-key")
        },
        refused(
            "to mallory, who publishes bob's RSA key",
            &Plan { to: twin, ..plan }.seal(),
            "unknown-key",
        ),
    ]
}

/// One byte of a field changed.
fn flipped(sealed: &Sealed, field: fn(&mut Sealed) -> &mut Vec<u8>, index: usize) -> Sealed {
    let mut sealed = sealed.clone();
    field(&mut sealed)[index] ^= 1;
    sealed
}

/// Signed anew by alice after a change that only the ciphertext's tag betrays.
fn resigned() -> Vec<OpeningCase> {
    let (alice, bob) = (alice(), bob());
    let sealed = Plan::new(&alice, &bob).seal();
    let other = Plan {
        seed: 3,
        ..Plan::new(&alice, &bob)
    }
    .seal();
    let end = sealed.ciphertext.len() - 1;
    let modulus = bob.rsa.as_ref().unwrap().0.n_bytes().to_vec();
    let mut above = modulus.clone();
    *above.last_mut().unwrap() |= 1;
    above[0] = 0xff;
    let mut below = modulus.clone();
    *below.last_mut().unwrap() -= 1;
    let mut zero = modulus.clone();
    zero.fill(0);
    let with_key = |enc_key: Vec<u8>| Sealed {
        enc_key,
        ..sealed.clone()
    };
    let shorter = sealed.enc_key[..256].to_vec();
    let longer = [&[0; 128], sealed.enc_key.as_slice()].concat();
    [
        (
            "id",
            Sealed {
                id: other.id,
                ..sealed.clone()
            },
        ),
        (
            "prev",
            Sealed {
                prev: Some(other.id),
                ..sealed.clone()
            },
        ),
        (
            "ts",
            Sealed {
                ts: NOW + 1,
                ..sealed.clone()
            },
        ),
        (
            "from",
            Sealed {
                from: "mallory".to_owned(),
                ..sealed.clone()
            },
        ),
        ("nonce", flipped(&sealed, |sealed| &mut sealed.nonce, 0)),
        (
            "first byte of the ciphertext",
            flipped(&sealed, |sealed| &mut sealed.ciphertext, 0),
        ),
        (
            "last byte of the tag",
            flipped(&sealed, |sealed| &mut sealed.ciphertext, end),
        ),
        (
            "ciphertext of another message",
            Sealed {
                ciphertext: other.ciphertext.clone(),
                ..sealed.clone()
            },
        ),
        (
            "wrapped key of another message",
            with_key(other.enc_key.clone()),
        ),
        (
            "a bit of the wrapped key",
            flipped(&sealed, |sealed| &mut sealed.enc_key, 383),
        ),
        ("wrapped key is the modulus", with_key(modulus)),
        ("wrapped key above the modulus", with_key(above)),
        ("wrapped key just below the modulus", with_key(below)),
        ("wrapped key zero", with_key(zero)),
        ("wrapped key shorter than the modulus", with_key(shorter)),
        (
            "wrapped key longer than the modulus, same number",
            with_key(longer),
        ),
    ]
    .into_iter()
    .map(|(name, sealed)| {
        let name = format!("changed and signed again by alice: {name}");
        case(&name, &bob, &sealed.signed_by(&alice), "cannot-decrypt")
    })
    .collect()
}

fn wrapped_otherwise() -> Vec<OpeningCase> {
    let (alice, bob) = (alice(), bob());
    let plan = Plan::new(&alice, &bob);
    [
        (
            "a key of 16 bytes",
            Plan {
                wrapped: Some(vec![1; 16]),
                ..plan.clone()
            },
        ),
        (
            "a key of 33 bytes",
            Plan {
                wrapped: Some(vec![1; 33]),
                ..plan.clone()
            },
        ),
        (
            "no key",
            Plan {
                wrapped: Some(vec![]),
                ..plan.clone()
            },
        ),
        // What a reader might fall back on, or make of a key of another length.
        (
            "no key, and the content under zeros",
            Plan {
                wrapped: Some(vec![]),
                under: Some([0; 32]),
                ..plan.clone()
            },
        ),
        (
            "with a label, and the content under zeros",
            Plan {
                label: b"label",
                under: Some([0; 32]),
                ..plan.clone()
            },
        ),
        (
            "a key of 33 bytes, and the content under its first 32",
            Plan {
                wrapped: Some(vec![1; 33]),
                under: Some([1; 32]),
                ..plan.clone()
            },
        ),
        (
            "a key of 16 bytes, and the content under it and zeros",
            Plan {
                wrapped: Some(vec![1; 16]),
                under: Some(std::array::from_fn(|index| u8::from(index < 16))),
                ..plan.clone()
            },
        ),
        (
            "another key",
            Plan {
                wrapped: Some(vec![1; 32]),
                ..plan.clone()
            },
        ),
        (
            "with a label",
            Plan {
                label: b"label",
                ..plan.clone()
            },
        ),
        (
            "with SHA-512 in MGF1",
            Plan {
                other_mgf: true,
                ..plan
            },
        ),
    ]
    .into_iter()
    .map(|(name, plan)| {
        case(
            &format!("wrapped: {name}"),
            &bob,
            &plan.seal(),
            "cannot-decrypt",
        )
    })
    .collect()
}

fn malformed_content() -> Vec<OpeningCase> {
    let (alice, bob) = (alice(), bob());
    let plan = Plan::new(&alice, &bob);
    let mut not_utf8 = plaintext(r#"{"kind":"text","text":"hi!"}"#);
    not_utf8[24] = 0xff;
    [
        (
            "nothing but spaces",
            plan.clone().says(""),
            "bad-content truncated",
        ),
        (
            "no kind",
            plan.clone().says(r#"{"text":"hi"}"#),
            "bad-content bad-kind",
        ),
        (
            "no text",
            plan.clone().says(r#"{"kind":"text"}"#),
            "bad-content bad-text",
        ),
        (
            "text twice",
            plan.clone()
                .says(r#"{"kind":"text","text":"a","text":"b"}"#),
            "bad-content duplicate-member",
        ),
        (
            "not UTF-8",
            Plan {
                plaintext: not_utf8,
                ..plan
            },
            "bad-content not-utf8",
        ),
    ]
    .into_iter()
    .map(|(name, plan, expect)| case(&format!("content: {name}"), &bob, &plan.seal(), expect))
    .collect()
}
