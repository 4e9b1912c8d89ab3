//! Connecting, however long that takes: who receives does not need the broker when it starts.

use std::time::Duration;

use sealpost_mqtt::Route;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::event::Event;
use crate::exit::{Code, Failure, not_connected};
use crate::home::{Home, HomeError, HomeLock};
use crate::session::{Manner, NotConnected, Parts, Session};

/// How long until a broker that was not there is tried again: twice as long each time, up to the longest.
const CONNECT_AGAIN: Duration = Duration::from_secs(1);
/// See [`CONNECT_AGAIN`].
const CONNECT_AGAIN_MOST: Duration = Duration::from_secs(60);

/// The waits between attempts, or between sessions that ended: a second at first, then twice as long each time, up to a minute.
#[derive(Debug)]
pub struct Pauses {
    next: Duration,
}

impl Default for Pauses {
    fn default() -> Pauses {
        Pauses {
            next: CONNECT_AGAIN,
        }
    }
}

impl Pauses {
    /// The wait after a session that lasted so long. They begin anew after one of more than a minute.
    pub fn after(&mut self, lasted: Duration) -> Duration {
        if lasted > CONNECT_AGAIN_MOST {
            *self = Pauses::default();
        }
        let pause = self.next;
        self.next = (pause * 2).min(CONNECT_AGAIN_MOST);
        pause
    }
}

/// When to stop trying.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Without a word.
    pub stop: CancellationToken,
    /// As a failure; and how long it is until then, for its text.
    pub time: Option<(Instant, Duration)>,
    /// What it takes for a refusal.
    pub refusals: Refusals,
}

/// Whether to go on although the broker refuses us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusals {
    /// Somebody is there to read why.
    End,
    /// Those of the login pass, when a clock is set or an operator acts. Without anybody to read why, to go on is better than to end.
    MayPass,
    /// All may pass: nobody ever comes to start it again.
    AllMayPass,
}

impl Refusals {
    /// Whether it is worth while to try again after this.
    #[must_use]
    pub fn pass(self, failure: &Failure) -> bool {
        match failure.code {
            Code::Unreachable => true,
            Code::Refused => match self {
                Refusals::End => false,
                Refusals::MayPass => failure.passes,
                Refusals::AllMayPass => true,
            },
            _ => failure.passes,
        }
    }
}

/// How long a `send` may take to give way: it says goodbye to the broker.
const GIVING_WAY: Duration = Duration::from_secs(10);

/// Becomes the one process of a home that receives. A `send` on its errand gives way within a moment.
///
/// # Errors
/// When another one is, or the lock cannot be had.
pub async fn become_receiver(home: &Home) -> Result<HomeLock, HomeError> {
    let patience = Instant::now() + GIVING_WAY;
    let mut wanted = None;
    loop {
        if wanted.is_none() {
            wanted = home.want_receiving()?;
        }
        match home.lock_receiving() {
            Err(HomeError::AlreadyReceiving {
                gives_way: true, ..
            }) if Instant::now() < patience => {}
            locked => return locked,
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Connects; tries again while the broker cannot be reached, and says so once for each reason. `None` when it was stopped.
pub async fn reach(
    mut parts: Parts,
    broker: &Route,
    manner: Manner,
    limits: Limits,
) -> Result<Option<Session>, Failure> {
    let Limits {
        stop,
        time,
        refusals,
    } = limits;
    let mut pauses = Pauses::default();
    let mut last: Option<Failure> = None;
    loop {
        let over = over(&stop, time, broker, last.clone());
        let not = match Box::pin(Session::connect(parts, broker.clone(), manner, over)).await {
            Ok(session) => return Ok(Some(session)),
            Err(not) => not,
        };
        if stop.is_cancelled() {
            return Ok(None);
        }
        let NotConnected {
            parts: again,
            failure,
        } = *not;
        let late = time.is_some_and(|(until, _)| Instant::now() >= until);
        if !refusals.pass(&failure) || late {
            return Err(failure);
        }
        parts = again;
        let wait = pauses.after(Duration::ZERO);
        if last.as_ref() != Some(&failure) {
            parts.printer.print(&Event::Status {
                state: "disconnected",
                broker: broker.current().to_string(),
                reason: Some(failure.message.clone()),
                hint: Some(failure.hint.clone()),
                retry_in: Some(wait.as_secs_f64()),
            })?;
            last = Some(failure);
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            failure = self::over(&stop, time, broker, last.clone()) => {
                return if stop.is_cancelled() { Ok(None) } else { Err(failure) };
            }
        }
    }
}

/// Waits until it is over. Why it could not be reached says more than that it took too long.
async fn over(
    stop: &CancellationToken,
    time: Option<(Instant, Duration)>,
    broker: &Route,
    last: Option<Failure>,
) -> Failure {
    let time_up = async {
        match time {
            Some((until, waited)) => {
                tokio::time::sleep_until(until).await;
                waited
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = stop.cancelled() => Failure::interrupted(),
        waited = time_up => last.unwrap_or_else(|| not_connected(broker, waited)),
    }
}
