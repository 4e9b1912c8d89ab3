//! Names, topics, filters, times and message ids.

use super::cases::NameCase;

fn case(what: &str, text: impl Into<String>, expect: &str) -> NameCase {
    NameCase {
        what: what.to_owned(),
        text: text.into(),
        expect: expect.to_owned(),
        millis: None,
    }
}

pub(crate) fn all() -> Vec<NameCase> {
    let mut cases = Vec::new();
    let mut add = |what: &str, expect: &str, texts: &[&str]| {
        cases.extend(texts.iter().map(|text| case(what, *text, expect)));
    };
    let (longest, too_long) = ("x".repeat(64), "x".repeat(65));

    add(
        "user",
        "ok",
        &[
            "a",
            "0",
            "alice",
            "alice-phone",
            "sensor_7",
            "7up",
            "a--_-",
            &longest,
        ],
    );
    add("user", "empty", &[""]);
    add("user", "too-long", &[&too_long]);
    add("user", "bad-start", &["-a", "_a"]);
    add(
        "user",
        "bad-character 1",
        &[
            "Alice",
            "älice",
            "\u{430}lice",
            "#",
            "+",
            "$sys",
            " alice",
            ".",
        ],
    );
    add(
        "user",
        "bad-character 2",
        &[
            "a/b",
            "a.b",
            "a+",
            "a\n",
            "a\u{0}",
            "a\u{1b}[2J",
            "a\u{301}",
            "a b",
        ],
    );

    add(
        "realm",
        "ok",
        &["local", "chat.example.org", "-", "0", "..", &longest],
    );
    add("realm", "empty", &[""]);
    add("realm", "too-long", &[&too_long]);
    add("realm", "bad-character 1", &["Local", "_a", " "]);
    add("realm", "bad-character 2", &["a_b", "a/b", "a:b"]);

    add("topic", "ok", &["keys/bob", "inbox/bob", "inbox/0"]);
    add(
        "topic",
        "unknown",
        &[
            "",
            "keys",
            "bob",
            "/bob",
            "Inbox/bob",
            "in/bob",
            "$SYS/x",
            "+/bob",
            "#",
            "inbox\\bob",
        ],
    );
    add("topic", "bad-user empty", &["keys/", "inbox/"]);
    add(
        "topic",
        "bad-user bad-character 1",
        &["inbox//bob", "inbox/+", "inbox/#", "inbox/Bob"],
    );
    add(
        "topic",
        "bad-user bad-character 4",
        &["inbox/bob/", "inbox/bob/x"],
    );

    add(
        "filter",
        "ok",
        &["keys/bob", "inbox/bob", "keys/+", "inbox/+"],
    );
    add(
        "filter",
        "unknown",
        &["", "#", "+", "+/bob", "+/+", "$share/group/inbox/+", "keys"],
    );
    add(
        "filter",
        "bad-user bad-character 1",
        &["keys/#", "inbox/#", "inbox/+/x"],
    );
    add("filter", "bad-user bad-character 2", &["inbox/b+"]);

    add(
        "time",
        "bad-format",
        &[
            "",
            ".",
            "1",
            "1.",
            ".000",
            "1.00",
            "1.0000",
            "01.000",
            "00.000",
            "10000000000.000",
            "-1.000",
            "+1.000",
            "1e3",
            "1e3.000",
            " 1.000",
            "1.000 ",
            "1,000",
            "1.00x",
            "1.0.0",
            "\u{661}.000",
            "NaN",
            "0x1.000",
        ],
    );
    add(
        "message-id",
        "ok",
        &[
            "018bcfe5-6800-7abc-8def-0123456789ab",
            "00000000-0000-7000-8000-000000000000",
            "ffffffff-ffff-7fff-bfff-ffffffffffff",
        ],
    );
    add(
        "message-id",
        "bad",
        &[
            "",
            "018BCFE5-6800-7ABC-8DEF-0123456789AB",
            "018bcfe568007abc8def0123456789ab",
            "{018bcfe5-6800-7abc-8def-0123456789ab}",
            "urn:uuid:018bcfe5-6800-7abc-8def-0123456789ab",
            "018bcfe5-6800-4abc-8def-0123456789ab",
            "018bcfe5-6800-7abc-0def-0123456789ab",
            "018bcfe5-6800-7abc-cdef-0123456789ab",
            "018bcfe5-6800-7abc-edef-0123456789ab",
            "018bcfe5-6800-7abc-8def-0123456789a",
            "018bcfe5-6800-7abc-8def-0123456789abc",
            "018bcfe5-6800-7abc-8def-0123456789ag",
            "018bcfe5-6800-7abc8-def-0123456789ab",
            "00000000-0000-0000-0000-000000000000",
            " 018bcfe5-6800-7abc-8def-0123456789ab",
        ],
    );

    for (text, millis) in [
        ("0.000", 0),
        ("0.001", 1),
        ("1.000", 1_000),
        ("1700000000.120", 1_700_000_000_120),
        ("9999999999.999", 9_999_999_999_999),
    ] {
        cases.push(NameCase {
            millis: Some(millis),
            ..case("time", text, "ok")
        });
    }
    cases
}
