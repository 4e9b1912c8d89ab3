//! Who signs for whom: the identities that the key bundles in the history name. With it the archiver can say of an envelope
//! whether its signature is its sender's. It never drops one for that: an archive keeps what was sent.

use std::collections::{BTreeSet, HashMap};

use sealpost_archive::layout::LogName;
use sealpost_archive::line::{Body, Line, Verified};
use sealpost_archive::log_reader::{LogReader, ReadError, Selection};
use sealpost_archive::storage::StoredFile;
use sealpost_core::{Envelope, IdentityKey, KeyBundle, Realm, UserId};

use crate::arrival::Arrival;

/// The identities of users, as far as bundles were seen: about 100 bytes for each user of the broker.
#[derive(Debug)]
pub struct Signers {
    realm: Realm,
    identities: HashMap<UserId, BTreeSet<IdentityKey>>,
}

impl Signers {
    /// Nobody yet, in a realm.
    #[must_use]
    pub fn new(realm: Realm) -> Signers {
        Signers {
            realm,
            identities: HashMap::new(),
        }
    }

    /// Those that a key history names, in a realm.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn of<F: StoredFile>(realm: Realm, history: &LogReader<F>) -> Result<Signers, ReadError> {
        let mut signers = Signers::new(realm);
        let mut lines = history.lines(Selection::default());
        while let Some(found) = lines.next_line()? {
            // What is damaged says nothing; whoever opened the log has looked for damage.
            if let Ok(line) = Line::parse(found.bytes)
                && let Body::Message(message) = line.body
                && message.error.is_none()
                && let Ok(bundle) = KeyBundle::parse(&message.payload)
            {
                signers.learn(&bundle);
            }
        }
        Ok(signers)
    }

    /// Takes in whom a bundle of the realm names: its identity, and those it came from.
    pub fn learn(&mut self, bundle: &KeyBundle) {
        if *bundle.realm() != self.realm {
            return;
        }
        let identities = self.identities.entry(bundle.user().clone()).or_default();
        identities.insert(*bundle.identity());
        identities.extend(bundle.links().iter().map(|link| *link.old()));
    }

    /// Whether the signature of an envelope is its sender's.
    #[must_use]
    pub fn judge(&self, envelope: &Envelope) -> Verified {
        if envelope.verify_signature().is_err() {
            return Verified::False;
        }
        let known = *envelope.realm() == self.realm
            && self
                .identities
                .get(envelope.from())
                .is_some_and(|identities| identities.contains(envelope.signer()));
        if known {
            Verified::True
        } else {
            Verified::Unknown
        }
    }

    /// Learns from a bundle, judges an envelope; lets all else be.
    pub fn look_at(&mut self, arrival: &mut Arrival) {
        if arrival.fault.is_some() {
            return;
        }
        match arrival.log {
            LogName::KeyHistory => {
                if let Ok(bundle) = KeyBundle::parse(&arrival.payload) {
                    self.learn(&bundle);
                }
            }
            LogName::EncryptedLogs => {
                arrival.verified = Envelope::parse(&arrival.payload)
                    .ok()
                    .map(|envelope| self.judge(&envelope));
            }
        }
    }
}
