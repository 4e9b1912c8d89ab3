//! What a device does with `sealpost-core`: believes the keys of whom it reports to, and seals readings for them.
//!
//! No std, no allocator of its own, and of cryptography RSA's public operation, AES-GCM, SHA-2 and Ed25519: no RSA private key,
//! and nothing of aws-lc-rs.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::borrow::ToOwned;

use sealpost_core::rand_core::CryptoRng;
use sealpost_core::{
    Assessment, BundleError, BundleRefused, ContactLink, Content, Envelope, Identity, KeyBundle,
    MessageId, SealError, Sealer, Timestamp, UserId, assess,
};

/// The kind of content that a device sends.
const READING: &str = "reading";

/// Why a device cannot report to somebody.
#[derive(Debug)]
pub enum NotBelieved {
    /// What lies under their name is no bundle.
    Malformed(BundleError),
    /// It is not one to believe.
    Refused(BundleRefused),
    /// It is of another identity than the link's.
    OtherIdentity,
    /// There is nothing in it to seal to.
    Sealing(SealError),
}

/// A device that reports to one person.
pub struct Device {
    sealer: Sealer,
    last: Option<MessageId>,
}

impl Device {
    /// A device of this name and identity that reports to whom the contact link names, under the bundle that it found at
    /// `keys/<user>`.
    ///
    /// # Errors
    /// When that bundle is not theirs.
    pub fn new(
        identity: &Identity,
        name: &UserId,
        link: &ContactLink,
        bundle: &[u8],
        now: Timestamp,
    ) -> Result<Device, NotBelieved> {
        let bundle = KeyBundle::parse(bundle).map_err(NotBelieved::Malformed)?;
        let assessed = assess(None, &bundle, &link.realm, &link.user, now);
        match assessed.map_err(NotBelieved::Refused)? {
            Assessment::FirstContact { pin } if pin.identity == link.identity => {}
            _ => return Err(NotBelieved::OtherIdentity),
        }
        let sealer = Sealer::burst(identity, name, &bundle).map_err(NotBelieved::Sealing)?;
        Ok(Device { sealer, last: None })
    }

    /// Seals a reading: a JSON object whose `kind` is `reading`.
    ///
    /// # Errors
    /// When it is none, or too long.
    pub fn seal(
        &mut self,
        rng: &mut impl CryptoRng,
        now: Timestamp,
        json: &str,
    ) -> Result<Envelope, SealError> {
        let content = Content::Other {
            kind: READING.to_owned(),
            json: json.to_owned(),
        };
        let id = MessageId::new(now, rng);
        let envelope = self.sealer.seal(rng, now, id, self.last, &content)?;
        self.last = Some(id);
        Ok(envelope)
    }
}
