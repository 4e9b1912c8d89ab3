//! `sealpost listen`: print messages as they come.

use std::time::Duration;

use tokio::time::Instant;

use super::Start;
use crate::deadline::at;
use crate::event::Event;
use crate::exit::{Code, Failure, not_connected};
use crate::session::{Happening, Manner, Parts, Session};
use crate::store::SendState;

pub(super) async fn run(
    start: Start,
    count: Option<u64>,
    timeout: Option<Duration>,
    started: impl FnOnce() + Send,
) -> Result<(), Failure> {
    let account = start.unlock()?;
    let store = start.open_store(&account)?;
    let _only_one = start.lock_receiving().await?;
    started();
    let manner = Manner {
        limit: count.unwrap_or(u64::MAX),
        ..start.manner()
    };
    let Start {
        settings,
        printer,
        stop,
        ..
    } = start;
    let parts = Parts {
        account,
        store,
        printer,
    };
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let broker = settings.broker;
    let mut session = tokio::select! {
        session = Session::connect(parts, broker.clone(), manner, std::future::pending()) => session?,
        () = at(deadline) => return Err(not_connected(&broker, timeout.unwrap_or_default())),
        () = stop.cancelled() => return Ok(()),
    };
    let ended = loop {
        if count.is_some_and(|count| session.shown() >= count) {
            break Ok(());
        }
        tokio::select! {
            happening = session.next() => match happening {
                // People who listen want to know what came, and what will never arrive.
                Ok(Happening::Outgoing(entry)) => {
                    if session.printer.is_json() || entry.state == SendState::Failed {
                        session.printer.print(&Event::outbox(&entry))?;
                    }
                }
                Ok(Happening::Shown | Happening::Keys(_) | Happening::Other) => {}
                Err(failure) => break Err(failure),
            },
            () = stop.cancelled() => break Ok(()),
            () = at(deadline) => break match count {
                Some(count) => Err(Failure::new(
                    Code::Failed,
                    format!("{} of {count} messages came in time", session.shown()),
                    "Wait longer with --timeout, or ask whether they were sent.",
                )),
                None => Ok(()),
            },
        }
    };
    let closed = session.close().await;
    ended.and(closed)
}
