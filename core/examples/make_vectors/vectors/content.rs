//! Plaintexts and how long they are made.

use super::cases::{ContentCase, ContentSays, PaddingCase};
use super::people::wire;

/// The padded length, computed with floating point and division where the crate uses masks.
pub(crate) fn padded(length: usize) -> usize {
    if length <= 256 {
        return 256;
    }
    let exponent = (length as f64).log2().floor();
    let kept = exponent.log2().floor() + 1.0;
    let unit = 2_f64.powf(exponent - kept) as usize;
    length.div_ceil(unit) * unit
}

/// `json` with spaces behind it.
pub(crate) fn plaintext(json: &str) -> Vec<u8> {
    let mut bytes = json.as_bytes().to_vec();
    bytes.resize(padded(bytes.len()), b' ');
    bytes
}

pub(crate) fn padding() -> Vec<PaddingCase> {
    [
        0, 1, 255, 256, 257, 272, 273, 288, 289, 511, 512, 513, 544, 545, 1_000, 1_023, 1_024,
        1_025, 1_088, 2_047, 2_048, 2_049, 4_095, 4_096, 4_097, 9_999, 32_767, 32_768, 32_769,
        65_535, 65_536,
    ]
    .into_iter()
    .map(|length| PaddingCase {
        length,
        padded: padded(length),
    })
    .collect()
}

pub(crate) fn text(text: &str) -> ContentSays {
    ContentSays {
        kind: "text".to_owned(),
        text: Some(text.to_owned()),
        json: None,
    }
}

pub(crate) fn contents() -> Vec<ContentCase> {
    let good = |name: &str, json: &str, content: ContentSays| ContentCase {
        name: name.to_owned(),
        plaintext: wire(plaintext(json)),
        expect: "ok".to_owned(),
        content: Some(content),
    };
    let other = |kind: &str, json: &str| {
        let content = ContentSays {
            kind: kind.to_owned(),
            text: None,
            json: Some(json.to_owned()),
        };
        good(&format!("another kind: {kind}"), json, content)
    };
    let mut cases = vec![
        good(
            "a text",
            r#"{"kind":"text","text":"Hello Bob!"}"#,
            text("Hello Bob!"),
        ),
        good("an empty text", r#"{"kind":"text","text":""}"#, text("")),
        good(
            "escapes",
            r#"{"kind":"text","text":"\"\\\n\u00e9\ud83d\ude00"}"#,
            text("\"\\\né😀"),
        ),
        good(
            "spaces at the end of the text are kept",
            r#"{"kind":"text","text":"so   "}"#,
            text("so   "),
        ),
        good(
            "control characters are the reader's to strip",
            r#"{"kind":"text","text":"\u001b[2J"}"#,
            text("\u{1b}[2J"),
        ),
        good(
            "another order",
            r#"{"text":"hi","kind":"text"}"#,
            text("hi"),
        ),
        good(
            "unknown members are ignored",
            r#"{"kind":"text","text":"hi","lang":"en"}"#,
            text("hi"),
        ),
        good(
            "white space in the JSON",
            "{ \"kind\": \"text\",\n\"text\": \"hi\" }",
            text("hi"),
        ),
        other("reading", r#"{"kind":"reading","celsius":21.5}"#),
        other("receipt", r#"{"kind":"receipt","ids":[]}"#),
        other(
            "org.example.chess-1",
            r#"{"kind":"org.example.chess-1","move":"e4"}"#,
        ),
    ];
    let (longest, too_long) = ("k".repeat(64), "k".repeat(65));
    let of_kind = |kind: &str| format!(r#"{{"kind":"{kind}"}}"#);
    cases.push(other(&longest, &of_kind(&longest)));
    cases.push(good(
        "half a surrogate pair in a member that is ignored",
        r#"{"kind":"text","text":"hi","lang":"\ud83d"}"#,
        text("hi"),
    ));
    cases.push(good(
        "half a surrogate pair in a name inside a member that is ignored",
        r#"{"kind":"text","text":"hi","lang":{"\ud83d":1}}"#,
        text("hi"),
    ));
    for (name, json, expect) in [
        (
            "a kind of 65 characters",
            of_kind(&too_long).as_str(),
            "bad-kind",
        ),
        ("only spaces", "", "truncated"),
        ("cut", r#"{"kind":"text","text":"hi"#, "truncated"),
        ("an array", "[]", "not-an-object"),
        ("no JSON", "hello", "not-json"),
        (
            "two objects",
            r#"{"kind":"text","text":"a"}{"kind":"text","text":"b"}"#,
            "trailing-bytes",
        ),
        (
            "zero bytes for padding",
            "{\"kind\":\"text\",\"text\":\"a\"}\0\0",
            "trailing-bytes",
        ),
        (
            "text twice",
            r#"{"kind":"text","text":"a","text":"b"}"#,
            "duplicate-member",
        ),
        (
            "kind twice",
            r#"{"kind":"text","kind":"reading","text":"b"}"#,
            "duplicate-member",
        ),
        (
            "an escaped name twice",
            r#"{"kind":"text","text":"a","t\u0065xt":"b"}"#,
            "duplicate-member",
        ),
        ("no kind", r#"{"text":"hi"}"#, "bad-kind"),
        ("a number for a kind", r#"{"kind":1}"#, "bad-kind"),
        ("an empty kind", r#"{"kind":""}"#, "bad-kind"),
        (
            "capitals in the kind",
            r#"{"kind":"Text","text":"hi"}"#,
            "bad-kind",
        ),
        (
            "a control sequence in the kind",
            r#"{"kind":"a\u001b[2J"}"#,
            "bad-kind",
        ),
        ("no text", r#"{"kind":"text"}"#, "bad-text"),
        (
            "a number for a text",
            r#"{"kind":"text","text":7}"#,
            "bad-text",
        ),
        (
            "half a surrogate pair",
            r#"{"kind":"text","text":"\ud83d"}"#,
            "bad-text",
        ),
        (
            "half a surrogate pair in a member's name",
            r#"{"kind":"text","text":"hi","\ud83d":1}"#,
            "not-json",
        ),
    ] {
        let plaintext = wire(plaintext(json));
        cases.push(ContentCase {
            name: name.to_owned(),
            plaintext,
            expect: expect.to_owned(),
            content: None,
        });
    }
    let mut not_utf8 = plaintext(r#"{"kind":"text","text":"hi!"}"#);
    not_utf8[24] = 0xff;
    let plaintext = wire(not_utf8);
    cases.push(ContentCase {
        name: "not UTF-8".to_owned(),
        plaintext,
        expect: "not-utf8".to_owned(),
        content: None,
    });
    cases
}
