//! Readings and gaps of readings, and contents that are neither.

use super::cases::{GapSays, ReadingCase, ReadingSays};

pub(crate) fn all() -> Vec<ReadingCase> {
    let mut cases = Vec::new();
    for (name, number, at, value) in [
        ("a number", 17, "1700000000.123", "21.5"),
        ("an object", 18, "1700000000.000", r#"{"celsius":21.5}"#),
        ("a text", 19, "0.000", r#""door open""#),
        ("null", 20, "1700000000.123", "null"),
        ("a number that no double has", 21, "1700000000.123", "1e400"),
        ("the last number", (1 << 53) - 1, "9999999999.999", "[]"),
    ] {
        cases.push(reading(
            name,
            format!(r#"{{"kind":"reading","number":{number},"at":{at},"reading":{value}}}"#),
            (number, at, value),
        ));
    }
    cases.push(reading(
        "another order, white space, and a member that is not known",
        r#"{ "reading" : [1, 2] , "unit":"C", "at":1700000000.123,"number":5,"kind":"reading"}"#
            .into(),
        (5, "1700000000.123", "[1, 2]"),
    ));
    for (name, first, last) in [("a gap", 18, 40), ("a gap of one", 7, 7)] {
        cases.push(gap(name, first, last, "1700000010.123", "1700000032.456"));
    }
    cases.push(gap(
        "a gap over a clock that went back",
        1,
        2,
        "1700000010.000",
        "0.500",
    ));
    let members = r#""first_at":1700000010.123,"last_at":1700000032.456"#;
    for (name, content) in [
        (
            "another kind",
            r#"{"kind":"readings","number":1,"at":1.000,"reading":1}"#.into(),
        ),
        ("a text", r#"{"kind":"text","text":"21.5"}"#.into()),
        (
            "members of one's own",
            r#"{"kind":"reading","celsius":21.5}"#.into(),
        ),
        (
            "no reading",
            r#"{"kind":"reading","number":1,"at":1.000}"#.into(),
        ),
        (
            "number 0",
            r#"{"kind":"reading","number":0,"at":1.000,"reading":1}"#.into(),
        ),
        (
            "a number with a fraction",
            r#"{"kind":"reading","number":1.0,"at":1.000,"reading":1}"#.into(),
        ),
        (
            "a negative number",
            r#"{"kind":"reading","number":-1,"at":1.000,"reading":1}"#.into(),
        ),
        (
            "a number beyond 2^53 - 1",
            r#"{"kind":"reading","number":9007199254740992,"at":1.000,"reading":1}"#.into(),
        ),
        (
            "a number that is a string",
            r#"{"kind":"reading","number":"1","at":1.000,"reading":1}"#.into(),
        ),
        (
            "a time without three decimals",
            r#"{"kind":"reading","number":1,"at":1.0,"reading":1}"#.into(),
        ),
        (
            "a time that is a string",
            r#"{"kind":"reading","number":1,"at":"1.000","reading":1}"#.into(),
        ),
        (
            "a gap that ends before it begins",
            format!(r#"{{"kind":"reading-gap","first":2,"last":1,{members}}}"#),
        ),
        (
            "a gap without an end",
            format!(r#"{{"kind":"reading-gap","first":2,{members}}}"#),
        ),
        (
            "a gap from 0",
            format!(r#"{{"kind":"reading-gap","first":0,"last":1,{members}}}"#),
        ),
        (
            "a gap without times",
            r#"{"kind":"reading-gap","first":1,"last":2}"#.into(),
        ),
    ] {
        cases.push(ReadingCase {
            name: name.into(),
            content,
            expect: "other".into(),
            reading: None,
            gap: None,
        });
    }
    cases
}

fn reading(name: &str, content: String, (number, at, value): (u64, &str, &str)) -> ReadingCase {
    ReadingCase {
        name: name.into(),
        content,
        expect: "reading".into(),
        reading: Some(ReadingSays {
            number,
            at: at.into(),
            value: value.into(),
        }),
        gap: None,
    }
}

fn gap(name: &str, first: u64, last: u64, first_at: &str, last_at: &str) -> ReadingCase {
    ReadingCase {
        name: name.into(),
        content: format!(
            r#"{{"kind":"reading-gap","first":{first},"last":{last},"first_at":{first_at},"last_at":{last_at}}}"#
        ),
        expect: "reading-gap".into(),
        reading: None,
        gap: Some(GapSays {
            first,
            last,
            first_at: first_at.into(),
            last_at: last_at.into(),
        }),
    }
}
