//! What an archive keeps of ours: the messages that were sent to us, opened with the keys that we still have. The archive is read
//! and nothing else; the store is asked whom we trust, and not changed.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use sealpost_archive::layout::LogName;
use sealpost_archive::line::{Body, Line};
use sealpost_archive::log_reader::{LogReader, ReadError, Selection};
use sealpost_archive::storage::Directory;
use sealpost_core::{
    BurstCache, Content, DecryptionKey, Envelope, IdentityKey, KeyBundle, MessageId, OpenError,
    Realm, Recipient, Seen, Timestamp, Topic, UserId, open,
};
use zeroize::Zeroizing;

use crate::account::Account;
use crate::store::{HistoryEntry, HistoryRange, Side, Store, StoreError};

/// Why an archive could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// There is no such directory, or it may not be read.
    #[error("cannot read the archive {path}: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// There is no archive in it.
    #[error("there is no archive in {0}")]
    None(PathBuf),
    /// It is damaged.
    #[error("the archive cannot be read: {0}")]
    Read(#[from] ReadError),
    /// The contacts could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What could not be opened, and why.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unopened {
    /// The key that they are sealed to is not here, or no longer.
    pub key_gone: u64,
    /// Nobody vouches that the signer was the sender.
    pub not_the_senders: u64,
    /// A signature that does not hold, or what does not decrypt.
    pub damaged: u64,
}

impl Unopened {
    /// How many.
    #[must_use]
    pub fn count(self) -> u64 {
        self.key_gone + self.not_the_senders + self.damaged
    }
}

/// An archive, and who reads it.
pub struct Archived<'a> {
    reader: LogReader<std::fs::File>,
    account: &'a Account,
    /// Under which identities each sender may have signed.
    signers: BTreeMap<UserId, BTreeSet<IdentityKey>>,
}

/// Nothing is marked as seen, so nothing was: what comes twice is known by its name.
struct Everything;

impl Seen for Everything {
    fn contains(&self, _from: &UserId, _id: &MessageId) -> bool {
        false
    }

    fn floor(&self, _from: &UserId) -> Option<Timestamp> {
        None
    }
}

impl<'a> Archived<'a> {
    /// Opens the archive in `directory` for `account`, whose contacts are in `store`.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn open(
        directory: &Path,
        account: &'a Account,
        store: &Store,
    ) -> Result<Archived<'a>, ArchiveError> {
        let storage = Directory::existing(directory).map_err(|source| ArchiveError::Directory {
            path: directory.to_owned(),
            source,
        })?;
        let reader = LogReader::open(&storage, LogName::EncryptedLogs)?;
        if reader.parts().is_empty() {
            return Err(ArchiveError::None(directory.to_owned()));
        }
        let history = LogReader::open(&storage, LogName::KeyHistory)?;
        Ok(Archived {
            signers: signers(account.realm(), store, &history)?,
            reader,
            account,
        })
    }

    /// Calls `take` for each message of the range that could be opened, oldest first, until it says `false`. One that its sender
    /// sealed anew, for a new key say, is several times in an archive and given once. 150 bytes of memory for each.
    ///
    /// # Errors
    /// [`ArchiveError::Read`].
    pub fn each(
        &self,
        range: &HistoryRange,
        mut take: impl FnMut(HistoryEntry, &Content) -> bool,
    ) -> Result<Unopened, ArchiveError> {
        let inbox = Topic::Inbox(self.account.user().clone()).to_string();
        let all = Selection::default();
        let since = range.since.unwrap_or(*all.times.start());
        let until = range.until.unwrap_or(*all.times.end());
        let mut lines = self.reader.lines(Selection {
            times: since..=until,
            ..all
        });
        let mut cache = BurstCache::new();
        let mut unopened = Unopened::default();
        let mut opened: HashSet<(UserId, MessageId)> = HashSet::new();
        let mut locked: HashSet<(UserId, MessageId)> = HashSet::new();
        while let Some(found) = lines.next_line()? {
            let at = found.archived_at;
            if at < since || range.until.is_some_and(|until| at >= until) {
                continue;
            }
            let Some(envelope) = envelope_for(&inbox, found.bytes) else {
                continue;
            };
            if range
                .with
                .as_ref()
                .is_some_and(|with| with != envelope.from())
            {
                continue;
            }
            let name = (envelope.from().clone(), *envelope.id());
            match self.open_one(&envelope, &mut cache) {
                // Receipts are nothing that anybody said.
                Ok(Content::Receipt(_)) => {}
                Ok(_) if opened.contains(&name) => {}
                Ok(content) => {
                    opened.insert(name);
                    let Ok(body) = content.to_json() else {
                        unopened.damaged += 1;
                        continue;
                    };
                    let entry = HistoryEntry {
                        side: Side::Theirs {
                            from: envelope.from().clone(),
                            id: *envelope.id(),
                            ts: envelope.ts(),
                            received: at,
                        },
                        imported: true,
                        body: Zeroizing::new(body.into_bytes()),
                        revised: None,
                        expires: None,
                    };
                    if !take(entry, &content) {
                        break;
                    }
                }
                Err(OpenError::UnknownKey) => {
                    locked.insert(name);
                }
                Err(OpenError::SignerIsNotPinned { .. }) => unopened.not_the_senders += 1,
                Err(_) => unopened.damaged += 1,
            }
        }
        unopened.key_gone = locked.difference(&opened).count() as u64;
        Ok(unopened)
    }

    /// Opens an envelope with whichever of our keys it is sealed to.
    fn open_one(&self, envelope: &Envelope, cache: &mut BurstCache) -> Result<Content, OpenError> {
        let signer = envelope.signer();
        let is_theirs = self
            .signers
            .get(envelope.from())
            .is_some_and(|identities| identities.contains(signer));
        if !is_theirs {
            return Err(OpenError::SignerIsNotPinned { signer: *signer });
        }
        let mut outcome = Err(OpenError::UnknownKey);
        for (identity, keys) in self.account.addressees() {
            let keys: Vec<&dyn DecryptionKey> = keys;
            let recipient = Recipient {
                realm: self.account.realm(),
                user: self.account.user(),
                identity: &identity,
                keys: &keys,
            };
            outcome = open(envelope, &recipient, signer, &Everything, cache);
            if !matches!(outcome, Err(OpenError::UnknownKey)) {
                break;
            }
        }
        outcome
    }
}

/// The envelope of a line that came to `inbox`; nothing for all else.
fn envelope_for(inbox: &str, line: &[u8]) -> Option<Envelope> {
    let Body::Message(message) = Line::parse(line).ok()?.body else {
        return None;
    };
    if message.error.is_some() || *message.topic != *inbox.as_bytes() {
        return None;
    }
    Envelope::parse(&message.payload).ok()
}

/// Under which identities senders may have signed: of somebody whom we know, the one we pinned and those that lead to it by signed
/// links; of others, what the archive's key history names.
fn signers(
    realm: &Realm,
    store: &Store,
    history: &LogReader<std::fs::File>,
) -> Result<BTreeMap<UserId, BTreeSet<IdentityKey>>, ArchiveError> {
    let pinned: BTreeMap<UserId, IdentityKey> = store
        .contacts()?
        .into_iter()
        .map(|contact| (contact.user, contact.pin.identity))
        .collect();
    let mut signers: BTreeMap<UserId, BTreeSet<IdentityKey>> = pinned
        .iter()
        .map(|(user, identity)| (user.clone(), BTreeSet::from([*identity])))
        .collect();
    let mut lines = history.lines(Selection::default());
    while let Some(found) = lines.next_line()? {
        let Some(bundle) = bundle_of(found.bytes).filter(|bundle| bundle.realm() == realm) else {
            continue;
        };
        // The links of a bundle are one chain, oldest first, and the last leads to its identity.
        let mut chain: Vec<IdentityKey> = bundle.links().iter().map(|link| *link.old()).collect();
        chain.push(*bundle.identity());
        let of_theirs = match pinned.get(bundle.user()) {
            None => chain.as_slice(),
            Some(pin) => {
                let place = chain.iter().position(|identity| identity == pin);
                chain
                    .get(..place.map_or(0, |place| place + 1))
                    .unwrap_or_default()
            }
        };
        signers
            .entry(bundle.user().clone())
            .or_default()
            .extend(of_theirs);
    }
    Ok(signers)
}

fn bundle_of(line: &[u8]) -> Option<KeyBundle> {
    let Body::Message(message) = Line::parse(line).ok()?.body else {
        return None;
    };
    match message.error {
        None => KeyBundle::parse(&message.payload).ok(),
        Some(_) => None,
    }
}
