//! Names: of users and of realms.
//!
//! A name is checked once, where it enters, and carried as its type from there on. Neither alphabet has a character
//! that means something to MQTT (`/`, `+`, `#`, `$`), to a file system or to a terminal, and neither has capitals, so
//! two names that differ also look different.

use alloc::borrow::ToOwned;
use alloc::string::String;
use core::fmt;
use core::str::FromStr;

/// The longest name of a user or of a realm, in bytes: with `inbox/` in front, far below MQTT's 65,535.
pub const MAX_NAME: usize = 64;

/// Names that nobody may claim by logging in, because people would read a role into them.
const RESERVED: [&str; 24] = [
    "abuse",
    "admin",
    "administrator",
    "archive",
    "archiver",
    "broadcast",
    "broker",
    "everyone",
    "help",
    "hostmaster",
    "info",
    "moderator",
    "noreply",
    "operator",
    "owner",
    "postmaster",
    "root",
    "sealpost",
    "security",
    "server",
    "service",
    "support",
    "sys",
    "system",
];

/// Why a text is not a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("a name cannot be empty")]
    Empty,
    /// The text is longer than [`MAX_NAME`].
    #[error("a name has at most {MAX_NAME} characters")]
    TooLong,
    /// The text starts with `-` or `_`, which a user's name may only have later.
    #[error("a user's name starts with a letter or a digit")]
    BadStart,
    /// The text has a character outside the alphabet.
    #[error("character {position} of the name is not allowed")]
    BadCharacter {
        /// Where it is, in bytes from the start, counted from one.
        position: usize,
    },
}

/// Checks `text` against an alphabet and the common length.
fn check(text: &str, allowed: impl Fn(u8) -> bool) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > MAX_NAME {
        return Err(NameError::TooLong);
    }
    match text.bytes().position(|byte| !allowed(byte)) {
        Some(index) => Err(NameError::BadCharacter {
            position: index + 1,
        }),
        None => Ok(()),
    }
}

/// A person or a device: `[a-z0-9][a-z0-9_-]{0,63}`.
///
/// ```
/// use sealpost_core::UserId;
/// assert_eq!(UserId::parse("alice-phone")?.as_str(), "alice-phone");
/// assert!(UserId::parse("Alice").is_err());
/// # Ok::<(), sealpost_core::NameError>(())
/// ```
///
/// A user is not a realm, however alike they look:
///
/// ```compile_fail
/// use sealpost_core::{Realm, UserId};
/// fn greet(user: &UserId) {}
/// greet(&Realm::default());
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(String);

impl UserId {
    /// Reads a user's name.
    ///
    /// # Errors
    /// When the text is not `[a-z0-9][a-z0-9_-]{0,63}`.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        check(
            text,
            |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'),
        )?;
        if text.starts_with(['-', '_']) {
            return Err(NameError::BadStart);
        }
        Ok(Self(text.to_owned()))
    }

    /// Whether people would read a role into this name, so that nobody may claim it by logging in first.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        RESERVED.contains(&self.as_str())
    }
}

/// A deployment, not a host: `[a-z0-9.-]{1,64}`; `local` by default.
///
/// The realm is in every signature, so nothing that was signed for one deployment is worth anything in another.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Realm(String);

impl Realm {
    /// Reads a realm's name.
    ///
    /// # Errors
    /// When the text is not `[a-z0-9.-]{1,64}`.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        check(
            text,
            |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-'),
        )?;
        Ok(Self(text.to_owned()))
    }
}

impl Default for Realm {
    fn default() -> Self {
        Self("local".to_owned())
    }
}

/// What both kinds of name have in common.
macro_rules! name {
    ($name:ident) => {
        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = NameError;

            fn try_from(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }
    };
}

name!(UserId);
name!(Realm);

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::ToString;

    #[test]
    fn user_names_are_small_letters_digits_dash_and_underscore() {
        for good in [
            "a",
            "0",
            "alice",
            "alice-phone",
            "sensor_7",
            &"x".repeat(MAX_NAME),
        ] {
            assert_eq!(UserId::parse(good).unwrap().as_str(), good);
        }
        assert_eq!(UserId::parse(""), Err(NameError::Empty));
        assert_eq!(
            UserId::parse(&"x".repeat(MAX_NAME + 1)),
            Err(NameError::TooLong)
        );
        assert_eq!(UserId::parse("-a"), Err(NameError::BadStart));
        assert_eq!(UserId::parse("_a"), Err(NameError::BadStart));
        for (bad, position) in [
            ("Alice", 1),
            ("al ice", 3),
            ("a/b", 2),
            ("a+", 2),
            ("#", 1),
            ("$sys", 1),
            ("a.b", 2),
            ("..", 1),
            ("a\n", 2),
            ("a\u{1b}[2J", 2),
            ("älice", 1),
            ("аlice", 1), // Cyrillic а
            ("a\0", 2),
        ] {
            assert_eq!(
                UserId::parse(bad),
                Err(NameError::BadCharacter { position }),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn realms_have_dots_and_no_underscores() {
        for good in ["local", "chat.example.org", "-", ".", "0"] {
            assert_eq!(Realm::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "Local", "a_b", "a/b", "a b", &"x".repeat(MAX_NAME + 1)] {
            assert!(Realm::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(Realm::default().as_str(), "local");
    }

    #[test]
    fn names_of_roles_are_reserved() {
        for name in ["admin", "archiver", "root", "operator", "postmaster"] {
            assert!(UserId::parse(name).unwrap().is_reserved(), "{name}");
        }
        assert!(!UserId::parse("alice").unwrap().is_reserved());
        for name in RESERVED {
            assert!(
                UserId::parse(name).is_ok(),
                "{name} could never be claimed anyway"
            );
        }
    }

    #[test]
    fn names_show_themselves() {
        let user = UserId::parse("bob").unwrap();
        assert_eq!(user.to_string(), "bob");
        assert_eq!(format!("{user:>5}"), "  bob");
        assert_eq!(format!("{user:?}"), "UserId(bob)");
    }
}
