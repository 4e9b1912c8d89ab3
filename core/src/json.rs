//! The one encoding: JSON objects with exactly the expected members, in order, without white space or escapes.
//!
//! Reading keeps the raw text of every member, so that each deviation is found and named instead of being normalised
//! away: [`Object::parse`] finds the members, [`Object::expect`] compares them with the format's list, the methods of
//! [`Fields`] read one member each. What remains (white space between members, escapes in their names) is found by
//! encoding again and comparing: [`canonical`].

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write as _};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::identity::{IdentityKey, IdentityKeyError};
use crate::message_id::MessageId;
use crate::name::{NameError, Realm, UserId};
use crate::timestamp::Timestamp;

/// How bytes differ from the one encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodingError {
    /// The bytes are not UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// The text ends in the middle.
    #[error("the text ends too early")]
    Truncated,
    /// The text is not JSON.
    #[error("not JSON")]
    NotJson,
    /// The text is JSON, but not an object.
    #[error("not a JSON object")]
    NotAnObject,
    /// Something follows the object.
    #[error("something follows the object")]
    TrailingBytes,
    /// A member occurs twice.
    #[error("member `{member}` occurs twice")]
    DuplicateMember {
        /// Its name.
        member: &'static str,
    },
    /// There is a member that the format does not have. Its name is the sender's to choose and is not repeated here.
    #[error("member {position} is unknown")]
    UnknownMember {
        /// Which member it is, counted from one.
        position: usize,
    },
    /// A member is missing.
    #[error("member `{member}` is missing")]
    MissingMember {
        /// Its name.
        member: &'static str,
    },
    /// All members are there, but not in the format's order.
    #[error("member `{member}` is not in its place")]
    WrongOrder {
        /// The first member that should have come earlier.
        member: &'static str,
    },
    /// A member has another type than the format's.
    #[error("member `{member}` has the wrong type")]
    WrongType {
        /// Its name.
        member: &'static str,
    },
    /// A string has an escape sequence; none ever needs one.
    #[error("member `{member}` has an escape sequence")]
    Escape {
        /// Its name.
        member: &'static str,
    },
    /// A whole number is not written as one, or is out of range.
    #[error("member `{member}` is not a whole number in range")]
    BadNumber {
        /// Its name.
        member: &'static str,
    },
    /// A time is not written as seconds, a dot and three digits.
    #[error("member `{member}` is not a time")]
    BadTime {
        /// Its name.
        member: &'static str,
    },
    /// Binary is not in standard base64 with padding.
    #[error("member `{member}` is not standard base64")]
    BadBase64 {
        /// Its name.
        member: &'static str,
    },
    /// Binary has a length that cannot be.
    #[error("member `{member}` has the wrong length")]
    WrongLength {
        /// Its name.
        member: &'static str,
    },
    /// A name of a user, a realm or an algorithm is none.
    #[error("member `{member}` is not a name")]
    BadName {
        /// Its name.
        member: &'static str,
    },
    /// A message id is none.
    #[error("member `{member}` is not a message id")]
    BadMessageId {
        /// Its name.
        member: &'static str,
    },
    /// An identity key is none.
    #[error("member `{member}`: {reason}")]
    BadIdentityKey {
        /// Its name.
        member: &'static str,
        /// What is wrong with it.
        reason: IdentityKeyError,
    },
    /// An array has more elements than the format allows.
    #[error("member `{member}` has too many elements")]
    TooMany {
        /// Its name.
        member: &'static str,
    },
    /// The members are right, but the text is not how they are written: white space, or an escape in a member's name.
    #[error("not in canonical form")]
    NotCanonical,
}

/// An object's members, each with the raw text of its value, in the order of the text.
#[derive(Debug)]
pub(crate) struct Object<'a>(Vec<(String, &'a str)>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(16);
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    members.push((name, value.get()));
                }
                Ok(Object(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

impl<'a> Object<'a> {
    /// Finds the members of the one object in `text`.
    pub(crate) fn parse(text: &'a str) -> Result<Self, EncodingError> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let object =
            Self::deserialize(&mut deserializer).map_err(|error| match error.classify() {
                serde_json::error::Category::Eof => EncodingError::Truncated,
                serde_json::error::Category::Data => EncodingError::NotAnObject,
                _ => EncodingError::NotJson,
            })?;
        deserializer
            .end()
            .map_err(|_| EncodingError::TrailingBytes)?;
        Ok(object)
    }

    /// The raw text of the first member of that name.
    pub(crate) fn raw(&self, name: &str) -> Option<&'a str> {
        self.0
            .iter()
            .find(|(member, _)| member == name)
            .map(|(_, value)| *value)
    }

    /// Whether any name occurs twice.
    pub(crate) fn has_duplicate(&self) -> bool {
        let mut names = BTreeSet::new();
        !self.0.iter().all(|(name, _)| names.insert(name))
    }

    /// Requires exactly the members of `names`, in that order.
    pub(crate) fn expect(self, names: &[&'static str]) -> Result<Fields<'a>, EncodingError> {
        for (index, (member, _)) in self.0.iter().enumerate() {
            let Some(name) = names.iter().find(|name| *name == member) else {
                return Err(EncodingError::UnknownMember {
                    position: index + 1,
                });
            };
            if self
                .0
                .iter()
                .take(index)
                .any(|(earlier, _)| earlier == member)
            {
                return Err(EncodingError::DuplicateMember { member: name });
            }
        }
        let missing = |name: &&&'static str| !self.0.iter().any(|(member, _)| member == *name);
        if let Some(member) = names.iter().find(missing) {
            return Err(EncodingError::MissingMember { member });
        }
        match names
            .iter()
            .zip(&self.0)
            .find(|(name, (member, _))| *name != member)
        {
            Some((member, _)) => Err(EncodingError::WrongOrder { member }),
            None => Ok(Fields(self.0)),
        }
    }
}

/// The members of an object that are known to be exactly the expected ones.
#[derive(Debug)]
pub(crate) struct Fields<'a>(Vec<(String, &'a str)>);

impl<'a> Fields<'a> {
    /// The raw text of a member.
    pub(crate) fn raw(&self, member: &'static str) -> Result<&'a str, EncodingError> {
        self.0
            .iter()
            .find(|(name, _)| name == member)
            .map(|(_, value)| *value)
            .ok_or(EncodingError::MissingMember { member })
    }

    /// A string without escapes.
    pub(crate) fn text(&self, member: &'static str) -> Result<&'a str, EncodingError> {
        text(member, self.raw(member)?)
    }

    /// A whole number from zero to `max`, without leading zeros.
    pub(crate) fn number(&self, member: &'static str, max: u64) -> Result<u64, EncodingError> {
        number(member, self.raw(member)?, max)
    }

    /// A time: a JSON number with three digits after the dot.
    pub(crate) fn time(&self, member: &'static str) -> Result<Timestamp, EncodingError> {
        let raw = self.raw(member)?;
        if !is_number(raw) {
            return Err(EncodingError::WrongType { member });
        }
        Timestamp::parse(raw).map_err(|_| EncodingError::BadTime { member })
    }

    /// Binary in standard base64 with padding.
    pub(crate) fn binary(&self, member: &'static str) -> Result<Vec<u8>, EncodingError> {
        BASE64_STANDARD
            .decode(self.text(member)?)
            .map_err(|_| EncodingError::BadBase64 { member })
    }

    /// Binary of a fixed length.
    pub(crate) fn array<const N: usize>(
        &self,
        member: &'static str,
    ) -> Result<[u8; N], EncodingError> {
        self.binary(member)?
            .try_into()
            .map_err(|_| EncodingError::WrongLength { member })
    }

    /// A user's name.
    pub(crate) fn user(&self, member: &'static str) -> Result<UserId, EncodingError> {
        UserId::parse(self.text(member)?).map_err(|_: NameError| EncodingError::BadName { member })
    }

    /// A realm's name.
    pub(crate) fn realm(&self, member: &'static str) -> Result<Realm, EncodingError> {
        Realm::parse(self.text(member)?).map_err(|_: NameError| EncodingError::BadName { member })
    }

    /// An identity key.
    pub(crate) fn identity(&self, member: &'static str) -> Result<IdentityKey, EncodingError> {
        self.identity_knowing(member, |_| None)
    }

    /// An identity key, which `known` may have from before, by its bytes.
    pub(crate) fn identity_knowing(
        &self,
        member: &'static str,
        known: impl FnOnce(&[u8; 32]) -> Option<IdentityKey>,
    ) -> Result<IdentityKey, EncodingError> {
        let bytes = self.array(member)?;
        if let Some(key) = known(&bytes).filter(|key| *key.as_bytes() == bytes) {
            return Ok(key);
        }
        match IdentityKey::parse(&bytes) {
            Ok(key) => Ok(key),
            Err(IdentityKeyError::WrongLength) => Err(EncodingError::WrongLength { member }),
            Err(reason) => Err(EncodingError::BadIdentityKey { member, reason }),
        }
    }

    /// A message id.
    pub(crate) fn message_id(&self, member: &'static str) -> Result<MessageId, EncodingError> {
        MessageId::parse(self.text(member)?).map_err(|_| EncodingError::BadMessageId { member })
    }

    /// A message id, or `null`.
    pub(crate) fn optional_message_id(
        &self,
        member: &'static str,
    ) -> Result<Option<MessageId>, EncodingError> {
        match self.raw(member)? {
            "null" => Ok(None),
            _ => self.message_id(member).map(Some),
        }
    }

    /// The raw texts of an array's elements, at most `max`.
    pub(crate) fn elements(
        &self,
        member: &'static str,
        max: usize,
    ) -> Result<Vec<&'a str>, EncodingError> {
        let elements: Vec<&'a RawValue> = serde_json::from_str(self.raw(member)?)
            .map_err(|_| EncodingError::WrongType { member })?;
        if elements.len() > max {
            return Err(EncodingError::TooMany { member });
        }
        Ok(elements.into_iter().map(RawValue::get).collect())
    }
}

/// The inside of a JSON string that has no escapes.
fn text<'a>(member: &'static str, raw: &'a str) -> Result<&'a str, EncodingError> {
    let inside = raw
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    let inside = inside.ok_or(EncodingError::WrongType { member })?;
    if inside.contains('\\') {
        return Err(EncodingError::Escape { member });
    }
    Ok(inside)
}

/// Whether the raw text of a value is a number's.
fn is_number(raw: &str) -> bool {
    raw.starts_with(|first: char| first.is_ascii_digit() || first == '-')
}

/// A whole number from zero to `max`.
fn number(member: &'static str, raw: &str, max: u64) -> Result<u64, EncodingError> {
    if !is_number(raw) {
        return Err(EncodingError::WrongType { member });
    }
    // JSON has no leading zeros and no plus; what is left to refuse is a sign, a fraction and an exponent.
    match raw.parse::<u64>() {
        Ok(number) if number <= max => Ok(number),
        _ => Err(EncodingError::BadNumber { member }),
    }
}

/// Reads a member called `v` before anything else: a later version may have any other members.
pub(crate) fn version(object: &Object<'_>) -> Result<u64, EncodingError> {
    let raw = object
        .raw("v")
        .ok_or(EncodingError::MissingMember { member: "v" })?;
    number("v", raw, u64::MAX)
}

/// Refuses text that is not how its content is written.
pub(crate) fn canonical(text: &[u8], written: &[u8]) -> Result<(), EncodingError> {
    if text == written {
        Ok(())
    } else {
        Err(EncodingError::NotCanonical)
    }
}

/// Writes objects without white space. The caller passes only text that needs no escapes, which all names, base64 and
/// ids are by construction.
#[derive(Debug)]
pub(crate) struct Writer(String);

impl Writer {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self(String::with_capacity(capacity))
    }

    pub(crate) fn open(&mut self) {
        self.0.push('{');
    }

    pub(crate) fn close(&mut self) {
        self.0.push('}');
    }

    fn name(&mut self, member: &str) {
        if !self.0.ends_with(['{', '[']) {
            self.0.push(',');
        }
        self.0.push('"');
        self.0.push_str(member);
        self.0.push_str("\":");
    }

    /// A string.
    pub(crate) fn text(&mut self, member: &str, value: &str) {
        self.name(member);
        self.0.push('"');
        self.0.push_str(value);
        self.0.push('"');
    }

    /// Anything that is written bare: a number, a time.
    pub(crate) fn bare(&mut self, member: &str, value: impl fmt::Display) {
        self.name(member);
        // Writing to a string cannot fail.
        let _ = write!(self.0, "{value}");
    }

    /// A message id, or `null`.
    pub(crate) fn message_id(&mut self, member: &str, id: Option<&MessageId>) {
        match id {
            Some(id) => self.bare(member, format_args!("\"{id}\"")),
            None => self.bare(member, "null"),
        }
    }

    /// Binary, in standard base64 with padding.
    pub(crate) fn binary(&mut self, member: &str, value: &[u8]) {
        self.name(member);
        self.0.push('"');
        BASE64_STANDARD.encode_string(value, &mut self.0);
        self.0.push('"');
    }

    /// An array of objects, each written by `element` between its braces.
    pub(crate) fn objects<T>(
        &mut self,
        member: &str,
        elements: &[T],
        element: impl Fn(&mut Self, &T),
    ) {
        self.name(member);
        self.0.push('[');
        for each in elements {
            if !self.0.ends_with('[') {
                self.0.push(',');
            }
            self.open();
            element(self, each);
            self.close();
        }
        self.0.push(']');
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 3] = ["v", "a", "b"];

    fn expect(text: &str) -> Result<Fields<'_>, EncodingError> {
        Object::parse(text)?.expect(&NAMES)
    }

    #[test]
    fn every_deviation_of_the_members_has_its_own_error() {
        assert!(expect(r#"{"v":1,"a":"x","b":null}"#).is_ok());
        for (text, error) in [
            ("", EncodingError::Truncated),
            (r#"{"v":1,"a":"x""#, EncodingError::Truncated),
            (r#"{"v":1,"a":"#, EncodingError::Truncated),
            ("[]", EncodingError::NotAnObject),
            ("1", EncodingError::NotAnObject),
            ("nonsense", EncodingError::NotJson),
            ("{'v':1}", EncodingError::NotJson),
            (r#"{"v":1,"a":2,"b":3,}"#, EncodingError::NotJson),
            (r#"{"v":01,"a":2,"b":3}"#, EncodingError::NotJson),
            (r#"{"v":1,"a":2,"b":3}x"#, EncodingError::TrailingBytes),
            (r#"{"v":1,"a":2,"b":3}{}"#, EncodingError::TrailingBytes),
            (
                r#"{"v":1,"a":2,"a":2,"b":3}"#,
                EncodingError::DuplicateMember { member: "a" },
            ),
            (
                r#"{"v":1,"a":2,"b":3,"c":4}"#,
                EncodingError::UnknownMember { position: 4 },
            ),
            (
                r#"{"v":1,"b":3}"#,
                EncodingError::MissingMember { member: "a" },
            ),
            (r#"{}"#, EncodingError::MissingMember { member: "v" }),
            (
                r#"{"v":1,"b":3,"a":2}"#,
                EncodingError::WrongOrder { member: "a" },
            ),
        ] {
            assert_eq!(expect(text).unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn nothing_is_nested_deep_enough_to_exhaust_the_stack() {
        let deep = "[".repeat(100_000);
        let text = alloc::format!("{{\"v\":{deep}");
        assert!(Object::parse(&text).is_err());
    }

    #[test]
    fn members_are_read_strictly() {
        let fields = |value: &str| {
            let text = alloc::format!("{{\"m\":{value}}}");
            let text: &'static str = alloc::boxed::Box::leak(text.into_boxed_str());
            Object::parse(text).unwrap().expect(&["m"]).unwrap()
        };
        let number = |value| fields(value).number("m", 9_007_199_254_740_991);
        assert_eq!(number("9007199254740991"), Ok(9_007_199_254_740_991));
        for bad in [
            "9007199254740992",
            "18446744073709551616",
            "-1",
            "1.0",
            "1e3",
        ] {
            assert_eq!(
                number(bad),
                Err(EncodingError::BadNumber { member: "m" }),
                "{bad}"
            );
        }
        assert_eq!(
            number("\"1\""),
            Err(EncodingError::WrongType { member: "m" })
        );
        assert_eq!(
            number("true"),
            Err(EncodingError::WrongType { member: "m" })
        );

        assert_eq!(fields("1.500").time("m").map(Timestamp::millis), Ok(1_500));
        for bad in ["1", "1.5", "1.5000", "15e-1", "-1.500"] {
            assert_eq!(
                fields(bad).time("m"),
                Err(EncodingError::BadTime { member: "m" }),
                "{bad}"
            );
        }

        assert_eq!(fields("\"AAE=\"").binary("m").unwrap(), [0, 1]);
        for bad in ["AAE", "AAF=", "AA E=", "_-E=", "AAE=AAE=", "AAE==", "ä"] {
            let value = alloc::format!("\"{bad}\"");
            assert_eq!(
                fields(&value).binary("m"),
                Err(EncodingError::BadBase64 { member: "m" }),
                "{bad}"
            );
        }
        assert_eq!(
            fields("\"AAE=\"").array::<3>("m"),
            Err(EncodingError::WrongLength { member: "m" })
        );
        assert_eq!(
            fields(r#""\u0041AE=""#).binary("m"),
            Err(EncodingError::Escape { member: "m" })
        );
        assert_eq!(
            fields("null").text("m"),
            Err(EncodingError::WrongType { member: "m" })
        );
        assert_eq!(fields("null").optional_message_id("m"), Ok(None));
        let elements = |value| fields(value).elements("m", 2);
        assert_eq!(elements("[{},1]"), Ok(alloc::vec!["{}", "1"]));
        assert_eq!(
            elements("{}"),
            Err(EncodingError::WrongType { member: "m" })
        );
        assert_eq!(
            elements("[{},{},{}]"),
            Err(EncodingError::TooMany { member: "m" })
        );
    }
}
