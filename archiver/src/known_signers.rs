//! The keys of those who signed lately, so that a key is looked at once and not with each of their envelopes.

use std::collections::HashSet;

use sealpost_core::{Envelope, EnvelopeError, IdentityKey};

/// How many keys are known at most, each of 32 bytes and its place in a table: half a megabyte. With more senders than that at a
/// time, some are looked at again.
const MAX_KNOWN: usize = 8_192;

/// A bounded set of keys that were good when they were looked at, as they still are.
#[derive(Debug, Default)]
pub struct KnownSigners(HashSet<IdentityKey>);

impl KnownSigners {
    /// Reads an envelope.
    ///
    /// # Errors
    /// As [`Envelope::parse`].
    pub fn read(&mut self, bytes: &[u8]) -> Result<Envelope, EnvelopeError> {
        let envelope = Envelope::parse_knowing(bytes, |key| self.0.get(key).copied())?;
        if !self.0.contains(envelope.signer()) {
            if self.0.len() == MAX_KNOWN {
                self.0.clear();
            }
            self.0.insert(*envelope.signer());
        }
        Ok(envelope)
    }
}
