//! Opens envelopes for one recipient: one at a time, or on threads of their own.

use std::collections::HashSet;
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Mutex, PoisonError, RwLock};

use sealpost_core::{
    BurstCache, Content, DecryptionKey, Envelope, IdentityKey, MessageId, Realm, Recipient, Seen,
    Timestamp, UserId, open,
};

/// Who opens, and whose mail.
#[derive(Clone, Copy)]
pub(crate) struct Opener<'a> {
    /// The deployment.
    pub(crate) realm: &'a Realm,
    /// The name.
    pub(crate) user: &'a UserId,
    /// The identity.
    pub(crate) identity: &'a IdentityKey,
    /// The private key.
    pub(crate) key: &'a dyn DecryptionKey,
    /// The sender's pinned identity.
    pub(crate) pinned: &'a IdentityKey,
}

/// The text of an opened message, or why it was not opened.
pub(crate) type Outcome = Result<(MessageId, String), String>;

/// The names of messages that were opened before, in memory.
#[derive(Default)]
pub(crate) struct SeenIds(RwLock<HashSet<MessageId>>);

impl SeenIds {
    /// Marks a message as opened.
    pub(crate) fn insert(&self, id: MessageId) {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id);
    }
}

impl Seen for SeenIds {
    fn contains(&self, _from: &UserId, id: &MessageId) -> bool {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(id)
    }

    fn floor(&self, _from: &UserId) -> Option<Timestamp> {
        None
    }
}

impl Opener<'_> {
    /// Opens one envelope.
    pub(crate) fn open(&self, bytes: &[u8], seen: &SeenIds, cache: &mut BurstCache) -> Outcome {
        let envelope = Envelope::parse(bytes).map_err(|error| error.to_string())?;
        let recipient = Recipient {
            realm: self.realm,
            user: self.user,
            identity: self.identity,
            keys: &[self.key],
        };
        match open(&envelope, &recipient, self.pinned, seen, cache) {
            Ok(Content::Text { text }) => Ok((*envelope.id(), text)),
            Ok(other) => Err(format!("a message of kind {:?}", other.kind())),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Opens numbered envelopes as they are handed out, until there are no more.
    pub(crate) fn work(
        &self,
        jobs: &Mutex<Receiver<(u64, Vec<u8>)>>,
        outcomes: &Sender<(u64, Outcome)>,
        seen: &SeenIds,
    ) {
        let mut cache = BurstCache::new();
        loop {
            let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok((number, bytes)) = job else { return };
            if outcomes
                .send((number, self.open(&bytes, seen, &mut cache)))
                .is_err()
            {
                return;
            }
        }
    }
}
