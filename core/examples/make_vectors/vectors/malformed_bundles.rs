//! Bundles that are not in the one encoding.

use super::bundle::{Bundle, Link};
use super::bundles::bad;
use super::cases::BundleCase;
use super::people::{NOW, bob, bob_before};

pub(crate) fn all() -> Vec<BundleCase> {
    let base = Bundle {
        links: vec![Link::sign(&bob_before(), &bob(), NOW)],
        ..Bundle::of(&bob())
    };
    let members = base.members();
    let text = members.text();
    let mut cases = vec![
        bad("nothing", "truncated", ""),
        bad("truncated", "truncated", &text.as_bytes()[..text.len() - 1]),
        bad("truncated in a key", "truncated", &text.as_bytes()[..300]),
        bad("not JSON", "not-json", "hello"),
        bad("an array", "not-an-object", format!("[{text}]")),
        bad("null", "not-an-object", "null"),
        bad(
            "not UTF-8",
            "not-utf8",
            text.replace("local", "loc\u{1}l")
                .bytes()
                .map(|byte| if byte == 1 { 0xff } else { byte })
                .collect::<Vec<_>>(),
        ),
        bad("a byte order mark", "not-json", format!("\u{feff}{text}")),
        bad(
            "a line feed at the end",
            "not-canonical",
            format!("{text}\n"),
        ),
        bad("a space at the start", "not-canonical", format!(" {text}")),
        bad("spaces between members", "not-canonical", members.spaced()),
        bad(
            "an escape in a member's name",
            "not-canonical",
            members.clone().renamed("user", "us\\u0065r").text(),
        ),
        bad("two bundles", "trailing-bytes", format!("{text}{text}")),
        bad(
            "a zero byte at the end",
            "trailing-bytes",
            format!("{text}\0"),
        ),
        bad(
            "an unknown version",
            "unknown-version",
            members.clone().with("v", "2").text(),
        ),
        bad(
            "an unknown version with unknown members",
            "unknown-version",
            r#"{"v":2,"new":true}"#,
        ),
        bad(
            "the version as text",
            "wrong-type v",
            members.clone().with("v", "\"1\"").text(),
        ),
        bad(
            "the version with a fraction",
            "bad-number v",
            members.clone().with("v", "1.0").text(),
        ),
        bad(
            "no version",
            "missing-member v",
            members.clone().without("v").text(),
        ),
        bad(
            "an unknown member",
            "unknown-member 11",
            members.clone().inserted(10, "x", "1").text(),
        ),
        bad(
            "an unknown member at the start",
            "unknown-member 1",
            members.clone().inserted(0, "x", "1").text(),
        ),
        bad(
            "a member in capitals",
            "unknown-member 3",
            members.clone().renamed("user", "User").text(),
        ),
        bad(
            "an escape in a name",
            "escape user",
            members.clone().with("user", "\"b\\u006fb\"").text(),
        ),
        bad(
            "an escaped slash in base64",
            "escape sig",
            members.clone().with("sig", "\"\\/\"").text(),
        ),
        bad("too large", "too-large", "x".repeat(16_385)),
    ];
    for member in [
        "realm",
        "user",
        "seq",
        "created",
        "expires",
        "identity",
        "encryption",
        "links",
        "sig",
    ] {
        let raw = members.raw(member).to_owned();
        cases.push(bad(
            &format!("{member} is missing"),
            &format!("missing-member {member}"),
            members.clone().without(member).text(),
        ));
        cases.push(bad(
            &format!("{member} twice"),
            &format!("duplicate-member {member}"),
            members.clone().inserted(10, member, &raw).text(),
        ));
        cases.push(bad(
            &format!("{member} is null"),
            &format!("wrong-type {member}"),
            members.clone().with(member, "null").text(),
        ));
    }
    for (member, raw, expect) in [
        ("realm", "\"Local\"", "bad-name realm"),
        ("user", "\"Bob\"", "bad-name user"),
        ("user", "\"../bob\"", "bad-name user"),
        ("seq", "-1", "bad-number seq"),
        ("seq", "1.0", "bad-number seq"),
        ("seq", "1e3", "bad-number seq"),
        ("seq", "01", "not-json"),
        ("seq", "9007199254740992", "bad-number seq"),
        ("seq", "18446744073709551617", "bad-number seq"),
        ("seq", "\"1\"", "wrong-type seq"),
        ("created", "1700000000", "bad-time created"),
        ("created", "1700000000.0", "bad-time created"),
        ("created", "1700000000.0000", "bad-time created"),
        ("created", "1.7e9", "bad-time created"),
        ("created", "-1.000", "bad-time created"),
        ("created", "17000000000.000", "bad-time created"),
        ("created", "\"1700000000.000\"", "wrong-type created"),
        ("identity", "\"\"", "wrong-length identity"),
        (
            "identity",
            "\"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"",
            "bad-identity-key identity small-order",
        ),
        (
            "identity",
            "\"AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"",
            "bad-identity-key identity not-a-point",
        ),
        ("encryption", "{}", "wrong-type encryption"),
        ("encryption", "[null]", "encryption 1 not-an-object"),
        ("encryption", "[{}]", "encryption 1 missing-member alg"),
        (
            "encryption",
            r#"[{"alg":"X","key":"AA==","x":1}]"#,
            "encryption 1 unknown-member 3",
        ),
        (
            "encryption",
            r#"[{"alg":"X","alg":"X","key":"AA=="}]"#,
            "encryption 1 duplicate-member alg",
        ),
        (
            "encryption",
            r#"[{"key":"AA==","alg":"X"}]"#,
            "encryption 1 wrong-order alg",
        ),
        (
            "encryption",
            r#"[{"alg":"X","key":""}]"#,
            "encryption 1 wrong-length key",
        ),
        (
            "encryption",
            r#"[{"alg":"","key":"AA=="}]"#,
            "encryption 1 bad-name alg",
        ),
        (
            "encryption",
            r#"[{"alg":"X Y","key":"AA=="}]"#,
            "encryption 1 bad-name alg",
        ),
        (
            "encryption",
            r#"[{"alg":"RSA-OAEP-256","key":"AA=="}]"#,
            "encryption 1 bad-der",
        ),
        (
            "encryption",
            r#"[{"alg":"X","key":"AA=="},{"alg":"X","key":"AB=="}]"#,
            "encryption 2 bad-base64 key",
        ),
        ("links", "{}", "wrong-type links"),
        ("links", "[1]", "link 1 not-an-object"),
        ("links", "[{}]", "link 1 missing-member old"),
        ("sig", "\"AA==\"", "wrong-length sig"),
    ] {
        cases.push(bad(
            &format!("{member} is {raw}"),
            expect,
            members.clone().with(member, raw).text(),
        ));
    }
    let identity = members.raw("identity").to_owned();
    for (name, changed) in [
        ("without padding", identity.replace('=', "")),
        ("with too much padding", identity.replace('=', "==")),
        ("with a line feed", identity.replace('=', "=\\n")),
        (
            "with trailing bits",
            identity
                .replace("c=", "d=")
                .replace("Q=", "R=")
                .replace("A=", "B=")
                .replace("g=", "h="),
        ),
    ] {
        assert_ne!(changed, identity, "{name}");
        let expect = if changed.contains('\\') {
            "escape identity"
        } else {
            "bad-base64 identity"
        };
        cases.push(bad(
            &format!("base64 {name}"),
            expect,
            members.clone().with("identity", changed).text(),
        ));
    }
    let link = base.links[0].members();
    for (name, expect, link) in [
        (
            "without `at`",
            "link 1 missing-member at",
            link.clone().without("at"),
        ),
        (
            "with a short signature",
            "link 1 wrong-length sig",
            link.clone().with("sig", "\"AA==\""),
        ),
        (
            "with `at` as a whole number",
            "link 1 bad-time at",
            link.clone().with("at", "1700000000"),
        ),
        (
            "in another order",
            "link 1 wrong-order old",
            link.clone().swapped("old", "new"),
        ),
    ] {
        let raw = format!("[{}]", link.text());
        cases.push(bad(
            &format!("a link {name}"),
            expect,
            members.clone().with("links", raw).text(),
        ));
    }
    let long = format!(r#"[{{"alg":"{}","key":"AA=="}}]"#, "x".repeat(65));
    cases.push(bad(
        "an algorithm of 65 characters",
        "encryption 1 bad-name alg",
        members.clone().with("encryption", long).text(),
    ));
    cases.push(bad(
        "created and expires swapped",
        "wrong-order created",
        members.swapped("created", "expires").text(),
    ));
    cases
}
