//! Which messages the log already has: the digests of the last ones, so that what a broker sends
//! again (a session resumed after a crash on either side) is acknowledged and not written twice.
//!
//! The digest is over topic and payload, never the message's id, which is the sender's to choose:
//! somebody could hide mail behind junk sent earlier under the same id. MQTT's DUP flag is not
//! asked either: it is a hint, and it is lost when a broker restarts.

use std::hash::BuildHasher as _;
use std::hash::RandomState;

use hashbrown::HashTable;
use sealpost_archive::digest::Digest;

/// The last digests, a bounded number of them: 32 bytes each and about as much again of index at
/// the worst.
#[derive(Debug)]
pub struct DigestWindow {
    capacity: u32,
    /// A ring once it is full: `oldest` is the next one to be overwritten.
    ring: Vec<Digest>,
    oldest: u32,
    /// Places in the ring, by digest.
    index: HashTable<u32>,
    hasher: RandomState,
}

impl DigestWindow {
    /// A window over the last `capacity` messages (at least one). Memory grows as it fills.
    #[must_use]
    pub fn new(capacity: u32) -> DigestWindow {
        DigestWindow {
            capacity: capacity.max(1),
            ring: Vec::new(),
            oldest: 0,
            index: HashTable::new(),
            hasher: RandomState::new(),
        }
    }

    /// How many digests it can hold.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Whether it holds `digest`.
    #[must_use]
    pub fn contains(&self, digest: &Digest) -> bool {
        self.index
            .find(self.hasher.hash_one(digest), |&place| {
                self.at(place) == Some(digest)
            })
            .is_some()
    }

    /// Takes `digest` in, and lets go of the oldest when it is full. `false` when it was there
    /// already.
    pub fn insert(&mut self, digest: Digest) -> bool {
        if self.contains(&digest) {
            return false;
        }
        let place = match u32::try_from(self.ring.len()) {
            Ok(len) if len < self.capacity => {
                self.ring.push(digest);
                len
            }
            _ => {
                let place = self.oldest;
                self.oldest = (place + 1) % self.capacity;
                self.overwrite(place, digest);
                place
            }
        };
        let (ring, hasher) = (&self.ring, &self.hasher);
        // The second closure is asked only when the table grows, for places that are in the ring.
        self.index
            .insert_unique(hasher.hash_one(digest), place, |&place| {
                ring.get(place as usize)
                    .map_or(0, |digest| hasher.hash_one(digest))
            });
        true
    }

    fn at(&self, place: u32) -> Option<&Digest> {
        self.ring.get(place as usize)
    }

    fn overwrite(&mut self, place: u32, digest: Digest) {
        if let Some(slot) = self.ring.get_mut(place as usize) {
            let leaving = std::mem::replace(slot, digest);
            if let Ok(entry) = self
                .index
                .find_entry(self.hasher.hash_one(leaving), |&other| other == place)
            {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: u64) -> Digest {
        Digest::of(b"inbox/bob", &number.to_be_bytes())
    }

    #[test]
    fn it_holds_exactly_the_last_ones() {
        for capacity in [1, 2, 3, 7, 100] {
            let mut window = DigestWindow::new(capacity);
            for number in 0..500 {
                assert!(window.insert(digest(number)));
                assert!(!window.insert(digest(number)));
                for older in 0..=number {
                    let expected = older + u64::from(capacity) > number;
                    assert_eq!(
                        window.contains(&digest(older)),
                        expected,
                        "{older} of {number}, capacity {capacity}"
                    );
                }
            }
        }
    }
}
