//! Envelopes, well-formed and not, whether their signature holds or not.

use super::cases::EnvelopeCase;
use super::envelope::{Plan, Sealed};
use super::malformed_envelopes;
use super::people::{NOW, alice, base64, bob, bob_before, carol, mallory, sha256, wire};

fn good(name: &str, sealed: &Sealed) -> EnvelopeCase {
    EnvelopeCase {
        name: name.to_owned(),
        expect: "ok".to_owned(),
        signature_holds: Some(true),
        digest: Some(base64(sha256(sealed.transcript().bytes()))),
        envelope: wire(sealed.text()),
    }
}

pub(crate) fn bad(name: &str, expect: &str, bytes: impl Into<Vec<u8>>) -> EnvelopeCase {
    EnvelopeCase {
        name: name.to_owned(),
        expect: expect.to_owned(),
        signature_holds: None,
        digest: None,
        envelope: wire(bytes),
    }
}

pub(crate) fn all() -> Vec<EnvelopeCase> {
    let mut cases = Vec::new();
    cases.extend(good_ones());
    cases.extend(tampered());
    cases.extend(malformed_envelopes::members());
    cases.extend(malformed_envelopes::lengths());
    cases
}

fn good_ones() -> Vec<EnvelopeCase> {
    let (alice, bob) = (alice(), bob());
    let plan = Plan::new(&alice, &bob);
    let first = plan.seal();
    let longest = format!(r#"{{"kind":"text","text":"{}"}}"#, "x".repeat(65_536 - 25));
    assert_eq!(longest.len(), 65_536);
    let mut cases = vec![
        good("alice's first to bob", &first),
        good(
            "alice's second to bob",
            &Plan {
                prev: Some(first.id),
                seed: 2,
                ..plan.clone()
            }
            .seal(),
        ),
        good("to a key of 4096 bits", &Plan::new(&alice, &carol()).seal()),
        good(
            "to a key of 2048 bits",
            &Plan::new(&alice, &bob_before()).seal(),
        ),
        good(
            "at the beginning of time",
            &Plan {
                ts: 0,
                ..plan.clone()
            }
            .seal(),
        ),
        good(
            "at the end of time",
            &Plan {
                ts: 9_999_999_999_999,
                ..plan.clone()
            }
            .seal(),
        ),
        good("of the largest size", &plan.says(&longest).seal()),
    ];
    let largest_with_spaces = {
        let mut case = bad(
            "as large as can be, by spaces",
            "not-canonical",
            first.text(),
        );
        case.envelope.spaces = Some(98_304 - first.text().len());
        case
    };
    let too_large = {
        let mut case = bad("too large, by spaces", "too-large", first.text());
        case.envelope.spaces = Some(98_305 - first.text().len());
        case
    };
    cases.extend([largest_with_spaces, too_large]);
    cases
}

/// Well-formed all of them: that something was tampered with shows in the signature.
fn tampered() -> Vec<EnvelopeCase> {
    let (alice, bob) = (alice(), bob());
    let base = Plan {
        prev: Some(*b"\x01\x8b\xcf\xe5\x68\x00\x7a\xbc\x8d\xef\x01\x23\x45\x67\x89\xab"),
        ..Plan::new(&alice, &bob)
    }
    .seal();
    let flip = |bytes: &[u8], index: usize| {
        let mut bytes = bytes.to_vec();
        bytes[index] ^= 1;
        bytes
    };
    let mut sig = base.sig;
    sig[0] ^= 1;
    let mut id = base.id;
    id[15] ^= 1;
    let end = base.ciphertext.len() - 1;
    [
        (
            "realm",
            Sealed {
                realm: "elsewhere".to_owned(),
                ..base.clone()
            },
        ),
        ("id", Sealed { id, ..base.clone() }),
        (
            "prev",
            Sealed {
                prev: None,
                ..base.clone()
            },
        ),
        (
            "ts",
            Sealed {
                ts: NOW + 1,
                ..base.clone()
            },
        ),
        (
            "from",
            Sealed {
                from: "mallory".to_owned(),
                ..base.clone()
            },
        ),
        (
            "to",
            Sealed {
                to: "carol".to_owned(),
                ..base.clone()
            },
        ),
        (
            "key",
            Sealed {
                key: flip(&base.key, 0).try_into().unwrap(),
                ..base.clone()
            },
        ),
        (
            "signer",
            Sealed {
                signer: mallory().identity(),
                ..base.clone()
            },
        ),
        (
            "enc_key",
            Sealed {
                enc_key: flip(&base.enc_key, 200),
                ..base.clone()
            },
        ),
        (
            "nonce",
            Sealed {
                nonce: flip(&base.nonce, 0),
                ..base.clone()
            },
        ),
        (
            "ciphertext",
            Sealed {
                ciphertext: flip(&base.ciphertext, 0),
                ..base.clone()
            },
        ),
        (
            "the tag",
            Sealed {
                ciphertext: flip(&base.ciphertext, end),
                ..base.clone()
            },
        ),
        (
            "sig",
            Sealed {
                sig,
                ..base.clone()
            },
        ),
        (
            "everything resigned by mallory",
            base.clone().signed_by(&mallory()),
        ),
    ]
    .into_iter()
    .map(|(name, sealed)| EnvelopeCase {
        signature_holds: Some(false),
        ..good(&format!("tampered with: {name}"), &sealed)
    })
    .collect()
}
