//! Envelopes that are not in the one encoding.

use super::cases::EnvelopeCase;
use super::envelope::Plan;
use super::envelopes::bad;
use super::people::{alice, base64, bob};
use super::wire::quoted;

pub(crate) fn members() -> Vec<EnvelopeCase> {
    let base = Plan::new(&alice(), &bob()).seal();
    let members = base.members();
    let text = members.text();
    let other_suite = |suite: &str| members.clone().with("suite", quoted(suite)).text();
    let mut cases = vec![
        bad("nothing", "truncated", ""),
        bad(
            "truncated at the end",
            "truncated",
            &text.as_bytes()[..text.len() - 1],
        ),
        bad(
            "truncated in the ciphertext",
            "truncated",
            &text.as_bytes()[..1_000],
        ),
        bad("not JSON", "not-json", "hello"),
        bad("an array", "not-an-object", format!("[{text}]")),
        bad("a text", "not-an-object", "\"hello\""),
        bad(
            "not UTF-8",
            "not-utf8",
            text.bytes()
                .map(|byte| if byte == b'c' { 0xc3 } else { byte })
                .collect::<Vec<_>>(),
        ),
        bad(
            "a surrogate in UTF-8",
            "not-utf8",
            [text.as_bytes(), &[0xed, 0xa0, 0x80]].concat(),
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
            members.clone().renamed("id", "\\u0069d").text(),
        ),
        bad("two envelopes", "trailing-bytes", format!("{text}{text}")),
        bad(
            "a comma at the end",
            "not-json",
            text.replace("\"}", "\",}"),
        ),
        bad(
            "an unknown version",
            "unknown-version",
            members.clone().with("v", "2").text(),
        ),
        bad(
            "version zero",
            "unknown-version",
            members.clone().with("v", "0").text(),
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
            "a negative version",
            "bad-number v",
            members.clone().with("v", "-1").text(),
        ),
        bad(
            "no version",
            "missing-member v",
            members.clone().without("v").text(),
        ),
        bad(
            "an unknown suite",
            "unknown-suite",
            other_suite("RSA-OAEP/A256GCM/Ed25519"),
        ),
        bad("no suite", "unknown-suite", other_suite("")),
        bad(
            "a suite without signature",
            "unknown-suite",
            other_suite("RSA-OAEP-256/A256GCM"),
        ),
        bad(
            "an unknown member",
            "unknown-member 15",
            members.clone().inserted(14, "x", "1").text(),
        ),
        bad(
            "an unknown member at the start",
            "unknown-member 1",
            members.clone().inserted(0, "x", "1").text(),
        ),
        bad(
            "a member in capitals",
            "unknown-member 6",
            members.clone().renamed("ts", "Ts").text(),
        ),
        bad(
            "deep nesting",
            "unknown-member 15",
            members
                .clone()
                .inserted(14, "x", &("[".repeat(5_000) + &"]".repeat(5_000)))
                .text(),
        ),
        bad(
            "from and to swapped",
            "wrong-order from",
            members.clone().swapped("from", "to").text(),
        ),
        bad(
            "sig first",
            "wrong-order v",
            members
                .clone()
                .without("sig")
                .inserted(0, "sig", members.raw("sig"))
                .text(),
        ),
    ];
    for member in [
        "suite",
        "realm",
        "id",
        "prev",
        "ts",
        "from",
        "to",
        "key",
        "signer",
        "enc_key",
        "nonce",
        "ciphertext",
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
            members.clone().inserted(14, member, &raw).text(),
        ));
        let of_another_type = if member == "ts" {
            "\"1700000000.000\""
        } else {
            "1"
        };
        cases.push(bad(
            &format!("{member} of another type"),
            &format!("wrong-type {member}"),
            members.clone().with(member, of_another_type).text(),
        ));
    }
    for (member, raw, expect) in [
        ("realm", "\"Local\"", "bad-name realm"),
        ("realm", "\"\"", "bad-name realm"),
        ("from", "\"Alice\"", "bad-name from"),
        ("from", "\"al\\u0069ce\"", "escape from"),
        ("to", "\"bob/x\"", "bad-name to"),
        ("to", "\"+\"", "bad-name to"),
        (
            "id",
            "\"018BCFE5-6800-7ABC-8DEF-0123456789AB\"",
            "bad-message-id id",
        ),
        (
            "id",
            "\"018bcfe5-6800-4abc-8def-0123456789ab\"",
            "bad-message-id id",
        ),
        ("id", "null", "wrong-type id"),
        ("prev", "\"\"", "bad-message-id prev"),
        (
            "prev",
            "\"018bcfe568007abc8def0123456789ab\"",
            "bad-message-id prev",
        ),
        ("prev", "\"null\"", "bad-message-id prev"),
        ("ts", "1700000000", "bad-time ts"),
        ("ts", "1700000000.1", "bad-time ts"),
        ("ts", "1700000000.1000", "bad-time ts"),
        ("ts", "1.7e9", "bad-time ts"),
        ("ts", "-1700000000.000", "bad-time ts"),
        ("ts", "17000000000.000", "bad-time ts"),
        ("ts", "01700000000.000", "not-json"),
        ("ts", "null", "wrong-type ts"),
        (
            "signer",
            "\"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"",
            "bad-identity-key signer small-order",
        ),
        (
            "signer",
            "\"AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"",
            "bad-identity-key signer not-a-point",
        ),
        ("nonce", "\"AAAAAAAAAAAAAAA_\"", "bad-base64 nonce"),
        ("nonce", "\"AAAAAAAAAAAAAAA-\"", "bad-base64 nonce"),
        ("nonce", "\" AAAAAAAAAAAAAAAA\"", "bad-base64 nonce"),
        ("nonce", "\"AAAAAAAA\\nAAAAAAAA\"", "escape nonce"),
        ("nonce", "\"AAAAAAAAAAAAAAA\\/\"", "escape nonce"),
        ("nonce", "\"AAAAAAAAAAAAAAAé\"", "bad-base64 nonce"),
        ("nonce", "[0,0,0,0,0,0,0,0,0,0,0,0]", "wrong-type nonce"),
    ] {
        cases.push(bad(
            &format!("{member} is {raw}"),
            expect,
            members.clone().with(member, raw).text(),
        ));
    }
    let key = base64([0xff; 32]);
    for (name, key) in [
        ("without padding", key.replace('=', "")),
        ("with too much padding", key.clone() + "="),
        ("with trailing bits", key.replace("8=", "9=")),
        ("of the other alphabet", key.replace('/', "_")),
        ("padded inside", format!("{}=={}", &key[..22], &key[22..])),
    ] {
        cases.push(bad(
            &format!("base64 {name}"),
            "bad-base64 key",
            members.clone().with("key", quoted(key)).text(),
        ));
    }
    cases
}

pub(crate) fn lengths() -> Vec<EnvelopeCase> {
    let base = Plan::new(&alice(), &bob()).seal();
    let mut cases = Vec::new();
    for (member, lengths) in [
        ("key", &[0, 31, 33][..]),
        ("signer", &[0, 31, 33]),
        ("enc_key", &[0, 255, 513]),
        ("nonce", &[0, 8, 11, 13, 16, 24]),
        (
            "ciphertext",
            &[
                0,
                15,
                16,
                271,
                273,
                16 + 257,
                16 + 271,
                16 + 65_537,
                16 + 67_584,
            ],
        ),
        ("sig", &[0, 63, 65]),
    ] {
        for length in lengths {
            cases.push(bad(
                &format!("{member} of {length} bytes"),
                &format!("wrong-length {member}"),
                base.members()
                    .with(member, quoted(base64(vec![0; *length])))
                    .text(),
            ));
        }
    }
    cases
}
