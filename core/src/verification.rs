//! Verification texts: the QR code by which one device checks what another believes.

use alloc::borrow::ToOwned;
use core::fmt;

use crate::identity::IdentityKey;
use crate::name::{Realm, UserId};
use crate::uri::{self, UriError};

/// How a verification text begins.
const START: &str = "sealpost:verify?";
/// Its members behind `v`, in order.
const MEMBERS: [&str; 5] = ["realm", "user", "identity", "contact", "sees"];

/// Who shows it, and whom they see: both names with both identity keys, in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    /// The deployment.
    pub realm: Realm,
    /// Who shows it.
    pub user: UserId,
    /// Their own identity.
    pub identity: IdentityKey,
    /// Whom they are about to verify.
    pub contact: UserId,
    /// The identity that they know for that contact.
    pub sees: IdentityKey,
}

impl Verification {
    /// Reads what somebody else's screen shows.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, UriError> {
        let [realm, user, identity, contact, sees] = uri::members(text, START, MEMBERS)?;
        Ok(Self {
            realm: uri::realm(realm)?,
            user: uri::user("user", user)?,
            identity: uri::key("identity", identity)?,
            contact: uri::user("contact", contact)?,
            sees: uri::key("sees", sees)?,
        })
    }

    /// What the other side shows if it sees what we see.
    #[must_use]
    pub fn mirrored(&self) -> Self {
        Self {
            realm: self.realm.clone(),
            user: self.contact.clone(),
            identity: self.sees,
            contact: self.user.clone(),
            sees: self.identity,
        }
    }
}

impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = START.to_owned() + "v=1";
        uri::push(&mut text, "realm", self.realm.as_str());
        uri::push(&mut text, "user", self.user.as_str());
        uri::push_key(&mut text, "identity", &self.identity);
        uri::push(&mut text, "contact", self.contact.as_str());
        uri::push_key(&mut text, "sees", &self.sees);
        f.write_str(&text)
    }
}
