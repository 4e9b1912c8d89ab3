//! Contact links and verification texts.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};

use super::cases::UriCase;
use super::people::{REALM, alice, base64, bob};

fn refused(what: &str, name: &str, text: String, expect: &str) -> UriCase {
    UriCase {
        what: what.to_owned(),
        name: name.to_owned(),
        text,
        realm: None,
        user: None,
        identity: None,
        broker: None,
        contact: None,
        sees: None,
        expect: expect.to_owned(),
    }
}

fn contact(name: &str, text: String, broker: &str) -> UriCase {
    UriCase {
        realm: Some(REALM.to_owned()),
        user: Some("alice".to_owned()),
        identity: Some(base64(alice().identity())),
        broker: Some(broker.to_owned()),
        ..refused("contact", name, text, "ok")
    }
}

pub(crate) fn all() -> Vec<UriCase> {
    let key = |identity: [u8; 32]| BASE64_URL_SAFE_NO_PAD.encode(identity);
    let (alices, bobs) = (key(alice().identity()), key(bob().identity()));
    let link = |broker: &str| {
        format!("sealpost:contact?v=1&realm={REALM}&user=alice&identity={alices}&broker={broker}")
    };
    let good = link("mqtts://broker.example.org:8883");
    let changed = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replacen(from, to, 1)
    };
    let bad = |name: &str, text: String, expect: &str| refused("contact", name, text, expect);
    let small = key([0; 32]);
    let long = "a".repeat(255);
    let too_long = "a".repeat(256);
    let mut cases = vec![
        contact("good", good.clone(), "mqtts://broker.example.org:8883"),
        contact(
            "an IPv6 address",
            link("mqtt://%5B::1%5D:1883"),
            "mqtt://[::1]:1883",
        ),
        contact(
            "a path, a query and what separates members",
            link("wss://h/mqtt%3Fa%3Db%26c%25"),
            "wss://h/mqtt?a=b&c%",
        ),
        contact("the longest broker", link(&long), &long),
        bad("a longer broker", link(&too_long), "bad-broker"),
        bad("no broker", link(""), "bad-broker"),
        bad("a broker with a space", link("mqtt://a%20b"), "bad-broker"),
        bad("a broker not in ASCII", link("mqtt://%C3%A9"), "bad-broker"),
        bad("a needless escape", link("mqtt%3A//h"), "bad-broker"),
        bad(
            "an escape in small letters",
            link("mqtt://%5b::1%5d"),
            "bad-broker",
        ),
        bad("an escape that is none", link("mqtt://h%"), "bad-broker"),
        bad("an escape with a sign", link("mqtt://h%+A"), "bad-broker"),
        bad(
            "what should be escaped",
            link("mqtt://[::1]:1883"),
            "bad-broker",
        ),
        bad("too long", link(&"a".repeat(1_024)), "too-long"),
        bad(
            "another scheme",
            changed("sealpost", "signal"),
            "other-start",
        ),
        bad(
            "a scheme in capitals",
            changed("sealpost", "Sealpost"),
            "other-start",
        ),
        bad(
            "slashes",
            changed("sealpost:", "sealpost://"),
            "other-start",
        ),
        bad("white space before", format!(" {good}"), "other-start"),
        bad(
            "an operator's invitation",
            format!("sealpost-invitation-{alices}"),
            "other-start",
        ),
        bad("a later version", changed("v=1", "v=2"), "unknown-version"),
        bad(
            "a version with a zero",
            changed("v=1", "v=01"),
            "unknown-version",
        ),
        bad("no version", changed("v=1&", ""), "wrong-members"),
        bad(
            "a member missing",
            changed("user=alice&", ""),
            "wrong-members",
        ),
        bad(
            "a member twice",
            changed("user=alice", "user=alice&user=alice"),
            "wrong-members",
        ),
        bad(
            "another order",
            changed("realm=local&user=alice", "user=alice&realm=local"),
            "wrong-members",
        ),
        bad("one more member", format!("{good}&x=y"), "wrong-members"),
        bad("a fragment", format!("{good}#x"), "bad-broker"),
        bad("white space behind", format!("{good}\n"), "bad-broker"),
        bad(
            "a realm in capitals",
            changed("realm=local", "realm=Local"),
            "bad-name realm",
        ),
        bad(
            "a user with a slash",
            changed("user=alice", "user=al/ice"),
            "bad-name user",
        ),
        bad(
            "an escaped letter",
            changed("user=alice", "user=%61lice"),
            "bad-name user",
        ),
        bad(
            "a key of small order",
            changed(&alices, &small),
            "bad-key identity",
        ),
        bad(
            "a key cut short",
            changed(&alices, &alices[1..]),
            "bad-key identity",
        ),
        bad(
            "a padded key",
            changed(&alices, &format!("{alices}=")),
            "bad-key identity",
        ),
        bad(
            "standard base64",
            changed(&alices, &BASE64_STANDARD.encode([0xff; 32])),
            "bad-key identity",
        ),
    ];
    let verify = format!(
        "sealpost:verify?v=1&realm={REALM}&user=alice&identity={alices}&contact=bob&sees={bobs}"
    );
    let bad = |name: &str, text: String, expect: &str| refused("verify", name, text, expect);
    cases.push(UriCase {
        realm: Some(REALM.to_owned()),
        user: Some("alice".to_owned()),
        identity: Some(base64(alice().identity())),
        contact: Some("bob".to_owned()),
        sees: Some(base64(bob().identity())),
        ..bad("good", verify.clone(), "ok")
    });
    cases.extend([
        bad("a contact link", good, "other-start"),
        bad(
            "a later version",
            verify.replace("v=1", "v=9"),
            "unknown-version",
        ),
        bad(
            "no key of the contact",
            verify.replace(&format!("&sees={bobs}"), ""),
            "wrong-members",
        ),
        bad(
            "a contact in capitals",
            verify.replace("contact=bob", "contact=Bob"),
            "bad-name contact",
        ),
        bad(
            "a bad key of the contact",
            verify.replace(&bobs, &small),
            "bad-key sees",
        ),
    ]);
    cases
}
