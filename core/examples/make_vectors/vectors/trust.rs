//! What bundles mean for what is known of their owner.

use super::bundle::{Bundle, Link, chain, rsa};
use super::cases::{PinCase, TrustCase};
use super::people::{
    DAY, NOW, REALM, alice, base64, bob, bob_before, bob_long_before, mallory, sha256, time, wire,
};

fn pin(bundle: &Bundle, verified: bool) -> PinCase {
    PinCase {
        identity: base64(bundle.owner.identity()),
        seq: bundle.seq,
        digest: base64(sha256(bundle.text())),
        verified,
    }
}

pub(crate) fn all() -> Vec<TrustCase> {
    let bob = bob();
    let base = Bundle {
        seq: 7,
        ..Bundle::of(&bob)
    };
    let newer = Bundle {
        seq: 8,
        ..base.clone()
    };
    let rotated = Bundle {
        encryption: vec![rsa(bob_before().spki())],
        ..newer.clone()
    };
    let old = Bundle {
        seq: 90,
        ..Bundle::of(&bob_before())
    };
    let very_old = Bundle {
        seq: 900,
        ..Bundle::of(&bob_long_before())
    };
    let linked = Bundle {
        links: vec![Link::sign(&bob_before(), &bob, NOW)],
        ..base.clone()
    };
    let linked_twice = Bundle {
        links: chain(&[bob_long_before(), bob_before(), bob.clone()]),
        ..base.clone()
    };
    let other_content = Bundle {
        expires: NOW + 364 * DAY,
        ..base.clone()
    };
    let impostor = Bundle {
        user: "bob".to_owned(),
        seq: 8,
        ..Bundle::of(&mallory())
    };
    let forked = Bundle {
        links: vec![Link::sign(&bob_before(), &mallory(), NOW)],
        ..impostor.clone()
    };
    let future = Bundle {
        created: NOW + DAY + 1,
        expires: NOW + 2 * DAY,
        ..newer.clone()
    };
    let nearly_future = Bundle {
        created: NOW + DAY,
        expires: NOW + 2 * DAY,
        ..newer.clone()
    };

    let case = |name: &str, known: Option<PinCase>, bundle: &Bundle, expect: &str| {
        let accepted = ["first-contact", "unchanged", "newer", "linked-change"].contains(&expect);
        let kept = ["unchanged", "newer"].contains(&expect)
            && known.as_ref().is_some_and(|pin| pin.verified);
        TrustCase {
            name: name.to_owned(),
            realm: REALM.to_owned(),
            user: "bob".to_owned(),
            now: time(NOW + 1_000),
            pin: known,
            bundle: wire(bundle.text()),
            expect: expect.to_owned(),
            store: accepted.then(|| pin(bundle, kept)),
        }
    };
    let known = |bundle: &Bundle| Some(pin(bundle, true));
    vec![
        case("nothing is known", None, &base, "first-contact"),
        case(
            "nothing is known, and there are links",
            None,
            &linked,
            "first-contact",
        ),
        case("the same bundle", known(&base), &base, "unchanged"),
        case(
            "the same bundle, not verified",
            Some(pin(&base, false)),
            &base,
            "unchanged",
        ),
        case("a newer bundle", known(&base), &newer, "newer"),
        case(
            "a newer bundle with another RSA key",
            known(&base),
            &rotated,
            "newer",
        ),
        case(
            "a newer bundle that retires",
            known(&base),
            &Bundle {
                encryption: vec![],
                ..newer.clone()
            },
            "newer",
        ),
        case("an older bundle", known(&newer), &base, "rolled-back"),
        case(
            "another bundle with the same number",
            known(&base),
            &other_content,
            "forked",
        ),
        case(
            "another identity, not linked",
            known(&base),
            &impostor,
            "identity-changed",
        ),
        case(
            "another identity, to which the pinned one linked",
            known(&old),
            &linked,
            "linked-change",
        ),
        case(
            "a lower number does not matter across identities",
            known(&old),
            &Bundle {
                seq: 1,
                ..linked.clone()
            },
            "linked-change",
        ),
        case(
            "two changes were missed",
            known(&very_old),
            &linked_twice,
            "linked-change",
        ),
        case(
            "one of two changes was missed",
            known(&old),
            &linked_twice,
            "linked-change",
        ),
        case(
            "the bundle from before the change",
            known(&linked),
            &old,
            "identity-changed",
        ),
        case(
            "a change that somebody else linked",
            known(&base),
            &forked,
            "identity-changed",
        ),
        case(
            "another realm",
            None,
            &Bundle {
                realm: "elsewhere".to_owned(),
                ..base.clone()
            },
            "wrong-realm",
        ),
        case("another user", None, &Bundle::of(&alice()), "wrong-user"),
        case(
            "from the future",
            known(&base),
            &Bundle {
                created: NOW + 1_000 + DAY + 1,
                ..future.clone()
            },
            "from-the-future",
        ),
        case(
            "nearly from the future",
            known(&base),
            &nearly_future,
            "newer",
        ),
        TrustCase {
            now: time(base.expires - 1),
            ..case("about to expire", known(&base), &base, "unchanged")
        },
        TrustCase {
            now: time(base.expires),
            ..case("just expired", known(&base), &base, "expired")
        },
        TrustCase {
            now: time(base.expires),
            ..case("expired at first contact", None, &base, "expired")
        },
        TrustCase {
            now: time(impostor.expires),
            ..case(
                "expired, of another identity",
                known(&base),
                &impostor,
                "identity-changed",
            )
        },
        TrustCase {
            now: time(base.expires),
            ..case("expired and older", known(&newer), &base, "rolled-back")
        },
    ]
}
