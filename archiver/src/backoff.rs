//! How long to wait before the next attempt to connect.

use std::time::Duration;

use rand::RngExt as _;

/// The first wait, before jitter.
const FIRST: Duration = Duration::from_millis(250);

/// The longest wait, before jitter: an archive should not lag a broker that is back by much more
/// than this.
const LONGEST: Duration = Duration::from_secs(30);

/// Waits that double from a quarter of a second to half a minute, each cut by up to a half at
/// random, so that a broker that comes back is not met by all its clients in the same instant.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff::between(FIRST, LONGEST)
    }
}

impl Backoff {
    /// Waits between other bounds.
    #[must_use]
    pub fn between(first: Duration, longest: Duration) -> Backoff {
        Backoff {
            first,
            longest,
            next: first,
        }
    }

    /// Begins again with the shortest wait: the last connection was good.
    pub fn reset(&mut self) {
        self.next = self.first;
    }

    /// The next wait is the longest: trying soon would do harm.
    pub fn jump_to_longest(&mut self) {
        self.next = self.longest;
    }

    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.longest);
        wait.mul_f64(rand::rng().random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_half_a_minute_and_no_further() {
        let mut backoff = Backoff::default();
        assert!(backoff.next_wait() <= FIRST);
        for _ in 0..20 {
            assert!(backoff.next_wait() <= LONGEST);
        }
        assert!(backoff.next_wait() >= LONGEST / 2);
        backoff.reset();
        assert!(backoff.next_wait() <= FIRST);
    }
}
