//! Names of messages: UUIDs of version 7, RFC 9562 section 5.7.

use core::fmt;
use core::str::FromStr;

use rand_core::CryptoRng;
use uuid::{Builder, Uuid, Variant};

use crate::timestamp::Timestamp;

/// The text is not a UUID of version 7 in hyphenated lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message id is a version 7 UUID in hyphenated lower case")]
pub struct MessageIdError;

/// A message's name, chosen by its sender; unique to the sender, not to the world.
///
/// It begins with the time at which it was made, so names sort roughly by age. That time is the sender's word, as
/// `ts` is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId([u8; 16]);

impl MessageId {
    /// A new name: 48 bits of time, 74 bits of chance.
    pub fn new(now: Timestamp, rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        let mut random = [0_u8; 10];
        rng.fill_bytes(&mut random);
        Self(
            Builder::from_unix_timestamp_millis(now.millis(), &random)
                .into_uuid()
                .into_bytes(),
        )
    }

    /// From its sixteen bytes.
    ///
    /// # Errors
    /// When version and variant are not those of a version 7 UUID.
    pub fn from_bytes(bytes: [u8; 16]) -> Result<Self, MessageIdError> {
        let uuid = Uuid::from_bytes(bytes);
        if uuid.get_version_num() != 7 || uuid.get_variant() != Variant::RFC4122 {
            return Err(MessageIdError);
        }
        Ok(Self(bytes))
    }

    /// Reads the hyphenated lower-case form.
    ///
    /// # Errors
    /// For every other form (capitals, braces, no hyphens), and for other versions.
    pub fn parse(text: &str) -> Result<Self, MessageIdError> {
        // Only the hyphenated form has this length; capitals are what is left to refuse.
        if text.len() != uuid::fmt::Hyphenated::LENGTH
            || text.bytes().any(|byte| byte.is_ascii_uppercase())
        {
            return Err(MessageIdError);
        }
        let uuid = Uuid::try_parse(text).map_err(|_| MessageIdError)?;
        Self::from_bytes(uuid.into_bytes())
    }

    /// The sixteen bytes that signatures cover.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(Uuid::from_bytes_ref(&self.0).as_hyphenated(), f)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageId({self})")
    }
}

impl FromStr for MessageId {
    type Err = MessageIdError;

    fn from_str(text: &str) -> Result<Self, MessageIdError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::rng;
    use alloc::string::ToString;

    #[test]
    fn a_new_id_is_a_version_7_uuid_that_begins_with_the_time() {
        let id = MessageId::new(
            Timestamp::from_millis(0x018b_cfe5_6800).unwrap(),
            &mut rng(1),
        );
        let text = id.to_string();
        assert!(text.starts_with("018bcfe5-6800-7"), "{text}");
        assert_eq!(MessageId::parse(&text), Ok(id));
        assert_eq!(MessageId::from_bytes(*id.as_bytes()), Ok(id));
    }

    #[test]
    fn other_forms_and_versions_are_refused() {
        let good = "018bcfe5-6800-7abc-8def-0123456789ab";
        assert_eq!(MessageId::parse(good).unwrap().to_string(), good);
        for bad in [
            "",
            "018BCFE5-6800-7ABC-8DEF-0123456789AB",
            "018bcfe568007abc8def0123456789ab",
            "{018bcfe5-6800-7abc-8def-0123456789ab}",
            "urn:uuid:018bcfe5-6800-7abc-8def-0123456789ab",
            "018bcfe5-6800-4abc-8def-0123456789ab",
            "018bcfe5-6800-7abc-0def-0123456789ab",
            "018bcfe5-6800-7abc-cdef-0123456789ab",
            "018bcfe5_6800_7abc_8def_0123456789ab",
            "018bcfe5-6800-7abc-8def-0123456789ag",
            "00000000-0000-0000-0000-000000000000",
        ] {
            assert_eq!(MessageId::parse(bad), Err(MessageIdError), "{bad:?}");
        }
    }
}
