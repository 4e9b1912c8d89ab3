//! `sealpost:` URIs, in exactly one spelling: what two people hand to each other outside of Sealpost, as text or as a QR
//! code.

use alloc::string::String;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::identity::IdentityKey;
use crate::name::{Realm, UserId};

/// The longest URI, in characters: fits a QR code that a phone reads from a screen.
pub const MAX_URI: usize = 1_024;

/// Why a text is not the `sealpost:` URI that it should be. It never names what was given: that may be nearly a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UriError {
    /// There are more than [`MAX_URI`] characters.
    #[error("it has more than {MAX_URI} characters")]
    TooLong,
    /// It does not begin as such a URI does.
    #[error("it does not begin with {start}")]
    OtherStart {
        /// How it should.
        start: &'static str,
    },
    /// It is of another version of the format.
    #[error("it is of a version that is not known")]
    UnknownVersion,
    /// The members are not the ones it has, each once and in order.
    #[error("its members are not the right ones")]
    WrongMembers,
    /// A name of a realm or a user is malformed.
    #[error("its {member} is no name")]
    BadName {
        /// Which.
        member: &'static str,
    },
    /// An identity key is not base64url, or no identity key.
    #[error("its {member} is no identity key")]
    BadKey {
        /// Which.
        member: &'static str,
    },
    /// The broker's address is empty, too long, escaped in another way than the one, or not of visible characters.
    #[error("its broker is no address")]
    BadBroker,
}

/// The values of the members, which are `names`, each once and in order, after `start` and `v=1`.
pub(crate) fn members<'a, const N: usize>(
    text: &'a str,
    start: &'static str,
    names: [&'static str; N],
) -> Result<[&'a str; N], UriError> {
    if text.len() > MAX_URI {
        return Err(UriError::TooLong);
    }
    let query = text
        .strip_prefix(start)
        .ok_or(UriError::OtherStart { start })?;
    let mut given = query.split('&');
    match given.next().and_then(|first| first.strip_prefix("v=")) {
        Some("1") => {}
        Some(_) => return Err(UriError::UnknownVersion),
        None => return Err(UriError::WrongMembers),
    }
    let mut values = [""; N];
    for (value, name) in values.iter_mut().zip(names) {
        *value = given
            .next()
            .and_then(|member| member.split_once('='))
            .filter(|(given, _)| *given == name)
            .map(|(_, value)| value)
            .ok_or(UriError::WrongMembers)?;
    }
    if given.next().is_some() {
        return Err(UriError::WrongMembers);
    }
    Ok(values)
}

pub(crate) fn realm(text: &str) -> Result<Realm, UriError> {
    Realm::parse(text).map_err(|_| UriError::BadName { member: "realm" })
}

pub(crate) fn user(member: &'static str, text: &str) -> Result<UserId, UriError> {
    UserId::parse(text).map_err(|_| UriError::BadName { member })
}

pub(crate) fn key(member: &'static str, text: &str) -> Result<IdentityKey, UriError> {
    let bad = UriError::BadKey { member };
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| bad)?;
    IdentityKey::parse(&bytes).map_err(|_| bad)
}

/// Adds `&name=` and the key.
pub(crate) fn push_key(uri: &mut String, name: &str, key: &IdentityKey) {
    push(uri, name, "");
    BASE64_URL_SAFE_NO_PAD.encode_string(key.as_bytes(), uri);
}

/// Adds `&name=` and a value in which nothing needs an escape.
pub(crate) fn push(uri: &mut String, name: &str, value: &str) {
    uri.push('&');
    uri.push_str(name);
    uri.push('=');
    uri.push_str(value);
}
