//! A tree of RFC 6962 that is only walked through: the roots of the complete subtrees along its right edge.

use crate::hash::Hash;

/// How many levels of the tree are in a tile (c2sp.org/tlog-tiles).
const TILE_HEIGHT: u8 = 8;

/// The SHA-256 of nothing: the root of no lines.
const EMPTY: Hash = Hash([
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
    0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
]);

/// The right edge of a tree: at most one subtree of each height, the highest first.
#[derive(Debug, Clone, Default)]
pub(super) struct CompactRange {
    size: u64,
    edge: Vec<(u8, Hash)>,
}

impl CompactRange {
    /// How many leaves there are.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf. `tiled` is told of each hash that belongs into a tile: the leaf, and whatever subtree of 256^level leaves it
    /// completes.
    pub(super) fn push(&mut self, leaf: Hash, tiled: impl FnMut(u8, Hash)) {
        self.push_subtree(0, leaf, tiled);
    }

    /// Adds a complete subtree of 256^`level` leaves, where what is there already is a multiple of that.
    pub(super) fn push_subtree(&mut self, level: u8, root: Hash, mut tiled: impl FnMut(u8, Hash)) {
        let mut height = level * TILE_HEIGHT;
        let mut hash = root;
        self.size += 1 << height;
        tiled(level, hash);
        while let Some((_, left)) = self.edge.pop_if(|(below, _)| *below == height) {
            hash = Hash::of_node(left, hash);
            height += 1;
            if height.is_multiple_of(TILE_HEIGHT) {
                tiled(height / TILE_HEIGHT, hash);
            }
        }
        self.edge.push((height, hash));
    }

    /// The root over all leaves.
    pub(super) fn root(&self) -> Hash {
        self.edge
            .iter()
            .rev()
            .map(|(_, hash)| *hash)
            .reduce(|right, left| Hash::of_node(left, right))
            .unwrap_or(EMPTY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Tree;

    #[test]
    fn the_roots_are_those_of_the_tree_that_is_written() {
        let mut range = CompactRange::default();
        let mut tree = Tree::new();
        assert_eq!(range.root(), tree.root());
        for number in 0_u32..70_000 {
            let leaf = Hash::of_leaf(&number.to_be_bytes());
            range.push(leaf, |_, _| {});
            tree.push(leaf);
            if !(1_100..=65_500).contains(&number) {
                assert_eq!(range.root(), tree.root(), "{number}");
            }
        }
        assert_eq!(range.size(), 70_000);
    }

    #[test]
    fn subtrees_make_the_same_root_as_their_leaves() {
        let leaf = |number: u32| Hash::of_leaf(&number.to_be_bytes());
        let mut leaves = CompactRange::default();
        let mut subtrees = Vec::new();
        for number in 0..1_000 {
            leaves.push(leaf(number), |level, hash| {
                if level == 1 {
                    subtrees.push(hash);
                }
            });
        }
        assert_eq!(subtrees.len(), 3);
        let mut range = CompactRange::default();
        for hash in subtrees {
            range.push_subtree(1, hash, |_, _| {});
        }
        for number in 768..1_000 {
            range.push(leaf(number), |_, _| {});
        }
        assert_eq!((range.size(), range.root()), (1_000, leaves.root()));
    }
}
