//! `sealpost listen`: print messages as they come, or give them to a command; and those that came before.

mod handler;
mod job;
mod stored;

use std::time::Duration;

use sealpost_mqtt::Route;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::handler::{Handler, Orders};
use super::Start;
use crate::cli::ListenArguments;
use crate::clock;
use crate::deadline::at;
use crate::event::Event;
use crate::exit::{Code, Failure};
use crate::reaching::{Limits, Refusals, reach};
use crate::session::{Happening, Manner, Parts, Session};
use crate::settings::Receipts;
use crate::store::{SendState, Wanted};

pub(super) async fn run(
    mut start: Start,
    wish: ListenArguments,
    started: impl FnOnce() + Send,
) -> Result<(), Failure> {
    if wish.since.is_some() && !wish.follow && wish.exec.is_some() {
        return Err(Failure::new(
            Code::Usage,
            "--exec with --since needs --follow",
            "CMD deals with messages, and what only looks back changes nothing.",
        ));
    }
    let account = start.unlock()?;
    let mut store = start.open_store(&account)?;
    let since = wish.since.map(|when| when.at(clock::now()));
    let wanted = Wanted {
        since,
        unshown: since.is_none() || wish.follow,
    };
    let limit = wish.count.unwrap_or(u64::MAX);
    if !wanted.unshown {
        started();
        let look = stored::look_back(&store, &mut start.printer, wanted, limit, &start.stop);
        return look.map(drop);
    }
    let _only_one = start.lock_receiving().await?;
    started();
    let mut manner = start.manner();
    let deadline = wish.timeout.map(|time| (Instant::now() + time, time));
    let handler = match &wish.exec {
        None => None,
        Some(command) => {
            // It shows what comes; the session only receives.
            manner.limit = 0;
            let orders = Orders {
                command: command.clone(),
                time: wish.exec_timeout,
                tries: wish.exec_tries,
                limit,
                wanted,
                read_receipts: manner.receipts == Receipts::Read,
            };
            Some(Handler::new(&start, &account, orders)?)
        }
    };
    let mut earlier = 0;
    if handler.is_none() {
        let receipt = manner.receipts == Receipts::Read;
        let Start { printer, stop, .. } = &mut start;
        earlier = stored::show(&mut store, printer, wanted, limit, receipt, stop)?;
        manner.limit = limit - earlier;
    }
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
    let over = stop.child_token();
    let post = Post {
        broker: settings.broker,
        manner,
        deadline,
        over: over.clone(),
        more: Notify::new(),
    };
    let dealt = match handler {
        None => {
            let shown = post.receive(parts, wish.count.map(|count| count - earlier));
            earlier + shown.await?
        }
        Some(mut handler) => {
            let work = async {
                let ended = handler.work(&post.more, &over).await;
                over.cancel();
                ended
            };
            let (worked, received) = tokio::join!(work, post.receive(parts, None));
            received?;
            worked?
        }
    };
    match wish.count {
        Some(count) if dealt < count && !stop.is_cancelled() => Err(Failure::new(
            Code::Failed,
            format!("{dealt} of {count} messages came in time"),
            "Wait longer with --timeout, or ask whether they were sent.",
        )),
        _ => Ok(()),
    }
}

/// The way in for messages.
struct Post {
    broker: Route,
    manner: Manner,
    deadline: Option<(Instant, Duration)>,
    over: CancellationToken,
    /// Something was perhaps stored.
    more: Notify,
}

impl Post {
    /// Receives until it is over, or the time is up, or enough was shown; says how many the session showed.
    async fn receive(&self, parts: Parts, enough: Option<u64>) -> Result<u64, Failure> {
        let ended = Box::pin(self.try_to_receive(parts, enough)).await;
        self.over.cancel();
        ended
    }

    async fn try_to_receive(&self, parts: Parts, enough: Option<u64>) -> Result<u64, Failure> {
        if enough == Some(0) {
            return Ok(0);
        }
        let limits = Limits {
            stop: self.over.clone(),
            time: self.deadline,
            refusals: Refusals::End,
        };
        let reached = reach(parts, &self.broker, self.manner, limits).await?;
        let Some(mut session) = reached else {
            return Ok(0);
        };
        let ended = self.follow(&mut session, enough).await;
        let shown = session.shown();
        let closed = session.close().await;
        ended.and(closed)?;
        Ok(shown)
    }

    async fn follow(&self, session: &mut Session, enough: Option<u64>) -> Result<(), Failure> {
        let time_up = at(self.deadline.map(|(until, _)| until));
        let mut time_up = std::pin::pin!(time_up);
        loop {
            self.more.notify_one();
            if enough.is_some_and(|enough| session.shown() >= enough) {
                return Ok(());
            }
            tokio::select! {
                happening = session.next() => {
                    // People who listen want to know what came, and what will never arrive.
                    if let Happening::Outgoing(entry) = happening?
                        && (session.printer.is_json() || entry.state == SendState::Failed)
                    {
                        session.printer.print(&Event::outbox(&entry))?;
                    }
                }
                () = self.over.cancelled() => return Ok(()),
                () = &mut time_up => return Ok(()),
            }
        }
    }
}
