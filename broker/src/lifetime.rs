//! The broker's life: it starts, is ready, drains, closes.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Where the broker is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// It reads what it has kept, and does not listen yet.
    Starting = 0,
    /// It serves.
    Ready = 1,
    /// It serves, and says that it is about to end, so that a load balancer sends newcomers elsewhere.
    Draining = 2,
    /// Newcomers are refused and clients disconnected.
    Closing = 3,
}

impl Phase {
    /// In a word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Ready => "ready",
            Phase::Draining => "draining",
            Phase::Closing => "closing",
        }
    }
}

/// The life of one broker, as everybody sees it.
#[derive(Debug)]
pub struct Lifetime {
    phase: AtomicU8,
    drain: CancellationToken,
    goodbye: CancellationToken,
    clients: TaskTracker,
}

impl Lifetime {
    /// A broker that starts. Cancelling `drain` asks it to end.
    #[must_use]
    pub fn new(drain: CancellationToken) -> Lifetime {
        Lifetime {
            phase: AtomicU8::new(Phase::Starting as u8),
            drain,
            goodbye: CancellationToken::new(),
            clients: TaskTracker::new(),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            2 => Phase::Draining,
            _ => Phase::Closing,
        }
    }

    /// Goes on to a later phase; never back.
    pub fn advance(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::Relaxed);
    }

    /// Asks the broker to drain and to end.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Completes when somebody has asked the broker to drain.
    pub async fn drained(&self) {
        self.drain.cancelled().await;
    }

    /// Whether newcomers are refused.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.phase() == Phase::Closing
    }

    /// What ends the connections of clients: cancelled when the broker closes.
    #[must_use]
    pub fn goodbye(&self) -> &CancellationToken {
        &self.goodbye
    }

    /// A client that was let in holds this for as long as its connection lives.
    pub fn client(&self) -> TaskTrackerToken {
        self.clients.token()
    }

    /// How many clients are connected.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.clients.len()
    }

    /// Refuses newcomers and disconnects clients with the reason, for as long as `wait`. Returns whether all were gone by
    /// then.
    pub async fn close(&self, wait: Duration) -> bool {
        self.advance(Phase::Closing);
        self.goodbye.cancel();
        self.clients.close();
        tokio::time::timeout(wait, self.clients.wait())
            .await
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn closing_waits_for_clients_as_long_as_it_was_told() {
        let life = Lifetime::new(CancellationToken::new());
        life.advance(Phase::Ready);
        let client = life.client();
        assert!(!life.close(Duration::from_secs(5)).await);
        assert!(life.is_closing() && life.goodbye().is_cancelled());
        drop(client);
        assert!(life.close(Duration::from_secs(5)).await);
    }

    #[test]
    fn no_phase_comes_back() {
        let life = Lifetime::new(CancellationToken::new());
        life.advance(Phase::Closing);
        life.advance(Phase::Ready);
        assert_eq!(life.phase(), Phase::Closing);
    }
}
