//! Texts that answer or edit, deletions, and how long messages stay; and which of several settings counts.

use super::cases::{ConversationCase, ConversationSays, ExpiryCase, ExpirySays};

const ID: &str = "018bcfe5-6800-7abc-8def-0123456789ab";

fn case(name: &str, content: &str, expect: &str, says: ConversationSays) -> ConversationCase {
    ConversationCase {
        name: name.into(),
        content: content.replace("ID", ID),
        expect: expect.into(),
        says,
    }
}

fn text(text: &str) -> ConversationSays {
    ConversationSays {
        text: Some(text.into()),
        ..ConversationSays::default()
    }
}

fn reply(words: &str, from: &str) -> ConversationSays {
    ConversationSays {
        from: Some(from.into()),
        id: Some(ID.into()),
        ..text(words)
    }
}

fn edit(words: &str) -> ConversationSays {
    ConversationSays {
        id: Some(ID.into()),
        ..text(words)
    }
}

fn expiry(seconds: u64, seq: u64) -> ConversationSays {
    ConversationSays {
        seconds: Some(seconds),
        seq: Some(seq),
        ..ConversationSays::default()
    }
}

pub(crate) fn all() -> Vec<ConversationCase> {
    let mut cases = vec![
        case(
            "an answer",
            r#"{"kind":"text","text":"Yes","reply":{"from":"alice","id":"ID"}}"#,
            "reply",
            reply("Yes", "alice"),
        ),
        case(
            "an answer with a member that is not known, in another order",
            r#"{"reply":{"id":"ID","from":"bob","part":2},"text":"No","kind":"text"}"#,
            "reply",
            reply("No", "bob"),
        ),
        case(
            "an edit",
            r#"{"kind":"text","text":"Hello Bob!","edits":"ID"}"#,
            "edit",
            edit("Hello Bob!"),
        ),
        case(
            "an edit is no answer",
            r#"{"kind":"text","text":"x","edits":"ID","reply":{"from":"alice","id":"ID"}}"#,
            "edit",
            edit("x"),
        ),
        case(
            "an answer when its edit is none",
            r#"{"kind":"text","text":"x","edits":1,"reply":{"from":"alice","id":"ID"}}"#,
            "reply",
            reply("x", "alice"),
        ),
        case(
            "a deletion",
            r#"{"kind":"delete","message":"ID"}"#,
            "delete",
            ConversationSays {
                id: Some(ID.into()),
                ..ConversationSays::default()
            },
        ),
        case(
            "messages disappear after an hour",
            r#"{"kind":"expiry","seconds":3600,"seq":1700000000}"#,
            "expiry",
            expiry(3_600, 1_700_000_000),
        ),
        case(
            "messages stay",
            r#"{"kind":"expiry","seconds":0,"seq":1}"#,
            "expiry",
            expiry(0, 1),
        ),
        case(
            "the shortest time",
            r#"{"kind":"expiry","seconds":5,"seq":9007199254740991}"#,
            "expiry",
            expiry(5, (1 << 53) - 1),
        ),
        case(
            "the longest time",
            r#"{"kind":"expiry","seconds":31536000,"seq":7}"#,
            "expiry",
            expiry(31_536_000, 7),
        ),
    ];
    for (name, content) in [
        ("a text", r#"{"kind":"text","text":"x"}"#),
        (
            "an answer to nothing",
            r#"{"kind":"text","text":"x","reply":null}"#,
        ),
        (
            "an answer without an author",
            r#"{"kind":"text","text":"x","reply":{"id":"ID"}}"#,
        ),
        (
            "an answer to an author who is none",
            r#"{"kind":"text","text":"x","reply":{"from":"Alice","id":"ID"}}"#,
        ),
        (
            "an answer with two ids",
            r#"{"kind":"text","text":"x","reply":{"from":"alice","id":"ID","id":"ID"}}"#,
        ),
        (
            "an answer to an id in braces",
            r#"{"kind":"text","text":"x","reply":{"from":"alice","id":"{ID}"}}"#,
        ),
        (
            "an edit of a UUID of version 4",
            r#"{"kind":"text","text":"x","edits":"018bcfe5-6800-4abc-8def-0123456789ab"}"#,
        ),
        (
            "an edit of many",
            r#"{"kind":"text","text":"x","edits":["ID"]}"#,
        ),
    ] {
        cases.push(case(name, content, "text", text("x")));
    }
    for (name, content) in [
        ("a deletion of nothing", r#"{"kind":"delete"}"#),
        (
            "a deletion of many",
            r#"{"kind":"delete","message":["ID"]}"#,
        ),
        (
            "a deletion of an id in capitals",
            r#"{"kind":"delete","message":"018BCFE5-6800-7ABC-8DEF-0123456789AB"}"#,
        ),
        ("no time", r#"{"kind":"expiry","seq":1}"#),
        ("no number", r#"{"kind":"expiry","seconds":60}"#),
        ("number 0", r#"{"kind":"expiry","seconds":60,"seq":0}"#),
        (
            "a number beyond 2^53 - 1",
            r#"{"kind":"expiry","seconds":60,"seq":9007199254740992}"#,
        ),
        ("too short", r#"{"kind":"expiry","seconds":4,"seq":1}"#),
        (
            "too long",
            r#"{"kind":"expiry","seconds":31536001,"seq":1}"#,
        ),
        (
            "a fraction of a second",
            r#"{"kind":"expiry","seconds":60.5,"seq":1}"#,
        ),
        (
            "a negative time",
            r#"{"kind":"expiry","seconds":-60,"seq":1}"#,
        ),
        (
            "a time that is a string",
            r#"{"kind":"expiry","seconds":"60","seq":1}"#,
        ),
        ("another kind", r#"{"kind":"expire","seconds":60,"seq":1}"#),
    ] {
        cases.push(case(name, content, "other", ConversationSays::default()));
    }
    cases
}

pub(crate) fn expiries() -> Vec<ExpiryCase> {
    const NOW: u64 = 1_700_000_000;
    let one = |name: &str, came: &[(u64, u64)], counts: Option<(u64, u64)>| ExpiryCase {
        name: name.into(),
        now: format!("{NOW}.000"),
        came: came.iter().copied().map(says).collect(),
        counts: counts.map(says),
    };
    vec![
        one("nothing was set", &[], None),
        one("the first", &[(60, NOW)], Some((60, NOW))),
        one(
            "a later one",
            &[(60, NOW), (0, NOW + 1)],
            Some((0, NOW + 1)),
        ),
        one(
            "an earlier one that comes late",
            &[(0, NOW + 1), (60, NOW)],
            Some((0, NOW + 1)),
        ),
        one(
            "two at once: the shorter",
            &[(3_600, NOW), (60, NOW)],
            Some((60, NOW)),
        ),
        one(
            "two at once, seen the other way round",
            &[(60, NOW), (3_600, NOW)],
            Some((60, NOW)),
        ),
        one(
            "two at once, of which one lets messages stay",
            &[(60, NOW), (0, NOW)],
            Some((60, NOW)),
        ),
        one("the same again", &[(60, NOW), (60, NOW)], Some((60, NOW))),
        one(
            "a day ahead",
            &[(60, NOW), (0, NOW + 86_400)],
            Some((0, NOW + 86_400)),
        ),
        one(
            "more than a day ahead",
            &[(60, NOW), (0, NOW + 86_401)],
            Some((60, NOW)),
        ),
        one("for ever", &[(5, (1 << 53) - 1)], None),
    ]
}

fn says((seconds, seq): (u64, u64)) -> ExpirySays {
    ExpirySays { seconds, seq }
}
