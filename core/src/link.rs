//! Links: how an identity is succeeded by another without anybody being asked to trust blindly.

use core::fmt;

use crate::identity::{BadSignature, Identity, IdentityKey, Signature};
use crate::json::{EncodingError, Object, Writer};
use crate::name::{Realm, UserId};
use crate::timestamp::Timestamp;
use crate::transcript::Transcript;

/// The members of a link, in order.
const MEMBERS: [&str; 4] = ["old", "new", "at", "sig"];

/// A statement by an old identity: from now on this other one is me.
#[derive(Clone, PartialEq, Eq)]
pub struct IdentityLink {
    old: IdentityKey,
    new: IdentityKey,
    at: Timestamp,
    signature: Signature,
}

impl IdentityLink {
    /// Signs over to `new`.
    #[must_use]
    pub fn sign(
        realm: &Realm,
        user: &UserId,
        old: &Identity,
        new: &IdentityKey,
        at: Timestamp,
    ) -> Self {
        let signature = old.sign(&transcript(realm, user, &old.key(), new, at));
        Self {
            old: old.key(),
            new: *new,
            at,
            signature,
        }
    }

    /// Who hands over.
    #[must_use]
    pub const fn old(&self) -> &IdentityKey {
        &self.old
    }

    /// Who takes over.
    #[must_use]
    pub const fn new_identity(&self) -> &IdentityKey {
        &self.new
    }

    /// When, by the owner's clock.
    #[must_use]
    pub const fn at(&self) -> Timestamp {
        self.at
    }

    /// The old identity's signature.
    #[must_use]
    pub const fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Checks the old identity's signature, for this realm and user.
    pub(crate) fn verify(&self, realm: &Realm, user: &UserId) -> Result<(), BadSignature> {
        self.old.verify(
            &transcript(realm, user, &self.old, &self.new, self.at),
            &self.signature,
        )
    }

    pub(crate) fn read(text: &str) -> Result<Self, EncodingError> {
        let fields = Object::parse(text)?.expect(&MEMBERS)?;
        Ok(Self {
            old: fields.identity("old")?,
            new: fields.identity("new")?,
            at: fields.time("at")?,
            signature: Signature::from_bytes(fields.array("sig")?),
        })
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.binary("old", self.old.as_bytes());
        writer.binary("new", self.new.as_bytes());
        writer.bare("at", self.at);
        writer.binary("sig", self.signature.as_bytes());
    }

    /// The link's own four fields, as they enter the bundle's transcript.
    pub(crate) fn fields(&self, transcript: Transcript) -> Transcript {
        transcript
            .bytes(self.old.as_bytes())
            .bytes(self.new.as_bytes())
            .integer(self.at.millis())
            .bytes(self.signature.as_bytes())
    }
}

impl fmt::Debug for IdentityLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "IdentityLink({} to {} at {})",
            self.old, self.new, self.at
        )
    }
}

/// T("sealpost/1 link", realm, user, old, new, at).
fn transcript(
    realm: &Realm,
    user: &UserId,
    old: &IdentityKey,
    new: &IdentityKey,
    at: Timestamp,
) -> alloc::vec::Vec<u8> {
    Transcript::new("sealpost/1 link")
        .bytes(realm.as_str().as_bytes())
        .bytes(user.as_str().as_bytes())
        .bytes(old.as_bytes())
        .bytes(new.as_bytes())
        .integer(at.millis())
        .finish()
}
