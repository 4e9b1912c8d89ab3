//! `sealpost daemon`: receives and sends for as long as it runs, for programs that ask it.

use std::path::PathBuf;
use std::time::Duration;

use sealpost_mqtt::Route;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Start;
use crate::daemon::{Connection, Desk, Door, Manners};
use crate::event::{Event, Printer};
use crate::exit::Failure;
use crate::reaching::{Limits, Pauses, Refusals, reach};
use crate::session::{Manner, Parts, Session};
use crate::settings::Receipts;
use crate::store::SendState;

pub(super) async fn run(
    start: Start,
    socket: Option<PathBuf>,
    started: impl FnOnce() + Send,
) -> Result<(), Failure> {
    let account = start.unlock()?;
    let store = start.open_store(&account)?;
    let _only_one = start.lock_receiving().await?;
    started();
    let manner = Manner {
        // They are handed out by the desk, which knows who took them.
        limit: 0,
        ..start.manner()
    };
    let manners = Manners {
        user: account.user().clone(),
        realm: account.realm().to_string(),
        trust: start.settings.trust,
        read_receipts: manner.receipts == Receipts::Read,
    };
    let desk = Desk::new(start.open_store(&account)?, manners);
    let door = Door::open(&start.home, socket)?;
    let (said, events) = mpsc::unbounded_channel();
    let mut office = Office {
        desk,
        door,
        events,
        log: start.printer,
        stop: start.stop,
    };
    let path = office.door.path().display().to_string();
    let path = crate::terminal::clean_line(&path);
    office.log.note(&format!("sealpost: listening at {path}"))?;
    let retired = account.is_retired();
    let parts = Parts {
        account,
        store,
        printer: Printer::to(said),
    };
    let ended = Box::pin(office.work(parts, &start.settings.broker, manner, retired)).await;
    let Office { desk, door, .. } = office;
    // Clients get what waits for them, and the end.
    drop(desk);
    door.close().await;
    ended
}

struct Office {
    desk: Desk,
    door: Door,
    events: mpsc::UnboundedReceiver<Event>,
    log: Printer,
    stop: CancellationToken,
}

impl Office {
    async fn work(
        &mut self,
        parts: Parts,
        broker: &Route,
        manner: Manner,
        retired: bool,
    ) -> Result<(), Failure> {
        let mut parts = parts;
        let mut pauses = Pauses::default();
        loop {
            let connecting = self.connect(parts, broker, manner, retired);
            let Some(mut session) = Box::pin(connecting).await? else {
                return Ok(());
            };
            let since = Instant::now();
            let ended = self.serve(&mut session).await;
            let (left, closed) = session.leave().await;
            self.pass_on();
            match ended {
                // What was not stored was not acknowledged, and comes again on the next connection.
                Err(failure) if failure.passes => {
                    parts = left;
                    let pause = pauses.after(since.elapsed());
                    if self.wait(broker, failure, pause).await? {
                        return Ok(());
                    }
                }
                ended => return ended.and(closed),
            }
        }
    }

    /// Serves clients while it connects, for as long as that takes. `None` when it is to stop.
    async fn connect(
        &mut self,
        parts: Parts,
        broker: &Route,
        manner: Manner,
        retired: bool,
    ) -> Result<Option<Session>, Failure> {
        self.desk.set_connection(Connection {
            connected: false,
            broker: broker.current().to_string(),
            retired,
        });
        let limits = Limits {
            stop: self.stop.clone(),
            time: None,
            refusals: Refusals::MayPass,
        };
        Box::pin(self.meanwhile(reach(parts, broker, manner, limits))).await?
    }

    /// Says why there is no connection, and serves clients for so long without one. Says whether it is to stop.
    async fn wait(
        &mut self,
        broker: &Route,
        failure: Failure,
        wait: Duration,
    ) -> Result<bool, Failure> {
        self.say(&Event::Status {
            state: "disconnected",
            broker: broker.current().to_string(),
            reason: Some(failure.message),
            hint: Some(failure.hint),
            retry_in: Some(wait.as_secs_f64()),
        });
        let stop = self.stop.clone();
        self.meanwhile(async move {
            tokio::select! {
                () = tokio::time::sleep(wait) => false,
                () = stop.cancelled() => true,
            }
        })
        .await
    }

    async fn meanwhile<T>(&mut self, what: impl Future<Output = T>) -> Result<T, Failure> {
        let mut what = std::pin::pin!(what);
        loop {
            tokio::select! {
                done = &mut what => return Ok(done),
                read = self.desk.offer_what_was_read() => read?,
                Some(coming) = self.door.next() => self.desk.take(coming)?,
                Some(event) = self.events.recv() => self.say(&event),
            }
        }
    }

    async fn serve(&mut self, session: &mut Session) -> Result<(), Failure> {
        loop {
            self.pass_on();
            self.desk.set_connection(Connection {
                connected: session.is_connected(),
                broker: session.broker().to_string(),
                retired: session.account.is_retired(),
            });
            self.desk.hand_out()?;
            tokio::select! {
                happening = session.next() => {
                    if let crate::session::Happening::Outgoing(entry) = happening? {
                        self.pass_on();
                        let event = Event::outbox(&entry);
                        // As `listen`: people want to know what will never arrive, scripts everything.
                        if entry.state == SendState::Failed || self.log.is_json() {
                            self.say(&event);
                        } else {
                            self.desk.tell(&event);
                        }
                    }
                }
                Some(coming) = self.door.next() => {
                    self.desk.take(coming)?;
                    if self.desk.wrote() {
                        session.carry()?;
                    }
                }
                read = self.desk.offer_what_was_read() => {
                    read?;
                    if self.desk.wrote() {
                        session.carry()?;
                    }
                }
                () = self.stop.cancelled() => return Ok(()),
            }
        }
    }

    /// What the session said.
    fn pass_on(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            self.say(&event);
        }
    }

    /// To subscribers, and into the log, which may have no reader.
    fn say(&mut self, event: &Event) {
        self.desk.tell(event);
        let _ = self.log.print(event);
    }
}
