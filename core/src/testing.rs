//! What the unit tests share.

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

/// Chance that repeats itself.
pub(crate) fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}
