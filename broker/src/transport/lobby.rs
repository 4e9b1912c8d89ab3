//! The lobby: connections that have not said who they are. Their number is bounded, and those that stall make room.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long nobody is sent away for somebody newer: an honest client on a bad line, or one of thousands that reconnect at
/// once, is done within it.
const GRACE: Duration = Duration::from_secs(5);

/// Seats for connections between their acceptance and their CONNECT.
#[derive(Debug)]
pub struct Lobby {
    seats: usize,
    waiting: Mutex<Waiting>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    // In the order in which they came.
    seats: BTreeMap<u64, (Instant, CancellationToken)>,
}

/// A seat in the lobby; dropping it leaves the lobby.
#[derive(Debug)]
pub struct Seat {
    lobby: Arc<Lobby>,
    number: u64,
    evicted: CancellationToken,
}

impl Lobby {
    /// A lobby with so many seats, at least one.
    #[must_use]
    pub fn new(seats: usize) -> Arc<Lobby> {
        Arc::new(Lobby {
            seats: seats.max(1),
            waiting: Mutex::default(),
            freed: Notify::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a seat. When all are taken, whoever has had one for longest loses it after five seconds, so that
    /// connections that stall keep nobody out for longer than that.
    pub async fn enter(self: &Arc<Lobby>) -> Seat {
        loop {
            let freed = self.freed.notified();
            let wait_until = match self.try_enter() {
                Ok(seat) => return seat,
                Err(wait_until) => wait_until,
            };
            tokio::select! {
                () = freed => {}
                () = tokio::time::sleep_until(wait_until) => {}
            }
        }
    }

    fn try_enter(self: &Arc<Lobby>) -> Result<Seat, Instant> {
        let now = Instant::now();
        let mut waiting = self.lock();
        if waiting.seats.len() >= self.seats
            && let Some(oldest) = waiting.seats.first_entry()
        {
            let (since, evicted) = oldest.get();
            if now.saturating_duration_since(*since) < GRACE {
                return Err(*since + GRACE);
            }
            evicted.cancel();
            oldest.remove();
        }
        let evicted = CancellationToken::new();
        let number = waiting.next;
        waiting.next += 1;
        waiting.seats.insert(number, (now, evicted.clone()));
        Ok(Seat {
            lobby: Arc::clone(self),
            number,
            evicted,
        })
    }
}

impl Seat {
    /// Completes when the seat is needed for somebody else.
    pub async fn evicted(&self) {
        self.evicted.cancelled().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.lobby.lock().seats.remove(&self.number);
        self.lobby.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{advance, timeout};

    #[tokio::test(start_paused = true)]
    async fn a_full_lobby_waits_for_a_seat_and_sends_nobody_away_who_is_quick() {
        let lobby = Lobby::new(2);
        let (first, second) = (lobby.enter().await, lobby.enter().await);
        let waits = timeout(GRACE / 2, lobby.enter()).await;
        assert!(waits.is_err(), "both seats are taken, and by newcomers");
        drop(first);
        let third = timeout(GRACE / 4, lobby.enter()).await.unwrap();
        assert!(!second.evicted.is_cancelled() && !third.evicted.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_stalls_for_longest_makes_room_for_a_newcomer() {
        let lobby = Lobby::new(2);
        let stalled = lobby.enter().await;
        advance(GRACE / 2).await;
        let younger = lobby.enter().await;
        advance(GRACE / 2).await;
        let newcomer = lobby.enter().await;
        stalled.evicted().await;
        assert!(!younger.evicted.is_cancelled() && !newcomer.evicted.is_cancelled());
        // Leaving after an eviction frees no seat twice.
        drop(stalled);
        assert!(timeout(GRACE / 4, lobby.enter()).await.is_err());
    }
}
