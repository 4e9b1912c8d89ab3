//! The evidence of a log: its tree, the tiles of it, and signed tree heads. It runs on a thread of its own, behind the
//! committer, and is told of lines only when they are on the medium: so no tree head is signed for what a crash could take away.
//!
//! Tiles are not synced: they can be made again from the lines, and are, at the next start, for all lines that are not sealed.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use sealpost_archive::checkpoint::{CheckpointError, CheckpointSigner, MAX_NOTE};
use sealpost_archive::hash::Hash;
use sealpost_archive::layout::LogName;
use sealpost_archive::log_reader::{ReadError, read_whole};
use sealpost_archive::storage::{self, Storage, StoredFile as _};
use sealpost_archive::tree::{Tree, TreeHead};

/// How long lines wait for their tree head at the most, when the disk works. A head costs a sync and a signature, so
/// not every batch has one.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// Why a log does not go with its newest checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// The checkpoint could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The checkpoint is none of this log, or of another key.
    #[error("the checkpoint {path} does not count: {reason}")]
    Checkpoint {
        /// The file, below the archive's directory.
        path: String,
        /// What is wrong with it.
        reason: CheckpointError,
    },
    /// Lines are missing that were signed.
    #[error("the log ends with line {lines}, but its checkpoint signs {signed} lines")]
    Shorter {
        /// How many lines there are.
        lines: u64,
        /// How many were signed.
        signed: u64,
    },
    /// Lines are not those that were signed.
    #[error(
        "the first {signed} lines are not those that the checkpoint signs: their root is {found}, not {expected}"
    )]
    Changed {
        /// How many were signed.
        signed: u64,
        /// The root that was signed.
        expected: Hash,
        /// The root of the lines that are there.
        found: Hash,
    },
}

/// The newest signed tree head of a log; `None` if nothing was signed yet.
///
/// # Errors
/// [`EvidenceError::Read`] and [`EvidenceError::Checkpoint`].
pub fn signed_head<S: Storage>(
    storage: &S,
    log: LogName,
    signer: &CheckpointSigner,
) -> Result<Option<TreeHead>, EvidenceError> {
    let path = log.checkpoint();
    let Some(note) = read_whole(storage, &path, MAX_NOTE as u64)? else {
        return Ok(None);
    };
    let verifier = signer.verifier().map_err(|_| CheckpointError::Unsignable);
    verifier
        .and_then(|verifier| verifier.verify(&note))
        .map(Some)
        .map_err(|reason| EvidenceError::Checkpoint { path, reason })
}

/// The tree of a log, and what was made public of it.
#[derive(Debug)]
pub struct Evidence<S> {
    storage: S,
    log: LogName,
    tree: Tree,
    signer: CheckpointSigner,
    /// How many lines the newest checkpoint signs.
    signed: u64,
}

impl<S: Storage> Evidence<S> {
    /// Goes on with `tree`, of which `signed` lines are signed.
    #[must_use]
    pub fn new(
        storage: S,
        log: LogName,
        tree: Tree,
        signer: CheckpointSigner,
        signed: u64,
    ) -> Evidence<S> {
        Evidence {
            storage,
            log,
            tree,
            signer,
            signed,
        }
    }

    /// Takes in the leaves of lines that are on the medium.
    pub fn add(&mut self, leaves: impl IntoIterator<Item = Hash>) {
        for leaf in leaves {
            self.tree.push(leaf);
        }
    }

    /// Whether there are lines that no checkpoint signs.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.signed < self.tree.size()
    }

    /// Writes the tiles of the tree as it is now, and then its checkpoint.
    ///
    /// # Errors
    /// Whatever the disk says. What was not written is written the next time.
    pub fn publish(&mut self) -> io::Result<TreeHead> {
        let full = self.tree.take_full_tiles();
        for (place, tile) in full.iter().enumerate() {
            if let Err(error) = self.write_tile(&tile.path, &tile.bytes) {
                self.tree.give_back(full.into_iter().skip(place).collect());
                return Err(error);
            }
        }
        for tile in self.tree.partial_tiles().collect::<Vec<_>>() {
            self.write_tile(&tile.path, &tile.bytes)?;
        }
        let head = self.tree.head();
        let note = self
            .signer
            .sign(head)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        storage::replace(&self.storage, &self.log.checkpoint(), &note)?;
        self.signed = head.size;
        Ok(head)
    }

    /// Writes a tile, in the place of what an earlier life may have left there.
    fn write_tile(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.log.place(path);
        if let Some((folder, _)) = path.rsplit_once('/') {
            self.storage.make_directory(folder)?;
        }
        let mut file = self.storage.open(&path)?;
        file.truncate(0)?;
        file.append(bytes)
    }
}

/// Publishes what comes over `synced`, at most once in [`INTERVAL`], until nobody sends any more; then once more.
///
/// A disk that fails here is no reason to stop archiving: it is said once, and tried again. Whatever is acknowledged is in the lines.
pub fn publish_all<S: Storage>(
    mut evidence: Evidence<S>,
    synced: &Receiver<Vec<Hash>>,
    mut on_signed: impl FnMut(TreeHead),
) {
    let mut failing = false;
    let mut due = Instant::now();
    loop {
        let wait = if evidence.is_behind() {
            due.saturating_duration_since(Instant::now())
        } else {
            Duration::MAX
        };
        match synced.recv_timeout(wait) {
            Ok(leaves) => {
                evidence.add(leaves);
                if Instant::now() < due {
                    continue;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        due = Instant::now() + INTERVAL;
        publish(&mut evidence, &mut failing, &mut on_signed);
    }
    if evidence.is_behind() {
        publish(&mut evidence, &mut failing, &mut on_signed);
    }
}

fn publish<S: Storage>(
    evidence: &mut Evidence<S>,
    failing: &mut bool,
    on_signed: &mut impl FnMut(TreeHead),
) {
    match evidence.publish() {
        Ok(head) => {
            on_signed(head);
            tracing::debug!(log = evidence.log.as_str(), lines = head.size, "signed");
            if std::mem::take(failing) {
                tracing::info!(log = evidence.log.as_str(), "checkpoints are written again");
            }
        }
        Err(error) => {
            if !std::mem::replace(failing, true) {
                tracing::error!(
                    log = evidence.log.as_str(),
                    "cannot write the checkpoint: {error}; archiving goes on, and it is tried again"
                );
            }
        }
    }
}
