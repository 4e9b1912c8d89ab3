//! The stored tiles of a log, held against its lines.

use super::compact_range::CompactRange;
use super::finding::{Fault, Place};
use crate::hash::Hash;
use crate::layout::{self, LogName};
use crate::log_reader::read_whole;
use crate::storage::Storage;
use crate::tree::{TILE_BYTES, TILE_WIDTH};

/// Reads tiles, and compares those that a checkpoint covers with the hashes of the lines.
pub(super) struct StoredTiles<'a, S> {
    storage: &'a S,
    log: LogName,
    /// How many lines are signed. Tiles beyond may be of any age.
    signed: u64,
    /// How many lines are missing at the beginning. For them the tiles stand even if the checkpoint is older, as it may be after a power
    /// cut: they were durable before the lines were removed.
    removed: u64,
    levels: Vec<Level>,
    /// Whether a leaf was found to be another one: then the tiles above it are others, too, and that is not told again.
    differs: bool,
    /// How many tiles are missing that should be there.
    missing: u64,
    wrong: Vec<(Place, Fault)>,
}

/// The rightmost tile of a level.
#[derive(Default)]
struct Level {
    /// Its number.
    index: u64,
    /// Its hashes, from the lines.
    hashes: Vec<u8>,
    /// What is stored of it, and where: for level 0, where every leaf is looked at.
    stored: Option<(String, Vec<u8>)>,
}

impl<'a, S: Storage> StoredTiles<'a, S> {
    pub(super) fn new(storage: &'a S, log: LogName, signed: u64) -> StoredTiles<'a, S> {
        StoredTiles {
            storage,
            log,
            signed,
            removed: 0,
            levels: Vec::new(),
            differs: false,
            missing: 0,
            wrong: Vec::new(),
        }
    }

    /// The first `last` lines are missing.
    pub(super) fn removed(&mut self, last: u64) {
        self.removed = last;
    }

    /// The stored leaf of the line `seq`, which is the next one, with the tile that it is in. `None` if nothing that is signed
    /// or stands for removed lines is stored for it.
    pub(super) fn leaf(&mut self, seq: u64) -> Option<(Hash, &str)> {
        let place = seq.checked_sub(1)?;
        if place >= self.signed.max(self.removed) {
            return None;
        }
        let (index, within) = split(place);
        let known = self
            .levels
            .first()
            .is_some_and(|level| level.index == index && level.stored.is_some());
        if !known {
            let stored = self.read_widest(0, index);
            if self.levels.is_empty() {
                self.levels.push(Level::default());
            }
            let level = self.levels.first_mut()?;
            level.index = index;
            level.stored = Some(stored);
        }
        let (path, bytes) = self.levels.first()?.stored.as_ref()?;
        Some((hash_at(bytes, within)?, path))
    }

    /// A line is not the one whose leaf is stored.
    pub(super) fn leaf_differs(&mut self) {
        self.differs = true;
    }

    /// Takes in the next hash of a level, as the lines have it.
    pub(super) fn take(&mut self, level: u8, hash: Hash) {
        let place = usize::from(level);
        if self.levels.len() <= place {
            self.levels.resize_with(place + 1, Level::default);
        }
        let Some(edge) = self.levels.get_mut(place) else {
            return;
        };
        edge.hashes.extend_from_slice(&hash.0);
        if edge.hashes.len() == TILE_BYTES {
            let index = edge.index;
            let hashes = std::mem::take(&mut edge.hashes);
            edge.index += 1;
            edge.stored = None;
            self.compare(level, index, &hashes);
        }
    }

    /// At the end of the log: what is wrong with tiles, and how many are missing.
    pub(super) fn finish(mut self) -> (Vec<(Place, Fault)>, u64) {
        for (level, edge) in (0..).zip(std::mem::take(&mut self.levels)) {
            if !edge.hashes.is_empty() {
                self.compare(level, edge.index, &edge.hashes);
            }
        }
        (self.wrong, self.missing)
    }

    /// The root of the first `size` lines, out of the tiles alone. `None` if one of them is missing.
    pub(super) fn root(&self, size: u64) -> Option<Hash> {
        let mut range = CompactRange::default();
        for level in (0_u8..8).rev() {
            let hashes = size.checked_shr(8 * u32::from(level))?;
            let (index, width) = split(hashes);
            if width == 0 {
                continue;
            }
            let (_, bytes) = self.read_widest(level, index);
            for within in 0..width {
                range.push_subtree(level, hash_at(&bytes, within)?, |_, _| {});
            }
        }
        Some(range.root())
    }

    /// Compares what is stored of a tile with `hashes`.
    fn compare(&mut self, level: u8, index: u64, hashes: &[u8]) {
        let width = hashes.len() / Hash::LEN;
        let subtree = 1_u64.checked_shl(8 * u32::from(level)).unwrap_or(u64::MAX);
        let first = index * TILE_WIDTH as u64;
        // How many of the hashes are signed.
        let signed = (self.signed / subtree).saturating_sub(first);
        let signed = usize::try_from(signed).unwrap_or(TILE_WIDTH).min(width);
        if signed == 0 {
            return;
        }
        let mut found = false;
        for (path, stated) in self.stored(level, index, signed) {
            let Some(stored) = self.read(&path) else {
                continue;
            };
            // One that a crash cut short, or that is being written, is as good as none.
            if stored.len() != stated * Hash::LEN {
                continue;
            }
            found |= stated >= signed;
            let differs = (0..signed.min(stated))
                .find(|&within| hash_at(&stored, within) != hash_at(hashes, within));
            if let Some(within) = differs
                && !self.differs
            {
                let from = (first + within as u64) * subtree + 1;
                let until = from + subtree - 1;
                let mut place = Place::file(path);
                place.seq = Some(from);
                self.wrong.push((place, Fault::Tile { from, until }));
            }
        }
        if !found {
            self.missing += 1;
        }
    }

    /// The files that hold a tile, or a part of it, with how many hashes their names say. A full one stands for all others.
    fn stored(&self, level: u8, index: u64, signed: usize) -> Vec<(String, usize)> {
        let full = self.path(level, index, TILE_WIDTH);
        if signed == TILE_WIDTH {
            return vec![(full, TILE_WIDTH)];
        }
        let mut stored = vec![(full.clone(), TILE_WIDTH)];
        let folder = format!("{full}.p");
        // What cannot be listed is missing, which is told.
        for name in self.storage.list(&folder).unwrap_or_default() {
            if let Ok(width) = name.parse::<usize>()
                && (1..TILE_WIDTH).contains(&width)
            {
                stored.push((format!("{folder}/{name}"), width));
            }
        }
        stored
    }

    /// The full tile, or else the part of it with the most hashes that is stored; nothing if there is none.
    fn read_widest(&self, level: u8, index: u64) -> (String, Vec<u8>) {
        let mut stored = self.stored(level, index, 0);
        stored.sort_unstable_by_key(|&(_, width)| std::cmp::Reverse(width));
        let mut widest = (String::new(), Vec::new());
        for (path, stated) in stored {
            let bytes = self.read(&path).unwrap_or_default();
            let whole = bytes.len() >= stated * Hash::LEN;
            // A power cut may cut one short that was not synced; a narrower one that was then has more.
            if bytes.len() > widest.1.len() {
                widest = (path, bytes);
            }
            if whole {
                break;
            }
        }
        widest
    }

    /// A tile's bytes, nothing of what is longer than any tile or cannot be read; `None` if it is not there.
    fn read(&self, path: &str) -> Option<Vec<u8>> {
        read_whole(self.storage, path, TILE_BYTES as u64).unwrap_or_else(|_| Some(Vec::new()))
    }

    fn path(&self, level: u8, index: u64, width: usize) -> String {
        self.log.place(&layout::tile(level, index, width))
    }
}

/// The tile, and the place in it, of a hash that has number `hash` (from 0) in its level.
fn split(hash: u64) -> (u64, usize) {
    let width = TILE_WIDTH as u64;
    (hash / width, (hash % width) as usize)
}

fn hash_at(bytes: &[u8], place: usize) -> Option<Hash> {
    let start = place * Hash::LEN;
    let bytes = bytes.get(start..start + Hash::LEN)?;
    bytes.try_into().ok().map(Hash)
}
