//! Whether the broker lives: what goes into the router comes out, and what is recorded reaches the disk.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, oneshot};
use tokio::time::{Instant, sleep, timeout};

use crate::broker::Broker;

/// How long the journal may take to sync, and the router to give a message back. A disk that takes longer is failing.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long an answer holds: whoever asks more often does not make the disk sync more often.
const FRESH: Duration = Duration::from_secs(1);

/// How often the router's oldest message is looked at. It has none to look at, mostly.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What does not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Sick {
    /// The journal.
    #[error("the journal has not synced for {} s", PATIENCE.as_secs())]
    Journal,
    /// The router.
    #[error("the router has not moved for {} s", PATIENCE.as_secs())]
    Router,
}

/// Feels the broker's pulse.
#[derive(Debug)]
pub struct Pulse {
    broker: Arc<Broker>,
    last: Mutex<Option<(Instant, Result<(), Sick>)>>,
}

impl Pulse {
    /// Of this broker.
    #[must_use]
    pub fn of(broker: Arc<Broker>) -> Pulse {
        Pulse {
            broker,
            last: Mutex::default(),
        }
    }

    /// Whether router and journal work. Takes as long as a sync; those who ask at once share an answer.
    ///
    /// # Errors
    /// [`Sick`].
    pub async fn feel(&self) -> Result<(), Sick> {
        let mut last = self.last.lock().await;
        if let Some((at, found)) = *last
            && at.elapsed() < FRESH
        {
            return found;
        }
        let found = tokio::try_join!(self.journal(), self.router()).map(|_| ());
        *last = Some((Instant::now(), found));
        found
    }

    async fn journal(&self) -> Result<(), Sick> {
        let (done, synced) = oneshot::channel();
        self.broker.board.journal().after(move || {
            let _ = done.send(());
        });
        match timeout(PATIENCE, synced).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Sick::Journal),
        }
    }

    async fn router(&self) -> Result<(), Sick> {
        let Some(oldest) = self.broker.order.oldest() else {
            return Ok(());
        };
        let moves = async {
            while self.broker.order.oldest() == Some(oldest) {
                sleep(LOOK_EVERY).await;
            }
        };
        timeout(PATIENCE, moves).await.map_err(|_| Sick::Router)
    }
}
