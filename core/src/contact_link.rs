//! Contact links: who somebody is and where to find them, handed on outside of Sealpost.

use alloc::borrow::ToOwned;
use alloc::string::String;
use core::fmt;

use crate::identity::IdentityKey;
use crate::name::{Realm, UserId};
use crate::uri::{self, UriError};

/// How a contact link begins.
const START: &str = "sealpost:contact?";
/// Its members behind `v`, in order.
const MEMBERS: [&str; 4] = ["realm", "user", "identity", "broker"];
/// The longest address of a broker, in bytes: three times as long when every one is escaped, it still fits.
const MAX_BROKER: usize = 255;

/// A person's name, identity and broker. Whoever takes it from that person pins the identity before the broker can say
/// anything. It is no secret, and gives no leave to claim a name: that is an [`Invitation`](crate::Invitation).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContactLink {
    /// The deployment.
    pub realm: Realm,
    /// Who.
    pub user: UserId,
    /// Their identity.
    pub identity: IdentityKey,
    broker: String,
}

impl ContactLink {
    /// A link to somebody at a broker.
    ///
    /// # Errors
    /// [`UriError::BadBroker`] when the address is empty, too long, or has a character that is not visible ASCII.
    pub fn new(
        realm: Realm,
        user: UserId,
        identity: IdentityKey,
        broker: &str,
    ) -> Result<Self, UriError> {
        let visible = broker.bytes().all(|byte| byte.is_ascii_graphic());
        if broker.is_empty() || broker.len() > MAX_BROKER || !visible {
            return Err(UriError::BadBroker);
        }
        Ok(Self {
            realm,
            user,
            identity,
            broker: broker.to_owned(),
        })
    }

    /// Reads a link.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, UriError> {
        let [realm, user, identity, escaped] = uri::members(text, START, MEMBERS)?;
        let link = Self::new(
            uri::realm(realm)?,
            uri::user("user", user)?,
            uri::key("identity", identity)?,
            &unescape(escaped).ok_or(UriError::BadBroker)?,
        )?;
        if escape(&link.broker) != escaped {
            return Err(UriError::BadBroker);
        }
        Ok(link)
    }

    /// The broker's address, such as `mqtts://broker.example.org`. What it means is for its reader to judge.
    #[must_use]
    pub fn broker(&self) -> &str {
        &self.broker
    }
}

impl fmt::Display for ContactLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut link = START.to_owned() + "v=1";
        uri::push(&mut link, "realm", self.realm.as_str());
        uri::push(&mut link, "user", self.user.as_str());
        uri::push_key(&mut link, "identity", &self.identity);
        uri::push(&mut link, "broker", &escape(&self.broker));
        f.write_str(&link)
    }
}

/// Whether a character stands for itself: RFC 3986's unreserved ones, and the two without which an address is not read.
const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':' | b'/')
}

/// Percent-encoding (RFC 3986 section 2.1) of all that is not plain.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if is_plain(byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&alloc::format!("%{byte:02X}"));
        }
    }
    escaped
}

/// Undoes it; other spellings are found by escaping again.
fn unescape(escaped: &str) -> Option<String> {
    let mut text = String::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some(byte) = rest.bytes().next() {
        let taken = if byte == b'%' {
            let code = u8::from_str_radix(rest.get(1..3)?, 16).ok()?;
            text.push(char::from(code));
            3
        } else {
            text.push(char::from(byte));
            1
        };
        rest = rest.get(taken..)?;
    }
    Some(text)
}
