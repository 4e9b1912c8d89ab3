//! Proofs that hold without the archive: that a line is in it, and that it only grew.
//!
//! A proof of a line is a file as c2sp.org/tlog-proof has it: the line (as the extra data), its place, the hashes up to the root,
//! and the checkpoint. Both kinds are made out of the tiles, or of the lines where tiles are missing, and are checked before they are
//! given.

use std::cell::RefCell;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tlog_tiles::{HashReader, check_record, check_tree, prove_record, prove_tree};

use crate::checkpoint::{CheckpointError, CheckpointVerifier, MAX_NOTE};
use crate::hash::Hash;
use crate::layout::{self, LogName};
use crate::line::{Body, Line, LineError, MAX_LINE};
use crate::log_reader::{LogReader, ReadError, Selection, read_whole};
use crate::storage::Storage;
use crate::tree::{TILE_BYTES, TILE_HEIGHT, TILE_WIDTH, Tree, TreeHead, hash_in_tile};

/// The first line of a proof.
const VERSION: &str = "c2sp.org/tlog-proof@v1";

/// The longest path up a tree of 2^53 lines.
const MAX_HASHES: usize = 53;

/// The longest proof, in bytes: the line as base64, the hashes, the checkpoint.
pub const MAX_PROOF: usize = MAX_LINE.div_ceil(3) * 4 + (MAX_HASHES + 3) * 64 + MAX_NOTE;

/// Why nothing can be proved.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// The archive could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// There is no checkpoint, and so nothing to prove anything by.
    #[error("there is no checkpoint")]
    NoCheckpoint,
    /// The archive's checkpoint does not count.
    #[error("the checkpoint does not count: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The line is not in the tree that was signed.
    #[error("line {seq} is not signed yet: the checkpoint signs {signed} lines")]
    NotSigned {
        /// The line.
        seq: u64,
        /// How many are signed.
        signed: u64,
    },
    /// The line is not there.
    #[error("line {0} is not there")]
    NoLine(u64),
    /// The line is none.
    #[error("line {seq} is damaged: {reason}")]
    Line {
        /// Its number.
        seq: u64,
        /// What is wrong.
        reason: LineError,
    },
    /// Neither tiles nor lines make the tree that was signed.
    #[error(
        "neither the tiles nor the lines of the archive make the tree that was signed: verify it"
    )]
    OtherTree,
    /// The older tree is the larger one.
    #[error("the older checkpoint signs {older} lines, the newer one {newer}")]
    Shrunk {
        /// What the older one signs.
        older: u64,
        /// What the newer one signs.
        newer: u64,
    },
}

/// Why a proof proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// It is not a proof.
    #[error("it is not a proof: {0}")]
    Form(&'static str),
    /// Its checkpoint does not count.
    #[error("its checkpoint does not count: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// It has no line, and none was given.
    #[error("it has no line with it (the line was erased): give the line")]
    NoLine,
    /// The line says that it is another one.
    #[error("the line is none, or not the one with number {0}")]
    OtherLine(u64),
    /// The hashes do not lead from the line to the root.
    #[error("the line is not in the tree that was signed")]
    NotInTree,
}

/// A proof that a line is in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InclusionProof {
    /// The number of the line.
    pub seq: u64,
    /// The line, without its newline; `None` if it was erased.
    pub line: Option<Vec<u8>>,
    /// From the leaf's sibling up to a child of the root.
    pub hashes: Vec<Hash>,
    /// The checkpoint, as it was signed.
    pub checkpoint: Vec<u8>,
}

impl InclusionProof {
    /// Proves that line `seq` is in a log, by its newest checkpoint.
    ///
    /// # Errors
    /// [`ProveError`].
    pub fn make<S: Storage>(
        storage: &S,
        log: LogName,
        verifier: &CheckpointVerifier,
        seq: u64,
    ) -> Result<InclusionProof, ProveError> {
        let checkpoint = read_whole(storage, &log.checkpoint(), MAX_NOTE as u64)?
            .ok_or(ProveError::NoCheckpoint)?;
        let head = verifier.verify(&checkpoint)?;
        if seq == 0 {
            return Err(ProveError::NoLine(seq));
        }
        if seq > head.size {
            let signed = head.size;
            return Err(ProveError::NotSigned { seq, signed });
        }
        let reader = LogReader::open(storage, log)?;
        let mut lines = reader.lines(Selection::line(seq));
        let raw = lines.next_line()?.ok_or(ProveError::NoLine(seq))?.bytes;
        let line = Line::parse(raw).map_err(|reason| ProveError::Line { seq, reason })?;
        let leaf = line.leaf(raw);
        let erased = matches!(line.body, Body::Tombstone { .. });
        let hashes = from_tree(storage, log, head.size, |tree| {
            let proof = prove_record(head.size, seq - 1, tree).ok()?;
            check_record(&proof, head.size, old(head.root), seq - 1, old(leaf)).ok()?;
            Some(proof.iter().map(|hash| Hash(hash.0)).collect())
        })?;
        Ok(InclusionProof {
            seq,
            line: (!erased).then(|| raw.to_vec()),
            hashes,
            checkpoint,
        })
    }

    /// The proof as a file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!("{VERSION}\n");
        if let Some(line) = &self.line {
            text.push_str("extra ");
            text.push_str(&STANDARD.encode(line));
            text.push('\n');
        }
        text.push_str(&format!("index {}\n", self.seq.saturating_sub(1)));
        for hash in &self.hashes {
            text.push_str(&format!("{hash}\n"));
        }
        text.push('\n');
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&self.checkpoint);
        bytes
    }

    /// Reads a proof. Nothing is checked but its form.
    ///
    /// # Errors
    /// [`ProofError::Form`].
    pub fn parse(bytes: &[u8]) -> Result<InclusionProof, ProofError> {
        let form = ProofError::Form;
        if bytes.len() > MAX_PROOF {
            return Err(form("it is too long"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| form("it is not UTF-8"))?;
        let (head, checkpoint) = text
            .split_once("\n\n")
            .ok_or(form("it has no checkpoint"))?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(VERSION) {
            return Err(form("it does not begin with c2sp.org/tlog-proof@v1"));
        }
        let line = match lines.peek().and_then(|line| line.strip_prefix("extra ")) {
            None => None,
            Some(extra) => {
                lines.next();
                let line = STANDARD.decode(extra);
                Some(line.map_err(|_| form("its extra data is not base64"))?)
            }
        };
        let index = lines
            .next()
            .and_then(|line| line.strip_prefix("index "))
            .filter(|index| *index == "0" || !index.starts_with('0'))
            .filter(|index| index.bytes().all(|digit| digit.is_ascii_digit()))
            .and_then(|index| index.parse::<u64>().ok())
            .filter(|index| *index < crate::line::MAX_SEQ)
            .ok_or(form("it has no index"))?;
        let hashes: Vec<Hash> = lines
            .map(|line| line.parse().map_err(|_| form("a hash of it is none")))
            .collect::<Result<_, _>>()?;
        if hashes.len() > MAX_HASHES {
            return Err(form("it has more hashes than a tree has levels"));
        }
        Ok(InclusionProof {
            seq: index + 1,
            line,
            hashes,
            checkpoint: checkpoint.as_bytes().to_vec(),
        })
    }

    /// Checks that the line is in the log that `verifier` is for, and gives the line and the head of the tree. `given` is the line,
    /// from elsewhere, without its newline: it counts in the place of the proof's own.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn check(
        &self,
        verifier: &CheckpointVerifier,
        given: Option<&[u8]>,
    ) -> Result<(Vec<u8>, TreeHead), ProofError> {
        let head = verifier.verify(&self.checkpoint)?;
        let line = given.or(self.line.as_deref()).ok_or(ProofError::NoLine)?;
        let says = crate::line::head_of(line).map(|(seq, _)| seq);
        if says != Some(self.seq) {
            return Err(ProofError::OtherLine(self.seq));
        }
        let hashes: Vec<tlog_tiles::Hash> = self.hashes.iter().map(|hash| old(*hash)).collect();
        let leaf = old(Hash::of_leaf(line));
        check_record(&hashes, head.size, old(head.root), self.seq - 1, leaf)
            .map_err(|_| ProofError::NotInTree)?;
        Ok((line.to_vec(), head))
    }
}

/// Shows that a log of head `newer` begins with all the lines of head `older`: gives the hashes that prove it (RFC 6962 section 2.1.2).
///
/// # Errors
/// [`ProveError`]; [`ProveError::OtherTree`] also if the one did not grow out of the other.
pub fn consistency<S: Storage>(
    storage: &S,
    log: LogName,
    older: TreeHead,
    newer: TreeHead,
) -> Result<Vec<Hash>, ProveError> {
    if older.size > newer.size {
        return Err(ProveError::Shrunk {
            older: older.size,
            newer: newer.size,
        });
    }
    if older.size == 0 {
        // Everything grows out of nothing, of which there is one.
        return if older == Tree::new().head() {
            Ok(Vec::new())
        } else {
            Err(ProveError::OtherTree)
        };
    }
    from_tree(storage, log, newer.size, |tree| {
        let proof = prove_tree(newer.size, older.size, tree).ok()?;
        let (to, from) = (old(newer.root), old(older.root));
        check_tree(&proof, newer.size, to, older.size, from).ok()?;
        Some(proof.iter().map(|hash| Hash(hash.0)).collect())
    })
}

/// Proves something out of the stored tiles or, if they do not do, out of tiles made from the lines.
fn from_tree<S: Storage, T>(
    storage: &S,
    log: LogName,
    size: u64,
    prove: impl Fn(&Tiles<'_>) -> Option<T>,
) -> Result<T, ProveError> {
    let stored = Tiles::new(size, |path| {
        read_whole(storage, &log.place(path), TILE_BYTES as u64)
            .ok()
            .flatten()
    });
    if let Some(proved) = prove(&stored) {
        return Ok(proved);
    }
    let made = make_tiles(storage, log, size, &stored)?;
    let made = Tiles::new(size, |path| made.get(path).cloned());
    prove(&made).ok_or(ProveError::OtherTree)
}

/// Makes the tiles of the first `size` lines from the lines; the leaves of those that were retired are taken from `stored`. 32 bytes a
/// line and a little are held in memory.
fn make_tiles<S: Storage>(
    storage: &S,
    log: LogName,
    size: u64,
    stored: &Tiles<'_>,
) -> Result<BTreeMap<String, Vec<u8>>, ProveError> {
    let reader = LogReader::open(storage, log)?;
    let mut tree = Tree::new();
    let first = reader.first().unwrap_or(1);
    for seq in 1..first.min(size + 1) {
        let leaf = stored.leaf(seq - 1).ok_or(ProveError::NoLine(seq))?;
        tree.push(leaf);
    }
    let mut tiles = BTreeMap::new();
    let mut lines = reader.lines(Selection {
        numbers: 1..=size,
        ..Selection::default()
    });
    while let Some(found) = lines.next_line()? {
        let seq = found.seq;
        let line = Line::parse(found.bytes).map_err(|reason| ProveError::Line { seq, reason })?;
        tree.push(line.leaf(found.bytes));
    }
    if tree.size() < size {
        return Err(ProveError::NoLine(tree.size() + 1));
    }
    let full = tree.take_full_tiles().into_iter();
    for tile in full.chain(tree.partial_tiles()) {
        tiles.insert(tile.path, tile.bytes);
    }
    Ok(tiles)
}

/// Gives a tile's bytes by its path, or nothing.
type ReadTile<'a> = dyn Fn(&str) -> Option<Vec<u8>> + 'a;

/// The tiles of a tree, read when they are asked for.
struct Tiles<'a> {
    size: u64,
    read: Box<ReadTile<'a>>,
    known: RefCell<BTreeMap<(u8, u64), Vec<u8>>>,
}

impl<'a> Tiles<'a> {
    fn new(size: u64, read: impl Fn(&str) -> Option<Vec<u8>> + 'a) -> Tiles<'a> {
        Tiles {
            size,
            read: Box::new(read),
            known: RefCell::default(),
        }
    }

    /// The bytes of a tile, as wide as the tree makes it, or wider.
    fn tile(&self, level: u8, index: u64) -> Option<Vec<u8>> {
        if let Some(known) = self.known.borrow().get(&(level, index)) {
            return Some(known.clone());
        }
        let hashes = self.size.checked_shr(u32::from(TILE_HEIGHT * level))?;
        let width = hashes.saturating_sub(index * TILE_WIDTH as u64);
        let width = usize::try_from(width).ok()?.min(TILE_WIDTH);
        // The full one also where the tree has grown since.
        let bytes = [width, TILE_WIDTH].into_iter().find_map(|width| {
            (self.read)(&layout::tile(level, index, width))
                .filter(|bytes| bytes.len() == width * Hash::LEN)
        })?;
        let mut known = self.known.borrow_mut();
        known.insert((level, index), bytes.clone());
        Some(bytes)
    }

    fn leaf(&self, place: u64) -> Option<Hash> {
        let bytes = self.tile(0, place / TILE_WIDTH as u64)?;
        let within = (place % TILE_WIDTH as u64) as usize * Hash::LEN;
        let hash = bytes.get(within..within + Hash::LEN)?;
        hash.try_into().ok().map(Hash)
    }
}

impl HashReader for Tiles<'_> {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog_tiles::Hash>, tlog_tiles::Error> {
        indexes
            .iter()
            .map(|&index| hash_in_tile(index, |level, place| self.tile(level, place)))
            .collect()
    }
}

/// The hash as the crate has it.
fn old(hash: Hash) -> tlog_tiles::Hash {
    tlog_tiles::Hash(hash.0)
}
