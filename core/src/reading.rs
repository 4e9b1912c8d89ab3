//! Readings: what a device measured and when, and which of its readings it had to drop before they could be sent.
//!
//! Both are kinds of content that no reader has to know: what is not of their form is content of another kind, carried and
//! shown as any other. A device counts its readings from 1, so whoever gets them sees that none is missing, or which.

use alloc::format;
use alloc::string::String;

use serde_json::value::RawValue;

use crate::bundle::MAX_SEQ;
use crate::content::{Content, ContentError};
use crate::json::Object;
use crate::timestamp::Timestamp;

/// The kind of a [`Reading`].
const READING: &str = "reading";
/// The kind of a [`ReadingGap`].
const READING_GAP: &str = "reading-gap";
/// The highest number of a reading: exact in every JSON library.
pub const MAX_READING_NUMBER: u64 = MAX_SEQ;

/// `{"kind":"reading","number":…,"at":…,"reading":…}`: one reading of a device. `Debug` does not show its value.
#[derive(Clone, PartialEq, Eq)]
pub struct Reading {
    number: u64,
    at: Timestamp,
    value: String,
}

impl Reading {
    /// A reading: its number, 1 to [`MAX_READING_NUMBER`], the device's clock when it was taken, and any JSON value.
    ///
    /// `None` when the number is out of range, or the value is not one JSON value that goes into a content.
    #[must_use]
    pub fn new(number: u64, at: Timestamp, value: &str) -> Option<Self> {
        let value = value.trim_matches([' ', '\t', '\r', '\n']);
        serde_json::from_str::<&RawValue>(value).ok()?;
        is_number(number).then(|| Self {
            number,
            at,
            value: value.into(),
        })
    }

    /// Reads a content; `None` when it is none of this kind and form.
    #[must_use]
    pub fn read(content: &Content) -> Option<Self> {
        let object = of_kind(content, READING)?;
        Some(Self {
            number: number(&object, "number")?,
            at: time(&object, "at")?,
            value: object.raw("reading")?.into(),
        })
    }

    /// Counts the readings of a device, from 1.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// The device's clock when it was taken.
    #[must_use]
    pub const fn at(&self) -> Timestamp {
        self.at
    }

    /// What was read: JSON as its device wrote it.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// As the content of a message.
    ///
    /// # Errors
    /// When the value has something that a content cannot have, such as half a surrogate pair in a member's name.
    pub fn to_content(&self) -> Result<Content, ContentError> {
        let Self { number, at, value } = self;
        Content::parse(&format!(
            r#"{{"kind":"{READING}","number":{number},"at":{at},"reading":{value}}}"#
        ))
    }
}

impl core::fmt::Debug for Reading {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Reading({}, redacted)", self.number)
    }
}

/// `{"kind":"reading-gap","first":…,"last":…,"first_at":…,"last_at":…}`: these readings were dropped before they could be
/// sent, because their device had no room for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadingGap {
    first: u64,
    last: u64,
    first_at: Timestamp,
    last_at: Timestamp,
}

impl ReadingGap {
    /// The gap that one dropped reading leaves.
    #[must_use]
    pub const fn of(reading: &Reading) -> Self {
        Self {
            first: reading.number,
            last: reading.number,
            first_at: reading.at,
            last_at: reading.at,
        }
    }

    /// This gap and what follows it right away: `None` when there is something between the two, or the numbers end before they begin.
    #[must_use]
    pub fn and(self, next: Self) -> Option<Self> {
        (self.last.checked_add(1) == Some(next.first)).then_some(Self {
            last: next.last,
            last_at: next.last_at,
            ..self
        })
    }

    /// Reads a content; `None` when it is none of this kind and form.
    #[must_use]
    pub fn read(content: &Content) -> Option<Self> {
        let object = of_kind(content, READING_GAP)?;
        let gap = Self {
            first: number(&object, "first")?,
            last: number(&object, "last")?,
            first_at: time(&object, "first_at")?,
            last_at: time(&object, "last_at")?,
        };
        (gap.first <= gap.last).then_some(gap)
    }

    /// The number of the first reading that was dropped.
    #[must_use]
    pub const fn first(&self) -> u64 {
        self.first
    }

    /// The number of the last one.
    #[must_use]
    pub const fn last(&self) -> u64 {
        self.last
    }

    /// How many: 1 or more.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.last - self.first + 1
    }

    /// When the first one was taken.
    #[must_use]
    pub const fn first_at(&self) -> Timestamp {
        self.first_at
    }

    /// When the last one was taken: earlier than the first if the device's clock was set meanwhile.
    #[must_use]
    pub const fn last_at(&self) -> Timestamp {
        self.last_at
    }

    /// As the content of a message.
    #[must_use]
    pub fn to_content(&self) -> Content {
        let Self {
            first,
            last,
            first_at,
            last_at,
        } = self;
        Content::Other {
            kind: READING_GAP.into(),
            json: format!(
                r#"{{"kind":"{READING_GAP}","first":{first},"last":{last},"first_at":{first_at},"last_at":{last_at}}}"#
            ),
        }
    }
}

fn of_kind<'a>(content: &'a Content, wanted: &str) -> Option<Object<'a>> {
    match content {
        Content::Other { kind, json } if kind == wanted => Object::parse(json).ok(),
        _ => None,
    }
}

fn number(object: &Object<'_>, member: &str) -> Option<u64> {
    let number = serde_json::from_str(object.raw(member)?).ok()?;
    is_number(number).then_some(number)
}

const fn is_number(number: u64) -> bool {
    1 <= number && number <= MAX_READING_NUMBER
}

fn time(object: &Object<'_>, member: &str) -> Option<Timestamp> {
    Timestamp::parse(object.raw(member)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis).unwrap()
    }

    #[test]
    fn a_reading_is_read_as_it_was_written() {
        for value in ["21.5", "\"warm\"", "null", r#"{"c":[1,{"x":2}]}"#, "1e400"] {
            let reading = Reading::new(7, at(1_700_000_000_123), value).unwrap();
            let content = reading.to_content().unwrap();
            assert_eq!(Reading::read(&content), Some(reading));
            assert_eq!(
                content.to_json().unwrap(),
                r#"{"kind":"reading","number":7,"at":1700000000.123,"reading":"#.to_string()
                    + value
                    + "}"
            );
        }
    }

    #[test]
    fn what_is_no_value_is_no_reading() {
        for value in [
            "",
            "warm",
            "1 2",
            "1,\"x\":2",
            "1}",
            "\"\u{1}\"",
            "01",
            "NaN",
        ] {
            assert_eq!(Reading::new(1, at(0), value), None, "{value}");
        }
        assert_eq!(Reading::new(0, at(0), "1"), None);
        assert_eq!(Reading::new(MAX_READING_NUMBER + 1, at(0), "1"), None);
        let spaced = Reading::new(1, at(0), " 1\r\n").unwrap();
        assert_eq!(spaced.value(), "1");
    }

    #[test]
    fn gaps_that_follow_each_other_become_one() {
        let gap = |number, millis| ReadingGap::of(&Reading::new(number, at(millis), "1").unwrap());
        let both = gap(4, 10).and(gap(5, 20)).unwrap();
        assert_eq!((both.first(), both.last(), both.count()), (4, 5, 2));
        assert_eq!((both.first_at(), both.last_at()), (at(10), at(20)));
        assert_eq!(gap(4, 10).and(gap(6, 20)), None);
        let content = both.to_content();
        assert_eq!(ReadingGap::read(&content), Some(both));
        assert_eq!(Content::parse(&content.to_json().unwrap()), Ok(content));
    }

    #[test]
    fn what_is_not_of_the_form_is_content_of_another_kind() {
        for json in [
            r#"{"kind":"reading","celsius":21.5}"#,
            r#"{"kind":"reading","number":0,"at":1.000,"reading":1}"#,
            r#"{"kind":"reading","number":1,"at":1.0,"reading":1}"#,
            r#"{"kind":"reading","number":"1","at":1.000,"reading":1}"#,
            r#"{"kind":"reading-gap","first":2,"last":1,"first_at":1.000,"last_at":1.000}"#,
            r#"{"kind":"text","text":"1"}"#,
        ] {
            let content = Content::parse(json).unwrap();
            assert_eq!(Reading::read(&content), None, "{json}");
            assert_eq!(ReadingGap::read(&content), None, "{json}");
        }
    }
}
