//! Connecting, however long that takes: who receives does not need the broker when it starts.

use std::time::Duration;

use sealpost_mqtt::Route;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::event::Event;
use crate::exit::{Code, Failure, not_connected};
use crate::session::{Manner, NotConnected, Parts, Session};

/// How long until a broker that was not there is tried again: twice as long each time, up to the longest.
pub(super) const CONNECT_AGAIN: Duration = Duration::from_secs(1);
pub(super) const CONNECT_AGAIN_MOST: Duration = Duration::from_secs(60);

/// When to stop trying.
pub(super) struct Limits {
    /// Without a word.
    pub(super) stop: CancellationToken,
    /// As a failure; and how long it is until then, for its text.
    pub(super) time: Option<(Instant, Duration)>,
    /// Whether to go on although the broker refuses the login, which may pass when a clock is set or an operator acts. Without
    /// anybody to read why, that is better than to end.
    pub(super) outlives_refusals: bool,
}

/// Connects; tries again while the broker cannot be reached, and says so once for each reason. `None` when it was stopped.
pub(super) async fn reach(
    mut parts: Parts,
    broker: &Route,
    manner: Manner,
    limits: Limits,
) -> Result<Option<Session>, Failure> {
    let Limits {
        stop,
        time,
        outlives_refusals,
    } = limits;
    let mut wait = CONNECT_AGAIN;
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
        let passes = match failure.code {
            Code::Unreachable => true,
            Code::Refused => failure.passes && outlives_refusals,
            _ => failure.passes,
        };
        if !passes || late {
            return Err(failure);
        }
        parts = again;
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
        wait = (wait * 2).min(CONNECT_AGAIN_MOST);
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
