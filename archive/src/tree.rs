//! The Merkle tree over a log's lines (RFC 6962 section 2.1), as it grows: what is needed of it to go on, which is the
//! rightmost tile of each level, and what it gives off, which is tiles and tree heads.
//!
//! Eight levels of the tree make one level of tiles: a tile of level `l` holds 256 subtrees of 256^l leaves.

use tlog_tiles::{HashReader, Tile, tree_hash};

use crate::hash::Hash;
use crate::layout;

/// How many levels of the tree are in a tile (c2sp.org/tlog-tiles).
pub(crate) const TILE_HEIGHT: u8 = 8;

/// How many hashes a full tile has.
pub const TILE_WIDTH: usize = 1 << TILE_HEIGHT;

/// How long a full tile is, in bytes.
pub const TILE_BYTES: usize = TILE_WIDTH * Hash::LEN;

/// The greatest number of lines: see [`crate::line::MAX_SEQ`].
const MAX_SIZE: u64 = crate::line::MAX_SEQ;

/// A tree head: how many lines, and the root over them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeHead {
    /// The number of lines.
    pub size: u64,
    /// The root (of no lines: the SHA-256 of nothing).
    pub root: Hash,
}

/// A tile to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TileFile {
    /// Where, below the log's folder: `tile/<L>/<N>[.p/<W>]`.
    pub path: String,
    /// Its hashes, one after the other.
    pub bytes: Vec<u8>,
}

/// Why a tree cannot be gone on with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResumeError {
    /// A tile of the right edge is missing or has another length.
    #[error("the tile {0} is not as long as the tree needs it")]
    Tile(String),
    /// More lines than there can be.
    #[error("a log has at most {MAX_SIZE} lines")]
    TooLarge,
    /// The tiles are those of another tree.
    #[error("the tiles make the root {found}, not {expected}")]
    Root {
        /// The root that was to come.
        expected: Hash,
        /// The root of these tiles.
        found: Hash,
    },
}

/// A tree that grows: 8 KiB for each level of tiles, four levels for four thousand million lines.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    size: u64,
    /// The hashes of the rightmost tile of each level, which is never full.
    edge: Vec<Vec<u8>>,
    /// Full tiles that nobody has taken yet.
    full: Vec<TileFile>,
}

impl Tree {
    /// The tree of an empty log.
    #[must_use]
    pub fn new() -> Tree {
        Tree::default()
    }

    /// Goes on with the tree of `head`. `read` gives the bytes of a tile by its path, or nothing.
    ///
    /// # Errors
    /// [`ResumeError`] if the tiles do not make that head.
    pub fn resume(
        head: TreeHead,
        mut read: impl FnMut(&str) -> Option<Vec<u8>>,
    ) -> Result<Tree, ResumeError> {
        if head.size > MAX_SIZE {
            return Err(ResumeError::TooLarge);
        }
        let mut tree = Tree {
            size: head.size,
            ..Tree::default()
        };
        for (level, index, width) in edge_of(head.size) {
            if width == 0 {
                tree.edge.push(Vec::new());
                continue;
            }
            let path = layout::tile(level, index, width);
            let bytes = read(&path)
                .filter(|bytes| bytes.len() == width * Hash::LEN)
                .ok_or(ResumeError::Tile(path))?;
            tree.edge.push(bytes);
        }
        let found = tree.root();
        if found != head.root {
            return Err(ResumeError::Root {
                expected: head.root,
                found,
            });
        }
        Ok(tree)
    }

    /// How many leaves there are.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        for level in 0.. {
            if self.edge.len() <= level {
                self.edge.push(Vec::new());
            }
            let Some(tile) = self.edge.get_mut(level) else {
                break;
            };
            tile.extend_from_slice(&hash.0);
            if tile.len() < TILE_BYTES {
                break;
            }
            let bytes = std::mem::take(tile);
            hash = Hash(Tile::subtree_hash(&bytes).0);
            // Eight levels make 2^64 leaves: a level always fits.
            let index = self.size >> (u32::from(TILE_HEIGHT) * (level as u32 + 1)).min(63);
            self.full.push(TileFile {
                path: layout::tile(level as u8, index, TILE_WIDTH),
                bytes,
            });
        }
        self.size += 1;
    }

    /// The root over all leaves.
    #[must_use]
    pub fn root(&self) -> Hash {
        // The reader has every hash that is asked for, so there is no error to come.
        tree_hash(self.size, &Edge(self)).map_or(Hash([0; Hash::LEN]), |hash| Hash(hash.0))
    }

    /// Size and root.
    #[must_use]
    pub fn head(&self) -> TreeHead {
        TreeHead {
            size: self.size,
            root: self.root(),
        }
    }

    /// Takes the tiles that have become full since this was last called, in the order in which they did.
    pub fn take_full_tiles(&mut self) -> Vec<TileFile> {
        std::mem::take(&mut self.full)
    }

    /// Gives full tiles back that could not be kept: they come first the next time.
    pub fn give_back(&mut self, mut tiles: Vec<TileFile>) {
        tiles.append(&mut self.full);
        self.full = tiles;
    }

    /// The tiles at the right edge, which are not full. With the full ones, they are the tiles of this size.
    pub fn partial_tiles(&self) -> impl Iterator<Item = TileFile> + '_ {
        edge_of(self.size)
            .zip(&self.edge)
            .filter(|((_, _, width), _)| *width > 0)
            .map(|((level, index, width), bytes)| TileFile {
                path: layout::tile(level, index, width),
                bytes: bytes.clone(),
            })
    }
}

/// Level, index and width (0 to 255) of the rightmost tile of each level of a tree.
fn edge_of(size: u64) -> impl Iterator<Item = (u8, u64, usize)> {
    (0_u8..8)
        .map(move |level| (level, size >> (TILE_HEIGHT * level)))
        .take_while(|&(_, hashes)| hashes > 0)
        .map(|(level, hashes)| {
            let width = (hashes & (TILE_WIDTH as u64 - 1)) as usize;
            (level, hashes >> TILE_HEIGHT, width)
        })
}

/// The hash with this number in the tree's order of storage, out of the tile that `tile` gives by level and index.
///
/// # Errors
/// If there is no such tile, or it is not wide enough.
pub(crate) fn hash_in_tile<B: AsRef<[u8]>>(
    index: u64,
    tile: impl FnOnce(u8, u64) -> Option<B>,
) -> Result<tlog_tiles::Hash, tlog_tiles::Error> {
    let wanted = Tile::from_index(TILE_HEIGHT, index);
    let bytes = tile(wanted.level(), wanted.level_index()).ok_or(tlog_tiles::Error::InvalidTile)?;
    let bytes = bytes.as_ref();
    let width = u32::try_from(bytes.len() / Hash::LEN).unwrap_or(u32::MAX);
    Tile::new(
        TILE_HEIGHT,
        wanted.level(),
        wanted.level_index(),
        width,
        false,
    )
    .hash_at_index(bytes, index)
}

/// Gives the hashes from which a root is made: those of the complete subtrees along the right edge.
struct Edge<'a>(&'a Tree);

impl HashReader for Edge<'_> {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog_tiles::Hash>, tlog_tiles::Error> {
        indexes
            .iter()
            .map(|&index| {
                hash_in_tile(index, |level, _| {
                    // The rightmost tile is the only one of its level that is asked for.
                    let bytes = self.0.edge.get(usize::from(level))?;
                    (!bytes.is_empty()).then_some(bytes)
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// RFC 6962 section 2.1, word for word.
    fn root_of(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
                .parse()
                .unwrap(),
            [leaf] => *leaf,
            _ => {
                let half = leaves.len().next_power_of_two() / 2;
                let (left, right) = leaves.split_at(half);
                Hash::of_node(root_of(left), root_of(right))
            }
        }
    }

    fn leaf(number: usize) -> Hash {
        Hash::of_leaf(format!("line {number}").as_bytes())
    }

    #[test]
    fn the_root_is_that_of_rfc_6962_at_every_size() {
        let leaves: Vec<Hash> = (0..1100).map(leaf).collect();
        let mut tree = Tree::new();
        assert_eq!(tree.root(), root_of(&[]));
        for (place, &leaf) in leaves.iter().enumerate() {
            tree.push(leaf);
            assert_eq!(
                tree.root(),
                root_of(&leaves[..=place]),
                "{} leaves",
                place + 1
            );
        }
    }

    #[test]
    fn a_tree_goes_on_from_its_tiles_as_if_nothing_had_happened() {
        for size in [
            0, 1, 2, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, 66_000,
        ] {
            let mut tree = Tree::new();
            let mut tiles = BTreeMap::new();
            for number in 0..size {
                tree.push(leaf(number));
            }
            for tile in tree
                .take_full_tiles()
                .into_iter()
                .chain(tree.partial_tiles())
            {
                assert!(tiles.insert(tile.path, tile.bytes).is_none());
            }
            let mut resumed = Tree::resume(tree.head(), |path| tiles.get(path).cloned()).unwrap();
            for number in size..size + 600 {
                tree.push(leaf(number));
                resumed.push(leaf(number));
            }
            assert_eq!(resumed.head(), tree.head());
            assert_eq!(resumed.take_full_tiles(), tree.take_full_tiles());
        }
    }

    #[test]
    fn tiles_lie_where_the_standard_says() {
        let mut tree = Tree::new();
        for number in 0..70_000 {
            tree.push(leaf(number));
        }
        let full: Vec<String> = tree
            .take_full_tiles()
            .into_iter()
            .map(|tile| tile.path)
            .collect();
        assert_eq!(full.first().unwrap(), "tile/0/000");
        assert!(full.contains(&"tile/0/272".to_owned()));
        assert!(full.contains(&"tile/1/000".to_owned()));
        let partial: Vec<String> = tree.partial_tiles().map(|tile| tile.path).collect();
        assert_eq!(
            partial,
            ["tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"]
        );
    }

    #[test]
    fn tiles_of_another_tree_are_refused() {
        let mut tree = Tree::new();
        (0..3).map(leaf).for_each(|leaf| tree.push(leaf));
        let tiles: Vec<TileFile> = tree.partial_tiles().collect();
        let read = |path: &str| {
            tiles
                .iter()
                .find(|tile| tile.path == path)
                .map(|tile| tile.bytes.clone())
        };
        let other = TreeHead {
            size: 3,
            root: leaf(9),
        };
        assert!(matches!(
            Tree::resume(other, read),
            Err(ResumeError::Root { .. })
        ));
        let longer = TreeHead {
            size: 4,
            ..tree.head()
        };
        assert_eq!(
            Tree::resume(longer, read).unwrap_err(),
            ResumeError::Tile("tile/0/000.p/4".into())
        );
    }
}
