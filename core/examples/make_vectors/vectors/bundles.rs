//! Key bundles, good ones and bad ones, at any time, whoever's.

use super::bundle::{Bundle, Link, chain, rsa, strangers};
use super::cases::BundleCase;
use super::keys::spki_of_bits;
use super::people::{
    DAY, NOW, REALM, base64, bob, bob_before, bob_long_before, mallory, sha256, time, wire,
};
use super::wire::quoted;

fn good(name: &str, bundle: &Bundle) -> BundleCase {
    let text = bundle.text();
    let usable = bundle
        .encryption
        .iter()
        .filter(|(algorithm, _)| algorithm == "RSA-OAEP-256");
    BundleCase {
        name: name.to_owned(),
        expect: "ok".to_owned(),
        digest: Some(base64(sha256(&text))),
        usable_keys: Some(usable.count()),
        bundle: wire(text),
    }
}

pub(crate) fn bad(name: &str, expect: &str, bytes: impl Into<Vec<u8>>) -> BundleCase {
    BundleCase {
        name: name.to_owned(),
        expect: expect.to_owned(),
        digest: None,
        usable_keys: None,
        bundle: wire(bytes),
    }
}

pub(crate) fn all() -> Vec<BundleCase> {
    let mut cases = Vec::new();
    cases.extend(good_bundles());
    cases.extend(super::malformed_bundles::all());
    cases.extend(tampered());
    cases.extend(out_of_bounds());
    cases.extend(broken_links());
    cases
}

fn good_bundles() -> Vec<BundleCase> {
    let bob = bob();
    let base = Bundle::of(&bob);
    let nine = strangers(9);
    vec![
        good("bob's", &base),
        good("of a user without keys: retired", &Bundle::of(&mallory())),
        good(
            "two keys, best first",
            &Bundle {
                encryption: vec![rsa(bob.spki()), rsa(bob_before().spki())],
                ..base.clone()
            },
        ),
        good(
            "four keys",
            &Bundle {
                encryption: vec![rsa(bob.spki()); 4],
                ..base.clone()
            },
        ),
        good(
            "a key of an unknown algorithm is carried and not used",
            &Bundle {
                encryption: vec![("X-Wing".to_owned(), vec![1, 2, 3]), rsa(bob.spki())],
                ..base.clone()
            },
        ),
        good(
            "an unknown algorithm of 64 characters",
            &Bundle {
                encryption: vec![("x".repeat(64), vec![0])],
                ..base.clone()
            },
        ),
        good(
            "only a key of an unknown algorithm: nobody can encrypt to it",
            &Bundle {
                encryption: vec![("X-Wing".to_owned(), vec![1, 2, 3])],
                ..base.clone()
            },
        ),
        good(
            "one link",
            &Bundle {
                links: vec![Link::sign(&bob_before(), &bob, NOW)],
                ..base.clone()
            },
        ),
        good(
            "two links",
            &Bundle {
                links: chain(&[bob_long_before(), bob_before(), bob.clone()]),
                ..base.clone()
            },
        ),
        good(
            "eight links",
            &Bundle {
                links: chain(&nine),
                ..Bundle::of(&nine[8])
            },
        ),
        good(
            "the lowest number",
            &Bundle {
                seq: 1,
                ..base.clone()
            },
        ),
        good(
            "the highest number",
            &Bundle {
                seq: 9_007_199_254_740_991,
                ..base.clone()
            },
        ),
        good(
            "valid for 400 days",
            &Bundle {
                expires: NOW + 400 * DAY,
                ..base.clone()
            },
        ),
        good(
            "valid for a millisecond",
            &Bundle {
                expires: NOW + 1,
                ..base.clone()
            },
        ),
        good(
            "expired long ago, which is not the bundle's fault",
            &Bundle {
                created: 0,
                expires: 1,
                ..base.clone()
            },
        ),
        good(
            "in another realm",
            &Bundle {
                realm: "chat.example.org".to_owned(),
                ..base
            },
        ),
    ]
}

fn tampered() -> Vec<BundleCase> {
    let base = Bundle {
        links: vec![Link::sign(&bob_before(), &bob(), NOW)],
        ..Bundle::of(&bob())
    };
    let members = base.members();
    let more_links = Bundle {
        links: chain(&[bob_long_before(), bob_before(), bob()]),
        ..base.clone()
    }
    .members();
    let other_keys = Bundle {
        encryption: vec![rsa(bob_before().spki())],
        ..base.clone()
    }
    .members();
    let no_keys = Bundle {
        encryption: vec![],
        ..base.clone()
    }
    .members();
    let by_mallory = base64(mallory().sign(&base.transcript().bytes()));
    // `user` and `realm` are in the link's transcript too, and the link is checked first.
    let unlinked = Bundle {
        links: vec![],
        ..base.clone()
    }
    .members();
    let mut cases = Vec::new();
    for (member, raw, of) in [
        ("realm", quoted("elsewhere"), &unlinked),
        ("user", quoted("alice"), &unlinked),
        ("seq", (NOW / 1_000 + 1).to_string(), &members),
        ("created", time(NOW + 1), &members),
        ("expires", time(NOW + 364 * DAY), &members),
        ("identity", quoted(base64(mallory().identity())), &unlinked),
        (
            "encryption",
            other_keys.raw("encryption").to_owned(),
            &members,
        ),
        ("encryption", no_keys.raw("encryption").to_owned(), &members),
        ("links", "[]".to_owned(), &members),
        ("links", more_links.raw("links").to_owned(), &members),
        ("sig", quoted(by_mallory), &members),
        ("sig", unlinked.raw("sig").to_owned(), &members),
    ] {
        assert_ne!(of.raw(member), raw);
        cases.push(bad(
            &format!("{member} tampered with"),
            "bad-signature",
            of.clone().with(member, raw).text(),
        ));
    }
    cases.push(bad(
        "realm tampered with, under a link",
        "bad-link-signature 1",
        members.clone().with("realm", quoted("elsewhere")).text(),
    ));
    cases.push(bad(
        "user tampered with, under a link",
        "bad-link-signature 1",
        members.clone().with("user", quoted("alice")).text(),
    ));
    cases.push(bad(
        "identity tampered with, under a link",
        "links-lead-elsewhere",
        members
            .with("identity", quoted(base64(mallory().identity())))
            .text(),
    ));
    cases
}

fn out_of_bounds() -> Vec<BundleCase> {
    let base = Bundle::of(&bob());
    let with_key = |key: Vec<u8>| {
        Bundle {
            encryption: vec![rsa(key)],
            ..base.clone()
        }
        .text()
    };
    vec![
        bad(
            "the number zero",
            "bad-seq",
            Bundle {
                seq: 0,
                ..base.clone()
            }
            .text(),
        ),
        bad(
            "expires when created",
            "bad-validity",
            Bundle {
                expires: NOW,
                ..base.clone()
            }
            .text(),
        ),
        bad(
            "expires before it was created",
            "bad-validity",
            Bundle {
                expires: NOW - 1,
                ..base.clone()
            }
            .text(),
        ),
        bad(
            "valid for too long",
            "bad-validity",
            Bundle {
                expires: NOW + 400 * DAY + 1,
                ..base.clone()
            }
            .text(),
        ),
        bad(
            "five keys",
            "too-many encryption",
            Bundle {
                encryption: vec![rsa(bob().spki()); 5],
                ..base.clone()
            }
            .text(),
        ),
        bad(
            "a key of 1024 bits",
            "encryption 1 too-small",
            with_key(spki_of_bits(1_024)),
        ),
        bad(
            "a key of 4097 bits",
            "encryption 1 too-large",
            with_key(spki_of_bits(4_097)),
        ),
        bad(
            "a key with trailing bytes",
            "encryption 1 bad-der",
            with_key([bob().spki().as_slice(), &[0]].concat()),
        ),
        bad(
            "a good key and a bad one",
            "encryption 2 bad-der",
            Bundle {
                encryption: vec![rsa(bob().spki()), rsa(vec![0])],
                ..base.clone()
            }
            .text(),
        ),
    ]
}

fn broken_links() -> Vec<BundleCase> {
    let (bob, before, long_before) = (bob(), bob_before(), bob_long_before());
    let with = |links: Vec<Link>| {
        Bundle {
            links,
            ..Bundle::of(&bob)
        }
        .text()
    };
    let last = Link::sign(&before, &bob, NOW);
    let first = Link::sign(&long_before, &before, NOW);
    let ten = strangers(10);
    vec![
        bad(
            "a link with another time",
            "bad-link-signature 1",
            with(vec![Link {
                at: NOW + 1,
                ..last.clone()
            }]),
        ),
        bad(
            "a link signed by somebody else",
            "bad-link-signature 1",
            with(vec![Link {
                sig: Link::sign(&mallory(), &bob, NOW).sig,
                ..last.clone()
            }]),
        ),
        bad(
            "a link signed by the new identity",
            "bad-link-signature 1",
            with(vec![Link {
                sig: bob.sign(&last.transcript(REALM, "bob").bytes()),
                ..last.clone()
            }]),
        ),
        bad(
            "a link for another user",
            "bad-link-signature 1",
            with(vec![Link::sign_for(REALM, "alice", &before, &bob, NOW)]),
        ),
        bad(
            "a link for another realm",
            "bad-link-signature 1",
            with(vec![Link::sign_for("elsewhere", "bob", &before, &bob, NOW)]),
        ),
        bad(
            "a broken second link",
            "bad-link-signature 2",
            with(vec![
                first.clone(),
                Link {
                    at: 1,
                    ..last.clone()
                },
            ]),
        ),
        bad(
            "a gap in the chain",
            "broken-chain 2",
            with(vec![
                Link::sign(&long_before, &mallory(), NOW),
                last.clone(),
            ]),
        ),
        bad(
            "newest first",
            "broken-chain 2",
            with(vec![last.clone(), first.clone()]),
        ),
        bad(
            "the last link leads to somebody else",
            "links-lead-elsewhere",
            with(vec![first.clone()]),
        ),
        bad(
            "two links from one identity",
            "forked-links 2",
            with(vec![Link::sign(&before, &mallory(), NOW), last.clone()]),
        ),
        bad(
            "one link twice",
            "forked-links 2",
            with(vec![last.clone(), last.clone()]),
        ),
        bad(
            "a retired identity returns",
            "retired-identity-returns 2",
            with(vec![Link::sign(&bob, &before, NOW), last.clone()]),
        ),
        bad(
            "a link to itself",
            "retired-identity-returns 1",
            with(vec![Link::sign(&bob, &bob, NOW)]),
        ),
        bad(
            "nine links",
            "too-many links",
            Bundle {
                links: chain(&ten),
                ..Bundle::of(&ten[9])
            }
            .text(),
        ),
    ]
}
