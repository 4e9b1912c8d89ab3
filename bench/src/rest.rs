//! A pause between reads, so that answers pile up and one system call takes many.
//!
//! A broker that writes each acknowledgement by itself would otherwise wake a thread of the generator for each, and the
//! two would fight over the processor: the generator would be part of what is measured.

use std::thread;
use std::time::{Duration, Instant};

/// The longest pause: nothing beside a run of seconds.
const LONGEST: Duration = Duration::from_millis(2);

/// Pauses as long as the broker needs for some more answers, going by how fast they came last.
pub(crate) struct Rest {
    /// How many answers one read should find.
    wanted: usize,
    since: Instant,
}

impl Rest {
    /// Pauses that let `wanted` answers come: well below what is in flight, so that the broker never runs dry.
    pub(crate) fn new(wanted: usize) -> Self {
        Self {
            wanted,
            since: Instant::now(),
        }
    }

    /// Pauses after a read that found `got` answers.
    pub(crate) fn after(&mut self, got: usize) {
        if got > 0
            && let Some(pause) = pause(self.wanted, got, self.since.elapsed())
        {
            thread::sleep(pause);
        }
        self.since = Instant::now();
    }
}

/// How long it takes until `wanted` answers are there if `got` came in `time`; `None` when enough came already.
fn pause(wanted: usize, got: usize, time: Duration) -> Option<Duration> {
    let missing = wanted.checked_sub(got).filter(|&missing| missing > 0)?;
    let missing = u32::try_from(missing).unwrap_or(u32::MAX);
    let each = time / u32::try_from(got).unwrap_or(u32::MAX).max(1);
    Some(each.saturating_mul(missing).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_lasts_until_enough_has_come() {
        let micros = Duration::from_micros;
        assert_eq!(pause(25, 5, micros(100)), Some(micros(400)));
        assert_eq!(pause(25, 25, micros(100)), None);
        assert_eq!(pause(25, 100, micros(100)), None);
        assert_eq!(pause(25, 1, micros(500)), Some(LONGEST));
    }
}
