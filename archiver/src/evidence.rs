//! The evidence of a log: its tree, the tiles of it, and signed tree heads. It runs on a thread of its own, behind the
//! committer, and is told of lines only when they are on the medium: so no tree head is signed for what a crash could take away.
//!
//! Tiles are not synced here: they can be made again from the lines, and are, at the next start, for all lines that are not sealed.
//! Since it knows the tree at each line, what is to be done to files that end at a line goes through it to the keeper.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use sealpost_archive::checkpoint::{CheckpointError, CheckpointSigner, MAX_NOTE};
use sealpost_archive::hash::Hash;
use sealpost_archive::layout::LogName;
use sealpost_archive::log_reader::{ReadError, read_whole};
use sealpost_archive::storage::{self, Storage};
use sealpost_archive::tree::{TileFile, Tree, TreeHead};

use crate::keeper::Job;
use crate::tiles::Tiles;
use crate::writer::{FullFile, Removal};

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

/// What became of a log, in the order in which it did.
#[derive(Debug)]
pub enum Synced {
    /// Lines are on the medium, with these leaves.
    Lines(Vec<Hash>),
    /// The active file is full and out of the way; this is its first line, and its last is the last one that was told of.
    Full(u64),
    /// A record of a removal is on the medium.
    Removal(Removal),
}

/// The tree of a log, and what was made public of it.
#[derive(Debug)]
pub struct Evidence<S> {
    storage: S,
    log: LogName,
    tree: Tree,
    tiles: Arc<Tiles<S>>,
    signer: CheckpointSigner,
    /// How many lines the newest checkpoint signs.
    signed: u64,
    /// Whether the tiles of this size are written.
    tiled: bool,
}

impl<S: Storage + Clone> Evidence<S> {
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
            tiles: Arc::new(Tiles::new(storage.clone(), log)),
            storage,
            log,
            tree,
            signer,
            signed,
            tiled: false,
        }
    }
}

impl<S: Storage> Evidence<S> {
    /// Where its tiles are.
    #[must_use]
    pub fn tiles(&self) -> Arc<Tiles<S>> {
        Arc::clone(&self.tiles)
    }

    /// The tree over all lines that it was told of.
    #[must_use]
    pub fn head(&self) -> TreeHead {
        self.tree.head()
    }

    /// Takes in the leaves of lines that are on the medium.
    pub fn add(&mut self, leaves: impl IntoIterator<Item = Hash>) {
        for leaf in leaves {
            self.tree.push(leaf);
        }
    }

    /// Whether there are lines that no checkpoint signs, or tiles that an earlier life may not have written.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.tree.size() > 0 && (self.signed < self.tree.size() || !self.tiled)
    }

    /// Writes the tiles of the tree as it is now, and then its checkpoint.
    ///
    /// # Errors
    /// Whatever the disk says. What was not written is written the next time.
    pub fn publish(&mut self) -> io::Result<TreeHead> {
        let full = self.tree.take_full_tiles();
        for (place, tile) in full.iter().enumerate() {
            if let Err(error) = self.write_full(tile, full.get(..place).unwrap_or_default()) {
                self.tree.give_back(full.into_iter().skip(place).collect());
                return Err(error);
            }
        }
        for tile in self.tree.partial_tiles() {
            self.tiles.write(&tile)?;
        }
        self.tiled = true;
        let head = self.tree.head();
        if self.signed != head.size {
            let note = self
                .signer
                .sign(head)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
            storage::replace(&self.storage, &self.log.checkpoint(), &note)?;
            self.signed = head.size;
        }
        Ok(head)
    }

    /// Writes a full tile; `before` are those that were written since the last checkpoint. The first one of a level stands in the place
    /// of narrower ones, of which there may be one for each checkpoint: it is made durable, and they are removed.
    fn write_full(&self, tile: &TileFile, before: &[TileFile]) -> io::Result<()> {
        let level = |tile: &TileFile| tile.path.split('/').nth(1).map(str::to_owned);
        if before.iter().any(|other| level(other) == level(tile)) {
            return self.tiles.write(tile);
        }
        self.tiles.write_durably([tile])?;
        self.tiles.remove_narrower(tile)
    }
}

/// Publishes what comes over `synced`, at most once in [`INTERVAL`], until nobody sends any more; then once more.
///
/// A disk that fails here is no reason to stop archiving: it is said once, and tried again. Whatever is acknowledged is in the lines.
pub fn publish_all<S: Storage>(
    mut evidence: Evidence<S>,
    synced: &Receiver<Synced>,
    mut on_signed: impl FnMut(TreeHead),
    jobs: &Sender<Job>,
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
            Ok(synced) => {
                match synced {
                    Synced::Lines(leaves) => evidence.add(leaves),
                    // Nobody takes it when the process ends: then the next start does.
                    Synced::Full(first) => {
                        let head = evidence.tree.head();
                        let _ = jobs.send(Job::Seal(FullFile { first, head }));
                    }
                    Synced::Removal(removal) => {
                        let _ = jobs.send(Job::Remove(removal));
                    }
                }
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
