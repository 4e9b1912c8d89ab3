//! Trust: what a bundle that has just arrived means for what is known of its owner.
//!
//! First use pins the identity, as ssh does. From then on only the pinned identity, or one that it linked to, is
//! believed, and only forward: a lower sequence number is refused, and so is the same number with other content.

use crate::bundle::{BundleTimeError, KeyBundle};
use crate::identity::IdentityKey;
use crate::name::{Realm, UserId};
use crate::timestamp::Timestamp;

/// What is remembered of somebody's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Who they are.
    pub identity: IdentityKey,
    /// The highest sequence number seen from this identity.
    pub seq: u64,
    /// The digest of the bundle with that number.
    pub digest: [u8; 32],
    /// Whether the safety number was compared out of band.
    pub verified: bool,
}

impl Pin {
    /// The pin for a bundle's identity, not verified. For a first contact [`assess`] returns it. When a person decides
    /// to trust a changed identity, `assess(None, …)` is the way to its pin: this looks at neither realm, user nor time.
    #[must_use]
    pub fn new(bundle: &KeyBundle) -> Self {
        Self {
            identity: *bundle.identity(),
            seq: bundle.seq(),
            digest: bundle.digest(),
            verified: false,
        }
    }
}

/// What an accepted bundle means. Each has the pin to store in place of the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assessment {
    /// Nothing was known of this user.
    FirstContact {
        /// The pin to store.
        pin: Pin,
    },
    /// The bundle that is known already.
    Unchanged {
        /// The pin as it was.
        pin: Pin,
    },
    /// A newer bundle of the same identity: routine.
    Newer {
        /// The pin to store.
        pin: Pin,
    },
    /// Another identity, to which the pinned one signed over: to be shown. No longer verified.
    LinkedChange {
        /// The identity that was pinned.
        previous: IdentityKey,
        /// The pin to store.
        pin: Pin,
    },
}

impl Assessment {
    /// The pin to store.
    #[must_use]
    pub const fn pin(&self) -> &Pin {
        match self {
            Self::FirstContact { pin }
            | Self::Unchanged { pin }
            | Self::Newer { pin }
            | Self::LinkedChange { pin, .. } => pin,
        }
    }
}

/// Why a bundle is not believed. The pin stays as it is, and nothing is sealed to this bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BundleRefused {
    /// It is for another realm.
    #[error("the key bundle is for another realm")]
    WrongRealm,
    /// It is somebody else's.
    #[error("the key bundle is somebody else's")]
    WrongUser,
    /// Its identity is not the pinned one, and the pinned one did not sign over to it. Blocks until a person decides.
    ///
    /// A pin does not know its predecessors, but the bundle that was last believed does: when `offered` is the
    /// [`old`](crate::IdentityLink::old) of one of its links, it was replaced and there is nothing to decide.
    #[error("the identity has changed from {pinned} to {offered} without a link")]
    IdentityChanged {
        /// Who is known.
        pinned: IdentityKey,
        /// Who is offered.
        offered: IdentityKey,
    },
    /// It is older than one that was seen: somebody replays it, perhaps because its key leaked.
    #[error("the key bundle has number {got}, but {seen} was seen before")]
    RolledBack {
        /// The highest number seen.
        seen: u64,
        /// The number it has.
        got: u64,
    },
    /// Another bundle with the same number was seen: two parties sign with this identity.
    #[error("two different key bundles have number {seq}")]
    Forked {
        /// The number.
        seq: u64,
    },
    /// It was created too far ahead of our clock.
    #[error("the key bundle is from the future ({created}); one of the two clocks is wrong")]
    FromTheFuture {
        /// When it says it was created.
        created: Timestamp,
    },
    /// It has expired; its owner must publish a new one.
    #[error("the key bundle expired at {expires}")]
    Expired {
        /// Until when it was valid.
        expires: Timestamp,
    },
}

impl From<BundleTimeError> for BundleRefused {
    fn from(error: BundleTimeError) -> Self {
        match error {
            BundleTimeError::FromTheFuture { created } => Self::FromTheFuture { created },
            BundleTimeError::Expired { expires } => Self::Expired { expires },
        }
    }
}

/// Decides what a bundle, found on `keys/<user>` in `realm`, means for the pin that is stored for `user`.
///
/// Pure: the caller stores [`Assessment::pin`] before it acts on the bundle.
///
/// # Errors
/// The gravest reason not to believe it: whose it is, then who signed it, then its number, then its time.
pub fn assess(
    pin: Option<&Pin>,
    bundle: &KeyBundle,
    realm: &Realm,
    user: &UserId,
    now: Timestamp,
) -> Result<Assessment, BundleRefused> {
    if bundle.realm() != realm {
        return Err(BundleRefused::WrongRealm);
    }
    if bundle.user() != user {
        return Err(BundleRefused::WrongUser);
    }
    let offered = Pin::new(bundle);
    let assessment = match pin {
        None => Assessment::FirstContact { pin: offered },
        Some(pin) if pin.identity == offered.identity => same_identity(pin, &offered)?,
        // The links are one chain that ends in the bundle's identity, so whoever is an `old` in it led here.
        Some(pin)
            if bundle
                .links()
                .iter()
                .any(|link| *link.old() == pin.identity) =>
        {
            Assessment::LinkedChange {
                previous: pin.identity,
                pin: offered,
            }
        }
        Some(pin) => {
            return Err(BundleRefused::IdentityChanged {
                pinned: pin.identity,
                offered: offered.identity,
            });
        }
    };
    bundle.check_time(now)?;
    Ok(assessment)
}

/// The bundle is signed by the pinned identity: only its number is in question.
fn same_identity(pin: &Pin, offered: &Pin) -> Result<Assessment, BundleRefused> {
    if offered.seq < pin.seq {
        return Err(BundleRefused::RolledBack {
            seen: pin.seq,
            got: offered.seq,
        });
    }
    if offered.seq > pin.seq {
        return Ok(Assessment::Newer {
            pin: Pin {
                verified: pin.verified,
                ..*offered
            },
        });
    }
    if offered.digest != pin.digest {
        return Err(BundleRefused::Forked { seq: pin.seq });
    }
    Ok(Assessment::Unchanged { pin: *pin })
}
