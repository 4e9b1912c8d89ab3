//! Plaintexts and how long they are made.

use super::cases::{ContentCase, ContentSays, PaddingCase, ReceiptSays, ReceiptedSays};
use super::people::{base64, wire};

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
        receipt: None,
    }
}

const ID: &str = "018bcfe5-6800-7abc-8def-0123456789ab";

fn receipted(byte: u8) -> ReceiptedSays {
    ReceiptedSays {
        id: ID.to_owned(),
        digest: base64([byte; 32]),
    }
}

/// The JSON of a receipt for these.
fn receipt_json(state: &str, messages: &[ReceiptedSays]) -> String {
    let messages: Vec<String> = messages
        .iter()
        .map(|message| format!(r#"{{"id":"{}","digest":"{}"}}"#, message.id, message.digest))
        .collect();
    format!(
        r#"{{"kind":"receipt","state":"{state}","messages":[{}]}}"#,
        messages.join(",")
    )
}

fn receipts() -> Vec<ContentCase> {
    let many = |count| (0..count).map(|_| receipted(1)).collect::<Vec<_>>();
    let good = |name: &str, json: String, state: &str, messages: Vec<ReceiptedSays>| ContentCase {
        name: name.to_owned(),
        plaintext: wire(plaintext(&json)),
        expect: "ok".to_owned(),
        content: Some(ContentSays {
            kind: "receipt".to_owned(),
            text: None,
            json: None,
            receipt: Some(ReceiptSays {
                state: state.to_owned(),
                messages,
            }),
        }),
    };
    let bad = |name: &str, json: String| ContentCase {
        name: name.to_owned(),
        plaintext: wire(plaintext(&json)),
        expect: "bad-receipt".to_owned(),
        content: None,
    };
    let two = vec![receipted(1), receipted(2)];
    let one = receipt_json("delivered", &[receipted(1)]);
    vec![
        good(
            "a receipt for two messages",
            receipt_json("delivered", &two),
            "delivered",
            two.clone(),
        ),
        good(
            "a receipt for what was read",
            receipt_json("read", &two),
            "read",
            two.clone(),
        ),
        good(
            "an unknown state is a delivery at least",
            receipt_json("framed", &two),
            "delivered",
            two,
        ),
        good(
            "unknown members of a receipt are ignored",
            one.replace("\"}]", "\",\"at\":1}],\"by\":2"),
            "delivered",
            vec![receipted(1)],
        ),
        good(
            "256 messages",
            receipt_json("delivered", &many(256)),
            "delivered",
            many(256),
        ),
        bad("257 messages", receipt_json("delivered", &many(257))),
        bad("a receipt for nothing", receipt_json("delivered", &[])),
        bad(
            "a receipt without a state",
            one.replace(r#""state":"delivered","#, ""),
        ),
        bad(
            "a receipt whose state is a number",
            one.replace(r#""delivered""#, "1"),
        ),
        bad(
            "a receipt without messages",
            r#"{"kind":"receipt","state":"read"}"#.to_owned(),
        ),
        bad(
            "messages that are no array",
            r#"{"kind":"receipt","state":"read","messages":{}}"#.to_owned(),
        ),
        bad(
            "a message that is no object",
            r#"{"kind":"receipt","state":"read","messages":[1]}"#.to_owned(),
        ),
        bad(
            "a message without an id",
            one.replace(&format!(r#""id":"{ID}","#), ""),
        ),
        bad(
            "a message with an id in capitals",
            one.replace(ID, &ID.to_uppercase()),
        ),
        bad(
            "a message with two digests",
            one.replace("\"}]", "\",\"digest\":\"\"}]"),
        ),
        bad(
            "a digest of 31 bytes",
            one.replace(&base64([1; 32]), &base64([1; 31])),
        ),
        bad(
            "a digest in another base64",
            one.replace(
                &base64([1; 32]),
                "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE",
            ),
        ),
    ]
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
            receipt: None,
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
        other(
            "org.example.chess-1",
            r#"{"kind":"org.example.chess-1","move":"e4"}"#,
        ),
    ];
    cases.extend(receipts());
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
